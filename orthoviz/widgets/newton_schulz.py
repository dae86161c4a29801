"""newton_schulz: how long each direction of a matrix is after a few polynomial steps."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from orthoviz.measures import alignment, direction_gain, orthogonality_residual, singular_values
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM, new_figure
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
)
from orthoviz.polar.polynomials import Coefficients
from orthoviz.widgets.core import State, View, changed, control, one_of, short
from orthoviz.widgets.stage import Picture, Stage

_METHODS = {
    "Jordan": NewtonSchulz(JORDAN),
    "You": NewtonSchulz(YOU),
    "Polar Express": NewtonSchulz(POLAR_EXPRESS, headroom=1.01),
    "Modula": NewtonSchulz(MODULA),
    "cubic": NewtonSchulz(CUBIC),
}
_CALLED = {
    "Jordan": "Jordan's quintic",
    "You": "You's table",
    "Polar Express": "Polar Express",
    "Modula": "Modula's table",
    "cubic": "The cubic",
}
_CONDITIONS = (1e1, 3e1, 1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5)
_PRECISIONS = ("float32", "bfloat16", "float16")
_MOST_STEPS = 10
_GHOSTS = 3
"""Earlier steps that are shown; the first ones of Polar Express overshoot widely."""
_REACHED = 0.5
"""Gain from which a direction counts as reached."""
_MISSED = "#CC79A7"
_DEFAULTS = {"steps": 5, "table": "Jordan", "condition": 1e3, "precision": "float32"}


def newton_schulz(
    matrix: Tensor | None = None,
    *,
    steps: int = 5,
    table: str = "Jordan",
    condition: float = 1e3,
    precision: str = "float32",
) -> View:
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
    if steps not in range(_MOST_STEPS + 1):
        raise ValueError(f"steps must be a whole number from 0 to {_MOST_STEPS}, got {steps!r}")
    one_of("table", table, _METHODS)
    one_of("condition", condition, _CONDITIONS)
    one_of("precision", precision, _PRECISIONS)
    own = None if matrix is None else _checked(matrix)

    @cache
    def measure(condition: float, table: str, steps: int, precision: str) -> _Result:
        return _measured(_example(condition) if own is None else own, table, steps, precision)

    return View(
        "newton_schulz",
        partial(_draw, _Scene(1e-5 if own is None else _smallest(own)), measure),
        {
            "steps": control(w.IntSlider, "steps", steps, min=0, max=_MOST_STEPS),
            "table": control(w.ToggleButtons, "coefficients", table, options=list(_METHODS)),
            "condition": control(
                w.SelectionSlider,
                "condition number s1 / s32",
                float(condition),
                options=[(short(value), value) for value in _CONDITIONS],
            ),
            "precision": control(w.ToggleButtons, "computed in", precision, options=_PRECISIONS),
        },
        presets={
            "Jordan": {"table": "Jordan", "steps": 5},
            "twice as many steps": {"table": "Jordan", "steps": 10},
            "Polar Express": {"table": "Polar Express", "steps": 8},
            "cubic: slow at first": {"table": "cubic", "steps": 10},
        },
        lose={"table": "Polar Express", "steps": 10, "condition": 1e4, "precision": "bfloat16"},
        visible=lambda s: ["steps", "table", "precision", *(["condition"] if own is None else [])],
        more=["precision"],
        given=lambda state: ["matrix"] * (own is not None) + changed(state, _DEFAULTS),
    )


class _Result(NamedTuple):
    """What an iteration made of a matrix."""

    x: NDArray[np.float64]
    """s/s1 of the directions that count."""
    gain: NDArray[np.float64]
    residual: float
    alignment: float
    error: float
    table: Coefficients
    start: float
    """What the iteration starts s1 from."""

    @property
    def missed(self) -> NDArray[np.bool_]:
        return self.gain < _REACHED


def _measured(G: Tensor, table: str, steps: int, precision: str) -> _Result:
    """Run the iteration, and compare with the exact factor."""
    method = _METHODS[table]
    coefficients = (method.coefficients + method.coefficients[-1:] * _MOST_STEPS)[:steps]
    size = method.headroom * torch.linalg.matrix_norm(G)
    if steps:
        method = replace(method, coefficients=coefficients, precision=getattr(torch, precision))
        O = polar_factor(G, method)
    else:
        O = G / size
    exact = polar_factor(G)
    s, counted = _counting(G)
    finite = bool(O.isfinite().all())
    return _Result(
        x=(s[counted] / s[0]).numpy(),
        gain=direction_gain(O, G).double()[counted].numpy(),
        residual=orthogonality_residual(O).item() if finite else math.nan,
        alignment=alignment(O, G).item(),
        error=(torch.linalg.matrix_norm(O - exact) / torch.linalg.matrix_norm(exact)).item(),
        table=coefficients,
        start=(s[0] / size).item(),
    )


class _Scene:
    """The artists of the picture, made once and moved."""

    def __init__(self, smallest: float) -> None:
        figure, (ax,) = new_figure(9, 4.8)
        self.stage = Stage(figure)
        self.x = np.logspace(math.log10(smallest), 0, 1000)
        ax.set(xscale="log", xlim=(0.75 * smallest, 1.25), ylim=(0, 1.3))
        ax.set(ylabel=r"gain $u_i^\top O\, v_i$", xlabel="singular value $s / s_1$")
        ax.axhline(1, color=RANDOM, lw=1, ls=":")
        ax.axhline(_REACHED, color=RANDOM, lw=1, ls=(0, (1, 3)))
        figure.supxlabel(" ", fontsize=14)  # keeps the room

        def line(**style: Any) -> Line2D:
            return ax.plot([], [], animated=True, **style)[0]

        self.ghosts = [line(color=PALE, lw=1) for _ in range(_GHOSTS)]
        self.curve = line(color=ORTHOGONAL, lw=2)
        # A dot may lie below 0 or above 1.3: it is then drawn on the edge
        dot = dict(ls="", clip_on=False, mec="white", mew=0.8, zorder=5)
        self.dots = line(marker="o", ms=7, color=ORTHOGONAL, **dot)
        self.missed = line(marker="v", ms=9, color=_MISSED, **dot)
        key = [
            Line2D([], [], color=ORTHOGONAL, lw=2, label="the polynomials"),
            Line2D([], [], color=PALE, lw=1, label="earlier steps"),
            Line2D([], [], ls="", marker="o", ms=7, color=ORTHOGONAL, label="what a direction got"),
            Line2D([], [], ls="", marker="v", ms=9, color=_MISSED, label="not reached (under 0.5)"),
        ]
        ax.legend(
            handles=key, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, frameon=False, fontsize=10,
            columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        self.footer = figure.text(0.5, 0.02, "", ha="center", va="bottom", fontsize=11, animated=True)
        corner = ax.get_yaxis_transform()
        self.notes = [
            ax.text(x, _REACHED - 0.02, "", transform=corner, color=INK, va="top", ha=side, animated=True)
            for x, side in ((0.01, "left"), (0.99, "right"))
        ]
        for artist in (*self.ghosts, self.curve, self.dots, self.missed, *self.notes):
            artist.set_in_layout(False)  # so that the axes stand in the same place whatever is shown first


def _draw(scene: _Scene, measure: Callable[..., _Result], state: State) -> Picture:
    """The picture of a state."""
    result = measure(**state)
    start = torch.from_numpy(scene.x) * result.start
    ghosts = scene.ghosts[: state["steps"]]
    for back, ghost in enumerate(ghosts, start=1):
        ghost.set_data(scene.x, gain(result.table[:-back], start).numpy())
    curve = gain(result.table, start).numpy()
    scene.curve.set_data(scene.x, curve)
    missed, height = result.missed, result.gain.clip(0, 1.3)
    scene.dots.set_data(result.x[~missed], height[~missed])
    scene.missed.set_data(result.x[missed], height[missed])

    title, text, note, footer = _message(result, state)
    where = scene.notes[int(np.interp(1e-4, scene.x, curve) > 0.3)]  # beside the curve, not across it
    where.set_text(note)
    scene.footer.set_text(footer)
    moving: list[Artist] = [*ghosts, where, scene.curve]
    moving += [scene.dots, scene.missed, scene.footer]
    return Picture(scene.stage, moving, title, text)


def _message(result: _Result, state: State) -> tuple[str, str, str, str]:
    """Title, text, what stands on the line of the reached, and the footer."""
    steps, table = state["steps"], state["table"]
    run = f"{steps} {table} step{'s' * (steps != 1)} in {state['precision']}"
    if math.isnan(result.residual):
        title = f"{_CALLED[table]} leaves {state['precision']}'s range: the result is not finite"
        return title, f"{run} give NaN or infinity.", "", ""
    missed, count = int(result.missed.sum()), len(result.gain)
    low, high = result.gain.min(), result.gain.max()
    footer = (
        f"{state['precision']}:     residual {result.residual:.3f}     alignment {result.alignment:.3f}     "
        f"relative error {result.error:.3f}"
    )
    reached = f"all {count} directions are reached ({_REACHED} or more)"
    if missed:
        reached = (
            f"{missed} of {count} directions {'is' if missed == 1 else 'are'} not reached (under {_REACHED})"
        )
    text = (
        f"{f'After {run}' if steps else 'Before the first step'} the gains are {low:z.2f} to {high:.2f}; "
        f"{reached}. Residual {result.residual:.3f}, alignment {result.alignment:.3f}, relative error to "
        f"the exact factor {result.error:.3f}."
    )
    if _deceives(result):
        text += " The rows are orthonormal, but rounding turned the weak directions before they had grown."
    if turned := int((result.gain < -0.01).sum()):
        text += f" {turned} point{'s' * (turned == 1)} backwards: a gain below 0, drawn at 0."
    return _title(result, state), text, f"{missed} of {count} not reached" if missed else "", footer


def _title(result: _Result, state: State) -> str:
    table, steps = _CALLED[state["table"]], "1 step" if state["steps"] == 1 else f"{state['steps']} steps"
    missed, count = int(result.missed.sum()), len(result.gain)
    if not state["steps"]:
        return "Before the first step every direction has the length that it came with"
    if _deceives(result):
        return (
            f"Looks orthogonal, is wrong: residual {result.residual:.3f}, alignment {result.alignment:.3f}, "
            f"error {result.error:.2f}"
        )
    if state["table"] == "Jordan":
        return f"{table} gets close fast and never arrives"
    if missed:
        too_few = f"{steps} {'is' if state['steps'] == 1 else 'are'} too few"
        return f"{table}: {too_few} for {missed} of {count} directions"
    low, high = result.gain.min(), result.gain.max()
    if max(1 - low, high - 1) < 0.01:
        return f"{table} arrives: after {steps} all {count} directions are within 0.01 of 1"
    return f"{table}: after {steps} all {count} directions are between {low:.2f} and {high:.2f}"


def _deceives(result: _Result) -> bool:
    """Whether both usual checks are passed by a wrong result."""
    return result.residual < 0.02 and result.alignment > 0.99 and result.error > 0.3


@cache
def _example(condition: float) -> Tensor:
    """32 x 96 with evenly spaced log s_i from 1 to 1 / condition, between random orthonormal factors."""
    generator = torch.Generator().manual_seed(0)
    U, _ = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64))
    V, _ = torch.linalg.qr(torch.randn(96, 32, generator=generator, dtype=torch.float64))
    s = torch.logspace(0, -math.log10(condition), 32, dtype=torch.float64)
    G: Tensor = U * s @ V.T
    return G.float()


def _checked(matrix: Tensor) -> Tensor:
    """The learner's matrix, where it can be shown."""
    G = torch.as_tensor(matrix).detach().cpu()
    if G.ndim != 2 or 0 in G.shape:
        raise ValueError(
            f"matrix must be (m, n), got shape {tuple(G.shape)}: of a convolution's gradient take .flatten(1)"
        )
    if not G.dtype.is_floating_point:
        raise ValueError(f"matrix must be real floating point, got {G.dtype}")
    if not bool(G.isfinite().all()):
        raise ValueError("matrix holds NaN or infinity")
    if not bool(G.any()):
        raise ValueError("matrix is zero: it has no directions")
    return G


def _smallest(G: Tensor) -> float:
    """Where the axis begins: 1e-5, or lower where the matrix has directions that count there."""
    s, counted = _counting(G)
    return min(1e-5, (s[counted].min() / s[0]).item())


def _counting(G: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, and which of them the polar factor counts as directions."""
    s = singular_values(G.double())
    return s, counts(s, default_tol(G.dtype))
