"""flattening: from a layer's weight to its matrix, and which of its sides can be orthogonal."""

import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.text import Text
from torch import Tensor, nn

from orthoviz.matrices import as_matrix, param_groups
from orthoviz.measures import cosine_matrix
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM, new_figure
from orthoviz.polar import polar_factor
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "toy": lambda rows: nn.Linear(2, rows, device="meta"),
    "BasicCNN's first": lambda _: nn.Conv2d(3, 32, 3, device="meta"),
    "1 x 1 expansion": lambda _: nn.Conv2d(16, 64, 1, device="meta"),
    "grouped": lambda _: nn.Conv2d(16, 32, 3, groups=8, device="meta"),
    "transposed": lambda _: nn.ConvTranspose2d(16, 3, 2, stride=2, device="meta"),
}
_YOURS = "yours"
_MOST_ROWS = 8
_SHOWN = 256
"""Rows and columns of a heat map, at most."""
_BRICKS = 64
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A")


def flattening(weight: Tensor | nn.Module | None = None, *, rows: int = 3, layer: str | None = None) -> View:
    """*More filters than dimensions: the rows cannot be orthogonal, so the columns are.*

    Takes a layer's gradient to its matrix (each filter becomes one row) and that to its polar factor O.
    Left, the rows as arrows where they have two weights (pale: the gradient's, the longest at length 1),
    otherwise the cosines between them; then O O^T and O^T O on one scale; below, one filter's weights.
    The built-in gradients are Gaussian numbers, in the toy layer after two rows of the course's G.

    Args:
        weight: your own gradient or weight, whose first dimension is the filters; or a module with a
            ``weight``, of which the gradient is taken if there is one, and the matrix that
            ``ov.param_groups`` finds (only so are groups and transposed convolutions known).
        rows: number of filters in the toy layer, 1 to 8.
        layer: "toy", "BasicCNN's first", "1 x 1 expansion" (16 -> 64 channels), "grouped" (eight groups) or
            "transposed". Default: your own weight, or else "toy".

    Raises:
        ValueError: an argument has a value that the view has no place for; the weight has fewer than two
            dimensions, is zero, or holds NaN or infinity; the module has no weight.
    """
    if rows not in range(1, _MOST_ROWS + 1):
        raise ValueError(f"rows must be a whole number from 1 to {_MOST_ROWS}, got {rows!r}")
    own = None if weight is None else _own(weight)
    layers = [*_LAYERS] if own is None else [_YOURS, *_LAYERS]
    first = layers[0]

    def given(state: State) -> list[str]:
        rows = changed(state, {"rows": 3}) if state["layer"] == "toy" else []
        return ["weight"] * (own is not None) + rows + changed(state, {"layer": first})

    return View(
        "flattening",
        partial(_draw, cache(_Scene), cache(partial(_result, own))),
        {
            "rows": control(w.IntSlider, "filters", rows, min=1, max=_MOST_ROWS),
            "layer": control(
                w.ToggleButtons,
                "layer",
                one_of("layer", first if layer is None else layer, layers),
                options=layers,
            ),
        },
        presets={
            "2 filters: a right angle": {"layer": "toy", "rows": 2},
            "3 filters: it breaks": {"layer": "toy", "rows": 3},
            "a convolution": {"layer": "BasicCNN's first"},
            "in groups": {"layer": "grouped"},
        },
        lose={"layer": "toy", "rows": 8},
        visible=lambda s: ["layer", *(["rows"] if s["layer"] == "toy" else [])],
        given=given,
        trail=True,
    )


class _Weight(NamedTuple):
    """A layer's gradient, and its matrix (or one for each group)."""

    tensor: Tensor
    matrix: Tensor
    left_alone: bool = False
    """Whether ``param_groups`` gives it no matrix, as with one row, or one a group."""

    @property
    def kernel(self) -> tuple[int, ...]:
        """A filter's shape: channels, then the kernel's sides."""
        sides = self.tensor.shape[2:]
        return self.matrix.shape[-1] // math.prod(sides), *sides


