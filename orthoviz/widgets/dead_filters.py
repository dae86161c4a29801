"""dead_filters: what a filter's step does when its gradient fades."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from torch import Tensor

from orthoviz import training
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, new_figure
from orthoviz.polar import polar_factor
from orthoviz.widgets.core import State, View, changed, control, one_of, short
from orthoviz.widgets.stage import Picture, Stage

_SIZES = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_FADED = 3
"""The row whose gradient fades, counted from 0."""
_METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "drop": polar_factor,
    "keep": partial(polar_factor, method="svd", null="keep"),
    "Jordan": partial(polar_factor, method="newton_schulz"),
    "fast": partial(polar_factor, method="fast"),
}
_STYLE: dict[str, tuple[str, Any]] = {
    "drop": (ORTHOGONAL, "-"),
    "keep": ("#CC79A7", (0, (5, 2))),
    "Jordan": ("#E69F00", (0, (4, 1.5, 1, 1.5))),
    "fast": ("#009E73", (0, (1, 1))),
}
Steps = Callable[[str, tuple[float, ...]], Tensor]
"""Lengths of all filters' steps, (sizes, filters), with a method."""
_NOTHING = -9.3
"""Where 0 stands on the axis of log10(size)."""
_TOP = 1.25


_ONE, _BATCH = "one filter", "a mini-batch"
_BATCH_SIZES = (2, 4, 16, 64, 256)
_DEFAULTS = {"size": 1.0, "method": "drop", "show": _ONE, "batch_size": 4}


def dead_filters(
    gradient: Tensor | None = None,
    *,
    size: float = 1.0,
    method: str = "drop",
    show: str = _ONE,
    batch_size: int = 4,
) -> View:
    """*What happens to a filter whose gradient fades?*

    A gradient of 16 filters with 60 weights each (Gaussian), of which filter 3's is made smaller and
    smaller. Shows the length of each filter's step: the norm of its row in what the gradient is replaced by.

    ``"drop"``, the default of ``ov.polar_factor``, is the exact factor, whose directions up to 1.2e-6 of the
    largest count as noise (float32) and get no step; ``"keep"`` (the plain SVD's U V^T, as in the paper's
    code) gives a full step to a direction that it has to make up. ``"Jordan"`` is Newton-Schulz with Jordan's
    five steps and ``"fast"`` the package's own; both let a faint filter fade.

    The second picture counts what a mini-batch leaves: of all directions that the gradients of a network
    could have, those that the batch supports and those that "keep" makes up. Stored counts, of a ResNet-18
    an eighth as wide, at its start, on CIFAR-10 (``results/rank_budget``).

    Args:
        gradient: your own, ``(m, n)`` with 4 to 64 rows, in place of the built-in one. Row 3 is first made
            as long as the others are on average.
        size: length of filter 3's gradient relative to the others': 1, 1e-1, ... 1e-8, or exactly 0.
        method: "drop", "keep", "Jordan" or "fast": whose steps the bars show.
        show: "one filter" or "a mini-batch".
        batch_size: of the second picture, 2, 4, 16, 64 or 256 images.

    Raises:
        ValueError: an argument has a value that the view has no place for; the gradient has another shape,
            holds NaN or infinity, or its row 3 is zero.
    """
    steps = cache(partial(_steps, _example() if gradient is None else _own(gradient)))
    one_of("size", size, _SIZES)
    one_of("method", method, _METHODS)
    one_of("show", show, (_ONE, _BATCH))
    one_of("batch_size", batch_size, _BATCH_SIZES)

    return View(
        "dead_filters",
        partial(_draw, _Scene(steps), steps, cache(_Budget)),
        {
            "size": control(
                w.SelectionSlider,
                "size of filter 3's gradient",
                float(size),
                width=30,
                options=[(short(value), value) for value in _SIZES],
            ),
            "method": control(w.ToggleButtons, "method", method, options=list(_METHODS)),
            "batch_size": control(w.SelectionSlider, "batch size", batch_size, options=_BATCH_SIZES),
            "show": control(w.ToggleButtons, "show", show, options=(_ONE, _BATCH)),
        },
        presets={
            "faint": {"size": 1e-3},
            "faint, Jordan": {"size": 1e-3, "method": "Jordan"},
            "exactly 0, drop": {"size": 0.0},
            "exactly 0, keep": {"size": 0.0, "method": "keep"},
            "a mini-batch": {"show": _BATCH},
        },
        lose={"size": 1e-5},
        visible=lambda s: ["show", *(["size", "method"] if s["show"] == _ONE else ["batch_size"])],
        given=lambda state: ["gradient"] * (gradient is not None) + changed(state, _DEFAULTS),
        trail=True,
    )


