"""filter_gallery: which filters are alike, and whether chance would have made them so."""

import math
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from safetensors.torch import load_file
from torch import Tensor

from orthoviz.measures import cosine_matrix, random_pairs
from orthoviz.plots import COLOURS, INK, RANDOM
from orthoviz.training.stored import folder
from orthoviz.widgets.view import Canvas, Scene, buttons, own_tensor, slider, view

# Of a filter; the head's 512 inputs are 32 maps of 4 x 4.
_SHAPES = {"conv 1": (3, 3, 3), "conv 2": (32, 3, 3), "conv 3": (32, 3, 3), "head": (32, 4, 4)}
_TRAINED, _TWIN = "trained", "random twin"
_PLACES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
_MOST_ROWS = 64
_FIRST = {"k": 1, "filters": _TRAINED, "layer": "conv 1", "run": "SGD 0.1"}
_COLOURS = matplotlib.colormaps["RdBu_r"]
# Pixels of a weight's side on the sheet of all filters: the gaps are narrower than a weight.
_FINE = 5


@view(
    k=slider("k-th most alike pair", _PLACES),
    filters=buttons("filters", (_TRAINED, _TWIN)),
    layer=buttons("layer", _SHAPES.keys()),
    run=buttons("run", ("SGD 0.01", "SGD 0.1", "orthogonal SGD 0.01", "orthogonal SGD 0.03"), more=True),
    presets={
        "most alike": _FIRST,
        "its random twin": {**_FIRST, "filters": _TWIN},
        "second layer": {**_FIRST, "layer": "conv 2"},
        "orthogonal SGD": {**_FIRST, "run": "orthogonal SGD 0.03"},
    },
    phone=1.3,
    lose={**_FIRST, "run": "SGD 0.01"},
    photo=True,
)
def filter_gallery(
    canvas: Canvas, weight: Tensor | None = None, *, k: int = 1, filters: str = _TRAINED,
    layer: str = "conv 1", run: str = "SGD 0.1",
) -> Scene:  # fmt: skip
    """*Alike, or just random?*

    Shows a layer's filters as small pictures, sorted so that alike ones are neighbours, their cosine matrix,
    and one large pair: the k-th most alike, by the absolute cosine. Among many pairs some are alike by
    chance. The grey band below shows where the k-th most alike pair of random filters lies: many draws of
    Gaussian filters of the same shape. Filters of three input channels are drawn in colour, each stretched
    to its own range; filters of more channels as their mean, blue to red.

    The stored weights are BasicCNN's after five epochs on CIFAR-10.

    Args:
        weight: your own filters, ``(m, n)`` or ``(m, channels, height, width)``; the view takes the first
            64. It folds rows of n weights to a rectangle.
        k: 1, 2, 3, 5, 10, 20, 50, 100 or 200, at most the number of pairs.
        filters: "trained" or "random twin", Gaussian filters of the same shape.
        layer: "conv 1", "conv 2", "conv 3" or "head". Without effect on your own filters.
        run: the optimiser and its learning rate: "SGD 0.01", "SGD 0.1", "orthogonal SGD 0.01" or "orthogonal
            SGD 0.03". Without effect on your own filters.

    Raises:
        ValueError: an argument has a value that the view has no place for; the weight has another shape,
            holds NaN or infinity, or fewer than two filters that are not zero.
    """
    own = None if weight is None else _own(weight)
    stored = load_file(folder("filters") / "weights.safetensors")
    figure = Figure((9, 4.5))
    canvas.add(figure)
    boxes = [(0.015, 0.05, 0.37, 0.86), (0.42, 0.39, 0.2613, 0.5226)]
    boxes += [(x, 0.56, 0.1361, 0.2722) for x in (0.695, 0.845)]
    panels = [figure.add_axes(box, frameon=False, xticks=(), yticks=()) for box in boxes]
    panels[1].set_xlabel("cosines, filters in the same order", fontsize=10)
    images = [ax.imshow(np.zeros((1, 1, 3)), interpolation="nearest", aspect="auto") for ax in panels]
    marks = [ax.add_patch(Rectangle((0, 0), 1, 1, fill=False, ec="#009E73", lw=2.5)) for ax in panels[:2] * 2]
    canvas.moves(*images, *marks)
    strip = figure.add_axes((0.42, 0.13, 0.56, 0.15), xlim=(0, 1), ylim=(0, 1.1), yticks=())
    strip.set_xlabel("|cos| of the pair, and of the same place among random filters", fontsize=10)
    strip.spines[["top", "right", "left"]].set_visible(False)
    bins = np.linspace(0, 1, 101)
    random = canvas.moves(strip.stairs(np.zeros(100), bins, fill=True, color=RANDOM, alpha=0.6))
    here = canvas.line(strip, lw=3, transform=strip.get_xaxis_transform(), ghost={"lw": 2, "alpha": 0.3})
    band = canvas.text(strip, 1, 1.15, ha="right", color=RANDOM, fontsize=10)
    how = canvas.text(figure, 0.2, 0.965, ha="center", va="top", color=INK, fontsize=10)
    place = canvas.text(figure, 0.838, 0.91, ha="center", va="top", color=INK, fontsize=11)
    value = canvas.text(figure, 0.838, 0.545, ha="center", va="top", color=INK, fontsize=12)

    @cache
    def sort(filters: str, layer: str, run: str) -> Any:
        weight = stored[f"{run}/{layer}"].float().unflatten(1, _SHAPES[layer]) if own is None else own
        if filters == _TWIN:
            weight = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
        return _sort(weight)

    def show(k: int, filters: str, layer: str, run: str) -> tuple[str, str]:
        weight, cosines, pairs = sort(filters, layer, run)
        k = min(k, len(pairs))
        x, y = pairs[k - 1]
        cosine, channels, pictures = cosines[x, y], weight.shape[1], _pictures(weight)
        sheet, frames = _lay_out(pictures)
        drawn = (sheet, _COLOURS((np.nan_to_num(cosines) + 1) / 2), pictures[x], pictures[y])
        for image, pixels in zip(images, drawn, strict=True):
            fit(image, pixels)
        for mark, bounds in zip(marks, (frames[x], (x, y, 1, 1), frames[y], (y, x, 1, 1)), strict=True):
            mark.set(bounds=bounds)
        chance = random_pairs(int(np.isfinite(cosines.diagonal()).sum()), weight[0].numel())[:, k - 1].numpy()
        low, middle, high = np.quantile(chance, (0.05, 0.5, 0.95))
        counts, _ = np.histogram(chance, bins)
        random.set_data(counts / counts.max())
        if filters == _TWIN:
            whose, colour = "random filters of the same shape", RANDOM
        elif own is not None:
            whose, colour = "your filters", INK
        else:
            name, _, lr = run.rpartition(" ")
            whose, colour = f"{layer}'s filters after {name}, lr {lr},", COLOURS[name]
        here.set(data=([abs(cosine)] * 2, [0, 1]), color=colour)
        band.set_text(f"random: {low:.3f} to {high:.3f} (5 to 95 %)")
        of = {1: "", 3: " (red, green, blue)"}.get(channels, f" (mean of {channels} channels)")
        how.set_text(f"filters, sorted{of}")
        nth = {1: "", 2: "2nd ", 3: "3rd "}.get(k, f"{k}th ") + "most alike"  # the others end in 0 or 5
        place.set_text(f"{nth} of {len(pairs)} pairs")
        value.set_text(f"cos = {cosine:.3f}{', opposite' if cosine < -0.5 else ''}")
        verdicts = (
            (filters == _TWIN, "These are random, and still some are alike"),
            (abs(cosine) > high, "More alike than chance makes them"),
            (abs(cosine) < low, "Less alike than chance would make them"),
            (True, "Just random: chance makes a pair as alike"),
        )
        return f"Alike, or just random? {next(verdict for so, verdict in verdicts if so)}", (
            f"The {nth} pair of {whose} has a cosine of {cosine:.3f}; among random filters that pair has "
            f"{middle:.3f} ({low:.3f} to {high:.3f} in 90 % of draws), whatever the sign."
        )

    if own is None:
        return Scene(show)
    *_, pairs = sort(_TRAINED, "", "")
    if not len(pairs):
        raise ValueError(f"weight must hold at least two filters, of {_MOST_ROWS}, that are not zero")
    return Scene(
        lambda k, filters: show(k, filters, "", ""),
        options={"k": [place for place in _PLACES if place <= len(pairs)]},
        presets={"most alike": _FIRST},
        lose={**_FIRST, "filters": _TWIN},
    )


