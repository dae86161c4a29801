"""clipping: what a bound on the gradient, or on the step, does to an orthogonal step."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from orthoviz.measures import alignment
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM
from orthoviz.polar import polar_factor
from orthoviz.seeds import seeded
from orthoviz.widgets.view import Canvas, Show, buttons, slider, view

_BEFORE, _AFTER, _BUFFER = "the gradient", "the step", "one bad gradient"
_WIDTHS = (32, 128, 512)
_STEPS, _SPIKE, _MOMENTUM = 30, 1000.0, 0.9
_NUMBER = dict(va="center", fontsize=12, color=INK)


@view(
    bound=slider("clipped at", [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]),
    what=buttons("clip", (_BEFORE, _AFTER, _BUFFER)),
    presets={
        "the gradient, at 1": {},
        "the step, at 1": {"what": _AFTER},
        "the step, at 10": {"what": _AFTER, "bound": 10.0},
    },
    lose={"what": _BUFFER},
)
def clipping(canvas: Canvas, *, bound: float = 1.0, what: str = _BEFORE) -> Show:
    """*Clipped before, nothing changes; clipped after, the clip is the learning rate.*

    Random gradients of 32 x 32, 128 x 128 and 512 x 512. Grey bars are the lengths (Frobenius norms) of the
    gradients, blue bars those of the orthogonal steps at learning rate 1, the dashed line is the bound. A
    gradient that is clipped keeps its directions, so its polar factor is the same.

    The third picture is where this fails: Muon's order, momentum 0.9, gradients of length 1.4 that share a
    signal, and one that is a thousand times longer. In the buffer the length of a gradient counts, so there
    clipping it first helps.

    Args:
        bound: of .1, .3, 1, ... 1000: the largest length that is let through.
        what: "the gradient", "the step", or "one bad gradient".

    Raises:
        ValueError: an argument has a value that the view has no place for.

    Source: what users met in Muon#56, DeepSpeed#8439 and Megatron-LM#5394.
    """
    gradients = [torch.randn(width, width, generator=seeded(0)) for width in _WIDTHS]
    steps = [polar_factor(G).norm().item() for G in gradients]
    (lengths,) = canvas.axes(9, 4)
    lengths.set(xscale="log", xlim=(0.05, 3000), ylim=(2.6, -0.6), xlabel="length")
    lengths.set_yticks(range(len(_WIDTHS)), [f"{width} x {width}" for width in _WIDTHS])
    bars = {}
    for colour, place in ((PALE, -0.19), (ORTHOGONAL, 0.19)):
        rows = [row + place for row in range(len(_WIDTHS))]
        lengths.barh(rows, [G.norm().item() for G in gradients] if colour == PALE else steps, height=0.34,
                     fill=False, ec=colour, ls=":")  # fmt: skip
        bars[colour] = lengths.barh(rows, 1, height=0.34, color=colour)
        canvas.moves(*bars[colour])
    numbers = [canvas.text(lengths, 0, row + 0.19, **_NUMBER) for row in range(len(_WIDTHS))]
    line = canvas.line(lengths, color=INK, ls="--", lw=1.5)
    lengths.text(0.99, 1.02, "gradient", color="#777777", transform=lengths.transAxes, ha="right")
    lengths.text(0.87, 1.02, "step", color=ORTHOGONAL, transform=lengths.transAxes, ha="right")

    (after,) = canvas.axes(9, 4)
    after.set(xlim=(-5, _STEPS), ylim=(-0.05, 1), xlabel="steps after the bad gradient")
    after.set_ylabel("agreement of the step with the signal")
    after.axvline(0, color=RANDOM, lw=1, ls=":")
    agreement = cache(_agreement)
    x = range(-5, _STEPS)
    after.plot(x, agreement(math.inf, 1.0), color=RANDOM, ls=":", lw=2)
    after.plot(x, agreement(math.inf, _SPIKE), color=RANDOM, ls="--", lw=2)
    after.text(2, 0.9, "dotted: without the bad gradient; dashed: not clipped", color="#666666", fontsize=11)
    clipped = canvas.line(after, color=ORTHOGONAL, lw=3)

    def show(bound: float, what: str) -> tuple[str, str]:
        if what == _BUFFER:
            canvas.front(after)
            both = agreement(bound, _SPIKE), agreement(math.inf, _SPIKE)
            clipped.set_data(x, both[0])
            return _say_of_buffer(bound, *(values[x.index(5)] for values in both))
        canvas.front(lengths)
        line.set_data([bound, bound], lengths.get_ylim())
        taken = [min(step, bound) if what == _AFTER else step for step in steps]
        for row, G in enumerate(gradients):
            shown = min(G.norm().item(), bound) if what == _BEFORE else G.norm().item()
            bars[PALE][row].set_width(shown)
            bars[ORTHOGONAL][row].set_width(taken[row])
            numbers[row].set(x=1.15 * taken[row], text=f"{taken[row]:.3g}")
        many = ", ".join(f"{length:.3g}" for length in taken)
        if what == _BEFORE:
            return "Clip the gradient, and the orthogonal step does not notice", (
                f"Gradients clipped at {bound:g}: the steps have lengths {many}, as without clipping."
            )
        if bound > max(steps):
            return "This bound is longer than every step: it does nothing", f"Steps of {many}."
        title = "Clip the step, and the bound has become the learning rate"
        return title, f"Steps clipped at {bound:g}: {many}. Without clipping they are the root of the width."

    return show


def _say_of_buffer(bound: float, clipped: float, plain: float) -> tuple[str, str]:
    """Title and sentence of the picture with the bad gradient, from the agreement five steps after it."""
    text = (
        f"Five steps after a gradient {_SPIKE:g} times too long, the step agrees with the signal by "
        f"{plain:.2f}; with every gradient clipped at {bound:g}, by {clipped:.2f}."
    )
    if clipped > plain + 0.1:
        return "In a buffer length counts: there, clipping before is what helps", text
    return "A bound so large lets the bad gradient through, and the buffer keeps it", text


def _agreement(bound: float, spike: float) -> list[float]:
    """Of each step with the signal: its inner product over the largest possible one."""
    generator = seeded(1)

    def draw() -> Tensor:
        return normalize(torch.randn(32, 32, generator=generator), dim=(0, 1))  # type: ignore[arg-type]

    signal, buffer, found = draw(), torch.zeros(32, 32), []
    for step in range(-25, _STEPS):
        G = spike * draw() if step == 0 and spike > 1 else signal + draw()
        buffer = _MOMENTUM * buffer + G * min(1.0, bound / float(G.norm()))
        found.append(alignment(polar_factor(buffer), signal).item())
    return found[-_STEPS - 5 :]
