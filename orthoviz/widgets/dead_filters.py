"""dead_filters: what a filter's step does when its gradient fades."""

from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from orthoviz import training
from orthoviz.plots import INK, ORTHOGONAL, RANDOM
from orthoviz.polar import polar_factor
from orthoviz.widgets.view import Canvas, Show, buttons, own_tensor, short, slider, view

_SIZES = {size: short(size) for size in (0.0, *(10.0**power for power in range(-8, 1)))}
# The row whose gradient fades, counted from 0.
_FADED = 3
_ONE, _BATCH = "one filter", "a mini-batch"
# Options of the factor, colour, line style, where 0 stands on the axis of log10(size), where the name.
_METHODS: dict[str, tuple[dict[str, Any], str, Any, float, tuple[float, float]]] = {
    "drop": ({}, ORTHOGONAL, "-", -9.55, (-7, 0.05)),
    "keep": ({"method": "svd", "null": "keep"}, "#CC79A7", (0, (5, 2)), -9.3, (-7, 1.04)),
    "Jordan": ({"method": "newton_schulz"}, "#E69F00", (0, (4, 1.5, 1, 1.5)), -9.3, (-0.7, 0.59)),
    "fast": ({"method": "fast"}, "#009E73", (0, (1, 1)), -9.05, (-3, 0.8)),
}