def _own(weight: Tensor) -> Tensor:
    """The caller's filters, (filters, channels, height, width); rows of a matrix become nearly square."""
    wanted = "(m, n) or (m, channels, height, width) with two filters or more"
    W = own_tensor("weight", weight, wanted, lambda W: W.ndim in (2, 4) and len(W) > 1).float()[:_MOST_ROWS]
    n = W[0].numel()
    height = max(side for side in range(1, math.isqrt(n) + 1) if n % side == 0)
    return W if W.ndim == 4 else W.reshape(len(W), 1, height, n // height)


def _sort(weight: Tensor) -> tuple[Tensor, Any, Any]:
    """Filters in the order in which they are shown, their cosines, and the pairs, the most alike first.

    The order begins with one of the most alike pair, and goes on to the most alike of those that are left,
    whatever the sign.
    """
    cosine = cosine_matrix(weight.flatten(1))
    alike = cosine.abs().nan_to_num(-1).fill_diagonal_(-2).numpy()
    order = [int(alike.argmax()) // len(alike)]
    for _ in alike[1:]:
        alike[:, order[-1]] = -3  # it has its place
        order.append(int(alike[order[-1]].argmax()))
    cosines = cosine[order][:, order].double().numpy()
    i, j = np.triu_indices(len(order), 1)
    values = np.abs(cosines[i, j])
    best = np.argsort(-values, kind="stable")[: np.isfinite(values).sum()]  # NaN, of a zero filter, is last
    return weight[order], cosines, np.stack([i, j], 1)[best]


def _pictures(weight: Tensor) -> Any:
    """Each filter in colours: three channels as red, green and blue, more as their mean, blue to red."""
    values = weight if weight.shape[1] == 3 else weight.mean(1, keepdim=True)
    values = values / values.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30)
    places = (values.permute(0, 2, 3, 1).double().numpy() + 1) / 2
    return places if weight.shape[1] == 3 else _COLOURS(places[..., 0])


def _lay_out(pictures: Any) -> tuple[Any, list[tuple[int, int, int, int]]]:
    """All filters on a sheet in lines, and what frames each: left, top, width and height."""
    count, height, width, colours = pictures.shape
    columns = min(count, math.ceil(math.sqrt(0.9 * count * height / width)))
    tall, wide, gap = _FINE * height, _FINE * width, max(height, width)
    down, across = tall + gap, wide + gap
    sheet = np.ones((math.ceil(count / columns), columns, down, across, colours))
    cells = sheet.reshape(-1, down, across, colours)
    cells[:count, :tall, :wide] = pictures.repeat(_FINE, 1).repeat(_FINE, 2)
    frames = [(i % columns * across - 1, i // columns * down - 1, wide + 2, tall + 2) for i in range(count)]
    return sheet.swapaxes(1, 2).reshape(-1, columns * across, colours), frames


def fit(image: Any, pixels: Any) -> None:
    """Pixels as large as the axes allow, square, from the top on."""
    height, width = pixels.shape[:2]
    image.set(data=pixels, extent=(0, width, height, 0))
    box = image.axes.get_window_extent()
    room = box.width / box.height
    broad, high = max(width, height * room), max(height, width / room)
    image.axes.set_xlim((width - broad) / 2 - 0.01 * broad, (width + broad) / 2 + 0.01 * broad)
    image.axes.set_ylim(1.01 * high, -0.01 * high)
