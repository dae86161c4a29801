"""cosine_film: do orthogonal steps make filters less alike? It depends on the learning rate."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from numpy.typing import NDArray

from orthoviz import training
from orthoviz.measures import random_cosine
from orthoviz.plots import COLOURS, DASHES, INK, RANDOM, look, new_figure
from orthoviz.plots.frames import need, shape_of
from orthoviz.training.comparison import best_rate
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
    """One optimiser's seeds at one learning rate, or a run of the learner's: mean and range over time."""

    lr: float
    """nan in a run of the learner's."""
    x: NDArray[np.float64]
    """Epochs, or the learner's steps."""
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def end(self) -> float:
        return float(self.mean[-1])


def cosine_film(
    data: pd.DataFrame | None = None,
    *,
    compare: str = _BEST,
    layer: str | None = None,
    what: str | None = None,
) -> View:
    r"""*Name the learning rate first: the answer changes sign.*

    Shows how alike a layer's filters, or their feature maps, become as BasicCNN trains on CIFAR-10 (stored
    runs: momentum 0.9, five epochs): the mean absolute cosine between every two, as the mean of three seeds
    and their range. Grey is chance: for filters the band that 95 % of random ones lie in
    (:func:`orthoviz.measures.random_cosine`), for feature maps, which are positive after the ReLU, the
    :math:`1/\pi` of unrelated ones. Under "more" you can guess first.

    Args:
        data: your own runs, a monitor's frame (of several: ``ov.monitor.join``) with "mean_abs_cosine" of
            weights, or "feature_cosine" of activations: a line a run, over its steps.
        compare: "best lr of each" (of those stored, .01 and .1 for SGD, .01 and .03 for orthogonal SGD, the
            one with the best test accuracy in the end) or "equal lr" (.01 for both). Without effect on your
            own data.
        layer: "conv 1", "conv 2" (the default), "conv 3" or "head", which has filters only; with your own
            data one of its layers, default the first.
        what: "filters" (the default, where there are any) or "feature maps".

    Raises:
        ValueError: an argument has a value that the view has no place for; the feature maps of the head;
            the frame lacks columns, or holds no cosines.
    """
    if data is not None:
        return _own_view(data, layer, what)
    layer = _DEFAULTS["layer"] if layer is None else layer
    what = _DEFAULTS["what"] if what is None else what
    one_of("compare", compare, (_EQUAL, _BEST))
    one_of("what", what, _QUANTITY)
    one_of("layer", layer, _SHAPES)
    if layer == "head" and what == _MAPS:
        raise ValueError('layer must be a convolution for what="feature maps", got "head": it has none')

    return View(
        "cosine_film",
        partial(_draw, cache(_stored_scene)),
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
    return best_rate(rows, "value")


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


def _own_view(data: pd.DataFrame, layer: str | None, what: str | None) -> View:
    """The view of the learner's runs."""
    need(data, "step", "layer", "stage", "quantity", "value")
    data = data if "run" in data else data.assign(run="your run")
    found: dict[tuple[str, str], dict[str, _Line]] = {}
    for kind, (stage, quantity) in _QUANTITY.items():
        rows = data[(data["stage"] == stage) & (data["quantity"] == quantity)].dropna(subset="value")
        for (of, run), part in rows.groupby(["layer", "run"], observed=True):
            seeds = part.groupby("step")["value"].agg(["mean", "min", "max"])
            columns = (seeds[column].to_numpy(float) for column in ("mean", "min", "max"))
            lines = found.setdefault((str(of), kind), {})
            lines[str(run)] = _Line(math.nan, seeds.index.to_numpy(float), *columns)
    if not found:
        raise ValueError('data must hold "mean_abs_cosine" of weights or "feature_cosine", got neither')
    layers, kinds = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
    first = {"layer": layers[0], "what": kinds[0]}
    state = {
        "layer": one_of("layer", layer or layers[0], layers),
        "what": one_of("what", what or kinds[0], kinds),
    }
    chance = {key: _own_chance(data, *key) for key in found}
    return View(
        "cosine_film",
        partial(_draw_own, cache(lambda *key: _own_scene(key, found[key], chance[key])), found, chance),
        {
            "layer": control(w.SelectionSlider, "layer", state["layer"], options=layers),
            "what": control(w.ToggleButtons, "what", state["what"], options=kinds),
        },
        presets={"first": {"layer": layers[0]}, "last": {"layer": layers[-1]}},
        given=lambda now: ["data", *changed(now, first)],
    )


def _own_chance(data: pd.DataFrame, layer: str, what: str) -> tuple[float, float] | None:
    """What random filters of the layer's shape have, where the monitor has written it down."""
    if what == _MAPS:
        return 1 / math.pi, 1 / math.pi
    shape = shape_of(data, layer)
    if shape is None:
        return None
    chance = random_cosine(*shape)
    return chance.mean - 2 * chance.deviation, chance.mean + 2 * chance.deviation


def _own_scene(key: tuple[str, str], lines: dict[str, _Line], chance: tuple[float, float] | None) -> "_Scene":
    last = max(float(line.x[-1]) for line in lines.values())
    return _Scene(*key, list(lines.values()), chance, len(lines), ("step", max(last, 1.0)))


def _draw_own(
    scenes: Callable[[str, str], "_Scene"],
    found: dict[tuple[str, str], dict[str, _Line]],
    chances: dict[tuple[str, str], tuple[float, float] | None],
    state: State,
) -> Picture:
    """The picture of a state of the learner's runs."""
    key = state["layer"], state["what"]
    if key not in found:
        return _nothing(f"There are no {key[1]} of {key[0]} in this frame", "Choose another layer.")
    scene, lines, chance = scenes(*key), found[key], chances[key]
    styles = look(lines)
    passing: list[Artist] = []
    for name, line in lines.items():
        dashes = styles["dashes"][name]
        passing += scene.line(line, styles["palette"][name], (0, dashes) if dashes else "-")
    ends = [(line.end, f"{name}\n{line.end:.3f}", styles["palette"][name]) for name, line in lines.items()]
    if chance is not None:
        ends.append((sum(chance) / 2, _told(chance), RANDOM))
    says = ", ".join(text.replace("\n", " ") for _, text, _ in ends)
    text = f"{key[0]}, {key[1]}, mean absolute cosine in the end: {says}."
    title = "Alike is what lies above chance: your runs, layer by layer"
    return Picture(scene.stage, scene.named(ends), title, text, passing=passing)


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


def _stored_scene(layer: str, what: str) -> "_Scene":
    lines = [_line(name, compare, layer, what) for name in _NAMES for compare in (_EQUAL, _BEST)]
    return _Scene(layer, what, lines, _chance(layer, what), len(_NAMES), ("epoch", 5.05))


class _Scene:
    """Axes and chance of one layer, where all lines fit; the lines move over them."""

    def __init__(
        self, layer: str, what: str, lines: list[_Line], chance: tuple[float, float] | None, count: int,
        time: tuple[str, float],
    ) -> None:  # fmt: skip
        figure, (ax,) = new_figure(9, 4.4)
        self.stage = Stage(figure)
        figure.set_layout_engine("none")
        ax.set_position((0.09, 0.14, 0.71, 0.78))
        low, high = chance or (0.0, 0.0)
        self.top = 1.15 * max(high, *(float(line.high.max()) for line in lines), 1e-6)
        ax.set(xlim=(0, time[1]), ylim=(0, self.top), xlabel=time[0])
        ax.set_ylabel(f"mean |cos| of {layer}'s {what}")
        if chance is not None:
            ax.axhspan(low, high, color=RANDOM, alpha=0.3, lw=0 if high > low else 2)
        self.pale = figure.text(
            0.79, 0.955, "", ha="right", va="center", fontsize=10, color=INK, animated=True
        )
        self.ax, right = ax, ax.get_yaxis_transform()
        self.notes = [
            ax.text(1.02, 0, "", transform=right, va="center", fontsize=11, animated=True)
            for _ in range(count + 1)
        ]

    def line(self, line: _Line, colour: str, dashes: Any) -> list[Artist]:
        """A mean with its range."""
        band = self.ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0, animated=True)
        return [
            band,
            *self.ax.plot(line.x, line.mean, color=colour, ls=dashes, lw=2.4, animated=True),
        ]

    def named(self, wanted: list[tuple[float, str, str]]) -> list[Artist]:
        """Names at the right ends of the lines, kept apart: heights, texts and colours."""
        wanted = sorted(wanted)
        gap, places = 0.115 * self.top, [height for height, *_ in wanted]
        for i in range(1, len(places)):
            places[i] = max(places[i], places[i - 1] + gap)
        notes = self.notes[: len(wanted)]
        for place, note, (_, text, colour) in zip(places, notes, wanted, strict=True):
            note.set(text=text, color=colour, y=place)
        return list(notes)


