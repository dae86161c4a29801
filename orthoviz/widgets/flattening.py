"""flattening: from a layer's weight to its matrix, and which of its sides can be orthogonal."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.image import AxesImage
from matplotlib.text import Text
from torch import Tensor, nn

from orthoviz.matrices import Layout, as_matrix, param_groups
from orthoviz.measures import cosine_matrix
from orthoviz.plots import INK, ORTHOGONAL, PALE, RANDOM
from orthoviz.polar import polar_factor
from orthoviz.widgets.polar_lab import G
from orthoviz.widgets.view import Canvas, Scene, buttons, own_tensor, slider, view

_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "toy": lambda rows: nn.Linear(2, rows, device="meta"),
    "BasicCNN's first": lambda _: nn.Conv2d(3, 32, 3, device="meta"),
    "1 x 1 expansion": lambda _: nn.Conv2d(16, 64, 1, device="meta"),
    "grouped": lambda _: nn.Conv2d(16, 32, 3, groups=8, device="meta"),
    "transposed": lambda _: nn.ConvTranspose2d(16, 3, 2, stride=2, device="meta"),
}
_MOST_ROWS, _MOST_NUMBERS, _MOST_BRICKS = 8, 3, 64
_SHOWN = 256  # rows and columns of a heat map, at most
_SIDE, _TOP = 2.4, 10.3  # of a brick, and of its axes, which are 100 wide: so a square looks like one
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A")
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
_FLATTENED = {
    "grouped": " Flattened as one matrix it would be 32 x 18, with rows that cannot be orthogonal.",
    "transposed": " Flattened as it is stored it would be 16 x 12, with rows that cannot be orthogonal.",
}


@view(
    rows=slider("filters", range(1, _MOST_ROWS + 1), shown=lambda state: state["layer"] == "toy"),
    layer=buttons("layer", _LAYERS),
    presets={
        "2 filters: a right angle": {"layer": "toy", "rows": 2},
        "3 filters: it breaks": {"layer": "toy", "rows": 3},
        "a convolution": {"layer": "BasicCNN's first"},
        "in groups": {"layer": "grouped"},
    },
    lose={"layer": "toy", "rows": 8},
)
def flattening(
    canvas: Canvas, weight: Tensor | nn.Module | None = None, *, rows: int = 3, layer: str | None = None
) -> Scene:
    """*More filters than dimensions: the rows cannot be orthogonal, so the columns are.*

    Takes a layer's gradient to its matrix (each filter becomes one row) and that to its polar factor O.
    Left, the rows as arrows where they have two weights (pale: the gradient's, the longest at length 1),
    otherwise the cosines between them; then O O^T and O^T O on one scale; below, one filter's weights.
    The built-in gradients are Gaussian numbers, in the toy layer after two rows of the course's G.

    Args:
        weight: your own gradient or weight; its first dimension is the filters. Or a module with a
            ``weight``: the view takes its gradient, if there is one, as the matrix that
            ``ov.param_groups`` finds (only a module tells of groups and transposed convolutions).
        rows: number of filters in the toy layer, 1 to 8.
        layer: "toy", "BasicCNN's first", "1 x 1 expansion" (16 -> 64 channels), "grouped" (eight groups) or
            "transposed". Default: your own weight, or else "toy".

    Raises:
        ValueError: an argument has a value that the view has no place for; the weight has fewer than two
            dimensions, is zero, or holds NaN or infinity; the module has no weight.
    """
    own = {} if weight is None else {"yours": _own(weight)}
    arrows, cosines, *maps = canvas.axes(9, 6.5 if canvas.narrow else 4.4, (1, 1, 1, 1))
    canvas.figure.set_layout_engine("none")  # heat maps must not jump where labels on the left are longer
    boxes = [(x, 0.37, 0.265, 0.542) for x in (0.07, 0.07, 0.385, 0.665)]
    if canvas.narrow:
        boxes = 2 * [(0.22, 0.6, 0.6, 0.35)] + [(x, 0.19, 0.42, 0.28) for x in (0.03, 0.55)]
    for ax, box in zip((arrows, cosines, *maps), boxes, strict=True):
        ax.set_position(box)
    for ax in (arrows, cosines):
        ax.text(0, 1.03, "gradient", transform=ax.transAxes, color=RANDOM)
        ax.text(1, 1.03, "step", transform=ax.transAxes, color=ORTHOGONAL, ha="right")
    arrows.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    arrows.set(xlabel="weight 1", ylabel="weight 2")
    turn = np.linspace(0, 2 * np.pi, 181)
    arrows.plot(np.cos(turn), np.sin(turn), color=RANDOM, lw=1, ls=":")
    cosines.set(xlim=(-1, 1), ylim=(0, 1.02), xlabel="cosine between two rows", ylabel="share of pairs")
    for ax, label in zip(maps, ("rows: $O\\,O^\\top$", "columns: $O^\\top O$"), strict=True):
        ax.set(xticks=(), yticks=(), xlim=(0, 1), ylim=(0, 1), aspect="equal", frame_on=False)
        ax.set_title(label, fontsize=11)
    look: dict[str, Any] = dict(cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest")
    images = [canvas.moves(ax.imshow(np.eye(2), **look)) for ax in maps]
    below: dict[str, Any] = dict(ha="center", va="top", fontsize=10)
    labels = [canvas.text(ax, 0.5, -0.04, transform=ax.transAxes, **below) for ax in maps]
    scale = canvas.figure.add_axes((0.945, 0.37, 0.013, 0.542), visible=not canvas.narrow)
    canvas.figure.colorbar(ScalarMappable(Normalize(-1, 1), "RdBu_r"), cax=scale, ticks=(-1, 0, 1))
    tall = 0.1 if canvas.narrow else 0.202
    bricks = canvas.figure.add_axes((0.02, 0.01, 0.96, tall), xlim=(0, 100), ylim=(0, _TOP))
    bricks.axis("off")
    words = "one filter, one row:" if canvas.narrow else "one filter's weights become one row of the matrix:"
    bricks.text(0, _TOP, words, va="top")
    # Only the ghosts of these lines are seen
    rays = canvas.line(arrows, ls="", color=ORTHOGONAL, ghost={"ls": "-", "lw": 1.2, "alpha": 0.25})
    steps = canvas.line(cosines, ls="", color=ORTHOGONAL, ghost={"ls": "-", "lw": 1, "alpha": 0.3})

    def show(rows: int, layer: str) -> tuple[str, str]:
        gradient, layout = own[layer] if layer in own else _example(layer, rows)
        matrix = as_matrix(gradient, layout or ("rows", 1))
        matrix = matrix.reshape(-1, *matrix.shape[-2:])
        groups, m, n = matrix.shape
        O = polar_factor(matrix)
        pairs = [_between_rows(M) for M in (matrix, O)]
        flat = groups == 1 and n == 2 and m <= _MOST_ROWS
        path = _draw_rays(canvas, arrows, matrix[0], O[0]) if flat else _draw_steps(canvas, cosines, *pairs)
        for ax, trail, seen in ((arrows, rays, flat), (cosines, steps, not flat)):
            trail.set_data(*(path if seen else ((), ())))
            if ax.get_visible() != seen:
                ax.set_visible(seen)
                canvas.anew()
        off = [_draw_map(canvas, *parts) for parts in zip(images, labels, (O, O.mT), strict=True)]
        _draw_bricks(canvas, bricks, gradient, matrix)
        was, now = (some.abs().mean().item() for some in pairs)
        size = f"{m} row{'s' * (m > 1)} in {n} dimensions"
        each = f", in each of {groups} groups" * (groups > 1)
        text = f"{size}{each}. O O^T is up to {off[0]:.2f} away from the identity, O^T O {off[1]:.2f}."
        text += " ov.param_groups leaves such a weight alone." * (layout is None)
        text += f" Mean |cos| between rows: {was:.2f} in the gradient, {now:.2f} in the step." * (m > 1)
        same = (
            f"{m} filters in {n} dimensions stay as alike as they were: mean |cos| {was:.2f}, then {now:.2f}"
        )
        crooked, neither = off[0] > 0.01, min(off) > 0.01
        titles = (
            (m == 1, "One filter has no other to be orthogonal to: its row gets length 1"),
            (neither, "The gradient has too few directions: neither rows nor columns are orthonormal"),
            (crooked and now > 0.95 * was, same),
            (crooked, "More filters than dimensions: the rows cannot be orthogonal, so the columns are"),
            (layer == "grouped", f"Each group is a matrix of its own: {size} can be orthogonal"),
            (layer == "transposed", f"Stored inputs first, made orthogonal by output: {size}"),
            (m == n, "As many filters as dimensions: rows and columns are orthogonal"),
            (True, "Fewer filters than dimensions: the rows are orthogonal, the columns cannot be"),
        )
        return next(title for so, title in titles if so), text + _FLATTENED.get(layer, "")

    return Scene(show, options={"layer": [*own, *_LAYERS]})


def _example(layer: str, rows: int) -> tuple[Tensor, Layout | None]:
    """Gaussian numbers for a built-in layer's gradient, and its layout."""
    # This seed gives eight distinct rows: three of them gain from the step, all eight do not
    generator = torch.Generator().manual_seed(1267)
    module: Any = _LAYERS[layer](rows)
    shape = (_MOST_ROWS - 2, 2) if layer == "toy" else module.weight.shape
    gradient = torch.randn(shape, generator=generator)
    if layer == "toy":
        gradient = torch.cat([torch.tensor(G), gradient])[:rows]
    return gradient, _layout(module)


def _own(weight: Any) -> tuple[Tensor, Layout | None]:
    """The caller's weight and its layout. A module's gradient goes before its weight."""
    layout: Layout | None = ("rows", 1)
    if isinstance(weight, nn.Module):
        layout, weight = _layout(weight), weight.weight
        weight = weight if weight.grad is None else weight.grad
    tensor = torch.as_tensor(weight, dtype=torch.float32)
    return own_tensor("weight", tensor, "(filters, ...), at least 2-D", lambda t: t.ndim > 1), layout


def _layout(module: nn.Module) -> Layout | None:
    """What ``param_groups`` makes of the module's weight: None where it is left alone."""
    layouts = {decision.name: decision.layout for decision in param_groups(module).decisions}
    if "weight" not in layouts:
        raise ValueError(f"the module must have a weight of its own, got a {type(module).__name__}")
    return layouts["weight"]


def _between_rows(matrix: Tensor) -> Tensor:
    """Cosines between two rows (of the same group), each pair twice."""
    pairs = cosine_matrix(matrix)[:, ~torch.eye(matrix.shape[1], dtype=torch.bool)]
    return pairs[~pairs.isnan()]


def _draw_rays(canvas: Canvas, ax: Axes, gradient: Tensor, O: Tensor) -> Any:
    """Rows with two weights, in the unit circle; returns the path that stays as a ghost."""
    for tips, colour, width in ((gradient / gradient.norm(dim=1).max(), PALE, 1.5), (O, ORTHOGONAL, 2.2)):
        look = dict(arrowstyle="-|>", color=colour, lw=width, shrinkA=0, shrinkB=0, mutation_scale=13)
        for tip in tips.tolist():
            canvas.now(ax.annotate("", tip, (0, 0), arrowprops=look, annotation_clip=False))
    for i, tip in enumerate(O, 1):
        x, y = (tip + 0.13 * tip / tip.norm().clamp(min=0.01)).tolist()
        canvas.now(ax.text(x, y, f"{i}", **_CENTRED))
    if len(O) == 2 and abs(O[0] @ O[1]) < 1e-3:
        corner = 0.14 * torch.stack([O[0], O[0] + O[1], O[1]])
        canvas.now(*ax.plot(*corner.T.numpy(), color=INK, lw=1))
    return torch.stack([torch.zeros_like(O), O], dim=1).flatten(0, 1).T.numpy()


def _draw_steps(canvas: Canvas, ax: Axes, before: Tensor, after: Tensor) -> Any:
    """How alike every two rows with many weights are; returns the path that stays as a ghost."""
    edges = np.linspace(-1, 1, 42)
    pale, strong = (np.histogram(c.numpy(), edges)[0] / max(1, len(c)) for c in (before, after))
    canvas.now(ax.stairs(pale, edges, fill=True, color=PALE))
    canvas.now(ax.stairs(strong, edges, color=ORTHOGONAL, lw=2))
    return np.repeat(edges, 2), [0, *np.repeat(strong, 2), 0]


def _draw_map(canvas: Canvas, image: AxesImage, label: Text, O: Tensor) -> float:
    """O O^T, of several matrices those that fit, along the diagonal; returns how far it is from I."""
    size, O = len(O) * O.shape[1], O[:, :_SHOWN]
    products = torch.block_diag(*(O @ O.mT)[: max(1, _SHOWN // O.shape[1])]).numpy()  # type: ignore[no-untyped-call]
    count = len(products)
    off = float(abs(products - np.eye(count)).max())
    image.set_data(products)
    cut = f"first {count} of {size}" if count < size else f"{count} x {count}"
    label.set_text(f"{cut}, up to {off:.2f} from I")
    for (i, j), value in np.ndenumerate(products) if count <= _MOST_NUMBERS else ():
        colour = "white" if abs(value) > 0.6 else INK
        x, y = (j + 0.5) / count, 1 - (i + 0.5) / count
        canvas.now(image.axes.text(x, y, f"{value:z.2f}", color=colour, **_CENTRED))
    return off


def _draw_bricks(canvas: Canvas, ax: Axes, gradient: Tensor, matrix: Tensor) -> None:
    """One filter's weights: as they are stored, and as a row."""
    (groups, m, n), sides = matrix.shape, gradient.shape[2:]
    channels, (*rest, across) = n // math.prod(sides), sides or (1,)
    down = math.prod(rest)
    shown = max(1, min(channels, _MOST_BRICKS // (down * across)))
    width = shown * across + 0.5 * (shown - 1)  # with the gaps between channels
    side = min(_SIDE, 3 * _SIDE / down, 40 / width)
    middle, level = side * width + 4, 1.5 * _SIDE
    c, i, j = np.indices((shown, down, across)).reshape(3, -1)
    k = np.arange(len(c))
    in_row = min(side, (96 - middle) / len(k))
    stored = side * (c * (across + 0.5) + j), level + side * (down / 2 - i), side
    row = middle + 4 + in_row * k, level + in_row / 2 + 0 * k, in_row
    square = np.array([(0, 0), (1, 0), (1, -1), (0, -1)])
    corners = [np.stack([x, y], axis=1)[:, None] + size * square for x, y, size in (stored, row)]
    colours = to_rgba_array([_COLOURS[channel % len(_COLOURS)] for channel in c])
    colours += (1 - colours) * 0.6 * ((i * across + j) / (down * across))[:, None]  # paler towards the end
    look: dict[str, Any] = {"facecolors": np.tile(colours, (2, 1)), "edgecolors": "white", "linewidths": 0.5}
    canvas.now(ax.add_collection(PolyCollection([*np.concatenate(corners)], **look)))
    canvas.now(ax.text(middle, level, "→", fontsize=18, **_CENTRED))
    label = " x ".join(map(str, (channels, *sides))) + " weights" + f" ({len(k)} shown)" * (shown < channels)
    label += f", {m} x {n} matrix" + f", {groups} times" * (groups > 1)
    canvas.now(ax.text(50, _TOP, label, va="top"))
