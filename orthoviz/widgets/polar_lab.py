"""polar_lab: what orthogonalising does to two gradients, as an ellipse."""

import math
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM
from orthoviz.polar import polar_factor
from orthoviz.widgets.view import Canvas, Scene, State, checkbox, own_tensor, slider, view

# The course's 2 x 2 matrix.
G = ((1.6, 0.3), (1.2, 0.9))
_ANGLES = (-1.0, 1.0, *map(float, range(-180, 181, 5)))
_ARROW = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}

_by_hand = itemgetter("game")


def _explores(state: State) -> bool:
    return not state["game"]


@view(
    p=slider(
        "p (1: G, 0: polar factor)",
        {i / 20: f"{i / 20:.2f}" for i in range(21)},
        shown=_explores,
        page=tuple(i / 10 for i in range(11)),
    ),
    angle=slider("degrees between rows", _ANGLES, shown=_explores, page=(1.0, 10.0, 90.0, 150.0)),
    show_factor=checkbox(
        "show the polar factor", shown=lambda state: _explores(state) and state["p"] > 0, page=(False,)
    ),
    turn=slider("turn (degrees)", range(-180, 181, 15), shown=_by_hand),
    flip=checkbox("flip", shown=_by_hand),
    reveal=checkbox("reveal", shown=_by_hand),
    game=checkbox("by hand", more=True),
    presets={
        "the gradient": {"p": 1.0},
        "half way": {"p": 0.5},
        "orthogonalised": {"p": 0.0},
        "game: find it by hand": {"p": 1.0, "game": True},
    },
    lose={"p": 0.0, "angle": 1.0},
)
def polar_lab(
    canvas: Canvas, matrix: Tensor | None = None, *, p: float = 0.0, angle: float | None = None,
    show_factor: bool = False, game: bool = False, turn: int = 0, flip: bool = False, reveal: bool = False,
) -> Scene:  # fmt: skip
    """*Orthogonalising keeps the ellipse's axes and makes them equally long.*

    Shows the rows of a matrix with two rows, the ellipse {aG : |a| = 1} that they span, and the same for
    U S^p V^T: at p = 1 the matrix itself, at p = 0 its polar factor.

    Args:
        matrix: ``(2, d)``, real, d >= 2; where d > 2 the plane of its rows is shown. Default: the course's G.
        p: exponent of the singular values, 0, .05, ... to 1.
        angle: turn row 2 until it is this many degrees from row 1: -180, -175, ... to 180, -1, 1, or what
            the matrix has. Default: as it is.
        show_factor: draw the polar factor's rows, whatever p is.
        game: look for the orthonormal pair that is nearest to the matrix, by hand; p, angle and show_factor
            are without effect then.
        turn: of the pair in the game, in degrees: -180, -165, ... to 180.
        flip: the pair is a reflection.
        reveal: show the polar factor in the game too.

    Raises:
        ValueError: the matrix has another shape, holds NaN or infinity, or has a row that is zero; an
            argument has a value that the view has no place for.
    """
    given = _in_plane(G if matrix is None else matrix)
    apart = _between(given)
    own = round(apart, 6)  # 90 but for rounding is the option 90
    around = torch.linspace(0, 2 * math.pi, 181, dtype=torch.float64)
    circle = torch.stack([around.cos(), around.sin()], dim=1)
    plane, bars = canvas.axes(9, 4.6, (2.1, 1))
    plane.set(xlim=(-2.5, 2.5), ylim=(-1.9, 1.9), aspect="equal", xlabel="weight 1", ylabel="weight 2")
    plane.plot(*circle.T.numpy(), color=RANDOM, lw=1, ls=":")
    plane.axhline(0, color="#EEEEEE", lw=1, zorder=0)
    plane.axvline(0, color="#EEEEEE", lw=1, zorder=0)
    bars.set(xlim=(-0.6, 1.6), ylim=(0, 2.5), ylabel="singular value, $s^p$")
    bars.set_xticks((0, 1), ("$s_1$", "$s_2$"))
    bars.axhline(1, color=RANDOM, lw=1, ls=":")
    pale = canvas.line(plane, color=PALE, lw=1)
    ellipse = canvas.line(plane, color=ORTHOGONAL, lw=1.5, ghost={"lw": 1, "alpha": 0.25})
    axes = [canvas.line(plane, color=ORTHOGONAL, lw=1, ls="--") for _ in range(2)]
    arrows = [
        canvas.moves(plane.annotate("", (0, 0), (0, 0), arrowprops=_ARROW | {"color": colour, "lw": width}))
        for colour, width in ((PALE, 2), (RANDOM, 1.5), (INK, 2.5))
        for _ in range(2)
    ]
    names = [canvas.text(plane, fontsize=11, ha="center", va="center") for _ in range(2)]
    mark = canvas.line(plane, color=INK, lw=1)
    note = canvas.text(plane, -2.4, -1.82, fontsize=10, va="bottom")
    columns = bars.bar((0, 1), (1, 1), width=0.6, color=ORTHOGONAL)
    canvas.moves(*columns)
    values = [canvas.text(bars, i, ha="center", va="bottom", fontsize=11) for i in range(2)]

    def gradient(angle: float) -> tuple[Tensor, float]:
        """G, so large that its rows and the unit circle can both be seen, and how much larger."""
        rows = given if angle == own else torch.stack([given[0], given[1] @ _pair(angle - apart)])
        size = torch.linalg.matrix_norm(rows, 2).item()
        zoom = 1.0 if 0.9 < size < 2.4 else 2.2 / size
        return rows * zoom, zoom

    def show(
        p: float, angle: float, show_factor: bool, turn: int, flip: bool, reveal: bool, game: bool
    ) -> tuple[str, str]:
        rows, zoom = gradient(own if game else angle)  # in the game no angle is shown
        U, s, Vh = torch.linalg.svd(rows)
        factor = polar_factor(rows)
        shown = _pair(turn, flip) if game else (U * s**p) @ Vh if p else factor
        for line, drawn in ((pale, rows), (ellipse, shown)):
            line.set_data(*(circle @ drawn).T.numpy())
        for line, tip in zip(axes, s[:, None] ** p * Vh, strict=True):
            line.set_data(*torch.stack([-tip, tip]).T.numpy())
            line.set_visible(not game)
        for arrow, tip in zip(arrows, torch.cat([rows, factor, shown]).tolist(), strict=True):
            arrow.xy = tip
        for arrow in arrows[2:4]:
            arrow.set_visible(reveal if game else show_factor and p > 0)
        for i, (name, tip) in enumerate(zip(names, shown, strict=True), 1):
            name.set(text=f"row {i}", position=(tip * (1 + 0.18 / tip.norm().clamp(min=0.3))).tolist())
        now = abs(_between(shown))
        mark.set_data(*(0.14 * torch.stack([shown[0], shown[0] + shown[1], shown[1]])).T.numpy())
        mark.set_visible(abs(now - 90) < 0.05)
        note.set_text(f"{now:.1f}° between the rows     distance to G (pale) {(rows - shown).norm():.3f}")
        lengths = torch.linalg.svdvals(shown).tolist()
        for column, value, length in zip(columns, values, lengths, strict=True):
            column.set_height(length)
            value.set(text=f"{length:.2f}", y=length + 0.04)
        larger = f"G is shown at {zoom:.2g} times its size, which changes no direction. " * (zoom != 1)
        if game:
            return "Turn and flip the pair until it is nearest to G", larger + _score(rows, shown, reveal)
        text = (
            f"{larger}G has axes of {s[0]:.2f} and {s[1]:.2f}; with p = {p:.2f} they are {lengths[0]:.2f} "
            f"and {lengths[1]:.2f}, in the same directions."
        )
        if s[1] <= 1e-6 * s[0]:
            return "One direction only: there is nothing to make orthogonal", text
        if p == 0 and (before := abs(_between(rows))) < 5:
            grows = ((factor[0] - factor[1]).norm() / (rows[0] - rows[1]).norm()).item()
            return (
                f"Two nearly equal gradients, {before:.3g}° apart: their difference grows {grows:.0f} times",
                f"{text} The difference of the rows is {grows:.1f} times as long as before.",
            )
        return "Orthogonalising keeps the ellipse's axes and makes them equally long", text

    angles = {angle: f"{angle:.3g}" for angle in sorted({*_ANGLES, own})}
    return Scene(show, options={"angle": angles}, first={"angle": own})