@view(
    size=slider("size of filter 3's gradient", _SIZES, shown=lambda state: state["show"] == _ONE),
    method=buttons("method", _METHODS.keys(), shown=lambda state: state["show"] == _ONE),
    batch_size=slider("batch size", (2, 4, 16, 64, 256), shown=lambda state: state["show"] == _BATCH),
    show=buttons("show", (_ONE, _BATCH)),
    presets={
        "faint": {"size": 1e-3},
        "faint, Jordan": {"size": 1e-3, "method": "Jordan"},
        "exactly 0, drop": {"size": 0.0},
        "exactly 0, keep": {"size": 0.0, "method": "keep"},
        "a mini-batch": {"show": _BATCH},
    },
    lose={"size": 1e-5},
)
def dead_filters(
    canvas: Canvas, gradient: Tensor | None = None, *, size: float = 1.0, method: str = "drop",
    show: str = _ONE, batch_size: int = 4,
) -> Show:  # fmt: skip
    """*What happens to a filter whose gradient fades?*

    A Gaussian gradient of 16 filters with 60 weights each. Filter 3's part becomes smaller and smaller. The
    bars are the lengths of the filters' steps: the norm of each row of the matrix that replaces the gradient.

    ``"drop"``, the default of ``ov.polar_factor``, is the exact factor. It takes directions up to 1.2e-6 of
    the largest for noise (float32) and gives them no step. ``"keep"`` (the plain SVD's U V^T, as in the
    paper's code) makes up a direction and gives it a full step. ``"Jordan"`` is Newton-Schulz with Jordan's
    five steps, ``"fast"`` the package's own; both let a faint filter fade.

    The second picture counts the directions that the gradients of a network could have: those that a
    mini-batch supports, and those that "keep" makes up. The counts are stored (``results/rank_budget``):
    CIFAR-10, a ResNet-18 an eighth as wide, before its first step.

    Args:
        gradient: your own, ``(m, n)`` with 4 to 64 rows. The view first makes row 3 as long as the others
            are on average.
        size: length of filter 3's gradient relative to the others': 1, 1e-1, ... 1e-8, or exactly 0.
        method: "drop", "keep", "Jordan" or "fast": the steps that the bars show.
        show: "one filter" or "a mini-batch".
        batch_size: images in the second picture's batch: 2, 4, 16, 64 or 256.

    Raises:
        ValueError: an argument has a value that the view has no place for; the gradient has another shape,
            holds NaN or infinity, or its row 3 is zero.
    """
    example = torch.randn(16, 60, generator=torch.Generator().manual_seed(0))
    G = example if gradient is None else _own(gradient)
    sizes = np.array([0, *np.logspace(-8, 0, 161)])
    gradients = G.repeat(len(sizes), 1, 1)
    gradients[:, _FADED] *= torch.from_numpy(sizes).float()[:, None]
    ax, bars = canvas.axes(9, 4.6, (1.7, 1))
    ax.set(xlim=(-9.8, 0.25), ylim=(0, 1.25))
    ax.set_xticks([-9.3, *range(-8, 1)], ["exactly\n0", *(f"$10^{{{power}}}$" for power in range(-8, 1))])
    ax.set(xlabel="size of filter 3's gradient, relative to the others'", ylabel="length of filter 3's step")
    ax.axvspan(-9.8, -8.8, color="#F0F0F0", zorder=0)
    ax.axhline(1, color=RANDOM, lw=1, ls=":")
    steps = {}
    for name, (options, colour, dashes, zero, place) in _METHODS.items():
        lengths = steps[name] = polar_factor(gradients, **options).norm(dim=-1).numpy()
        ax.plot(np.log10(sizes[1:]), lengths[1:, _FADED], color=colour, ls=dashes, lw=2)
        ax.plot(zero, lengths[0, _FADED], color=colour, marker="D", ms=6, ls="", clip_on=False)
        # Thin letters need a darker colour
        ax.text(*place, name, color=0.75 * np.array(to_rgb(colour)), ha="center", fontsize=12)
    here = canvas.moves(ax.axvline(0, color=INK, lw=1, ls=":"))
    ghost = {"ms": 8, "alpha": 0.35}
    dot = canvas.line(ax, marker="o", ms=10, mec="white", ls="", clip_on=False, ghost=ghost)
    bars.set(xlim=(-0.7, len(G) - 0.3), ylim=(0, 1.25), xticks=range(0, len(G), 3 * -(-len(G) // 18)))
    bars.set(xlabel="filter", ylabel="length of each filter's step")
    bars.axhline(1, color=RANDOM, lw=1, ls=":")
    columns = bars.bar(range(len(G)), 1, width=0.75)
    canvas.moves(*columns)
    value = canvas.text(bars, -0.5, 1.25, va="top", color=INK, fontsize=12)

    table = training.results("rank_budget").set_index("batch_size")
    supported, possible = table.supported, table.possible.max()
    made_up = possible - supported
    (batches,) = canvas.axes(9, 4.6)
    batches.axhline(possible, color=RANDOM, lw=1, ls=":")
    batches.text(-0.55, 1.01 * possible, f"possible: {possible:.0f}", color="#666666", va="bottom")
    below = batches.bar(table.index.map(str), supported, 0.6, color=ORTHOGONAL, label="the batch supports")
    above = batches.bar(table.index.map(str), made_up, 0.6, supported, label='"keep" makes up')
    for bar in above:
        bar.set(fc=_METHODS["keep"][1], ec="white", hatch="//")
    canvas.moves(*below, *above)
    batches.set(xlim=(-0.6, len(table) - 0.4), ylim=(0, 1.22 * possible))
    batches.set(xlabel="images in a batch", ylabel="directions of all gradients")
    batches.legend(frameon=False, ncols=2, loc="upper right")

    def draw(size: float, method: str, show: str, batch_size: int) -> tuple[str, str]:
        if show == _BATCH:
            canvas.front(batches)
            for images, *pair in zip(table.index, below, above, strict=True):
                for bar in pair:
                    bar.set_alpha(1 if images == batch_size else 0.35)
            return "A small batch supports few directions; keeping the others steps along made-up ones", (
                f"Batch size {batch_size}: the gradients of a narrow ResNet-18 have "
                f"{supported[batch_size]:.0f} of {possible:.0f} directions; keeping null directions makes up "
                f"the other {made_up[batch_size]:.0f}, and steps along each at full length."
            )
        canvas.front(ax)
        _, colour, _, zero, _ = _METHODS[method]
        lengths = steps[method][np.abs(sizes - size).argmin()]
        step, others = lengths[_FADED], np.delete(lengths, _FADED)
        x = np.log10(size) if size else zero
        here.set_xdata([x, x])
        dot.set(data=([x], [step]), color=colour)
        for row, (bar, length) in enumerate(zip(columns, lengths, strict=True)):
            bar.set(height=length, color=colour, alpha=1 if row == _FADED else 0.35)
        value.set_text(f"{method}, filter 3: {_number(step)}")
        times = f"{short(size)} times " * (size != 1)
        given = f"{times}as long as the others'" if size else "exactly 0"
        return _title(size, method, step), (
            f"Filter 3's gradient is {given}: with {method} its step has length {_number(step)}, "
            f"the other filters' {others.min():.2f} to {others.max():.2f}."
        )

    return draw


def _title(size: float, method: str, step: float) -> str:
    faint = f"A gradient of {short(size)}"
    full = step > 0.5
    titles = (
        (size == 1, "What happens to a filter whose gradient fades?"),
        (full and not size, "No gradient at all, and still a step of full length, in a made-up direction"),
        (full and size <= 1e-5, f"{faint}, hardly more than rounding, still takes a step of full length"),
        (full, f"{faint} takes a step of {_number(step)}, nearly as if it had not faded"),
        (method == "drop", "Gone means gone: a direction that is noise gets no step"),
        (not size, "No gradient, no step: a polynomial makes nothing of nothing"),
        (True, "A few polynomial steps let a faint filter fade"),
    )
    return next(title for so, title in titles if so)


def _number(length: float) -> str:
    if length < 1e-3:
        return short(float(f"{length:.2g}")) if length >= 1e-12 else "0"  # under it, rounding in float32
    return f"{length:.2f}" if length >= 0.1 else f"{length:.2g}"


def _own(gradient: Tensor) -> Tensor:
    """The caller's gradient, with row 3 as long as the others are on average."""
    wanted = "(m, n) with 4 to 64 rows: of a convolution's gradient take .flatten(1)[:64]"
    G = own_tensor("gradient", gradient, wanted, lambda G: G.ndim == 2 and 4 <= len(G) <= 64).float()
    lengths = G.norm(dim=1)
    if not lengths[_FADED] > 0:
        raise ValueError(f"gradient's row {_FADED} is zero: it has no direction to fade")
    others = torch.arange(len(G)) != _FADED
    longer = lengths[others].mean() / lengths[_FADED]
    return torch.where(others[:, None], G, longer * G)
