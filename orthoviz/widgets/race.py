"""race: two optimisers on the same network and batches, live, again and again."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipywidgets as w
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from torch import nn

from orthoviz import training
from orthoviz.datasets import Dataset, load
from orthoviz.matrices import param_groups
from orthoviz.models import basic_cnn, digits_cnn
from orthoviz.optim import CONTROLS, OPTIMIZERS
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD, new_figure
from orthoviz.training.comparison import best_rate, entrant, summary
from orthoviz.widgets.core import LiveView, State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_CONTROLS = ("norm-matched", *(name.replace("_", " ") for name in CONTROLS))
_DEFAULTS = {
    "first": "SGD",
    "second": "orthogonal SGD",
    "lr_first": 0.01,
    "lr_second": 0.01,
    "epochs": 4,
    "batch_size": 256,
    "seed": 0,
}
_MARKERS = dict(zip(OPTIMIZERS, "os8D*HPp^vhXd<>", strict=True))
_SEEDS = tuple(range(10))
_MOST_TEST_IMAGES = 400  # evaluated after every step
_BEST_SGD = 0.1  # of these rates, on digits: the fair opponent


@dataclass
class _Lane:
    """One optimiser's part of a race."""

    name: str
    lr: float
    seed: int
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    finished: bool = False

    def record(self, seconds: float, network: nn.Module, data: Dataset) -> None:
        """Add a point after so many seconds of training."""
        self.accuracy.append(training.evaluate(network, data)["test_accuracy"])
        self.steps.append(len(self.steps))
        self.seconds.append(seconds)


