"""newton_schulz: how long each direction of a matrix is after a few polynomial steps."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from orthoviz import polar
from orthoviz.measures import alignment, direction_gain, orthogonality_residual, singular_values
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM
from orthoviz.widgets.view import Canvas, Show, buttons, own_tensor, slider, view

_TABLES = {
    "Jordan": ("Jordan's quintic", polar.NewtonSchulz(polar.JORDAN)),
    "You": ("You's table", polar.NewtonSchulz(polar.YOU)),
    "Polar Express": ("Polar Express", polar.NewtonSchulz(polar.POLAR_EXPRESS, headroom=1.01)),
    "Modula": ("Modula's table", polar.NewtonSchulz(polar.MODULA)),
    "cubic": ("The cubic", polar.NewtonSchulz(polar.CUBIC)),
}
# Gain from which a direction counts as reached.
_REACHED = 0.5
_LOOKS: dict[str, dict[str, Any]] = {
    "the polynomials": dict(color=ORTHOGONAL, lw=2),
    "earlier steps": dict(color=PALE, lw=1),
    "what a direction got": dict(color=ORTHOGONAL, ls="", marker="o", ms=7),
    "not reached (under 0.5)": dict(color="#CC79A7", ls="", marker="v", ms=9),
}


@view(
    steps=slider("steps", range(11)),
    table=buttons("coefficients", _TABLES.keys(), page=("Polar Express", "cubic")),
    condition=slider("condition number s1 / s32", (1e1, 3e1, 1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5), page=(1e5,)),
    precision=buttons("computed in", ("float32", "bfloat16", "float16"), more=True),
    presets={
        "Jordan": {"table": "Jordan", "steps": 5},
        "twice as many steps": {"table": "Jordan", "steps": 10},
        "Polar Express": {"table": "Polar Express", "steps": 8},
        "cubic: slow at first": {"table": "cubic", "steps": 10},
    },
    phone=1.3,
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
    smallest = 1e-5 if own is None else min(1e-5, _size(own)[1].min())
    (ax,) = canvas.axes(9, 4.8)
    grid = np.logspace(math.log10(smallest), 0, 1000)
    ax.set(xscale="log", xlim=(0.75 * smallest, 1.25), ylim=(0, 1.3))
    ax.set(ylabel=r"gain $u_i^\top O\, v_i$", xlabel="singular value $s / s_1$")
    ax.axhline(1, color=RANDOM, lw=1, ls=":")
    ax.axhline(_REACHED, color=RANDOM, lw=1, ls=(0, (1, 3)))
    canvas.figure.supxlabel(" ", fontsize=14)  # keeps the room
    ax.legend(
        handles=[Line2D([], [], label=name, **look) for name, look in _LOOKS.items()], loc="lower left",
        bbox_to_anchor=(-0.02, 1), ncols=4, frameon=False, fontsize=10, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
    line, pale, dot, missed_dot = _LOOKS.values()
    ghosts = [canvas.line(ax, **pale) for _ in range(3)]
    note = canvas.text(ax, y=_REACHED - 0.02, transform=ax.get_yaxis_transform(), color=INK, va="top")
    curve = canvas.line(ax, **line)
    edge: dict[str, Any] = dict(clip_on=False, mec="white", mew=0.8, zorder=5)  # a dot can lie on the edge
    reached, missed = (canvas.line(ax, **look, **edge) for look in (dot, missed_dot))
    footer = canvas.figure.text(0.5, 0.02, "", ha="center", va="bottom", fontsize=11)
    canvas.moves(footer, layout=True)
    measure = cache(_measure)

    def show(steps: int, table: str, condition: float, precision: str) -> tuple[str, str]:
        G = _example(condition) if own is None else own
        polynomials, start, x, gains, *errors = measure(G, table, steps, precision)
        from_grid = [
            polar.gain(polynomials[: steps - back], torch.from_numpy(grid) * start) for back in range(4)
        ]
        for back, drawn in enumerate((curve, *ghosts)):
            drawn.set_data(*((grid, from_grid[back]) if back <= steps else ((), ())))
        for dots, chosen in ((reached, gains >= _REACHED), (missed, ~(gains >= _REACHED))):
            dots.set_data(x[chosen], gains[chosen].clip(0, 1.3))
        right = bool(np.interp(1e-4, grid, from_grid[0].numpy()) > 0.3)  # beside the curve, not across it
        few, finite = int((gains < _REACHED).sum()), not math.isnan(errors[0])
        words = f"{few} of {len(gains)} not reached" * (few > 0 and finite)
        note.set(text=words, x=0.99 if right else 0.01, ha="right" if right else "left")
        names = ("residual", "alignment", "relative error")
        told = "     ".join(f"{name} {value:.3f}" for name, value in zip(names, errors, strict=True))
        footer.set_text(f"{precision}:     {told}" * finite)
        return _message(gains, errors, steps, table, precision)

    if own is not None:
        return lambda steps, table, precision: show(steps, table, 1e3, precision)
    return show


def _measure(G: Tensor, table: str, steps: int, precision: str) -> tuple[Any, ...]:
    """Run the iteration: its polynomials, what it starts s1 from, s/s1 and gain of every direction that
    counts, and the result's residual, alignment and relative error."""
    _, method = _TABLES[table]
    polynomials = (method.coefficients + method.coefficients[-1:] * 10)[:steps]
    size = method.headroom * torch.linalg.matrix_norm(G)
    O, exact = G / size, polar.polar_factor(G)
    if steps:
        O = polar.polar_factor(
            G, replace(method, coefficients=polynomials, precision=getattr(torch, precision))
        )
    first, x = _size(G)
    residual = orthogonality_residual(O).item() if O.isfinite().all() else math.nan
    error = torch.linalg.matrix_norm(O - exact) / torch.linalg.matrix_norm(exact)
    gains = direction_gain(O, G).double().numpy()[: len(x)]
    return polynomials, (first / size).item(), x, gains, residual, alignment(O, G).item(), error.item()


