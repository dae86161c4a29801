"""newton_schulz: how long each direction of a matrix is after a few polynomial steps."""

import math
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from orthoviz.measures import alignment, direction_gain, orthogonality_residual, singular_values
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM
from orthoviz.polar import (
    CUBIC,
    JORDAN,
    MODULA,
    POLAR_EXPRESS,
    YOU,
    NewtonSchulz,
    counts,
    default_tol,
    gain,
    polar_factor,
)  # fmt: skip
from orthoviz.widgets.canvas import Canvas
from orthoviz.widgets.controls import buttons, slider
from orthoviz.widgets.own import own_tensor
from orthoviz.widgets.view import Show, view

_TABLES = {
    "Jordan": ("Jordan's quintic", NewtonSchulz(JORDAN)),
    "You": ("You's table", NewtonSchulz(YOU)),
    "Polar Express": ("Polar Express", NewtonSchulz(POLAR_EXPRESS, headroom=1.01)),
    "Modula": ("Modula's table", NewtonSchulz(MODULA)),
    "cubic": ("The cubic", NewtonSchulz(CUBIC)),
}
_MISSED, _REACHED = "#CC79A7", 0.5


@view(
    steps=slider("steps", range(11)),
    table=buttons("coefficients", _TABLES),
    condition=slider("condition number s1 / s32", (1e1, 3e1, 1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5)),
    precision=buttons("computed in", ("float32", "bfloat16", "float16"), more=True),
    presets={
        "Jordan": {"table": "Jordan", "steps": 5},
        "twice as many steps": {"table": "Jordan", "steps": 10},
        "Polar Express": {"table": "Polar Express", "steps": 8},
        "cubic: slow at first": {"table": "cubic", "steps": 10},
    },
    lose={"table": "Polar Express", "steps": 10, "condition": 1e4, "precision": "bfloat16"},
)
def newton_schulz(
    canvas: Canvas,
    matrix: Tensor | None = None,
    *,
    steps: int = 5,
    table: str = "Jordan",
    condition: float = 1e3,
    precision: str = "float32",
) -> Show:
    r"""*Jordan's quintic gets close fast and never arrives.*

    Shows the length that each direction of a matrix has after some steps of Newton-Schulz: the exact polar
    factor has 1 everywhere. The curve is the polynomials in exact arithmetic (pale: after fewer steps), a
    dot is what one singular direction of the matrix really got, :math:`u_i^\top O v_i`, with O from
    ``ov.polar_factor(G, ov.polar.NewtonSchulz(...))``.

    The horizontal axis is s/s1, but the iteration starts from s / ||G||_F (over 1.01 for Polar Express),
    which is smaller: the curve is drawn for that start, so another matrix has another curve. In terms of
    the start x, five Jordan steps give 0.68 to 1.13 for x >= .01, at most 1.20, 0.47 at 1e-3 and 0.05 at
    1e-4.

    Args:
        matrix: ``(m, n)``, real floating point. Default: 32 x 96 with s1 .. s32 evenly spaced in log s.
        steps: 0 to 10. No step at all leaves the scaled start. Beyond a table's own length (Jordan, You 5,
            Modula 6, Polar Express 8) its last step is repeated.
        table: "Jordan", "You", "Polar Express", "Modula" or "cubic".
        condition: s1 / s32 of the built-in matrix: 1, 3, 10, ... times ten, to 1e5. Without effect on
            your own.
        precision: "float32", "bfloat16" or "float16": what the iteration computes in.

    Raises:
        ValueError: an argument has a value that the view has no place for; the matrix has another shape or
            dtype, is zero, or holds NaN or infinity.
    """
    wanted = "(m, n): of a convolution's gradient take .flatten(1)"
    own = None if matrix is None else own_tensor("matrix", matrix, wanted, lambda G: G.ndim == 2)
    smallest = 1e-5 if own is None else min(1e-5, float(_counting(own)[1][-1]))
    (ax,) = canvas.axes(9, 4.8)
    grid = np.logspace(math.log10(smallest), 0, 1000)
    ax.set(xscale="log", xlim=(0.75 * smallest, 1.25), ylim=(0, 1.3))
    ax.set(ylabel=r"gain $u_i^\top O\, v_i$", xlabel="singular value $s / s_1$")
    ax.axhline(1, color=RANDOM, lw=1, ls=":")
    ax.axhline(_REACHED, color=RANDOM, lw=1, ls=(0, (1, 3)))
    canvas.figure.supxlabel(" ", fontsize=14)  # keeps the room
    dot: dict[str, Any] = dict(
        ls="", clip_on=False, mec="white", mew=0.8, zorder=5
    )  # one out of range stands on the edge
    ghosts = [canvas.line(ax, color=PALE, lw=1) for _ in range(3)]
    notes = [
        canvas.text(ax, x, _REACHED - 0.02, transform=ax.get_yaxis_transform(), color=INK, va="top", ha=side)
        for x, side in ((0.01, "left"), (0.99, "right"))
    ]
    curve = canvas.line(ax, color=ORTHOGONAL, lw=2)
    dots = canvas.line(ax, marker="o", ms=7, color=ORTHOGONAL, **dot)
    lost = canvas.line(ax, marker="v", ms=9, color=_MISSED, **dot)
    footer = canvas.moves(
        canvas.figure.text(0.5, 0.02, "", ha="center", va="bottom", fontsize=11), layout=True
    )
    key = [
        Line2D([], [], color=ORTHOGONAL, lw=2, label="the polynomials"),
        Line2D([], [], color=PALE, lw=1, label="earlier steps"),
        Line2D([], [], ls="", marker="o", ms=7, color=ORTHOGONAL, label="what a direction got"),
        Line2D([], [], ls="", marker="v", ms=9, color=_MISSED, label="not reached (under 0.5)"),
    ]
    ax.legend(handles=key, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, frameon=False, fontsize=10,
              columnspacing=1.2, handletextpad=0.5)  # fmt: skip
    measured = cache(_measured)

    def show(steps: int, table: str, condition: float, precision: str) -> tuple[str, str]:
        r = measured(_example(condition) if own is None else own, table, steps, precision)
        start = torch.from_numpy(grid) * r.start
        for back, ghost in enumerate(ghosts, 1):
            ghost.set_data(grid, gain(r.table[:-back], start)) if back <= steps else ghost.set_data([], [])
        curve.set_data(grid, y := gain(r.table, start).numpy())
        reached, height = r.gain >= _REACHED, r.gain.clip(0, 1.3)
        dots.set_data(r.x[reached], height[reached])
        lost.set_data(r.x[~reached], height[~reached])
        missed, finite = int((~reached).sum()), not math.isnan(r.residual)
        beside = int(np.interp(1e-4, grid, y) > 0.3)  # the curve, not across it
        notes[beside].set_text(f"{missed} of {len(r.gain)} not reached" if missed and finite else "")
        notes[1 - beside].set_text("")
        footer.set_text(
            finite
            * (
                f"{precision}:     residual {r.residual:.3f}     alignment "
                f"{r.alignment:.3f}     relative error {r.error:.3f}"
            )
        )
        return _message(r, missed, steps, table, precision)

    if own is not None:
        return lambda steps, table, precision: show(steps, table, 1e3, precision)
    return show


