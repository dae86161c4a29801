"""race: two optimisers on the same network and batches, live, again and again."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.lines import Line2D
from torch import nn

from orthoviz import training
from orthoviz.datasets import Dataset, load
from orthoviz.models import basic_cnn, digits_cnn
from orthoviz.optim import CONTROLS, LABELS, OPTIMIZERS
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD
from orthoviz.training.equal import starter
from orthoviz.training.outcomes import best_rates, summary
from orthoviz.widgets.view import Canvas, Scene, buttons, slider, view

_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_CONTROLS = ("matched", *CONTROLS)
_MARKERS = dict(zip(OPTIMIZERS, "os8D*HPp^vhXd<>x+123", strict=True))
_MOST_TEST_IMAGES = 400  # evaluated after every step
_BEST_SGD = 0.1  # of these rates, on digits: the fair opponent


@dataclass
class _Lane:
    """One optimiser's part of a race.

    Attributes:
        points: seconds of training and test accuracy, at the start and after every step.
    """

    name: str
    lr: float
    seed: int
    points: list[tuple[float, float]] = field(default_factory=list)
    finished: bool = False


@view(
    lr_first=slider(lambda state: f"lr of {LABELS[state['first']]}", _RATES),
    lr_second=slider(lambda state: f"lr of {LABELS[state['second']]}", _RATES),
    axis=buttons("", ("steps", "seconds")),
    first=slider("first", LABELS, more=True),
    second=slider("second", LABELS, more=True),
    seed=slider("seed", range(10), more=True),
    presets={
        "equal learning rate": {},
        "only the shape": {"second": "matched", "lr_first": _BEST_SGD, "lr_second": _BEST_SGD},
        "only the length": {"second": "per_tensor"},
    },
    lose={"lr_first": _BEST_SGD, "lr_second": 0.1},
)
def race(
    canvas: Canvas, data: str | Dataset = "digits", *, first: str = "sgd", second: str = "orthogonal_sgd",
    lr_first: float = 0.01, lr_second: float = 0.01, epochs: int = 4, batch_size: int = 256, seed: int = 0,
    model: Callable[[int], nn.Module] | None = None, axis: str = "steps",
) -> Scene:  # fmt: skip
    """*One race proves nothing: keep the score.*

    Trains the same network twice on the same batches, with two of ``ov.optim.OPTIMIZERS``: at first SGD and
    orthogonal SGD, under "more" the others and the controls. Left, the test accuracy as they go, and earlier
    races pale; right, each finished run's final accuracy against its learning rate.

    Args:
        data: the name of a data set, or one; 8 x 8 digits train ``digits_cnn``, others ``basic_cnn``.
        first, second: names of ``ov.optim.OPTIMIZERS``.
        lr_first, lr_second: learning rates at the start, of .001, .003, .01, .03 and .1.
        epochs, batch_size: of each run.
        seed: of the initial weights and of the batches, 0 to 9, the same for both; under "more" it can be
            changed. Only of two seeds or more can the score say who is better.
        model: makes your own network from a seed, with a logit for each class.
        axis: what the curves are drawn over, "steps" or "seconds" of training.

    A race of at most 50 steps on 8 x 8 images is run before the view opens; others wait for Start. The
    view works in a thread of its own, which ends with the race, with Stop, when its cell is run again,
    and with ``close()``. ``frame()`` gives the finished races, for ``ov.plots.compare(frame, x="step")``.
    """
    images = load(data) if isinstance(data, str) else data
    images = images.subset(test=_MOST_TEST_IMAGES)
    small, classes = images.shape == (1, 8, 8), len(images.classes)
    usual = digits_cnn if small else basic_cnn
    network = model or (lambda seed: usual(classes, seed=seed))
    start = starter(network, OPTIMIZERS)
    training.check_fits(*start("sgd", _BEST_SGD, 0), images, epochs=epochs, batch_size=batch_size)
    total = epochs * math.ceil(len(images.train.labels) / batch_size)
    chance = torch.bincount(images.test.labels).max().item() / len(images.test.labels)
    curves, score = canvas.axes(9, 4.2, (1.5, 1))
    for ax in (curves, score):
        ax.axhline(chance, color=RANDOM, lw=1, ls=":")
        ax.set_ylim(0, 1.02)
    curves.set(ylabel="test accuracy", title="the last race, earlier ones pale")
    right = curves.get_yaxis_transform()
    curves.text(1, chance, "chance", transform=right, color=RANDOM, ha="right", va="bottom")
    score.set(xscale="log", xlim=(0.0007, 0.15), xlabel="learning rate", title="the score: final accuracy")
    score.set_xticks(_RATES, [f"{rate:g}" for rate in _RATES])
    score.minorticks_off()
    following = canvas.text(score, 0.02, 0.12, transform=score.transAxes, color="#666666", fontsize=9)
    lanes: list[_Lane] = []
    status = ""

    def scale(axis: str) -> None:
        """Set the horizontal axis; drawn anew only where it changes."""
        label, end = "step", float(total)
        if axis == "seconds":
            longest = max((seconds for lane in lanes for seconds, _ in lane.points), default=0) or 1
            label, end = "seconds of training", max(0.5, 1.25 ** math.ceil(math.log(longest, 1.25)))
        if (label, end) != (curves.get_xlabel(), curves.get_xlim()[1]):
            curves.set(xlabel=label, xlim=(0, end))
            canvas.anew()

    def show(seed: int, axis: str, **state: Any) -> tuple[str, str]:
        scale(axis)
        for index, lane in enumerate(lanes):
            last = index >= len(lanes) - 2
            style = _style(lane.name) | dict(lw=2.2 if last else 1.0, alpha=1.0 if last else 0.25)
            if index % 2 and lane.name == lanes[index - 1].name:  # the same optimiser twice
                style["ls"] = "-."
            points = list(lane.points)  # the race goes on meanwhile
            x = range(len(points)) if axis == "steps" else [seconds for seconds, _ in points]
            canvas.now(*curves.plot(x, [accuracy for _, accuracy in points], **style))
        for name in dict.fromkeys(lane.name for lane in lanes):
            done = sorted((e.lr, e.points[-1][1]) for e in lanes if e.name == name and e.finished)
            canvas.now(*score.plot(*np.reshape(done, (-1, 2)).T, lw=1, marker=_MARKERS[name], **_style(name)))
        nexts = [(state[place], state[f"lr_{place}"]) for place in ("first", "second")]
        following.set_text(f"▵ next, seed {seed}:\n{', '.join(LABELS[name] for name, _ in nexts)}")
        for name, lr in nexts:
            canvas.now(*score.plot(lr, 0.03, **_style(name), marker="^", ms=9, mfc="none"))
        racing = [(lane.name, lane.lr) for lane in lanes[-2:]] or nexts
        key = [
            Line2D([], [], lw=2.2, label=f"{LABELS[name]}, lr {lr:g}", **_style(name)) for name, lr in racing
        ]
        canvas.now(curves.legend(handles=key, loc="lower right", frameon=False, bbox_to_anchor=(1, 0.12)))
        return "One race proves nothing: keep the score", status + _message(lanes)

    def drive(lane: _Lane) -> Generator[None]:
        """Train one network, and pause after every step with the lane brought up to date."""
        network, optimizer = start(lane.name, lane.lr, lane.seed)
        how: Any = dict(batch_size=batch_size, seed=lane.seed)
        spent = 0.0
        lane.points.append((spent, training.evaluate(network, images)["test_accuracy"]))
        for epoch in range(1, epochs + 1):
            began = time.perf_counter()
            for _ in training.steps(network, optimizer, images, **how, epoch=epoch):
                spent += time.perf_counter() - began
                lane.points.append((spent, training.evaluate(network, images)["test_accuracy"]))
                yield
                began = time.perf_counter()

    def work(seed: int, axis: str, **state: Any) -> Generator[None]:
        """Both networks, a step each in turn; only a race that comes to its end counts."""
        nonlocal status
        both = [_Lane(state[place], state[f"lr_{place}"], seed) for place in ("first", "second")]
        status = ""
        lanes.extend(both)
        try:
            for _ in zip(*map(drive, both), strict=True):
                yield
        except GeneratorExit:
            status = "Stopped: this race does not count. "
            raise
        for lane in both:
            lane.finished = True

    frame = lambda: _frame(lanes).assign(batch_size=batch_size)  # noqa: E731
    return Scene(show, work, opens=small and total <= 50, frame=frame)


def _message(lanes: list[_Lane]) -> str:
    """The last race and the score in words."""
    if not lanes:
        return "Press start. Both networks begin with the same weights and see the same batches."
    ends = [(lane, lane.points[-1][1] if lane.points else math.nan) for lane in lanes[-2:]]
    now = " against ".join(f"{LABELS[lane.name]} at lr {lane.lr:g}: {end:.3f}" for lane, end in ends)
    races = sum(lane.finished for lane in lanes) // 2
    if not races:
        return f"Test accuracy now: {now}."
    runs = _frame(lanes)
    chosen = runs[runs["lr"] == runs["optimizer"].map(best_rates(runs, "test_accuracy"))]
    score = summary(chosen, f"best of {races} finished race{'s' * (races != 1)}")
    return f"Test accuracy: {now}. {score[0].upper()}{score[1:]}."


def _frame(lanes: list[_Lane]) -> pd.DataFrame:
    """The lanes of finished races, as a comparison has its runs; of equal ones the last."""
    done = {(lane.name, lane.lr, lane.seed): lane.points for lane in lanes if lane.finished}
    rows = [(*run, step, step, *point) for run, points in done.items() for step, point in enumerate(points)]
    columns = ["optimizer", "lr", "seed", "step", "epoch", "seconds", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def _style(name: str) -> dict[str, Any]:
    """Colour and line of a racer: plain ones as SGD, controls grey, orthogonal ones blue."""
    if name in _CONTROLS:
        return {"color": RANDOM, "ls": "--" if name == "matched" else ":"}
    if name in ("sgd", "adamw", "lars"):
        return {"color": SGD, "ls": "--" if name == "sgd" else ":"}
    return {"color": ORTHOGONAL, "ls": "-" if name == "orthogonal_sgd" else "-."}