def _draw(scenes: Callable[[str, str], _Scene], state: State) -> Picture:
    """The picture of a state."""
    compare, layer, what = state["compare"], state["layer"], state["what"]
    if layer == "head" and what == _MAPS:
        return _nothing("The head has no feature maps", "Choose filters, or a convolution.")
    scene = scenes(layer, what)
    lines = {name: _line(name, compare, layer, what) for name in _NAMES}
    other = _EQUAL if compare == _BEST else _BEST
    moving: list[Artist] = []
    for name, line in lines.items():
        colour, dashes = COLOURS[name], (0, DASHES[name]) if DASHES[name] else "-"
        ghost = _line(name, other, layer, what)
        moving += scene.ax.plot(
            ghost.x, ghost.mean, color=colour, ls=dashes, lw=1.2, alpha=0.4, animated=True
        )
        moving += scene.line(line, colour, dashes)
    low, high = chance = _chance(layer, what)
    ends = [(l.end, f"{name}\nlr {l.lr:g}: {l.end:.3f}", COLOURS[name]) for name, l in lines.items()]
    title, text = _message(state, lines, low, high)
    scene.pale.set_text(f"pale: {other}")
    names = scene.named([*ends, ((low + high) / 2, _told(chance), RANDOM)])
    return Picture(scene.stage, [scene.pale, *names], title, text, passing=moving)


def _told(chance: tuple[float, float]) -> str:
    low, high = chance
    return f"chance: {low:.3f}" if low == high else f"random filters\n{low:.3f} to {high:.3f}"


@cache
def _nothing(title: str, text: str) -> Picture:
    """An empty picture that says why."""
    figure, (ax,) = new_figure(9, 4.4)
    ax.set_axis_off()
    return Picture(Stage(figure), [], title, text)


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
