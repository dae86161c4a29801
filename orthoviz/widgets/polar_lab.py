"""polar_lab: what orthogonalising does to two gradients, as an ellipse."""

import math
from contextlib import suppress
from functools import partial
from typing import Any

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM, new_figure
from orthoviz.polar import polar_factor
from orthoviz.widgets.core import State, View, changed, control
from orthoviz.widgets.stage import Picture, Stage

G = ((1.6, 0.3), (1.2, 0.9))
"""The course's 2 x 2 matrix."""


def polar_lab(
    matrix: Tensor | None = None,
    *,
    p: float = 0.0,
    angle: float | None = None,
    show_factor: bool = False,
) -> View:
    """*Orthogonalising keeps the ellipse's axes and makes them equally long.*

    Shows the rows of a matrix with two rows, the ellipse {aG : |a| = 1} that they span, and the same for
    U S^p V^T: at p = 1 the matrix itself, at p = 0 its polar factor.

    Args:
        matrix: ``(2, d)``, real, d >= 2; where d > 2 the plane of its rows is shown. Default: the course's G.
        p: exponent of the singular values, 0 to 1.
        angle: turn row 2 until it is this many degrees from row 1. Default: as it is.
        show_factor: draw the polar factor's rows, whatever p is.

    Raises:
        ValueError: the matrix has another shape, or holds NaN or infinity.
    """
    rows = torch.tensor(G, dtype=torch.float64) if matrix is None else _checked(matrix)
    text = _as_text(rows)
    source = {text: rows}  # the numbers in full precision, for the text that stands for them

    def slider(value: float, low: float, high: float, step: float, label: str) -> w.FloatSlider:
        return control(w.FloatSlider, label, value, min=low, max=high, step=step)

    numbers = w.Text(text, description="rows", continuous_update=False)
    controls = {
        "numbers": numbers,  # first: a preset sets the rows, then the angle between them
        "p": slider(p, 0, 1, 0.05, "p (1: G, 0: polar factor)"),
        "angle": slider(
            _on_slider(_between(rows)) if angle is None else angle, -180, 180, _TURN, "degrees between rows"
        ),
        "show_factor": control(w.Checkbox, "show the polar factor", show_factor),
        "turn": slider(0, -180, 180, 1, "turn (degrees)"),
        "flip": control(w.Checkbox, "flip", False),
        "reveal": control(w.Checkbox, "reveal", False),
        "game": control(w.Checkbox, "by hand", False),
    }

    def settle(change: Any) -> None:
        """New rows come with the angle that they have."""
        with suppress(ValueError):
            controls["angle"].value = _on_slider(_between(source.get(change.new, _parsed(change.new))))

    numbers.observe(settle, "value")

    def given(state: State) -> list[str]:
        rows_now = state["numbers"]
        arguments = [] if rows_now == _COURSE else ["matrix" if rows_now == text else _as_tensor(rows_now)]
        apart = source.get(rows_now, _parsed(rows_now))
        if abs(state["angle"] - _between(apart)) > _NEAR:
            arguments.append(f"angle={state['angle']:g}")
        return arguments + changed(state, {"p": 0.0, "show_factor": False})

    return View(
        "polar_lab",
        partial(_draw, _Scene(), source),
        controls,
        presets={
            "the gradient": {"p": 1.0},
            "half way": {"p": 0.5},
            "orthogonalised": {"p": 0.0},
            "game: find it by hand": {"p": 1.0, "game": True},
        },
        lose={"numbers": "1 0; 0 1", "angle": 1.0, "p": 0.0},
        visible=lambda s: ["numbers", *(_GAME if s["game"] else _EXPLORE)],
        more=["numbers"],
        given=given,
        trail=True,
    )


_TURN = 0.25
"""Degrees: the slider's step."""
_NEAR = 0.13
"""Degrees: nearer than a step, so the slider means the numbers as they are."""
_EXPLORE = ("p", "angle", "show_factor")
_GAME = ("turn", "flip", "reveal")