class _Result(NamedTuple):
    """What an iteration made of a matrix."""

    x: Any
    """s/s1 of the directions that count."""
    gain: Any
    residual: float
    alignment: float
    error: float
    table: Any
    start: float
    """What the iteration starts s1 from."""


def _measured(G: Tensor, table: str, steps: int, precision: str) -> _Result:
    """Run the iteration, and compare with the exact factor."""
    _, method = _TABLES[table]
    coefficients = (method.coefficients + method.coefficients[-1:] * 10)[:steps]
    size = method.headroom * torch.linalg.matrix_norm(G)
    O = G / size
    if steps:
        O = polar_factor(G, replace(method, coefficients=coefficients, precision=getattr(torch, precision)))
    exact, (first, x) = polar_factor(G), _counting(G)
    error = torch.linalg.matrix_norm(O - exact) / torch.linalg.matrix_norm(exact)
    gains = direction_gain(O, G).double().numpy()[: len(x)]
    residual = orthogonality_residual(O).item() if O.isfinite().all() else math.nan
    return _Result(
        x, gains, residual, alignment(O, G).item(), error.item(), coefficients, (first / size).item()
    )


def _counting(G: Tensor) -> tuple[Tensor, Any]:
    """The largest singular value, and s/s1 of the directions that count."""
    s = singular_values(G.double())
    return s[0], (s[counts(s, default_tol(G.dtype))] / s[0]).numpy()


@cache
def _example(condition: float) -> Tensor:
    """32 x 96 with evenly spaced log s_i from 1 to 1 / condition, between random orthonormal factors."""
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(n, 32, generator=generator, dtype=torch.float64)).Q for n in (32, 96))
    G: Tensor = U * torch.logspace(0, -math.log10(condition), 32, dtype=torch.float64) @ V.T
    return G.float()


def _message(r: _Result, missed: int, steps: int, table: str, precision: str) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    called, count = _TABLES[table][0], len(r.gain)
    many = "1 step" if steps == 1 else f"{steps} steps"
    run = f"{steps} {table} step{'s' * (steps != 1)} in {precision}"
    if math.isnan(r.residual):
        return (
            f"{called} leaves {precision}'s range: the result is not finite",
            f"{run} give NaN or infinity.",
        )
    low, high = r.gain.min(), r.gain.max()
    deceives = r.residual < 0.02 and r.alignment > 0.99 and r.error > 0.3  # both usual checks
    which = f"{missed} of {count} directions {'is' if missed == 1 else 'are'} not reached (under {_REACHED})"
    text = (
        f"{f'After {run}' if steps else 'Before the first step'} the gains are {low:z.2f} to {high:.2f}; "
        f"{which if missed else f'all {count} directions are reached ({_REACHED} or more)'}. Residual "
        f"{r.residual:.3f}, alignment {r.alignment:.3f}, relative error to the exact factor {r.error:.3f}."
    )
    if deceives:
        text += " The rows are orthonormal, but rounding turned the weak directions before they had grown."
    if turned := int((r.gain < -0.01).sum()):
        text += f" {turned} point{'s' * (turned == 1)} backwards: a gain below 0, drawn at 0."
    few = f"{called}: {many} {'is' if steps == 1 else 'are'} too few for {missed} of {count} directions"
    titles = (
        (not steps, "Before the first step every direction has the length that it came with"),
        (deceives, f"Looks orthogonal, is wrong: residual {r.residual:.3f}, alignment {r.alignment:.3f}, "
                   f"error {r.error:.2f}"),
        (table == "Jordan", f"{called} gets close fast and never arrives"),
        (missed, few),
        (max(1 - low, high - 1) < 0.01,
         f"{called} arrives: after {many} all {count} directions are within 0.01 of 1"),
        (True, f"{called}: after {many} all {count} directions are between {low:.2f} and {high:.2f}"),
    )  # fmt: skip
    return next(title for so, title in titles if so), text
