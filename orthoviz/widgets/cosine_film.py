"""cosine_film: do orthogonal steps make filters less alike? It depends on the learning rate."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from numpy.typing import NDArray

from orthoviz import training
from orthoviz.measures import random_cosine
from orthoviz.plots import COLOURS, DASHES, INK, RANDOM, new_figure
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_EQUAL, _BEST = "equal lr", "best lr of each"
_FILTERS, _MAPS = "filters", "feature maps"
_SHAPES = {"conv 1": (32, 27), "conv 2": (32, 288), "conv 3": (32, 288), "head": (10, 512)}
_QUANTITY = {_FILTERS: ("weight", "mean_abs_cosine"), _MAPS: ("activation", "feature_cosine")}
_NAMES = ("SGD", "orthogonal SGD")
_SKIP = "skip"
_EQUAL_LR = 0.01
_EPOCH = 49
"""Steps, of 1,024 images."""
_DEFAULTS = {"compare": _BEST, "layer": "conv 2", "what": _FILTERS}


class _Line(NamedTuple):
    """One optimiser's seeds at one learning rate: their mean and range over the epochs."""

    lr: float
    epoch: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def end(self) -> float:
        return float(self.mean[-1])


def cosine_film(*, compare: str = _BEST, layer: str = "conv 2", what: str = _FILTERS) -> View:
    r"""*Name the learning rate first: the answer changes sign.*

    Shows how alike a layer's filters, or their feature maps, become as BasicCNN trains on CIFAR-10 (stored
    runs: momentum 0.9, five epochs): the mean absolute cosine between every two, as the mean of three seeds
    and their range. Grey is chance: for filters the band that 95 % of random ones lie in
    (:func:`orthoviz.measures.random_cosine`), for feature maps, which are positive after the ReLU, the
    :math:`1/\pi` of unrelated ones. Under "more" you can guess first.

    Args:
        compare: "best lr of each" (of those stored, .01 and .1 for SGD, .01 and .03 for orthogonal SGD, the
            one with the best test accuracy in the end) or "equal lr" (.01 for both).
        layer: "conv 1", "conv 2", "conv 3" or "head", which has filters only.
        what: "filters" or "feature maps".

    Raises:
        ValueError: an argument has a value that the view has no place for; the feature maps of the head.
    """
    one_of("compare", compare, (_EQUAL, _BEST))
    one_of("what", what, _QUANTITY)
    one_of("layer", layer, _SHAPES)
    if layer == "head" and what == _MAPS:
        raise ValueError('layer must be a convolution for what="feature maps", got "head": it has none')

    return View(
        "cosine_film",
        partial(_draw, cache(_Scene)),
        {
            "compare": control(w.ToggleButtons, "compare", compare, options=(_EQUAL, _BEST)),
            "layer": control(w.ToggleButtons, "layer", layer, options=tuple(_SHAPES)),
            "what": control(w.ToggleButtons, "what", what, options=(_FILTERS, _MAPS)),
            "guess": control(
                w.ToggleButtons, "my guess: more alike in the end with", _SKIP, options=(_SKIP, *_NAMES)
            ),
        },
        presets={
            "first layer": {**_DEFAULTS, "layer": "conv 1"},
            "the head: the same answer": {**_DEFAULTS, "layer": "head"},
            "feature maps": {**_DEFAULTS, "what": _MAPS},
        },
        lose=_DEFAULTS | _worst(),
        more=["guess"],
        given=lambda state: changed(state, _DEFAULTS),
    )


@cache
def _table() -> pd.DataFrame:
    return training.results("filters")


@cache
def _best(name: str) -> float:
    """The learning rate with the highest mean test accuracy at the end."""
    rows = _table().query("quantity == 'test_accuracy' and optimizer == @name")
    last = rows[rows["step"] == rows["step"].max()]
    return float(str(last.groupby("lr")["value"].mean().idxmax()))


@cache
def _line(name: str, compare: str, layer: str, what: str) -> _Line:
    stage, quantity = _QUANTITY[what]
    lr = _EQUAL_LR if compare == _EQUAL else _best(name)
    table = _table()
    chosen = (table["optimizer"] == name) & (table["lr"] == lr) & (table["layer"] == layer)
    rows = table[chosen & (table["stage"] == stage) & (table["quantity"] == quantity)]
    seeds = rows.groupby("step")["value"].agg(["mean", "min", "max"])
    columns = (seeds[column].to_numpy(float) for column in ("mean", "min", "max"))
    return _Line(lr, seeds.index.to_numpy(float) / _EPOCH, *columns)


@cache
def _worst() -> State:
    """Where orthogonal filters end more alike than SGD's by the largest part."""

    def excess(state: State) -> float:
        sgd, orthogonal = (_line(name, **state).end for name in _NAMES)
        return orthogonal / sgd

    settings = [
        {"compare": compare, "layer": layer, "what": _FILTERS}
        for compare in (_EQUAL, _BEST)
        for layer in _SHAPES
    ]
    return max(settings, key=excess)


def _chance(layer: str, what: str) -> tuple[float, float]:
    """Lowest and highest mean cosine that chance gives."""
    if what == _MAPS:
        return 1 / math.pi, 1 / math.pi
    chance = random_cosine(*_SHAPES[layer])
    return chance.mean - 2 * chance.deviation, chance.mean + 2 * chance.deviation


