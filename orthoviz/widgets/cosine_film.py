"""cosine_film: do orthogonal steps make filters less alike? It depends on the learning rate."""

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import pandas as pd

from orthoviz import training
from orthoviz.measures import random_cosine
from orthoviz.optim.named import label_of
from orthoviz.plots import INK, RANDOM, look
from orthoviz.plots.frames import need, sizes_of
from orthoviz.training.outcomes import best_rates
from orthoviz.widgets.view import Canvas, Scene, buttons, view

_EQUAL, _BEST, _SKIP = "equal lr", "best lr of each", "skip"
_FILTERS, _MAPS = "filters", "feature maps"
_QUANTITY = {_FILTERS: ("weight", "mean_abs_cosine"), _MAPS: ("activation", "feature_cosine")}
_SHAPES = {"conv 1": (32, 27), "conv 2": (32, 288), "conv 3": (32, 288), "head": (10, 512)}
_NAMES = ("sgd", "orthogonal_sgd")
_GUESSES = {name: label_of(name) for name in (_SKIP, *_NAMES)}

# A run's name: the caller's, or optimiser and learning rate of those that are stored.
_Run = tuple[Any, ...]
# By layer and what is compared, the runs: mean, min and max over the seeds, by step.
_Lines = dict[tuple[str, str], dict[_Run, pd.DataFrame]]