class _Result(NamedTuple):
    """A weight and what orthogonalising makes of it."""

    weight: _Weight
    factor: Tensor
    rows: Tensor
    """O O^T, of several groups those that fit, along the diagonal."""
    columns: Tensor
    before: Tensor
    """Cosines between two rows (of the same group), in the gradient; each pair twice."""
    after: Tensor


def _result(own: _Weight | None, layer: str, rows: int) -> _Result:
    weight = own if layer == _YOURS else _example(layer, rows)
    assert weight is not None
    O = polar_factor(weight.matrix)
    return _Result(weight, O, _products(O), _products(O.mT), _between_rows(weight.matrix), _between_rows(O))


def _products(O: Tensor) -> Tensor:
    """O O^T, for several matrices along the diagonal, and no more of it than can be shown."""
    O = O[..., :_SHOWN, :]
    blocks = O @ O.mT
    if blocks.ndim == 2:
        return blocks
    fit = max(1, _SHOWN // blocks.shape[-1])
    together: Tensor = torch.block_diag(*blocks[:fit])  # type: ignore[no-untyped-call]
    return together


def _between_rows(matrix: Tensor) -> Tensor:
    cosines = cosine_matrix(matrix)
    off = ~torch.eye(cosines.shape[-1], dtype=torch.bool)
    pairs = cosines[..., off].flatten()
    return pairs[~pairs.isnan()]


class _Scene:
    """The artists of the picture, made once and moved.

    Args:
        flat: whether the rows have two weights and can be drawn as arrows.
    """

    def __init__(self, flat: bool) -> None:
        figure, (left, rows, columns) = new_figure(9, 4.4, (1, 1, 1))
        self.stage = Stage(figure)
        # Places by hand: heat maps must not jump when another layer has other labels on the left
        figure.set_layout_engine("none")
        for ax, x in ((left, 0.07), (rows, 0.385), (columns, 0.665)):
            ax.set_position((x, 0.37, 0.265, 0.542))
        self.rows = _Arrows(left) if flat else _Cosines(left)
        self.maps = [_Map(rows, "rows: $O\\,O^\\top$"), _Map(columns, "columns: $O^\\top O$")]
        scale = figure.add_axes((0.945, 0.37, 0.013, 0.542))
        figure.colorbar(ScalarMappable(Normalize(-1, 1), "RdBu_r"), cax=scale, ticks=(-1, 0, 1))
        self.bricks = _Bricks(figure.add_axes((0.02, 0.01, 0.96, 0.202)))


class _Cosines:
    """Rows with many weights: how alike every two of them are."""

    def __init__(self, ax: Axes) -> None:
        ax.set(xlim=(-1, 1), ylim=(0, 1.02), xlabel="cosine between two rows", ylabel="share of pairs")
        self.edges = np.linspace(-1, 1, 42)
        none = np.zeros(len(self.edges) - 1)
        self.before = ax.stairs(none, self.edges, fill=True, color=PALE, animated=True)
        self.after = ax.stairs(none, self.edges, color=ORTHOGONAL, lw=2, animated=True)
        self.ghosts = [
            ax.stairs(none, self.edges, color=ORTHOGONAL, lw=1, alpha=0.3, animated=True) for _ in range(3)
        ]
        _name_both(ax)

    def moved(self, result: _Result, earlier: list[_Result]) -> list[Artist]:
        """The artists of these cosines, over those of earlier layers."""
        for bars, cosines in ((self.before, result.before), (self.after, result.after)):
            pairs, _ = np.histogram(cosines.numpy(), self.edges)
            bars.set_data(pairs / max(1, len(cosines)))
        ghosts = self.ghosts[: len(earlier)]
        for ghost, was in zip(ghosts, earlier, strict=True):
            pairs, _ = np.histogram(was.after.numpy(), self.edges)
            ghost.set_data(pairs / max(1, len(was.after)))
        return [*ghosts, self.before, self.after]


class _Arrows:
    """Rows with two weights, in the unit circle."""

    def __init__(self, ax: Axes) -> None:
        turn = np.linspace(0, 2 * np.pi, 181)
        ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        ax.set(xlabel="weight 1", ylabel="weight 2")
        ax.plot(np.cos(turn), np.sin(turn), color=RANDOM, lw=1, ls=":")
        _name_both(ax)
        self.names = [ax.text(0, 0, f"{i + 1}", ha="center", va="center") for i in range(_MOST_ROWS)]
        self.mark = ax.plot([], [], color=INK, lw=1)[0]

        def arrow(colour: str, width: float) -> Any:
            look = dict(arrowstyle="-|>", color=colour, lw=width, shrinkA=0, shrinkB=0, mutation_scale=13)
            return ax.annotate("", xy=(0, 0), xytext=(0, 0), arrowprops=look, annotation_clip=False)

        self.ghosts = [ax.plot([], [], color=ORTHOGONAL, lw=1.2, alpha=0.25)[0] for _ in range(3)]
        self.pale = [arrow(PALE, 1.5) for _ in range(_MOST_ROWS)]
        self.strong = [arrow(ORTHOGONAL, 2.2) for _ in range(_MOST_ROWS)]
        for artist in (*self.names, self.mark, *self.ghosts, *self.pale, *self.strong):
            artist.set_animated(True)

    def moved(self, result: _Result, earlier: list[_Result]) -> list[Artist]:
        """The artists of these rows, over those of earlier ones."""
        gradient, factor = result.weight.matrix, result.factor
        gradient = gradient / gradient.norm(dim=1).max()
        moving: list[Artist] = []
        for ghost, was in zip(self.ghosts, earlier, strict=False):
            rays = torch.stack([torch.zeros_like(was.factor), was.factor], dim=1)
            ghost.set_data(*rays.flatten(0, 1).T.numpy())
            moving.append(ghost)
        for arrows, tips in ((self.pale, gradient), (self.strong, factor)):
            for arrow, (x, y) in zip(arrows, tips.tolist(), strict=False):
                arrow.xy = (x, y)
                moving.append(arrow)
        for name, tip in zip(self.names, factor, strict=False):
            name.set_position((tip + 0.13 * tip / tip.norm().clamp(min=0.01)).tolist())
            moving.append(name)
        if len(factor) == 2 and abs(factor[0] @ factor[1]) < 1e-3:
            corner = 0.14 * torch.stack([factor[0], factor[0] + factor[1], factor[1]])
            self.mark.set_data(*corner.T.numpy())
            moving.append(self.mark)
        return moving


def _name_both(ax: Axes) -> None:
    """Which colour is which, above the axes."""
    ax.text(0, 1.03, "gradient", transform=ax.transAxes, color=RANDOM)
    ax.text(1, 1.03, "step", transform=ax.transAxes, color=ORTHOGONAL, ha="right")


class _Map:
    """A heat map of inner products, with numbers where there is room."""

    _MOST_NUMBERS = 3

    def __init__(self, ax: Axes, label: str) -> None:
        ax.set(xticks=(), yticks=(), xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.set_title(label, fontsize=11)
        ax.spines[:].set_visible(False)
        self.image = ax.imshow(
            np.zeros((1, 1)), cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest"
        )
        where = ax.transAxes
        self.line = ax.text(0.5, -0.04, "", transform=where, ha="center", va="top", fontsize=10)
        self.numbers = [ax.text(0, 0, "", ha="center", va="center") for _ in range(self._MOST_NUMBERS**2)]
        for artist in (self.image, self.line, *self.numbers):
            artist.set_animated(True)

    def moved(self, products: Tensor, size: int) -> list[Artist]:
        """The artists of this symmetric matrix, cut from one of ``size`` rows."""
        count = len(products)
        self.image.set_data(products.numpy())
        cut = f"first {count} of {size}" if count < size else f"{count} x {count}"
        self.line.set_text(f"{cut}, up to {_off(products):.2f} from I")
        numbers: list[Text] = []
        if count <= self._MOST_NUMBERS:
            numbers = self.numbers[: count**2]
            for k, (number, value) in enumerate(zip(numbers, products.flatten().tolist(), strict=True)):
                i, j = divmod(k, count)
                number.set(text=f"{value:z.2f}", position=((j + 0.5) / count, 1 - (i + 0.5) / count))
                number.set_color("white" if abs(value) > 0.6 else INK)
        return [self.image, self.line, *numbers]


class _Bricks:
    """One filter's weights: as they are stored, and as a row."""

    _WIDTH, _HEIGHT = 100.0, 10.3  # so that a square is one
    _SIDE = 2.4

    def __init__(self, ax: Axes) -> None:
        ax.set(xlim=(0, self._WIDTH), ylim=(0, self._HEIGHT))
        ax.axis("off")
        self.bricks = PolyCollection([], edgecolors="white", linewidths=0.5)
        ax.add_collection(self.bricks)
        ax.text(0, self._HEIGHT, "one filter's weights become one row of the matrix:", va="top")
        self.label = ax.text(50, self._HEIGHT, "", va="top")
        self.arrow = ax.text(0, self._SIDE * 1.5, "→", ha="center", va="center", fontsize=18)
        for artist in (self.bricks, self.label, self.arrow):
            artist.set_animated(True)

    def moved(self, weight: _Weight) -> list[Artist]:
        """The artists of this weight's first filter."""
        channels, *sides = weight.kernel
        down, across = math.prod(sides[:-1]), (sides or [1])[-1]
        shown = max(1, min(channels, _BRICKS // (down * across)))
        gaps = 0.5 * (shown - 1)
        side = min(self._SIDE, 3 * self._SIDE / down, 40 / (shown * across + gaps))
        middle = side * (shown * across + gaps) + 4
        in_row = min(side, (self._WIDTH - middle - 4) / (shown * down * across))
        stored, row, colours = [], [], []
        for k, (c, i, j) in enumerate(itertools.product(range(shown), range(down), range(across))):
            top = self._SIDE * 1.5 + side * (down / 2 - i)
            stored.append(_square(side * (c * (across + 0.5) + j), top, side))
            row.append(_square(middle + 4 + in_row * k, self._SIDE * 1.5 + in_row / 2, in_row))
            colours.append(_shade(c, (i * across + j) / (down * across)))
        self.bricks.set_verts(stored + row)
        self.bricks.set_facecolor(colours * 2)
        self.arrow.set_x(middle)
        *groups, m, n = weight.matrix.shape
        kernel = f"{channels} x {' x '.join(map(str, sides))}" if sides else f"{channels}"
        only = f" ({shown * down * across} shown)" if shown < channels else ""
        each = f", {groups[0]} times" if groups else ""
        self.label.set_text(f"{kernel} weights{only}, {m} x {n} matrix{each}")
        return [self.bricks, self.label, self.arrow]


def _draw(scene: Callable[[bool], _Scene], find: Callable[[str, int], _Result], state: State) -> Picture:
    """The picture of a state."""

    def found(state: State) -> _Result:
        return find(state["layer"], state["rows"] if state["layer"] == "toy" else 0)

    result = found(state)
    matrix, flat = result.weight.matrix, _is_flat(result)
    now = scene(flat)
    earlier = [was for was in map(found, state["earlier"]) if _is_flat(was) == flat]
    moving: list[Artist] = now.rows.moved(result, earlier)
    *groups, m, n = matrix.shape
    for heat, products, side in zip(now.maps, (result.rows, result.columns), (m, n), strict=True):
        moving += heat.moved(products, side * math.prod(groups))
    moving += now.bricks.moved(result.weight)
    title, text = _message(result, state["layer"])
    return Picture(now.stage, moving, title, text)


def _is_flat(result: _Result) -> bool:
    """Whether the rows have two weights, and can be drawn as arrows."""
    matrix = result.weight.matrix
    return matrix.ndim == 2 and matrix.shape[1] == 2 and len(matrix) <= _MOST_ROWS


def _message(result: _Result, layer: str) -> tuple[str, str]:
    *groups, m, n = result.weight.matrix.shape
    rows, columns = _off(result.rows), _off(result.columns)
    before, after = result.before.abs().mean().item(), result.after.abs().mean().item()
    text = f"{m} row{'s' * (m > 1)} in {n} dimensions" + (
        f", in each of {groups[0]} groups. " if groups else ". "
    )
    text += f"O O^T is up to {rows:.2f} away from the identity, O^T O {columns:.2f}."
    if result.weight.left_alone:
        text += " ov.param_groups leaves such a weight alone."
    if m == 1:
        return "One filter has no other to be orthogonal to: its row gets length 1", text
    text += f" Mean |cos| between rows: {before:.2f} in the gradient, {after:.2f} in the step."
    text += _IN_STORAGE.get(layer, "")
    exact = 0.01
    if rows > exact and columns > exact:
        return "The gradient has too few directions: neither rows nor columns are orthonormal", text
    if rows > exact and after > 0.95 * before:
        return (
            f"{m} filters in {n} dimensions stay as alike as they were: mean |cos| {before:.2f}, "
            f"then {after:.2f}"
        ), text
    if rows > exact:
        return "More filters than dimensions: the rows cannot be orthogonal, so the columns are", text
    if layer == "grouped":
        return f"Each group is a matrix of its own: {m} rows in {n} dimensions can be orthogonal", text
    if layer == "transposed":
        return f"Stored inputs first, made orthogonal by output: {m} rows in {n} dimensions", text
    if m == n:
        return "As many filters as dimensions: rows and columns are orthogonal", text
    return "Fewer filters than dimensions: the rows are orthogonal, the columns cannot be", text


_IN_STORAGE = {
    "grouped": " Flattened as one matrix it would be 32 x 18, with rows that cannot be orthogonal.",
    "transposed": " Flattened as it is stored it would be 16 x 12, with rows that cannot be orthogonal.",
}


def _off(products: Tensor) -> float:
    """Largest difference from the identity."""
    return (products - torch.eye(len(products))).abs().max().item()


@cache
def _example(layer: str, rows: int) -> _Weight:
    """A built-in layer with Gaussian numbers for its gradient."""
    module = _LAYERS[layer](rows)
    generator = torch.Generator().manual_seed(
        1267
    )  # chosen: eight rows that can be told apart, of which three gain and eight do not
    if layer == "toy":
        course = torch.tensor([[1.6, 0.3], [1.2, 0.9]])
        gradient = torch.cat([course, torch.randn(_MOST_ROWS - 2, 2, generator=generator)])[:rows]
    else:
        gradient = torch.randn(_weight_of(module).shape, generator=generator)
    return _with_matrix(module, gradient)


def _own(weight: Tensor | nn.Module) -> _Weight:
    """The learner's weight, where it can be shown."""
    if isinstance(weight, nn.Module):
        parameter = _weight_of(weight)
        tensor = parameter if parameter.grad is None else parameter.grad
    else:
        tensor = torch.as_tensor(weight)
    tensor = tensor.detach().cpu().float()
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise ValueError(f"weight must be (filters, ...), at least 2-D, got shape {tuple(tensor.shape)}")
    if not bool(tensor.isfinite().all()):
        raise ValueError("weight holds NaN or infinity")
    if not bool(tensor.any()):
        raise ValueError("weight is zero: it has no directions")
    if isinstance(weight, nn.Module):
        return _with_matrix(weight, tensor)
    return _Weight(tensor, as_matrix(tensor, ("rows", 1)))


def _weight_of(module: nn.Module) -> Tensor:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"the module must have a weight of its own, got a {type(module).__name__}")
    return weight


def _with_matrix(module: nn.Module, gradient: Tensor) -> _Weight:
    """The gradient of the module's weight with the matrix that an optimiser would see."""
    for group in param_groups(module):
        if any(name == "weight" for name, _ in group["params"]):
            layout = group["layout"]
            return _Weight(gradient, as_matrix(gradient, layout or ("rows", 1)), layout is None)
    raise ValueError(f"ov.param_groups finds no weight in the {type(module).__name__}")


def _square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    """Corners, from the upper left one."""
    return [(x, y), (x + side, y), (x + side, y - side), (x, y - side)]


def _shade(channel: int, place: float) -> tuple[float, float, float]:
    """A channel's colour, paler towards the end of its kernel."""
    red, green, blue = (part + (1 - part) * 0.6 * place for part in to_rgb(_COLOURS[channel % len(_COLOURS)]))
    return red, green, blue
