"""step_size_lens: how long a step is, and what it depends on."""

import copy
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import torch
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from torch import nn
from torch.nn.functional import cross_entropy

from orthoviz.datasets import batches, load
from orthoviz.matrices import as_matrix, param_groups
from orthoviz.measures import step_inflation, update_ratio
from orthoviz.models import digits_cnn
from orthoviz.optim import OrthogonalSGD
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD, new_figure
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_SCALES = tuple(10.0**power for power in range(-3, 4))
_LR = 0.01
_MOST_LAYERS = 40
_OPTIMIZERS = (
    ("sgd", "SGD", SGD, "o", 9, -0.18),
    ("orthogonal", "orthogonal SGD", ORTHOGONAL, "s", 5.5, 0.18),
)
"""Name, label, colour, marker and its size, and place of the bar."""


class _Step(NamedTuple):
    """One layer's step under both optimisers."""

    name: str
    gradient: float
    sgd: float
    orthogonal: float
    sgd_ratio: float
    orthogonal_ratio: float
    inflation: float


def step_size_lens(model: nn.Module | None = None, *, scale: float = 1.0, match: bool = False) -> View:
    """*The length of the step no longer depends on the gradient.*

    Left, a dot a layer: the length of its step against the length of its gradient, at the same learning rate
    0.01. SGD's lie on the diagonal, the orthogonal ones on levels, 0.01 times the root of the rank. Right,
    how far one step moves each layer relative to its weights. Each step is taken by the optimiser itself, on
    a copy.

    Args:
        model: one whose parameters hold gradients, after ``loss.backward()``; at most 40 of its matrices are
            shown. None: ``digits_cnn`` at its start, with a batch of digits.
        scale: factor on the loss, of 1e-3 to 1e3 in powers of ten.
        match: give each orthogonal step its gradient's length (``scale="match"``).

    Raises:
        ValueError: the model holds no gradients, or the view has no place for an argument.
    """
    one_of("scale", scale, _SCALES)
    source = _example() if model is None else model
    matrices = [p for group in param_groups(source) if group["layout"] for _, p in group["params"]]
    if all(p.grad is None for p in matrices):
        raise ValueError("the model holds no gradients of matrices: call loss.backward() first")
    steps = cache(partial(_steps, _copy(source, 1.0)))

    return View(
        "step_size_lens",
        partial(_draw, _Scene(steps(1.0, False)), steps),
        {
            "scale": control(
                w.SelectionSlider,
                "loss times",
                scale,
                options=[(f"{s:g}", s) for s in _SCALES],
                width=24,
            ),
            "match": control(w.Checkbox, "match the gradient's length", match),
        },
        presets={
            "loss × 1000": {"scale": 1e3},
            "match the length": {"match": True},
        },
        lose={"scale": 1e-3},
        given=lambda state: ["model"] * (model is not None) + changed(state, {"scale": 1.0, "match": False}),
        trail=True,
    )


def _example() -> nn.Module:
    """A network with the gradients of a batch of digits."""
    model = digits_cnn(seed=0)
    images, labels = next(iter(batches(load("digits"), 256, seed=0, epoch=1, device="cpu")))
    cross_entropy(model(images), labels).backward()
    return model


def _copy(model: nn.Module, scale: float) -> nn.Module:
    """A copy that has the gradients too, of a loss ``scale`` times as large."""
    twin = copy.deepcopy(model)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        q.grad = None if p.grad is None else scale * p.grad
    return twin


def _steps(model: nn.Module, scale: float, match: bool) -> list[_Step]:
    """A step of both optimisers, and what it did to every layer."""
    by = "match" if match else None
    sgd, orthogonal = _copy(model, scale), _copy(model, scale)
    torch.optim.SGD(sgd.parameters(), lr=_LR).step()
    OrthogonalSGD(param_groups(orthogonal), lr=_LR, scale=by).step()
    before, one, two = (dict(m.named_parameters()) for m in (model, sgd, orthogonal))
    found: list[_Step] = []
    for group in param_groups(model):
        for name, p in group["params"]:
            if group["layout"] is None or p.grad is None or len(found) == _MOST_LAYERS:
                continue
            gradient, weight, first, second = (
                as_matrix(t.detach(), group["layout"]).flatten(0, -2)
                for t in (scale * p.grad, before[name], one[name] - before[name], two[name] - before[name])
            )
            found.append(
                _Step(
                    name,
                    gradient.norm().item(),
                    first.norm().item(),
                    second.norm().item(),
                    update_ratio(first, weight).item(),
                    update_ratio(second, weight).item(),
                    step_inflation(second / _LR, gradient).item(),
                )
            )
    return found