def _score(rows: Tensor, pair: Tensor, reveal: bool) -> str:
    """How near a pair is to the rows, and with ``reveal`` how near others are."""
    Q, R = torch.linalg.qr(rows.T)
    others = (pair, polar_factor(rows), (Q * R.diagonal().sign()).T)
    mine, best, gram_schmidt = ((rows - other).norm().item() for other in others)
    revealed = f" The polar factor: {best:.3f}, the nearest there is. Gram-Schmidt: {gram_schmidt:.3f}."
    return f"Your orthonormal pair is {mine:.3f} from G." + revealed * reveal


def _in_plane(matrix: Any) -> Tensor:
    """Two rows as 2 x 2 float64: in the plane that they span, where they have more entries."""
    rows = torch.as_tensor(matrix, dtype=torch.float64)
    rows = own_tensor(
        "matrix", rows, "(2, d) with d >= 2", lambda M: M.ndim == 2 and len(M) == 2 <= M.shape[1]
    )
    if not bool((rows.norm(dim=1) > 0).all()):
        raise ValueError("a row of the matrix is zero and has no direction")
    if rows.shape[1] == 2:
        return rows
    plane: Tensor = rows @ torch.linalg.qr(rows.T).Q
    return plane * plane.diagonal().sign()  # row 1 to the right, row 2 upwards


def _between(rows: Tensor) -> float:
    """Degrees from row 1 to row 2, -180 to 180."""
    (a, b), (c, d) = rows.tolist()
    return math.degrees(math.atan2(a * d - b * c, a * c + b * d))


def _pair(degrees: float, flip: bool = False) -> Tensor:
    """The orthonormal pair that is turned by so much."""
    c, s, sign = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), -1 if flip else 1
    return torch.tensor([[c, s], [-s * sign, c * sign]], dtype=torch.float64)