class _Scene:
    """Axes and chance of one layer, where all lines fit; the lines move over them."""

    def __init__(self, layer: str, what: str) -> None:
        figure, (ax,) = new_figure(9, 4.4)
        self.stage = Stage(figure)
        figure.set_layout_engine("none")
        ax.set_position((0.09, 0.14, 0.71, 0.78))
        low, high = _chance(layer, what)
        self.top = 1.15 * max(
            [high] + [_line(name, c, layer, what).high.max() for name in _NAMES for c in (_EQUAL, _BEST)]
        )
        ax.set(xlim=(0, 5.05), ylim=(0, self.top), xlabel="epoch")
        ax.set_ylabel(f"mean |cos| of {layer}'s {what}")
        ax.axhspan(low, high, color=RANDOM, alpha=0.3, lw=0 if high > low else 2)
        self.pale = figure.text(
            0.79, 0.955, "", ha="right", va="center", fontsize=10, color=INK, animated=True
        )
        self.ax, right = ax, ax.get_yaxis_transform()
        self.notes = [
            ax.text(1.02, 0, "", transform=right, va="center", fontsize=11, animated=True) for _ in range(3)
        ]

    def named(self, lines: dict[str, _Line], chance: str, at: float) -> list[Artist]:
        """Names at the right ends of the lines, kept apart."""
        wanted = [(at, chance, RANDOM)]
        wanted += [(l.end, f"{name}\nlr {l.lr:g}: {l.end:.3f}", COLOURS[name]) for name, l in lines.items()]
        wanted.sort()
        gap, places = 0.115 * self.top, [height for height, *_ in wanted]
        for i in range(1, len(places)):
            places[i] = max(places[i], places[i - 1] + gap)
        for place, note, (_, text, colour) in zip(places, self.notes, wanted, strict=True):
            note.set(text=text, color=colour, y=place)
        return list(self.notes)


def _draw(scenes: Callable[[str, str], _Scene], state: State) -> Picture:
    """The picture of a state."""
    compare, layer, what = state["compare"], state["layer"], state["what"]
    if layer == "head" and what == _MAPS:
        return _nothing()
    scene = scenes(layer, what)
    lines = {name: _line(name, compare, layer, what) for name in _NAMES}
    other = _EQUAL if compare == _BEST else _BEST
    moving: list[Artist] = []
    for name, line in lines.items():
        colour, dashes = COLOURS[name], (0, DASHES[name]) if DASHES[name] else "-"
        ghost = _line(name, other, layer, what)
        moving += scene.ax.plot(
            ghost.epoch, ghost.mean, color=colour, ls=dashes, lw=1.2, alpha=0.4, animated=True
        )
        moving.append(
            scene.ax.fill_between(
                line.epoch, line.low, line.high, color=colour, alpha=0.2, lw=0, animated=True
            )
        )
        moving += scene.ax.plot(line.epoch, line.mean, color=colour, ls=dashes, lw=2.4, animated=True)
    low, high = _chance(layer, what)
    chance = f"chance: {low:.3f}" if low == high else f"random filters\n{low:.3f} to {high:.3f}"
    title, text = _message(state, lines, low, high)
    scene.pale.set_text(f"pale: {other}")
    names = scene.named(lines, chance, (low + high) / 2)
    return Picture(scene.stage, [scene.pale, *names], title, text, passing=moving)


@cache
def _nothing() -> Picture:
    """The head has no feature maps."""
    text = "Choose filters, or a convolution."
    figure, (ax,) = new_figure(9, 4.7)
    ax.set_axis_off()
    return Picture(Stage(figure), [], "The head has no feature maps", text)


def _message(state: State, lines: dict[str, _Line], low: float, high: float) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    sgd, orthogonal = (lines[name] for name in _NAMES)
    what, layer = state["what"], state["layer"]
    alike = _verdict(sgd, orthogonal)
    title = _title(layer, what)
    chance = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
    unrelated = "random ones" if what == _FILTERS else "unrelated maps"
    text = (
        f"{state['compare'].capitalize()}, {layer}, {what}: the mean absolute cosine ends at {sgd.end:.3f} "
        f"with SGD (lr {sgd.lr:g}) and {orthogonal.end:.3f} with orthogonal SGD (lr {orthogonal.lr:g}), "
        f"{unrelated} have {chance}; {alike}."
    )
    if state["guess"] == _SKIP:
        return title, text
    return title, f"{text} Your guess was {state['guess']}: {_judged(state['guess'], sgd, orthogonal)}."


def _title(layer: str, what: str) -> str:
    """Whether the two ways to choose the learning rate give the same answer."""
    answers = {_more_alike(*(_line(name, c, layer, what) for name in _NAMES)) for c in (_EQUAL, _BEST)}
    if None in answers:
        return "Here the seeds overlap: there is no answer to change"
    if len(answers) == 1:
        return f"Here the learning rate does not matter: {answers.pop()}'s are more alike either way"
    return "Name the learning rate first: the answer changes sign"


def _more_alike(sgd: _Line, orthogonal: _Line) -> str | None:
    """Whose are more alike in the end; None where the seeds' ranges overlap."""
    if orthogonal.low[-1] > sgd.high[-1]:
        return "orthogonal SGD"
    return "SGD" if orthogonal.high[-1] < sgd.low[-1] else None


def _verdict(sgd: _Line, orthogonal: _Line) -> str:
    more = _more_alike(sgd, orthogonal)
    if more is None:
        return "the seeds overlap, so neither can be called more alike"
    return f"orthogonal SGD's are {'less' if more == 'SGD' else 'more'} alike, on every seed"


def _judged(guess: str, sgd: _Line, orthogonal: _Line) -> str:
    more = _more_alike(sgd, orthogonal)
    return "the seeds cannot tell" if more is None else "right" if guess == more else "wrong"