class _Scene:
    """The axes; dots and bars move over them."""

    def __init__(self, first: list[_Step]) -> None:
        figure, (self.lengths, self.ratios) = new_figure(9, 4, (1.1, 1))
        self.stage = Stage(figure)
        gradients = [step.gradient for step in first if step.gradient > 0] or [1.0]
        low, high = min(gradients) * 5e-4, max(gradients) * 2e3
        ends = [low, high]
        self.lengths.plot(ends, [_LR * end for end in ends], "--", color=RANDOM, lw=1)
        self.lengths.text(low * 2, _LR * low * 6, "lr × gradient", color=RANDOM, rotation=32, fontsize=9)
        for step in first:
            self.lengths.axhline(step.orthogonal, color=ORTHOGONAL, lw=0.6, alpha=0.4)
        self.lengths.text(
            low * 1.3, max(s.orthogonal for s in first) * 1.3, "lr √rank", color=ORTHOGONAL, fontsize=9
        )
        self.lengths.set(xscale="log", yscale="log", xlim=ends, ylim=(_LR * low, _LR * high))
        self.lengths.set(xlabel="length of the gradient, ‖G‖", ylabel="length of the step, ‖ΔW‖")
        places = range(len(first))
        self.ratios.set_yticks(places, [step.name for step in first], fontsize=9)
        self.ratios.set(xscale="log", xlim=(1e-7, 100), ylim=(len(first) - 0.5, -0.5))
        self.ratios.set(xlabel="one step relative to the weights, ‖ΔW‖ / ‖W‖")
        self.ratios.axvline(1, color=RANDOM, lw=1, ls=":")
        self.dots, self.bars = {}, {}
        self.ghosts: list[dict[str, Line2D]] = []
        for name, label, colour, marker, size, offset in _OPTIMIZERS:
            look: dict[str, Any] = dict(marker=marker, ls="", color=colour, animated=True)
            self.dots[name] = self.lengths.plot([], [], ms=size, label=label, **look)[0]
            beside = [place + offset for place in range(len(first))]
            self.bars[name] = self.ratios.barh(beside, 0, height=0.34, left=1e-9, color=colour, animated=True)
        for _ in range(3):
            ghosts = {}
            for name, _label, colour, marker, _size, _offset in _OPTIMIZERS:
                look = dict(marker=marker, ls="", color=colour, animated=True)
                ghosts[name] = self.lengths.plot([], [], ms=5, alpha=0.25, **look)[0]
            self.ghosts.append(ghosts)
        self.lengths.legend(handles=list(self.dots.values()), loc="upper left", frameon=False, fontsize=9)


def _draw(scene: _Scene, steps: Callable[[float, bool], list[_Step]], state: State) -> Picture:
    """The picture of a state."""
    found = steps(state["scale"], state["match"])
    moving: list[Artist] = []
    for ghosts, earlier in zip(scene.ghosts, state["earlier"], strict=False):
        was = steps(earlier["scale"], earlier["match"])
        for name, ghost in ghosts.items():
            ghost.set_data([s.gradient for s in was], [getattr(s, name) for s in was])
            moving.append(ghost)
    for name, dots in scene.dots.items():
        dots.set_data([s.gradient for s in found], [getattr(s, name) for s in found])
        for bar, s in zip(scene.bars[name], found, strict=True):
            bar.set_width(getattr(s, f"{name}_ratio"))
        moving += [dots, *scene.bars[name]]
    title = "The length of the step no longer depends on the gradient"
    if state["match"]:
        title = "Matched: the length is the gradient's again, and only the shape is new"
    return Picture(scene.stage, moving, title, _message(state, found))


def _message(state: State, found: list[_Step]) -> str:
    """What the picture shows now."""
    inflations = sorted(step.inflation for step in found if math.isfinite(step.inflation)) or [math.nan]
    times = "loss" if state["scale"] == 1 else f"loss times {state['scale']:g}"
    ratio = max(step.orthogonal_ratio for step in found)
    if state["match"]:
        return f"{times}: matched, both steps are equally long, and only the shape differs."
    return (
        f"{times}: the orthogonal step is {inflations[0]:.3g} to {inflations[-1]:.3g} times as long as SGD's "
        f"at the same learning rate, and moves a layer by up to {ratio:.1%} of its weights whatever the loss."
    )
