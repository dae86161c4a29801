"""loss_valley: which mode is learnt first."""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from orthoviz import toys
from orthoviz.matrices import param_groups
from orthoviz.optim import OrthogonalSGD
from orthoviz.plots import MODES, ORTHOGONAL, PALE, RANDOM, SGD, new_figure
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_RATES = (0.003, 0.01, 0.03, 0.1)
_STEPS = tuple(sorted({round(10 ** (i / 20)) for i in range(61)} | {0, 30}))  # 0 to 1000
_DEEP, _QUADRATIC = "deep linear network", "dense quadratic"
_GOAL = 1e-4  # of the first error, where the quadratic counts as solved
_SGD_CAP = 0.03  # gradient descent does not settle above


class _Runs(NamedTuple):
    """Both optimisers on one problem, step by step, and for the quadratic two more."""

    descent: pd.DataFrame
    orthogonal: pd.DataFrame
    others: dict[str, pd.DataFrame]


def loss_valley(*, problem: str = _DEEP, lr: float = 0.03, step: int = 45) -> View:
    """*Gradient descent learns the strong modes first, the orthogonal step the weak ones.*

    Left, the plane of two modes: how much of the strong and of the weak one has been learnt. Beside it the
    learnt part of all four against the step, with the law of the orthogonal step, (0.9 s)^(1/3) / lr, as
    triangles. The dense quadratic, where the message fails, is run with each method's best learning rate.

    Args:
        problem: "deep linear network" (:class:`orthoviz.toys.DeepLinear`) or "dense quadratic"
            (:class:`orthoviz.toys.MatrixQuadratic`).
        lr: of .003, .01, .03 and .1, for both; gradient descent takes at most .03,
            as it does not settle above.
        step: where both are shown, of about 60 from 0 to 1,000.

    Raises:
        ValueError: an argument that the view has no place for.
    """
    one_of("problem", problem, (_DEEP, _QUADRATIC))
    one_of("lr", lr, _RATES)
    if not 0 <= step <= _STEPS[-1]:
        raise ValueError(f"step must be from 0 to {_STEPS[-1]}, got {step}")
    step = min(_STEPS, key=lambda known: abs(known - step))
    slider = control(w.SelectionSlider, "step", step, options=_STEPS, width=30)
    index = _STEPS.index(step)  # a link takes over its first end's value
    play = w.Play(value=index, min=0, max=len(_STEPS) - 1, interval=150, layout=w.Layout(width="auto"))
    w.jslink((play, "value"), (slider, "index"))

    return View(
        "loss_valley",
        partial(_draw, {name: _Scene(name) for name in (_DEEP, _QUADRATIC)}),
        {
            "step": slider,
            "problem": control(w.ToggleButtons, "problem", problem, options=(_DEEP, _QUADRATIC)),
            "lr": control(w.SelectionSlider, "learning rate", lr, options=_RATES, width=20),
        },
        presets={
            "strong first, weak first": {"step": 45},
            "small steps": {"lr": 0.003, "step": 398},
            "too large for SGD": {"lr": 0.1, "step": 20},
        },
        lose={"problem": _QUADRATIC, "step": 100},
        visible=lambda state: ["problem", "step"] + ["lr"] * (state["problem"] == _DEEP),
        buttons=[play],
        given=lambda state: changed(state, {"problem": _DEEP, "lr": 0.03, "step": 45}),
    )


@cache
def _runs(problem: str, lr: float) -> _Runs:
    """The walks, as long as the step can be; that of the orthogonal step until it has arrived."""

    def walk(make: Any, steps: int = _STEPS[-1], **options: Any) -> pd.DataFrame:
        toy = toys.DeepLinear() if problem == _DEEP else toys.MatrixQuadratic()
        return toys.descend(toy, make(param_groups(toy), **options), steps)

    if problem == _DEEP:
        arrived = min(_STEPS[-1], round(3 / lr))
        return _Runs(walk(torch.optim.SGD, lr=min(lr, _SGD_CAP)), walk(OrthogonalSGD, arrived, lr=lr), {})
    return _Runs(
        walk(torch.optim.SGD, 600, lr=3.3, momentum=0.9),
        walk(OrthogonalSGD, 400, lr=0.01),
        {
            "gradient descent": walk(torch.optim.SGD, 2000, lr=1.9),
            "orthogonal, momentum": walk(OrthogonalSGD, 400, lr=0.003, momentum=0.9),
        },
    )