def race(
    data: str | Dataset = "digits",
    *,
    first: str = "SGD",
    second: str = "orthogonal SGD",
    lr_first: float = 0.01,
    lr_second: float = 0.01,
    epochs: int = 4,
    batch_size: int = 256,
    seed: int = 0,
    model: Callable[[int], nn.Module] | None = None,
) -> View:
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

    A race of at most 50 steps on 8 x 8 images is run before the view opens; others wait for Start. The
    view works in a thread of its own, which ends with the race, with Stop, when its cell is run again,
    and with ``close()``.
    """
    given = {"first": first, "second": second, "lr_first": lr_first, "lr_second": lr_second}
    for place in ("first", "second"):
        one_of(place, given[place], OPTIMIZERS)
    images = load(data) if isinstance(data, str) else data
    return _Race(images, given, epochs, batch_size, seed, model)


class _Race(LiveView):
    def __init__(
        self,
        data: Dataset,
        racers: dict[str, Any],
        epochs: int,
        batch_size: int,
        seed: int,
        model: Callable[[int], nn.Module] | None,
    ) -> None:
        self._data = data.subset(test=_MOST_TEST_IMAGES)
        self._epochs, self._batch_size = epochs, batch_size
        one_of("seed", seed, _SEEDS)
        classes = len(data.classes)
        usual = digits_cnn if data.shape == (1, 8, 8) else basic_cnn
        network = model or (lambda seed: usual(classes, seed=seed))
        self._entrants = {name: entrant(network, param_groups, make) for name, make in OPTIMIZERS.items()}
        check = self._entrants[racers["first"]](racers["lr_first"], seed)
        training.check_fits(*check, data, epochs=epochs, batch_size=batch_size)

        def rate(key: str) -> w.SelectionSlider:
            label = f"lr of {racers[key.removeprefix('lr_')]}"
            one_of(label, racers[key], _RATES)
            return control(w.SelectionSlider, label, racers[key], options=_RATES, width=22)

        def choice(key: str) -> w.SelectionSlider:
            menu = control(w.SelectionSlider, key, racers[key], options=list(OPTIMIZERS), width=28)
            rates = rate_of[key]
            menu.observe(lambda change: setattr(rates, "description", f"lr of {change.new}"), "value")
            return menu

        rate_of = {place: rate(f"lr_{place}") for place in ("first", "second")}

        chance = torch.bincount(data.test.labels).max().item() / len(data.test.labels)
        total = epochs * math.ceil(len(data.train.labels) / batch_size)

        def given(state: State) -> list[str]:
            names = [] if data.name == "digits" else [repr(data.name)]
            own = ["model=model"] * (model is not None)
            return names + changed({**state, "epochs": epochs, "batch_size": batch_size}, _DEFAULTS) + own

        super().__init__(
            "race",
            partial(_draw, _Scene(chance, total)),
            {
                "lr_first": rate_of["first"],
                "lr_second": rate_of["second"],
                "axis": control(w.ToggleButtons, "", "steps", options=("steps", "seconds")),
                "first": choice("first"),
                "second": choice("second"),
                "seed": control(w.SelectionSlider, "seed", seed, options=_SEEDS, width=18),
            },
            presets={
                "equal learning rate": {},
                "only the shape": {"second": "norm-matched", "lr_first": _BEST_SGD, "lr_second": _BEST_SGD},
                "only the length": {"second": "per tensor"},
            },
            lose={"lr_first": _BEST_SGD, "lr_second": 0.1},
            more=("first", "second", "seed"),
            state={"lanes": []},
            given=given,
        )
        if data.shape == (1, 8, 8) and total <= 50:
            self.run()  # a second or two: the picture opens with a race in it

    def work(self) -> Iterator[None]:
        """Both networks, a step each in turn."""
        state = self.state
        lanes = [_Lane(state[place], state[f"lr_{place}"], state["seed"]) for place in ("first", "second")]
        self.set(lanes=[*state["lanes"], *lanes])
        for _ in zip(*(self._drive(lane) for lane in lanes), strict=True):
            yield

    def ended(self, stopped: bool) -> None:
        """Only a race that was run to its end counts."""
        for lane in self.state["lanes"][-2:]:
            lane.finished = not stopped
        self.set(status="Stopped: this race does not count. " if stopped else "")

    @property
    def frame(self) -> pd.DataFrame:
        """The finished races, a row an optimiser and step, for ``ov.plots.compare(view.frame, x="step")``."""
        return _frame(self.state["lanes"]).assign(batch_size=self._batch_size)

    def _drive(self, lane: _Lane) -> Iterator[None]:
        """Train one network, and pause after every step with the lane brought up to date."""
        network, optimizer = self._entrants[lane.name](lane.lr, lane.seed)
        seconds = 0.0
        lane.record(seconds, network, self._data)
        for epoch in range(1, self._epochs + 1):
            began = time.perf_counter()
            for _ in training.steps(
                network, optimizer, self._data, batch_size=self._batch_size, seed=lane.seed, epoch=epoch
            ):
                seconds += time.perf_counter() - began
                lane.record(seconds, network, self._data)
                yield
                began = time.perf_counter()


class _Scene:
    """The axes, drawn once; the curves and the score are laid over them."""

    def __init__(self, chance: float, total: int) -> None:
        figure, (self.curves, self.score) = new_figure(9, 4.2, (1.5, 1))
        self.stage, self.total = Stage(figure), total
        for ax in (self.curves, self.score):
            ax.axhline(chance, color=RANDOM, lw=1, ls=":")
            ax.set_ylim(0, 1.02)
        self.curves.set(xlabel="step", ylabel="test accuracy", title="the last race, earlier ones pale")
        corner = self.curves.get_yaxis_transform()
        self.curves.text(1, chance, "chance", transform=corner, color=RANDOM, ha="right", va="bottom")
        self.score.set(
            xscale="log", xlim=(0.0007, 0.15), xlabel="learning rate", title="the score: final accuracy"
        )
        self.score.set_xticks(_RATES, [f"{rate:g}" for rate in _RATES])
        self.score.minorticks_off()
        self.score.text(0.02, 0.05, "▵ next", transform=self.score.transAxes, color="#666666", fontsize=9)

    def scale(self, axis: str, longest: float) -> None:
        """Set the horizontal axis; drawn anew only where it changes."""
        label, end = "step", float(self.total)
        if axis == "seconds":
            label, end = "seconds of training", max(0.5, 1.25 ** math.ceil(math.log(longest, 1.25)))
        if (label, end) != (self.curves.get_xlabel(), self.curves.get_xlim()[1]):
            self.curves.set(xlabel=label, xlim=(0, end))
            self.stage.forget()


def _draw(scene: _Scene, state: State) -> Picture:
    """The picture of a state: the races so far, the last one strong."""
    lanes: list[_Lane] = state["lanes"]
    scene.scale(state["axis"], max((max(lane.seconds, default=0) for lane in lanes), default=0) or 1)
    moving: list[Artist] = []
    for index, lane in enumerate(lanes):
        last = index >= len(lanes) - 2
        second = index % 2 == 1 and lane.name == lanes[index - 1].name  # the same optimiser twice
        count = len(lane.accuracy)  # the race goes on while this draws
        x = (lane.steps if state["axis"] == "steps" else lane.seconds)[:count]
        style: dict[str, Any] = _style(lane.name) | ({"ls": "-."} if second else {})
        style |= dict(lw=2.2 if last else 1.0, alpha=1.0 if last else 0.25, animated=True)
        moving += scene.curves.plot(x, lane.accuracy[: len(x)], **style)
    for name in dict.fromkeys(lane.name for lane in lanes):
        done = sorted((lane.lr, lane.accuracy[-1]) for lane in lanes if lane.name == name and lane.finished)
        style = _style(name) | dict(lw=1, marker=_MARKERS[name], animated=True)
        moving += scene.score.plot([lr for lr, _ in done], [final for _, final in done], **style)
    nexts = [(state[place], state[f"lr_{place}"]) for place in ("first", "second")]
    for name, lr in nexts:
        moving += scene.score.plot(lr, 0.03, **_style(name), marker="^", ms=9, mfc="none", animated=True)
    racing = [(lane.name, lane.lr) for lane in lanes[-2:]]
    racing = racing or nexts
    key = [Line2D([], [], lw=2.2, label=f"{name}, lr {lr:g}", **_style(name)) for name, lr in racing]
    legend = scene.curves.legend(handles=key, loc="lower right", frameon=False, bbox_to_anchor=(1, 0.12))
    legend.set_animated(True)
    title = "One race proves nothing: keep the score"
    return Picture(scene.stage, [], title, state["status"] + _message(lanes), passing=[*moving, legend])


def _message(lanes: list[_Lane]) -> str:
    """The last race and the score in words."""
    if not lanes:
        return "Press start. Both networks begin with the same weights and see the same batches."
    now = " against ".join(f"{lane.name} at lr {lane.lr:g}: {_last(lane):.3f}" for lane in lanes[-2:])
    races = sum(lane.finished for lane in lanes) // 2
    if not races:
        return f"Test accuracy now: {now}."
    runs = _frame(lanes)
    best = {str(name): best_rate(some, "test_accuracy") for name, some in runs.groupby("optimizer")}
    chosen = runs[runs["lr"] == runs["optimizer"].map(best)]
    score = summary(chosen, f"best of {races} finished race{'s' * (races != 1)}", best)
    return f"Test accuracy: {now}. {score[0].upper()}{score[1:]}."


def _frame(lanes: list[_Lane]) -> pd.DataFrame:
    """The lanes of finished races, as a comparison has its runs; of equal ones the last."""
    done = {(lane.name, lane.lr, lane.seed): lane for lane in lanes if lane.finished}
    columns = {"optimizer": "name", "lr": "lr", "seed": "seed", "step": "steps", "epoch": "steps"}
    columns |= {"seconds": "seconds", "test_accuracy": "accuracy"}
    tables = [
        pd.DataFrame({column: getattr(lane, of) for column, of in columns.items()}) for lane in done.values()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))


def _style(name: str) -> dict[str, Any]:
    """Colour and line of a racer: plain ones as SGD, controls grey, orthogonal ones blue."""
    if name in _CONTROLS:
        return {"color": RANDOM, "ls": "--" if name == "norm-matched" else ":"}
    if name in ("SGD", "AdamW", "LARS"):
        return {"color": SGD, "ls": "--" if name == "SGD" else ":"}
    return {"color": ORTHOGONAL, "ls": "-" if name == "orthogonal SGD" else "-."}


def _last(lane: _Lane) -> float:
    return lane.accuracy[-1] if lane.accuracy else math.nan
