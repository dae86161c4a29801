"""loss_valley: which mode is learnt first."""

from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from safetensors.numpy import load_file

from orthoviz.plots import MODES, ORTHOGONAL, PALE, RANDOM, SGD
from orthoviz.training.stored import folder, results
from orthoviz.widgets.view import Canvas, Show, buttons, slider, view

_RATES = (0.003, 0.01, 0.03, 0.1)
_STEPS = tuple(sorted({round(10 ** (i / 20)) for i in range(61)} | {0, 30}))  # 0 to 1000
_DEEP, _QUADRATIC = "deep linear network", "dense quadratic"
_SGD_CAP = 0.03  # gradient descent does not settle above
_LOOKS = ((SGD, "--", "o"), (ORTHOGONAL, "-", "s"))


@view(
    step=slider("step", _STEPS, play=True),
    problem=buttons("problem", (_DEEP, _QUADRATIC)),
    lr=slider("learning rate", _RATES, shown=lambda state: state["problem"] == _DEEP),
    presets={
        "strong first, weak first": {"step": 45},
        "small steps": {"lr": 0.003, "step": 398},
        "too large for SGD": {"lr": 0.1, "step": 20},
    },
    lose={"problem": _QUADRATIC, "step": 100},
)
def loss_valley(canvas: Canvas, *, problem: str = _DEEP, lr: float = 0.03, step: int = 45) -> Show:
    """*Gradient descent learns the strong modes first, the orthogonal step the weak ones.*

    Left, the plane of two modes: how much of the strong and of the weak one has been learnt. Beside it the
    learnt part of all four against the step, with the law of the orthogonal step, (0.9 s)^(1/3) / lr, as
    triangles. The dense quadratic, where the message fails, is run with each method's best learning rate.
    The optimisers' walks are stored (``results/valley``).

    Args:
        problem: "deep linear network" (:class:`orthoviz.toys.DeepLinear`) or "dense quadratic"
            (:class:`orthoviz.toys.MatrixQuadratic`).
        lr: of .003, .01, .03 and .1, for both; gradient descent takes at most .03,
            as it does not settle above. Without effect on the quadratic.
        step: where both are shown: 0, 30, or one of twenty in each power of ten, from 1 to 1,000.

    Raises:
        ValueError: an argument that the view has no place for.
    """
    frames = {}
    for name, draw in ((_QUADRATIC, _draw_quadratic), (_DEEP, _draw_deep)):
        axes = canvas.axes(9, 3.9, (1.15, 1, 1))
        for ax in axes:
            ax.clear()  # with it labels become smaller
        for ax in axes[1:]:
            ax.set(xscale="log", xlim=(1, _STEPS[-1]), xlabel="step")
        frames[name] = axes, draw(canvas, *axes)
        canvas.png()  # what stays is drawn before it is asked for

    def show(problem: str, lr: float, step: int) -> tuple[str, str]:
        (plane, *curves), draw = frames[problem]
        canvas.front(plane)
        canvas.now(*(ax.axvline(max(step, 1), color=RANDOM, lw=1) for ax in curves))
        return draw(lr, step)

    return show