class _Scene:
    """The lines, drawn once; the marker and the bars move."""

    def __init__(self, steps: Steps) -> None:
        figure, (lines, bars) = new_figure(9, 4.6, (1.7, 1))
        self.stage = Stage(figure)
        _draw_lines(lines, *_lengths(steps))
        self.here = lines.axvline(0, color=INK, lw=1, ls=":", animated=True)
        dot: dict[str, Any] = dict(marker="o", mec="white", ls="", clip_on=False, animated=True)
        self.marker = lines.plot([], [], ms=10, **dot)[0]
        self.ghosts = [lines.plot([], [], ms=8, alpha=0.35, **dot)[0] for _ in range(3)]

        count = steps("drop", (1.0,)).shape[1]
        bars.set(xlim=(-0.7, count - 0.3), ylim=(0, _TOP), xticks=range(0, count, 3 * -(-count // 18)))
        bars.set(xlabel="filter", ylabel="length of each filter's step")
        bars.axhline(1, color=RANDOM, lw=1, ls=":")
        self.bars = bars.bar(range(count), [1] * count, width=0.75, animated=True)
        self.value = bars.text(-0.5, _TOP, "", va="top", color=INK, fontsize=12, animated=True)
        for artist in (self.here, self.marker, *self.ghosts, *self.bars, self.value):
            artist.set_in_layout(False)


class _Budget:
    """The directions of a network's gradients, a bar for each batch size."""

    def __init__(self) -> None:
        figure, (ax,) = new_figure(9, 4.6)
        self.stage = Stage(figure)
        self.table = training.results("rank_budget").set_index("batch_size")
        possible = self.table.possible.max()
        ax.set(xlim=(-0.6, len(self.table) - 0.4), ylim=(0, 1.22 * possible))
        ax.set(xlabel="images in a batch", ylabel="directions of all gradients")
        ax.set_xticks(range(len(self.table)), [str(size) for size in self.table.index])
        ax.axhline(possible, color=RANDOM, lw=1, ls=":")
        ax.text(-0.55, 1.01 * possible, f"possible: {possible:.0f}", color="#666666", va="bottom")
        bars: dict[str, Any] = dict(width=0.6, animated=True)
        supported = self.table.supported
        colour = _STYLE["keep"][0]
        self.supported = ax.bar(range(len(supported)), supported, color=ORTHOGONAL, **bars)
        self.made_up = ax.bar(
            range(len(supported)), possible - supported, bottom=supported, color=colour, hatch="//",
            ec="white", **bars,
        )  # fmt: skip
        ax.legend(
            [self.supported, self.made_up], ['the batch supports', '"keep" makes up'], frameon=False, ncols=2,
            loc="upper right",
        )  # fmt: skip

    def show(self, batch_size: int) -> Picture:
        """The picture, with this batch size strong."""
        possible, supported = (float(self.table[key][batch_size]) for key in ("possible", "supported"))
        for bars in (self.supported, self.made_up):
            for size, bar in zip(self.table.index, bars, strict=True):
                bar.set_alpha(1.0 if size == batch_size else 0.35)
        text = (
            f"Batch size {batch_size}: the gradients of a narrow ResNet-18 have {supported:.0f} of "
            f"{possible:.0f} directions; keeping null directions makes up the other "
            f"{possible - supported:.0f}, and steps along each at full length."
        )
        title = "A small batch supports few directions; keeping the others steps along made-up ones"
        return Picture(self.stage, [*self.supported, *self.made_up], title, text)


def _draw_lines(ax: Axes, sizes: NDArray[np.float64], lengths: dict[str, NDArray[np.float32]]) -> None:
    """Each method's step of filter 3 against its gradient's size, with names; and a place for exactly 0."""
    ticks = [_NOTHING, *np.log10(_SIZES[1:])]
    ax.set(xlim=(_NOTHING - 0.5, 0.25), ylim=(0, _TOP), xticks=ticks)
    ax.set_xticklabels(["exactly\n0", *(f"$10^{{{tick:.0f}}}$" for tick in ticks[1:])])
    ax.set(xlabel="size of filter 3's gradient, relative to the others'", ylabel="length of filter 3's step")
    ax.axvspan(_NOTHING - 0.5, _NOTHING + 0.5, color="#F0F0F0", zorder=0)
    ax.axhline(1, color=RANDOM, lw=1, ls=":")
    for method, (colour, dashes) in _STYLE.items():
        y = lengths[method]
        ax.plot(np.log10(sizes), y[1:], color=colour, ls=dashes, lw=2)
        ax.plot(_place(0, method), y[0], color=colour, marker="D", ms=6, ls="", clip_on=False)
    for method, x, height in (
        ("drop", -7, 0.05),
        ("keep", -7, 1.04),
        ("Jordan", -0.7, 0.59),
        ("fast", -3, 0.8),
    ):
        darker = tuple(0.75 * part for part in to_rgb(_STYLE[method][0]))  # thin letters need it
        ax.text(x, height, method, color=darker, ha="center", fontsize=12)


def _draw(scene: _Scene, steps: Steps, budget: Callable[[], _Budget], state: State) -> Picture:
    """The picture of a state."""
    if state["show"] == _BATCH:
        return budget().show(state["batch_size"])
    size, method = state["size"], state["method"]
    colour, _ = _STYLE[method]
    lengths = steps(method, (size,))[0]
    step = lengths[_FADED].item()
    x = _place(size, method)
    scene.here.set_xdata([x, x])
    scene.marker.set(data=([x], [step]), color=colour)
    scene.value.set_text(f"{method}, filter 3: {_number(step)}")
    for i, (bar, length) in enumerate(zip(scene.bars, lengths.tolist(), strict=True)):
        bar.set(height=length, color=colour, alpha=1 if i == _FADED else 0.35)
    title, text = _message(size, method, lengths)
    before = [earlier for earlier in state["earlier"] if earlier["show"] == _ONE]
    ghosts = scene.ghosts[: len(before)]
    for ghost, earlier in zip(ghosts, before, strict=True):
        was = earlier["size"], earlier["method"]
        y = steps(was[1], was[:1])[0, _FADED].item()
        ghost.set(data=([_place(*was)], [y]), color=_STYLE[was[1]][0])
    moving: list[Artist] = [scene.here, *ghosts, scene.marker, *scene.bars, scene.value]
    return Picture(scene.stage, moving, title, text)


def _message(size: float, method: str, lengths: Tensor) -> tuple[str, str]:
    step = lengths[_FADED].item()
    others = torch.cat([lengths[:_FADED], lengths[_FADED + 1 :]])
    times = "" if size == 1 else f"{short(size)} times "
    given = f"{times}as long as the others'" if size else "exactly 0"
    text = (
        f"Filter 3's gradient is {given}: with {method} its step has length {_number(step)}, "
        f"the other filters' {others.min():.2f} to {others.max():.2f}."
    )
    if size == 1:
        return "What happens to a filter whose gradient fades?", text
    if not size and step > 0.5:
        return "No gradient at all, and still a step of full length, in a made-up direction", text
    if size <= 1e-5 and step > 0.5:
        return (
            f"A gradient of {short(size)}, hardly more than rounding, still takes a step of full length",
            text,
        )
    if step > 0.5:
        return (
            f"A gradient of {short(size)} takes a step of {_number(step)}, nearly as if it had not faded",
            text,
        )
    if method == "drop":
        return "Gone means gone: a direction that is noise gets no step", text
    if not size:
        return "No gradient, no step: a polynomial makes nothing of nothing", text
    return "A few polynomial steps let a faint filter fade", text


def _place(size: float, method: str) -> float:
    """Where a size stands on the axis; in the slot of exactly 0 the methods stand side by side."""
    return float(np.log10(size)) if size else _NOTHING + {"drop": -0.25, "fast": 0.25}.get(method, 0.0)


def _number(length: float) -> str:
    if length < 1e-12:  # rounding, in float32
        return "0"
    if length < 1e-3:
        return short(float(f"{length:.2g}"))
    return f"{length:.2f}" if length >= 0.1 else f"{length:.2g}"


def _lengths(steps: Steps) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float32]]]:
    """Sizes from 1e-8 to 1, and for each method filter 3's step at 0 and at these."""
    sizes = np.logspace(-8, 0, 161)
    given = (0.0, *sizes.tolist())
    return sizes, {method: steps(method, given)[:, _FADED].numpy() for method in _METHODS}


