"""race: SGD against orthogonal SGD, live, again and again."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipywidgets as w
import torch
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from torch import nn

from orthoviz import training
from orthoviz.datasets import Dataset, load
from orthoviz.matrices import param_groups
from orthoviz.models import basic_cnn, digits_cnn
from orthoviz.optim import OrthogonalSGD
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD, new_figure
from orthoviz.widgets.core import Picture, Stage, State, View, replace_earlier

_RATES = (0.003, 0.01, 0.03, 0.1)
_RACERS = {"SGD": (SGD, "--", "o"), "orthogonal SGD": (ORTHOGONAL, "-", "s")}
_DEFAULTS = {"lr_sgd": 0.01, "lr_orthogonal": 0.01, "epochs": 4, "batch_size": 256, "seed": 0}
_RATE_OF = {"SGD": "lr_sgd", "orthogonal SGD": "lr_orthogonal"}
_MOST_TEST_IMAGES = 400  # evaluated after every step
_BEST_SGD = 0.1  # of these rates, on digits: the fair opponent


@dataclass
class _Lane:
    """One optimiser's part of a race."""

    name: str
    lr: float
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
    lr_sgd: float = 0.01,
    lr_orthogonal: float = 0.01,
    epochs: int = 4,
    batch_size: int = 256,
    seed: int = 0,
) -> View:
    """*One race proves nothing: keep the score.*

    Trains the same network twice on the same batches, once with SGD and once with orthogonal SGD
    (momentum 0.9, weight decay 5e-4). Left, the test accuracy as they go, and earlier races pale;
    right, each finished run's final accuracy against its learning rate.

    Args:
        data: the name of a data set, or one; 8 x 8 digits train ``digits_cnn``, others ``basic_cnn``.
        lr_sgd, lr_orthogonal: learning rates at the start, of .003, .01, .03 and .1.
        epochs, batch_size: of each run.
        seed: of the initial weights and of the batches, the same for both.

    A race of at most 50 steps on 8 x 8 images is run before the view opens; others wait for Start. The
    view works in a thread of its own, which ends with the race, with Stop, when its cell is run again,
    and with ``close()``.
    """
    return _Race(
        load(data) if isinstance(data, str) else data, lr_sgd, lr_orthogonal, epochs, batch_size, seed
    )