def _size(G: Tensor) -> tuple[Tensor, Any]:
    """The largest singular value, and s/s1 of the directions that count."""
    s = singular_values(G.double())
    return s[0], (s[polar.counts(s, polar.default_tol(G.dtype))] / s[0]).numpy()


@cache
def _example(condition: float) -> Tensor:
    """32 x 96 with evenly spaced log s_i from 1 to 1 / condition, between random orthonormal factors."""
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(n, 32, generator=generator, dtype=torch.float64)).Q for n in (32, 96))
    G: Tensor = U * torch.logspace(0, -math.log10(condition), 32, dtype=torch.float64) @ V.T
    return G.float()


def _message(gains: Any, errors: list[float], steps: int, table: str, precision: str) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    called, count, missed = _TABLES[table][0], len(gains), int((gains < _REACHED).sum())
    run = f"{steps} {table} step{'s' * (steps != 1)} in {precision}"
    residual, alignment, error = errors
    if math.isnan(residual):
        title = f"{called} leaves {precision}'s range: the result is not finite"
        return title, f"{run} give NaN or infinity."
    low, high, turned = gains.min(), gains.max(), int((gains < -0.01).sum())
    deceives = residual < 0.02 and alignment > 0.99 and error > 0.3  # both usual checks
    are = f"{missed} of {count} directions {'is' if missed == 1 else 'are'} not reached (under {_REACHED})"
    reach = are if missed else f"all {count} directions are reached ({_REACHED} or more)"
    text = f"{f'After {run}' if steps else 'Before the first step'} the gains are {low:z.2f} to {high:.2f}; "
    text += f"{reach}. Residual {residual:.3f}, alignment {alignment:.3f}, relative error to the exact "
    text += f"factor {error:.3f}."
    if deceives:
        text += " The rows are orthonormal, but rounding turned the weak directions before they had grown."
    if turned:
        text += f" {turned} point{'s' * (turned == 1)} backwards: a gain below 0, drawn at 0."
    many = "1 step" if steps == 1 else f"{steps} steps"
    every = f"after {many} all {count} directions"
    short = f"residual {residual:.3f}, alignment {alignment:.3f}, error {error:.2f}"
    titles = (
        (not steps, "Before the first step every direction has the length that it came with"),
        (deceives, f"Looks orthogonal, is wrong: {short}"),
        (table == "Jordan", f"{called} gets close fast and never arrives"),
        (
            missed,
            f"{called}: {many} {'is' if steps == 1 else 'are'} too few for {missed} of {count} directions",
        ),
        (max(1 - low, high - 1) < 0.01, f"{called} arrives: {every} are within 0.01 of 1"),
        (True, f"{called}: {every} are between {low:.2f} and {high:.2f}"),
    )
    return next(title for so, title in titles if so), text