def _example() -> Tensor:
    return torch.randn(16, 60, generator=torch.Generator().manual_seed(0))


def _own(gradient: Tensor) -> Tensor:
    """The learner's gradient, where it can be shown, with row 3 as long as the others."""
    G = torch.as_tensor(gradient).detach().cpu()
    if G.ndim != 2 or not 4 <= len(G) <= 64 or not G.dtype.is_floating_point:
        raise ValueError(
            f"gradient must be (m, n), floating point, with 4 to 64 rows, got {G.dtype} of shape "
            f"{tuple(G.shape)}: of a convolution's gradient take .flatten(1)[:64]"
        )
    if not bool(G.isfinite().all()):
        raise ValueError("gradient holds NaN or infinity")
    G = G.float().clone()
    lengths = G.norm(dim=1)
    if not lengths[_FADED] > 0:
        raise ValueError(f"row {_FADED} of the gradient is zero and has no direction to fade")
    others = torch.cat([lengths[:_FADED], lengths[_FADED + 1 :]])
    G[_FADED] *= others.mean() / lengths[_FADED]
    return G


def _steps(gradient: Tensor, method: str, sizes: tuple[float, ...]) -> Tensor:
    """Length of all filters' steps, (sizes, filters)."""
    gradients = gradient.repeat(len(sizes), 1, 1)
    gradients[:, _FADED] *= torch.tensor(sizes)[:, None]
    lengths: Tensor = torch.linalg.vector_norm(_METHODS[method](gradients), dim=-1)
    return lengths
