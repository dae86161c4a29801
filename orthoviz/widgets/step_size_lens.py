"""step_size_lens: how long a step is, and what it depends on."""

import copy
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from orthoviz.datasets import batches, load
from orthoviz.matrices import as_matrix, param_groups
from orthoviz.measures import step_inflation
from orthoviz.models import digits_cnn
from orthoviz.optim import OPTIMIZERS, OrthogonalSGD
from orthoviz.optim.translate import step_length
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM, SGD
from orthoviz.widgets.view import Canvas, Show, buttons, checkbox, short, slider, view

_LR, _MOST_LAYERS = 0.01, 40
# Colour, marker and its size, and place of the bar.
_LOOKS = {"SGD": (SGD, "o", 9, -0.18), "orthogonal SGD": (ORTHOGONAL, "s", 5.5, 0.18)}
_LENGTHS, _RATES = "lengths", "rates"
# What makes an optimiser, and its colour.
_ROWS: dict[str, tuple[Any, str]] = {
    "SGD": (OPTIMIZERS["sgd"], SGD),
    "AdamW": (OPTIMIZERS["adamw"], INK),
    "Muon": (OPTIMIZERS["muon"], "#009E73"),
}
for _scale in (None, "sqrt_max", "sqrt_ratio", "rms", "match"):
    _name = f"scale {_scale}" if _scale else "orthogonal SGD"
    _ROWS[_name] = partial(OrthogonalSGD, momentum=0.9, scale=_scale), ORTHOGONAL
# Their steps are as long as the gradient is, and so as the loss is large.
_FOLLOW = ("SGD", "scale match")
_LIKE = {
    "AdamW at 0.001": ("AdamW", 1e-3),
    "SGD at 0.1": ("SGD", 0.1),
    "orthogonal SGD at 0.01": ("orthogonal SGD", 0.01),
}