def _draw_deep(canvas: Canvas, plane: Axes, left: Axes, right: Axes) -> Show:
    """Both walks in the plane of two modes, and beside it what they have learnt of all four."""
    plane.set(xlim=(-0.05, 1.2), ylim=(-0.05, 1.2), aspect="equal")
    plane.set(xlabel="strong mode (10) learnt", ylabel="weak mode (1) learnt")
    plane.plot(1, 1, "*", color=RANDOM, ms=14)
    left.set_ylabel("learnt part of each mode")
    lines = [canvas.line(plane, color=colour, ls=dashes, lw=1, alpha=0.35) for colour, dashes, _ in _LOOKS]
    headings = []
    for ax, (colour, _, _) in zip((left, right), _LOOKS, strict=True):
        ax.axhline(1, color=PALE, lw=1, zorder=0)
        ax.set_ylim(-0.05, 1.2)
        headings.append(canvas.moves(ax.set_title(" ", color=colour, fontsize=11), layout=True))
        lines += [canvas.line(ax, color=of, ls=ls, lw=2, label=f"{s:g}") for s, (of, ls) in MODES.items()]
    lines += [canvas.line(right, color=of, marker="v", ms=8, clip_on=False) for of, _ in MODES.values()]
    law = "▼ predicted:\n(0.9 s)^(1/3) / lr"
    canvas.moves(right.text(0.99, 0.5, law, transform=right.transAxes, fontsize=8, ha="right"))
    canvas.moves(*left.spines.values(), *right.spines.values())  # the curves lie below them
    left.legend(frameon=False, fontsize=9, loc="center left", handlelength=1.8)

    def show(lr: float, step: int) -> tuple[str, str]:
        names = (f"gradient descent, lr {min(lr, _SGD_CAP):g}", f"orthogonal, lr {lr:g}")
        walks = [_walks()[f"{_DEEP}: {name}"] for name in names]
        data: list[Any] = [(walk[0], walk[2]) for walk in walks]
        data += [(range(len(learnt)), learnt) for walk in walks for learnt in walk]
        data += [([(0.9 * s) ** (1 / 3) / lr], [0.9]) for s in MODES]
        for line, place in zip(lines, data, strict=True):
            line.set_data(*place)
        learnt = []
        for (x, y), (colour, _, marker), heading, name in zip(data, _LOOKS, headings, names, strict=False):
            heading.set_text(name)
            x, y = x[: step + 1], y[: step + 1]
            canvas.now(*plane.plot(x, y, marker=marker, markevery=[-1], color=colour, lw=2.5, ms=10))
            across, up = np.clip((x[-1] + (-0.4 if x[-1] > 0.6 else 0.06), y[-1] + 0.06), 0, (1, 1.1))
            canvas.now(plane.text(across, up, f"({x[-1]:.2f}, {y[-1]:.2f})", color=colour, fontsize=10))
            learnt.append(f"has learnt {x[-1]:.0%} of the strong mode and {y[-1]:.0%} of the weak one")
        capped = " Gradient descent does not settle above lr 0.03 and is shown there." * (lr > _SGD_CAP)
        title = "Gradient descent learns the strong modes first, the orthogonal step the weak ones"
        return title, f"Step {step}: gradient descent {learnt[0]}; the orthogonal step {learnt[1]}.{capped}"

    return show


def _draw_quadratic(canvas: Canvas, bars: Axes, left: Axes, right: Axes) -> Show:
    """Steps to the goal, and the error of two methods against the step."""
    best = results("valley")
    places, colours = [0, -1, -2, -3], [SGD, SGD, ORTHOGONAL, ORTHOGONAL]
    bars.barh(places, best.steps, tick_label=best.method, color=colours, height=0.6, alpha=0.9)
    for place, steps in zip(places, best.steps, strict=True):
        bars.text(steps * 1.1, place, f"{steps:g}", va="center", fontsize=10)
    bars.set(xscale="log", xlim=(30, 6000), xlabel="steps to 1e-4 of the first error")
    left.set_ylabel("error, relative to the first")
    names = ("SGD, momentum 0.9, lr 3.3", "orthogonal, lr 0.01")
    errors = [_walks()[f"{_QUADRATIC}: {name}"] for name in names]
    for ax, name, error, (colour, _, _) in zip((left, right), names, errors, _LOOKS, strict=True):
        ax.set_title(name, color=colour, fontsize=11)
        ax.plot(error, color=colour, lw=2)
        ax.axhline(1e-4, color=RANDOM, lw=1, ls=":")
        ax.set(yscale="log", ylim=(1e-7, 3))

    def show(lr: float, step: int) -> tuple[str, str]:
        first, last = (error[: step + 1][-1] for error in errors)
        return "On a dense quadratic tuned momentum is faster", (
            f"At step {step} SGD with momentum has {first:.0e} of the first error left, the orthogonal step "
            f"{last:.0e}. To 1e-4 they need {best.steps[0]} and {best.steps[3]} steps, each at its best rate."
        )

    return show


@cache
def _walks() -> dict[str, NDArray[np.float64]]:
    """What is left of the error, or learnt of each mode, step by step."""
    return dict(load_file(folder("valley") / "walks.safetensors"))