class _Scene:
    """The artists of the picture, made once and moved."""

    def __init__(self) -> None:
        figure, (plane, bars) = new_figure(9, 4.6, (2.1, 1))
        self.stage = Stage(figure)
        # The unit circle and the axes never move
        circle = _circle()
        plane.set(xlim=(-2.5, 2.5), ylim=(-1.9, 1.9), aspect="equal", xlabel="weight 1", ylabel="weight 2")
        plane.plot(*circle, color=RANDOM, lw=1, ls=":")
        plane.axhline(0, color="#EEEEEE", lw=1, zorder=0)
        plane.axvline(0, color="#EEEEEE", lw=1, zorder=0)
        bars.set(xlim=(-0.6, 1.6), ylim=(0, 2.5), xticks=(0, 1), ylabel="singular value, $s^p$")
        bars.set_xticklabels(("$s_1$", "$s_2$"))
        bars.axhline(1, color=RANDOM, lw=1, ls=":")

        def line(**style: Any) -> Line2D:
            return plane.plot([], [], animated=True, **style)[0]

        self.pale_ellipse = line(color=PALE, lw=1)
        self.ghosts = [line(color=ORTHOGONAL, lw=1, alpha=0.25) for _ in range(3)]
        self.ellipse = line(color=ORTHOGONAL, lw=1.5)
        self.axes = [line(color=ORTHOGONAL, lw=1, ls="--") for _ in range(2)]
        self.mark = line(color=INK, lw=1)
        self.arrows = {
            (kind, row): plane.annotate(
                "",
                xy=(0, 0),
                xytext=(0, 0),
                animated=True,
                arrowprops=dict(
                    arrowstyle="-|>", color=colour, lw=width, shrinkA=0, shrinkB=0, mutation_scale=14
                ),
            )
            for kind, colour, width in (("pale", PALE, 2), ("factor", RANDOM, 1.5), ("now", INK, 2.5))
            for row in range(2)
        }
        self.names = [
            plane.text(0, 0, "", fontsize=11, ha="center", va="center", animated=True) for _ in range(2)
        ]
        self.note = plane.text(-2.4, -1.82, "", fontsize=10, va="bottom", animated=True)
        for artist in (*self.arrows.values(), *self.names, self.note):
            artist.set_in_layout(False)
        self.bars = bars.bar((0, 1), (1, 1), width=0.6, color=ORTHOGONAL, animated=True)
        self.values = [
            bars.text(i, 0, "", ha="center", va="bottom", fontsize=11, animated=True) for i in (0, 1)
        ]


def _draw(scene: _Scene, source: dict[str, Tensor], state: State) -> Picture:
    """The picture of a state."""
    rows, zoom = _rows(source, state)
    s, Vh = torch.linalg.svd(rows, full_matrices=False)[1:]
    factor, shown = polar_factor(rows), _shown(source, state)
    p = 1.0 if state["game"] else state["p"]
    circle = torch.from_numpy(_circle()).T
    moving: list[Artist] = [scene.pale_ellipse, scene.ellipse]
    for ghost, earlier in zip(scene.ghosts, state["earlier"], strict=False):
        ghost.set_data(*(circle @ _shown(source, earlier)).T.numpy())
        moving.append(ghost)
    scene.pale_ellipse.set_data(*(circle @ rows).T.numpy())
    scene.ellipse.set_data(*(circle @ shown).T.numpy())
    for i, axis in enumerate(scene.axes):
        tip = (s[i] ** p * Vh[i]).numpy()
        axis.set_data([-tip[0], tip[0]], [-tip[1], tip[1]])
    moving += [] if state["game"] else scene.axes

    moving += _arrows(scene, "pale", rows)
    if state["reveal"] if state["game"] else state["show_factor"] and p > 0:
        moving += _arrows(scene, "factor", factor)
    moving += _arrows(scene, "now", shown)
    for i, name in enumerate(scene.names):
        tip = shown[i] * (1 + 0.18 / shown[i].norm().clamp(min=0.3))
        name.set(text=f"row {i + 1}", position=tip.tolist())
    moving += scene.names
    if _is_right(shown):
        corner = torch.stack([shown[0], shown[0] + shown[1], shown[1]]) * 0.14
        scene.mark.set_data(*corner.T.numpy())
        moving.append(scene.mark)

    title, text = _message(rows, s, factor, shown, state)
    if zoom != 1:
        text = f"G is shown at {zoom:.2g} times its size, which changes no direction. {text}"
    scene.note.set_text(
        f"{abs(_between(shown)):.1f}° between the rows     distance to G (pale) {(rows - shown).norm():.3f}"
    )
    lengths = torch.linalg.svdvals(shown).tolist()
    for bar, value, label in zip(scene.bars, lengths, scene.values, strict=True):
        bar.set_height(value)
        label.set(text=f"{value:.2f}", position=(bar.get_x() + 0.3, value + 0.04))
    moving += [scene.note, *scene.bars, *scene.values]
    return Picture(scene.stage, moving, title, text)


def _rows(source: dict[str, Tensor], state: State) -> tuple[Tensor, float]:
    """The gradient, so large that its rows and the unit circle can both be seen, and how much larger."""
    rows = _turned(source.get(state["numbers"]), state)
    size = torch.linalg.matrix_norm(rows, 2).item()
    zoom = 1.0 if 0.9 < size < 2.4 else 2.2 / size
    return rows * zoom, zoom


def _shown(source: dict[str, Tensor], state: State) -> Tensor:
    """The strong rows: U S^p V^T, or in the game the learner's own pair."""
    if state["game"]:
        return _orthonormal_pair(state["turn"], state["flip"])
    rows, _ = _rows(source, state)
    if state["p"] == 0:
        return polar_factor(rows)
    U, s, Vh = torch.linalg.svd(rows, full_matrices=False)
    powered: Tensor = U @ torch.diag(s ** state["p"]) @ Vh
    return powered