@view(
    compare=buttons("compare", (_EQUAL, _BEST)),
    layer=buttons("layer", _SHAPES.keys()),
    what=buttons("what", _QUANTITY.keys()),
    guess=buttons("my guess: more alike in the end with", _GUESSES, more=True),
    presets={
        "first layer": {"layer": "conv 1"},
        "the head: the same answer": {"layer": "head"},
        "feature maps": {"what": _MAPS},
    },
    phone=1.5,
    lose={"compare": _EQUAL},
)
def cosine_film(
    canvas: Canvas, data: pd.DataFrame | None = None, *, compare: str = _BEST, layer: str | None = None,
    what: str | None = None, guess: str = _SKIP,
) -> Scene:  # fmt: skip
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
        what: "filters" (the default, if the frame has them) or "feature maps".
        guess: "sgd" or "orthogonal_sgd", whose filters you think are more alike in the end; "skip" for no
            guess. Without effect on your own data.

    Raises:
        ValueError: an argument has a value that the view has no place for; the frame lacks columns, or
            holds no cosines.
    """
    if data is None:
        (lines, rates), unit, shortest = _stored(), "epoch", 5.05
    else:
        runs = data if "run" in data else data.assign(run="your run")
        lines, rates, unit, shortest = _lines(runs, "run"), {}, "step", 1.0
    (blank,) = canvas.axes(9, 4.4)
    blank.set_axis_off()

    @cache
    def scene(layer: str, what: str) -> tuple[Any, tuple[float, ...], str]:
        """Axes with room for all lines of a layer, and what chance gives, in numbers and in words."""
        (ax,) = canvas.axes(9, 4.4)
        canvas.figure.set_layout_engine("none")
        ax.set_position((0.09, 0.14, 0.71, 0.78))
        band: tuple[float, ...] = (1 / math.pi,) if what == _MAPS else ()
        shape = _SHAPES[layer] if data is None else sizes_of(data, layer)[:2]
        if what == _FILTERS and shape[0]:
            mean, deviation = random_cosine(*shape)
            band = mean - 2 * deviation, mean + 2 * deviation
        values = pd.concat(lines[layer, what].values())
        top = 1.15 * max(*band, values["max"].max(), 1e-6)
        ax.set(xlim=(0, max(values.index.max(), shortest)), ylim=(0, top))
        ax.set(xlabel=unit, ylabel=f"mean |cos| of {layer}'s {what}")
        if band:
            ax.axhspan(band[0], band[-1], color=RANDOM, alpha=0.3, lw=0 if what == _FILTERS else 2)
        return ax, band, " to ".join(f"{end:.3f}" for end in band)

    def draw(layer: str, what: str, pairs: Iterable[tuple[_Run, _Run | None]]) -> list[str]:
        """Draw a line for each run, and a pale one; return what is written at their right ends."""
        (ax, band, span), found, ends = scene(layer, what), lines[layer, what], []
        canvas.front(ax)
        looks = look(name for name, *_ in found)
        for run, pale in pairs:
            name, line = run[0], found[run]
            colour, dashes = looks["palette"][name], looks["dashes"][name]
            style = {"color": colour, "ls": (0, dashes) if dashes else "-"}
            if pale:
                canvas.now(*ax.plot(found[pale]["mean"], lw=1.2, alpha=0.4, **style))
            canvas.now(ax.fill_between(line.index, line["min"], line["max"], color=colour, alpha=0.2, lw=0))
            canvas.now(*ax.plot(line["mean"], lw=2.4, **style))
            end, rate = line["mean"].iloc[-1], "".join(f"lr {lr:g}: " for lr in run[1:])
            ends.append((end, f"{label_of(name)}\n{rate}{end:.3f}", colour))
        if band:
            of = "random filters\n" if what == _FILTERS else "chance: "
            ends.append((sum(band) / len(band), of + span, RANDOM))
        height, right = -math.inf, ax.get_yaxis_transform()
        for end, words, colour in sorted(ends):
            height = max(end, height + 0.115 * ax.get_ylim()[1])  # apart from the one below
            canvas.now(ax.text(1.02, height, words, transform=right, color=colour, va="center", fontsize=11))
        return [words for _, words, _ in ends]

    def show(compare: str, layer: str, what: str, guess: str) -> tuple[str, str]:
        if (layer, what) not in lines:
            canvas.front(blank)
            return "The head has no feature maps", "Choose filters, or a convolution."
        (other,), chosen = rates.keys() - {compare}, rates[compare]
        draw(layer, what, zip(chosen, rates[other], strict=True))
        note = canvas.figure.text(0.79, 0.955, f"pale: {other}", size=10, color=INK, ha="right", va="center")
        canvas.now(note)
        last = {run: line.iloc[-1] for run, line in lines[layer, what].items()}
        more = {of: _more_alike(*(last[run] for run in runs)) for of, runs in rates.items()}
        ends = " and ".join(
            f"{last[name, lr]['mean']:.3f} with {label_of(name)} (lr {lr:g})" for name, lr in chosen
        )
        random, span = "random ones" if what == _FILTERS else "unrelated maps", scene(layer, what)[-1]
        answer = f"orthogonal SGD's are {'less' if more[compare] == 'sgd' else 'more'} alike, on every seed"
        if more[compare] is None:
            answer = "the seeds overlap, so neither can be called more alike"
        text = f"{compare.capitalize()}, {layer}, {what}: the mean absolute cosine ends at {ends}, "
        text += f"{random} have {span}; {answer}."
        if guess != _SKIP:
            judged = {None: "the seeds cannot tell", guess: "right"}.get(more[compare], "wrong")
            text += f" Your guess was {label_of(guess)}: {judged}."
        return _title(set(more.values())), text

    def show_own(layer: str, what: str) -> tuple[str, str]:
        if (layer, what) not in lines:
            canvas.front(blank)
            return f"There are no {what} of {layer} in this frame", "Choose another layer."
        ends = ", ".join(draw(layer, what, ((run, None) for run in lines[layer, what]))).replace("\n", " ")
        title = "Alike is what lies above chance: your runs, layer by layer"
        return title, f"{layer}, {what}, mean absolute cosine in the end: {ends}."

    if data is None:
        return Scene(show, first={"layer": "conv 2"})
    layers, kinds = (list(dict.fromkeys(key[i] for key in lines)) for i in (0, 1))
    presets = {"first": {"layer": layers[0]}, "last": {"layer": layers[-1]}}
    return Scene(show_own, options={"layer": layers, "what": kinds}, presets=presets)


@cache
def _stored() -> tuple[_Lines, dict[str, list[_Run]]]:
    """The stored lines, by optimiser and learning rate, and those that are compared."""
    table = training.results("filters")
    accuracy = table[table["quantity"] == "test_accuracy"]
    best = best_rates(accuracy, "value")
    lines = _lines(table.assign(step=table["step"] / 49), "optimizer", "lr")  # steps of an epoch
    return lines, {_EQUAL: [(name, 0.01) for name in _NAMES], _BEST: [(name, best[name]) for name in _NAMES]}


def _lines(data: pd.DataFrame, *run: str) -> _Lines:
    """The lines of a frame, where these columns name a run."""
    need(data, "step", "layer", "stage", "quantity", "value")
    found: _Lines = {}
    for what, (stage, quantity) in _QUANTITY.items():
        rows = data[(data["stage"] == stage) & (data["quantity"] == quantity)].dropna(subset="value")
        for (layer, *key), part in rows.groupby(["layer", *run], observed=True):
            line = part.groupby("step")["value"].agg(["mean", "min", "max"])
            found.setdefault((str(layer), what), {})[tuple(key)] = line
    if not found:
        raise ValueError('data must hold "mean_abs_cosine" of weights or "feature_cosine", got neither')
    return found


def _more_alike(sgd: Any, orthogonal: Any) -> str | None:
    """Whose are more alike in the end; None where the seeds' ranges overlap."""
    if orthogonal["min"] > sgd["max"]:
        return "orthogonal_sgd"
    return "sgd" if orthogonal["max"] < sgd["min"] else None


def _title(answers: set[str | None]) -> str:
    """Whether the two ways to choose the learning rate give the same answer."""
    if None in answers:
        return "Here the seeds overlap: there is no answer to change"
    if len(answers) == 1:
        return (
            f"Here the learning rate does not matter: {label_of(answers.pop())}'s are more alike either way"
        )
    return "Name the learning rate first: the answer changes sign"
