"""step_size_lens: how long a step is, and what it depends on."""

import copy
import math
from functools import cache
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from orthoviz.datasets import batches, load
from orthoviz.matrices import as_matrix, param_groups
from orthoviz.measures import step_inflation, update_ratio
from orthoviz.models import digits_cnn
from orthoviz.optim import OrthogonalSGD
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD
from orthoviz.widgets.canvas import Canvas
from orthoviz.widgets.controls import checkbox, slider
from orthoviz.widgets.view import Show, view

_LR, _MOST_LAYERS = 0.01, 40
_LOOKS = {"SGD": (SGD, "o", 9, -0.18), "orthogonal SGD": (ORTHOGONAL, "s", 5.5, 0.18)}
"""Colour, marker and its size, and place of the bar."""


@view(
    scale=slider("loss times", [10.0**power for power in range(-3, 4)]),
    match=checkbox("match the gradient's length"),
    presets={"loss × 1000": {"scale": 1e3}, "match the length": {"match": True}},
    lose={"scale": 1e-3},
)
def step_size_lens(
    canvas: Canvas, model: nn.Module | None = None, *, scale: float = 1.0, match: bool = False
) -> Show:
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
    source = _copy(_example() if model is None else model, 1.0)
    if all(p.grad is None for group in param_groups(source) if group["layout"] for _, p in group["params"]):
        raise ValueError("the model holds no gradients of matrices: call loss.backward() first")
    steps = cache(lambda scale, match: _steps(source, scale, match))
    first = steps(1.0, False)
    lengths, ratios = canvas.axes(9, 4, (1.1, 1))
    gradients = [s.gradient for s in first if s.gradient > 0] or [1.0]
    low, high = ends = [min(gradients) * 5e-4, max(gradients) * 2e3]
    lengths.plot(ends, [_LR * end for end in ends], "--", color=RANDOM, lw=1)
    lengths.text(low * 2, _LR * low * 6, "lr × gradient", color=RANDOM, rotation=32, fontsize=9)
    levels = [s.length["orthogonal SGD"] for s in first]
    for level in levels:
        lengths.axhline(level, color=ORTHOGONAL, lw=0.6, alpha=0.4)
    lengths.text(low * 1.3, max(levels) * 1.3, "lr √rank", color=ORTHOGONAL, fontsize=9)
    lengths.set(xscale="log", yscale="log", xlim=ends, ylim=(_LR * low, _LR * high))
    lengths.set(xlabel="length of the gradient, ‖G‖", ylabel="length of the step, ‖ΔW‖")
    ratios.set_yticks(range(len(first)), [s.name for s in first], fontsize=9)
    ratios.set(xscale="log", xlim=(1e-7, 100), ylim=(len(first) - 0.5, -0.5))
    ratios.set(xlabel="one step relative to the weights, ‖ΔW‖ / ‖W‖")
    ratios.axvline(1, color=RANDOM, lw=1, ls=":")
    dots, bars = {}, {}
    for name, (colour, marker, size, offset) in _LOOKS.items():
        ghost = {"ms": 5, "alpha": 0.25, "label": None}
        dots[name] = canvas.line(
            lengths, marker=marker, ls="", color=colour, ms=size, label=name, ghost=ghost
        )
        beside = [place + offset for place in range(len(first))]
        bars[name] = ratios.barh(beside, 0, height=0.34, left=1e-9, color=colour)
        canvas.moves(*bars[name])
    lengths.legend(handles=list(dots.values()), loc="upper left", frameon=False, fontsize=9)

    def show(scale: float, match: bool) -> tuple[str, str]:
        found = steps(scale, match)
        for name in _LOOKS:
            dots[name].set_data([s.gradient for s in found], [s.length[name] for s in found])
            for bar, s in zip(bars[name], found, strict=True):
                bar.set_width(s.ratio[name])
        times = "loss" if scale == 1 else f"loss times {scale:g}"
        if match:
            title = "Matched: the length is the gradient's again, and only the shape is new"
            return title, f"{times}: matched, both steps are equally long, and only the shape differs."
        longer = sorted(s.inflation for s in found if math.isfinite(s.inflation)) or [math.nan]
        most = max(s.ratio["orthogonal SGD"] for s in found)
        return "The length of the step no longer depends on the gradient", (
            f"{times}: the orthogonal step is {longer[0]:.3g} to {longer[-1]:.3g} times as long as SGD's at "
            f"the same learning rate, and moves a layer by up to {most:.1%} of its weights whatever the loss."
        )

    return show


class _Step(NamedTuple):
    """One layer's step, by optimiser."""

    name: str
    gradient: float
    length: dict[str, float]
    ratio: dict[str, float]
    inflation: float


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
    """A step of both optimisers, each on a copy, and what it did to every layer."""
    twins = {name: _copy(model, scale) for name in _LOOKS}
    torch.optim.SGD(twins["SGD"].parameters(), lr=_LR).step()
    ours = param_groups(twins["orthogonal SGD"])
    OrthogonalSGD(ours, lr=_LR, scale="match" if match else None).step()
    found: list[_Step] = []
    for name, layout in [(name, group["layout"]) for group in ours for name, _ in group["params"]]:
        p = model.get_parameter(name)
        if layout is None or p.grad is None or len(found) == _MOST_LAYERS:
            continue
        moves = [twin.get_parameter(name) - p for twin in twins.values()]
        tensors = (as_matrix(t.detach(), layout).flatten(0, -2) for t in (scale * p.grad, p, *moves))
        gradient, weight, *moved = tensors
        length = {of: change.norm().item() for of, change in zip(twins, moved, strict=True)}
        ratio = {of: update_ratio(change, weight).item() for of, change in zip(twins, moved, strict=True)}
        longer = step_inflation(moved[1] / _LR, gradient).item()
        found.append(_Step(name, gradient.norm().item(), length, ratio, longer))
    return found