def _message(rows: Tensor, s: Tensor, factor: Tensor, shown: Tensor, state: State) -> tuple[str, str]:
    angle = abs(_between(rows))
    if state["game"]:
        mine = (rows - shown).norm().item()
        text = f"Your orthonormal pair is {mine:.3f} from G."
        if state["reveal"]:
            gram_schmidt = (rows - _gram_schmidt(rows)).norm()
            best = (rows - factor).norm()
            text += f" The polar factor: {best:.3f}, the nearest there is. Gram-Schmidt: {gram_schmidt:.3f}."
        return "Turn and flip the pair until it is nearest to G", text
    kept = f"G has axes of {s[0]:.2f} and {s[1]:.2f}; with p = {state['p']:.2f} they are "
    lengths = torch.linalg.svdvals(shown)
    kept += f"{lengths[0]:.2f} and {lengths[1]:.2f}, in the same directions."
    if s[1] <= 1e-6 * s[0]:
        return "One direction only: there is nothing to make orthogonal", kept
    if state["p"] == 0 and angle < 5:
        apart = ((factor[0] - factor[1]).norm() / (rows[0] - rows[1]).norm()).item()
        title = f"Two nearly equal gradients, {angle:.3g}° apart: their difference grows {apart:.0f} times"
        return title, f"{kept} The difference of the rows is {apart:.1f} times as long as before."
    return "Orthogonalising keeps the ellipse's axes and makes them equally long", kept


def _arrows(scene: _Scene, kind: str, rows: Tensor) -> list[Artist]:
    arrows: list[Artist] = []
    for i, (x, y) in enumerate(rows.tolist()):
        arrow = scene.arrows[kind, i]
        arrow.xy = (x, y)
        arrows.append(arrow)
    return arrows


def _checked(matrix: Tensor) -> Tensor:
    """Two rows as 2 x 2 float64: in the plane that they span, where they have more entries."""
    rows = torch.as_tensor(matrix, dtype=torch.float64).detach().cpu()
    if rows.ndim != 2 or rows.shape[0] != 2 or rows.shape[1] < 2:
        raise ValueError(f"matrix must be (2, d) with d >= 2, got shape {tuple(rows.shape)}")
    if not bool(rows.isfinite().all()):
        raise ValueError("matrix holds NaN or infinity")
    if not bool((rows.norm(dim=1) > 0).all()):
        raise ValueError("a row of the matrix is zero and has no direction")
    if rows.shape[1] == 2:
        return rows
    basis, _ = torch.linalg.qr(rows.T)
    plane: Tensor = rows @ basis
    return plane * torch.sign(plane.diagonal())  # row 1 to the right, row 2 upwards


def _turned(rows: Tensor | None, state: State) -> Tensor:
    """The rows of the state: its numbers, with row 2 turned to the state's angle from row 1."""
    if rows is None:
        rows = _parsed(state["numbers"])
    turn = math.radians(state["angle"] - _between(rows))
    if abs(turn) < math.radians(_NEAR):  # the numbers as they are
        return rows
    x, y = rows[1].tolist()
    turned = (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
    return torch.stack([rows[0], torch.tensor(turned, dtype=torch.float64)])


def _parsed(numbers: str) -> Tensor:
    try:
        rows = [[float(x) for x in row.replace(",", " ").split()] for row in numbers.split(";")]
        matrix = torch.tensor(rows, dtype=torch.float64)
    except ValueError:
        raise ValueError(
            f"rows must be two rows of numbers such as '1.6 .3; 1.2 .9', got {numbers!r}"
        ) from None
    return _checked(matrix)


def _as_text(rows: Tensor) -> str:
    return "; ".join(" ".join(f"{x:.4g}" for x in row) for row in rows.tolist())


def _as_tensor(numbers: str) -> str:
    return f"torch.tensor([{', '.join('[' + ', '.join(row.split()) + ']' for row in numbers.split(';'))}])"


def _between(rows: Tensor) -> float:
    """Degrees from row 1 to row 2, -180 to 180."""
    (a, b), (c, d) = rows.tolist()
    return math.degrees(math.atan2(a * d - b * c, a * c + b * d))


def _on_slider(degrees: float) -> float:
    return _TURN * round(degrees / _TURN)


def _is_right(rows: Tensor) -> bool:
    return abs(abs(_between(rows)) - 90) < 0.05


def _gram_schmidt(rows: Tensor) -> Tensor:
    """Row 1 at length 1, then what row 2 adds to it, at length 1."""
    first = rows[0] / rows[0].norm()
    second = rows[1] - (rows[1] @ first) * first
    return torch.stack([first, second / second.norm().clamp(min=1e-300)])  # parallel rows: no second one


def _orthonormal_pair(degrees: float, flip: bool) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    sign = -1.0 if flip else 1.0
    return torch.tensor([[c, s], [-s * sign, c * sign]], dtype=torch.float64)


def _circle() -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 181)
    return np.stack([np.cos(turn), np.sin(turn)])


_COURSE = _as_text(torch.tensor(G))