class _Race(View):
    def __init__(
        self, data: Dataset, lr_sgd: float, lr_orthogonal: float, epochs: int, batch_size: int, seed: int
    ) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._switching = threading.Lock()  # buttons answer in whatever thread the kernel gives them
        self._closed = False
        self._data = data.subset(test=_MOST_TEST_IMAGES)
        self._epochs, self._batch_size, self._seed = epochs, batch_size, seed
        training.check_fits(*self._racer("SGD", lr_sgd), data, epochs=epochs, batch_size=batch_size)
        start = w.Button(description="start", button_style="primary", layout=w.Layout(width="auto"))
        stop = w.Button(description="stop", layout=w.Layout(width="auto"))
        start.on_click(lambda _: self.start())
        stop.on_click(lambda _: self.stop())

        def rate(value: float, label: str) -> w.SelectionSlider:
            if value not in _RATES:
                raise ValueError(f"{label} must be one of {', '.join(map(str, _RATES))}, got {value}")
            return w.SelectionSlider(
                options=_RATES,
                value=value,
                description=label,
                style={"description_width": "initial"},
                layout=w.Layout(width="24em"),
            )

        chance = torch.bincount(data.test.labels).max().item() / len(data.test.labels)
        total = epochs * math.ceil(len(data.train.labels) / batch_size)

        def code(state: State) -> str:
            given = {"lr_sgd": state["lr_sgd"], "lr_orthogonal": state["lr_orthogonal"]}
            given |= {"epochs": epochs, "batch_size": batch_size, "seed": seed}
            changed = [f"{key}={value!r}" for key, value in given.items() if value != _DEFAULTS[key]]
            names = [] if data.name == "digits" else [repr(data.name)]
            return f"ov.widgets.race({', '.join(names + changed)})"

        super().__init__(
            partial(_draw, _Scene(chance, total)),
            {
                "lr_sgd": rate(lr_sgd, "lr of SGD"),
                "lr_orthogonal": rate(lr_orthogonal, "lr of orthogonal SGD"),
                "axis": w.ToggleButtons(options=("steps", "seconds"), style={"button_width": "80px"}),
            },
            presets={"equal learning rate": {"lr_sgd": 0.01, "lr_orthogonal": 0.01}},
            lose={"lr_sgd": _BEST_SGD, "lr_orthogonal": 0.1},
            buttons=[start, stop],
            state={"lanes": [], "status": ""},
            code=code,
        )
        replace_earlier(self)
        if data.shape == (1, 8, 8) and total <= 50:
            self._work()  # a second or two: the picture opens with a race in it

    def start(self) -> None:
        """Begin a race with the rates that are set; does nothing while one is on."""
        with self._switching:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, name="orthoviz-race", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the race that is on, if any, and wait for it: the time of a step."""
        with self._switching:
            self._stop.set()
            if self._thread is not None:
                self._thread.join()

    def close(self) -> None:
        """Stop, and take the view away."""
        self._closed = True
        self.stop()
        super().close()

    def _work(self) -> None:
        try:
            self._run(
                [_Lane("SGD", self.state["lr_sgd"]), _Lane("orthogonal SGD", self.state["lr_orthogonal"])]
            )
        except Exception as error:  # in a thread nobody else would see it
            self.say(error)

    def _run(self, lanes: list[_Lane]) -> None:
        """Both networks, a step each in turn, until the end or until Stop."""
        self.set(lanes=[*self.state["lanes"], *lanes], status="")
        drawn = 0.0
        stopped = False
        for _ in zip(*(self._drive(lane) for lane in lanes), strict=True):
            if stopped := self._stop.is_set():
                break
            if time.perf_counter() - drawn > 0.08:
                self.redraw()
                drawn = time.perf_counter()
        for lane in lanes:
            lane.finished = not stopped
        self.set(status="Stopped: this race does not count. " if stopped else "")

    def _racer(self, name: str, lr: float) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A network at its start, and its optimiser."""
        make_network = digits_cnn if self._data.shape == (1, 8, 8) else basic_cnn
        network = make_network(len(self._data.classes), seed=self._seed)
        make = OrthogonalSGD if name == "orthogonal SGD" else torch.optim.SGD
        return network, make(param_groups(network), lr=lr, momentum=0.9, weight_decay=5e-4)

    def _drive(self, lane: _Lane) -> Iterator[None]:
        """Train one network, and pause after every step with the lane brought up to date."""
        network, optimizer = self._racer(lane.name, lane.lr)
        seconds = 0.0
        lane.record(seconds, network, self._data)
        for epoch in range(1, self._epochs + 1):
            began = time.perf_counter()
            for _ in training.steps(
                network, optimizer, self._data, batch_size=self._batch_size, seed=self._seed, epoch=epoch
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
        figure.suptitle("One race proves nothing: keep the score", fontsize=13)
        for ax in (self.curves, self.score):
            ax.axhline(chance, color=RANDOM, lw=1, ls=":")
            ax.set_ylim(0, 1.02)
        self.curves.set(xlabel="step", ylabel="test accuracy", title="the last race, earlier ones pale")
        corner = self.curves.get_yaxis_transform()
        self.curves.text(1, chance, "chance", transform=corner, color=RANDOM, ha="right", va="bottom")
        self.score.set(
            xscale="log", xlim=(0.002, 0.15), xlabel="learning rate", title="the score: final accuracy"
        )
        self.score.set_xticks(_RATES, [f"{rate:g}" for rate in _RATES])
        self.score.minorticks_off()

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
        colour, dashes, _ = _RACERS[lane.name]
        width, alpha = (2.2, 1.0) if index >= len(lanes) - 2 else (1.0, 0.25)
        count = len(lane.accuracy)  # the race goes on while this draws
        x = (lane.steps if state["axis"] == "steps" else lane.seconds)[:count]
        style: dict[str, Any] = dict(color=colour, ls=dashes, lw=width, alpha=alpha, animated=True)
        moving += scene.curves.plot(x, lane.accuracy[: len(x)], **style)
    key = []
    for name, (colour, dashes, marker) in _RACERS.items():
        done = sorted((lane.lr, lane.accuracy[-1]) for lane in lanes if lane.name == name and lane.finished)
        style = dict(color=colour, ls=dashes, lw=1, marker=marker, animated=True)
        moving += scene.score.plot([lr for lr, _ in done], [final for _, final in done], **style)
        label = f"{name}, lr {state[_RATE_OF[name]]:g}"
        key.append(Line2D([], [], color=colour, ls=dashes, lw=2.2, label=label))
    legend = scene.curves.legend(handles=key, loc="lower right", frameon=False, bbox_to_anchor=(1, 0.12))
    legend.set_animated(True)
    image = scene.stage.png([*moving, legend])
    for artist in (*moving, legend):
        artist.remove()
    return Picture(image, state["status"] + _message(lanes))


def _message(lanes: list[_Lane]) -> str:
    """The last race and the score in words."""
    if not lanes:
        return "Press start. Both networks begin with the same weights and see the same batches."
    now = " against ".join(f"{lane.name} at lr {lane.lr:g}: {_last(lane):.3f}" for lane in lanes[-2:])
    best = {
        name: max((lane.accuracy[-1] for lane in lanes if lane.name == name and lane.finished), default=None)
        for name in _RACERS
    }
    races = sum(lane.finished for lane in lanes) // 2
    if None in best.values():
        return f"Test accuracy now: {now}."
    score = ", ".join(f"{name} {value:.3f}" for name, value in best.items())
    return f"Test accuracy: {now}. Best of {races} finished race{'s' * (races != 1)}: {score}."


def _last(lane: _Lane) -> float:
    return lane.accuracy[-1] if lane.accuracy else math.nan