@view(
    show=buttons("show", (_LENGTHS, _RATES)),
    scale=slider("loss times", [10.0**power for power in range(-3, 4)]),
    match=checkbox("match the gradient's length", shown=lambda state: state["show"] == _LENGTHS),
    like=buttons("steps as long as", _LIKE.keys(), shown=lambda state: state["show"] == _RATES),
    presets={
        "loss × 1000": {"scale": 1e3},
        "match the length": {"match": True},
        "which rate?": {"show": _RATES},
    },
    lose={"scale": 1e-3},
)
def step_size_lens(
    canvas: Canvas, model: nn.Module | None = None, *, show: str = _LENGTHS, scale: float = 1.0,
    match: bool = False, like: str = "AdamW at 0.001",
) -> Show:  # fmt: skip
    """*The length of the step no longer depends on the gradient.*

    Left, a dot a layer: the length of its step against the length of its gradient, at the same learning rate
    0.01. SGD's lie on the diagonal, the orthogonal ones on levels, 0.01 times the root of the rank. Right,
    how far one step moves each layer relative to its weights. Each step is taken by the optimiser itself, on
    a copy.

    The second picture answers which learning rate another optimiser needs to take steps as long, as
    ``ov.optim.translate`` measures it: in the steady state, for gradients that are noise of this size. Below
    orthogonal SGD are its scales; ``muon`` has its rate for matrices. A large network takes a while.

    Args:
        model: one whose parameters hold gradients, after ``loss.backward()``; at most 40 of its matrices are
            shown. None: ``digits_cnn`` at its start, with a batch of digits.
        show: "lengths" or "rates".
        scale: factor on the loss, of 1e-3 to 1e3 in powers of ten.
        match: give each orthogonal step its gradient's length (``scale="match"``).
        like: "AdamW at 0.001", "SGD at 0.1" or "orthogonal SGD at 0.01".

    Raises:
        ValueError: the model holds no gradients, or the view has no place for an argument.
    """
    source = _copy(_example() if model is None else model, 1.0)
    steps = cache(lambda scale, match: _step(source, scale, match))
    first = steps(1.0, False)
    if not len(first):
        raise ValueError("the model holds no gradients of matrices: call loss.backward() first")
    lengths, ratios = canvas.axes(9, 4, (1.1, 1))
    gradients = first.gradient[first.gradient > 0]
    low, high = ends = [gradients.min() * 5e-4, gradients.max() * 2e3] if len(gradients) else [5e-4, 2e3]
    lengths.plot(ends, [_LR * end for end in ends], "--", color=RANDOM, lw=1)
    lengths.text(low * 2, _LR * low * 6, "lr × gradient", color=RANDOM, rotation=32, fontsize=9)
    levels = first["orthogonal SGD"]
    for level in levels:
        lengths.axhline(level, color=ORTHOGONAL, lw=0.6, alpha=0.4)
    lengths.text(low * 1.3, max(levels) * 1.3, "lr √rank", color=ORTHOGONAL, fontsize=9)
    lengths.set(xscale="log", yscale="log", xlim=ends, ylim=(_LR * low, _LR * high))
    lengths.set(xlabel="length of the gradient, ‖G‖", ylabel="length of the step, ‖ΔW‖")
    places = np.arange(len(first))
    ratios.set_yticks(places, first.index, fontsize=9)
    ratios.set(xscale="log", xlim=(1e-7, 100), ylim=(len(first) - 0.5, -0.5))
    ratios.set(xlabel="one step relative to the weights, ‖ΔW‖ / ‖W‖")
    ratios.axvline(1, color=RANDOM, lw=1, ls=":")
    dots, bars = {}, {}
    for name, (colour, marker, size, offset) in _LOOKS.items():
        look: dict[str, Any] = dict(marker=marker, ls="", color=colour, ms=size, label=name)
        dots[name] = canvas.line(lengths, **look, ghost={"ms": 5, "alpha": 0.25, "label": None})
        bars[name] = ratios.barh(places + offset, 0, height=0.34, left=1e-9, color=colour)
        canvas.moves(*bars[name])
    lengths.legend(handles=list(dots.values()), loc="upper left", frameon=False, fontsize=9)

    length = cache(lambda name: step_length(_ROWS[name][0], 1e-3, source))
    (table,) = canvas.axes(9, 5.4)
    table.set(xscale="log", xlim=(1e-6, 1e3), ylim=(len(_ROWS) - 0.5, -0.6))
    table.set_yticks(range(len(_ROWS)), _ROWS, fontsize=20)
    table.tick_params(axis="y", length=0)
    table.tick_params(axis="x", labelsize=16)
    table.spines["left"].set_visible(False)
    table.set_xlabel("learning rate", fontsize=18)
    table.hlines(range(len(_ROWS)), 1e-6, 1e3, color=PALE, lw=0.6)
    same = canvas.line(table, color=RANDOM, lw=1, ls=":")
    dot: dict[str, Any] = dict(marker="o", ls="", ms=14, clip_on=False)
    marks = {name: canvas.line(table, color=colour, **dot) for name, (_, colour) in _ROWS.items()}
    place: dict[str, Any] = dict(transform=table.get_yaxis_transform(), va="center_baseline", fontsize=20)
    values = {
        name: canvas.text(table, 1.02, row, color=_ROWS[name][1], **place) for row, name in enumerate(_ROWS)
    }
    table.text(1.02, 0, "0.000000", alpha=0, **place)  # for the values, which have no words yet

    def rates(scale: float, like: str) -> tuple[str, str]:
        canvas.front(table)
        first, lr = _LIKE[like]
        long = {name: length(name) * (scale if name in _FOLLOW else 1) for name in _ROWS}
        if not all(long.values()):
            raise ValueError("the model's gradients are zero: no learning rate makes a step")
        found = {name: lr * long[first] / long[name] for name in _ROWS}
        words = {name: short(float(f"{rate:.2g}"), 1e-4) for name, rate in found.items()}
        same.set_data([lr, lr], [-0.6, len(_ROWS)])
        for row, name in enumerate(_ROWS):
            marks[name].set_data([np.clip(found[name], 1e-6, 1e3)], [row])
            values[name].set(text=words[name], fontweight="bold" if name == first else "normal")
        title = "The same step takes another learning rate in each optimiser"
        if scale != 1:
            title = "SGD's learning rate depends on the size of the loss, AdamW's and Muon's do not"
        others = ", ".join(f"{name} {words[name]}" for name in _ROWS if name != first)
        times = "" if scale == 1 else f"loss times {scale:g}: "
        return title, f"{times}steps as long as those of {like}: {others}."

    def draw(show: str, scale: float, match: bool, like: str) -> tuple[str, str]:
        if show == _RATES:
            return rates(scale, like)
        canvas.front(lengths)
        found = steps(scale, match)
        for name in _LOOKS:
            dots[name].set_data(found.gradient, found[name])
            for bar, ratio in zip(bars[name], found[name] / found.weight, strict=True):
                bar.set_width(ratio)
        times = "loss" if scale == 1 else f"loss times {scale:g}"
        if match:
            title = "Matched: the length is the gradient's again, and only the shape is new"
            return title, f"{times}: matched, both steps are equally long, and only the shape differs."
        longer, most = found.inflation, (found["orthogonal SGD"] / found.weight).max()
        return "The length of the step no longer depends on the gradient", (
            f"{times}: the orthogonal step is {longer.min():.3g} to {longer.max():.3g} times as long as "
            f"SGD's at the same learning rate, and moves a layer by up to {most:.1%} of its weights whatever "
            "the loss."
        )

    return draw


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


def _step(model: nn.Module, scale: float, match: bool) -> pd.DataFrame:
    """A step of both optimisers, each on a copy: by matrix the lengths of gradient, weight and steps, and the
    step's inflation."""
    twins = {name: _copy(model, scale) for name in _LOOKS}
    torch.optim.SGD(twins["SGD"].parameters(), lr=_LR).step()
    ours = param_groups(twins["orthogonal SGD"])
    OrthogonalSGD(ours, lr=_LR, scale="match" if match else None).step()
    found = {}
    for name, layout in [(name, group["layout"]) for group in ours for name, _ in group["params"]]:
        p = model.get_parameter(name)
        if layout is not None and p.grad is not None:
            moves = [twin.get_parameter(name) - p for twin in twins.values()]
            tensors = [as_matrix(t.detach(), layout).flatten(0, -2) for t in (scale * p.grad, p, *moves)]
            longer = step_inflation(tensors[-1] / _LR, tensors[0])
            found[name] = [value.item() for value in (*(t.norm() for t in tensors), longer)]
    columns = ["gradient", "weight", *_LOOKS, "inflation"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)[:_MOST_LAYERS]