class _Scene:
    """Axes and paths of one problem at one learning rate; what moves with the step is laid over them."""

    def __init__(self, problem: str) -> None:
        self.problem, self.lr = problem, math.nan
        figure, axes = new_figure(9, 3.9, (1.15, 1, 1))
        self.plane, self.left, self.right = axes
        self.stage = Stage(figure)

    def show(self, lr: float, runs: _Runs) -> None:
        """Draw what stays while the step changes; nothing where it is there already."""
        if lr == self.lr:
            return
        self.lr = lr
        for ax in (self.plane, self.left, self.right):
            ax.clear()
        deep = self.problem == _DEEP
        (self._plane if deep else self._bars)(runs)
        who = "SGD, momentum 0.9, lr 3.3" if not deep else f"gradient descent, lr {min(lr, _SGD_CAP):g}"
        second = f"orthogonal, lr {lr:g}" if deep else "orthogonal, lr 0.01"
        for ax, frame, name, colour in (
            (self.left, runs.descent, who, SGD),
            (self.right, runs.orthogonal, second, ORTHOGONAL),
        ):
            ax.set_title(name, color=colour, fontsize=11)
            ax.set(xscale="log", xlim=(1, _STEPS[-1]), xlabel="step")
            (_modes if deep else _errors)(ax, frame, colour)
        self.left.set_ylabel("learnt part of each mode" if deep else "error, relative to the first")
        if deep:
            for mode, (colour, _) in MODES.items():
                self.right.plot((0.9 * mode) ** (1 / 3) / lr, 0.9, "v", color=colour, ms=8, clip_on=False)
            law = "▼ predicted:\n(0.9 s)^(1/3) / lr"
            self.right.text(0.99, 0.5, law, transform=self.right.transAxes, fontsize=8, ha="right")
            self.left.legend(frameon=False, fontsize=9, loc="center left", handlelength=1.8)
        self.stage.forget()

    def _plane(self, runs: _Runs) -> None:
        """Both walks in the plane of two modes, pale."""
        self.plane.set(xlim=(-0.05, 1.2), ylim=(-0.05, 1.2), aspect="equal")
        self.plane.set(xlabel="strong mode (10) learnt", ylabel="weak mode (1) learnt")
        self.plane.plot(1, 1, "*", color=RANDOM, ms=14)
        for frame, colour, dashes in ((runs.descent, SGD, "--"), (runs.orthogonal, ORTHOGONAL, "-")):
            self.plane.plot(frame[10.0], frame[1.0], dashes, color=colour, lw=1, alpha=0.35)

    def _bars(self, runs: _Runs) -> None:
        """Steps to the goal, each method at its best learning rate."""
        frames = {"SGD, momentum": runs.descent, **runs.others, "orthogonal": runs.orthogonal}
        for place, (name, frame) in enumerate(frames.items()):
            colour = ORTHOGONAL if "orthogonal" in name else SGD
            solved = _solved(frame)
            self.plane.barh(-place, solved, color=colour, height=0.6, alpha=0.9)
            self.plane.text(solved * 1.1, -place, f"{solved:g}", va="center", fontsize=10)
        self.plane.set_yticks([0, -1, -2, -3], list(frames))
        self.plane.set(xscale="log", xlim=(30, 6000), xlabel="steps to 1e-4 of the first error")


def _modes(ax: Axes, frame: pd.DataFrame, _: str) -> None:
    for mode, (colour, dashes) in MODES.items():
        ax.plot(frame.step, frame[mode], dashes, color=colour, lw=2, label=f"{mode:g}")
    ax.axhline(1, color=PALE, lw=1, zorder=0)
    ax.set_ylim(-0.05, 1.2)


def _errors(ax: Axes, frame: pd.DataFrame, colour: str) -> None:
    ax.plot(frame.step, frame.error / frame.error[0], color=colour, lw=2)
    ax.axhline(_GOAL, color=RANDOM, lw=1, ls=":")
    ax.set(yscale="log", ylim=(1e-7, 3))


def _solved(frame: pd.DataFrame) -> float:
    """The step from which the error stays under the goal."""
    return toys.steps_until(frame.error / frame.error[0], high=_GOAL)


def _draw(scenes: dict[str, _Scene], state: State) -> Picture:
    """Both walks up to a step."""
    runs = _runs(state["problem"], state["lr"])
    scene = scenes[state["problem"]]
    scene.show(state["lr"], runs)
    step = state["step"]
    moving: list[Artist] = []
    for frame, colour, marker in ((runs.descent, SGD, "o"), (runs.orthogonal, ORTHOGONAL, "s")):
        if state["problem"] == _DEEP:
            now = frame[frame.step <= step]
            x, y = now[10.0].to_numpy(), now[1.0].to_numpy()
            moving += scene.plane.plot(x, y, color=colour, lw=2.5, animated=True)
            moving += scene.plane.plot(x[-1], y[-1], marker, color=colour, ms=10, animated=True)
            moving.append(_label(scene.plane, colour, x[-1], y[-1]))
    for ax in (scene.left, scene.right):
        moving.append(ax.axvline(max(step, 1), color=RANDOM, lw=1, animated=True))
    title = "Gradient descent learns the strong modes first, the orthogonal step the weak ones"
    if state["problem"] == _QUADRATIC:
        title = "On a dense quadratic tuned momentum is faster"
    return Picture(scene.stage, [], title, _message(state, runs), passing=moving)


def _label(plane: Axes, colour: str, x: float, y: float) -> Artist:
    """The two coordinates beside a point."""
    text = f"({x:.2f}, {y:.2f})" if np.isfinite([x, y]).all() else "diverged"
    across = -0.4 if x > 0.6 else 0.06
    return plane.text(
        np.clip(x + across, 0, 1), np.clip(y + 0.06, 0, 1.1), text, color=colour, fontsize=10, animated=True
    )


def _message(state: State, runs: _Runs) -> str:
    """What the picture shows now."""
    step = state["step"]
    if state["problem"] == _QUADRATIC:
        now = [f.error[min(step, len(f) - 1)] / f.error[0] for f in (runs.descent, runs.orthogonal)]
        times = [_solved(f) for f in (runs.descent, runs.orthogonal)]
        return (
            f"At step {step} SGD with momentum has {now[0]:.0e} of the first error left, the orthogonal step "
            f"{now[1]:.0e}. To 1e-4 they need {times[0]:g} and {times[1]:g} steps, each at its best rate."
        )
    parts = []
    for name, frame in (("gradient descent", runs.descent), ("the orthogonal step", runs.orthogonal)):
        row = frame[frame.step <= step].iloc[-1]
        parts.append(
            f"{name} has learnt {row[10.0]:.0%} of the strong mode and {row[1.0]:.0%} of the weak one"
        )
    above = state["lr"] > _SGD_CAP
    capped = " Gradient descent does not settle above lr 0.03 and is shown there." if above else ""
    return f"Step {step}: {parts[0]}; {parts[1]}.{capped}"
