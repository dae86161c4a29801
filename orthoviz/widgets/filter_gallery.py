"""filter_gallery: which filters are alike, and whether chance would have made them so."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import ipywidgets as w
import matplotlib
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from orthoviz.measures import cosine_matrix
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, SGD, new_figure
from orthoviz.training.stored import folder
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_RUNS = ("SGD 0.01", "SGD 0.1", "orthogonal SGD 0.01", "orthogonal SGD 0.03")
_SHAPES = {"conv 1": (3, 3, 3), "conv 2": (32, 3, 3), "conv 3": (32, 3, 3), "head": (32, 4, 4)}
"""Of a filter; the head's 512 inputs are 32 maps of 4 x 4."""
_TRAINED, _TWIN = "trained", "random twin"
_PLACES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
_MOST_ROWS = 64
_DRAWS, _NUMBERS = 1000, 4e6
"""Random layers to compare with, and the random numbers that may be spent on them."""
_DEFAULTS = {"k": 1, "filters": _TRAINED, "layer": "conv 1", "run": "SGD 0.1"}
_CHANCE = {**_DEFAULTS, "run": "SGD 0.01"}
"""Where the most alike pair is one that chance would make."""
_CHOSEN = "#009E73"
"""Outlines the pair."""


def filter_gallery(
    weight: Tensor | None = None,
    *,
    k: int = 1,
    filters: str = _TRAINED,
    layer: str = "conv 1",
    run: str = "SGD 0.1",
) -> View:
    """*Alike, or just random?*

    Shows a layer's filters as small pictures, sorted so that alike ones are neighbours, their cosine matrix,
    and one pair large: the k-th most alike, by the absolute cosine. Of many pairs some are alike by chance
    alone, so below stands in grey where the k-th most alike pair of random filters lies, in many draws of
    Gaussian filters of the same shape. Three input channels are drawn in colour, each filter stretched to
    its own range; more as their mean, blue to red.

    The stored weights are BasicCNN's after five epochs on CIFAR-10.

    Args:
        weight: your own filters, ``(m, n)`` or ``(m, channels, height, width)``; of more than 64 the first
            64. Rows of n weights are folded to a rectangle.
        k: 1, 2, 3, 5, 10, 20, 50, 100 or 200, where there are so many pairs.
        filters: "trained" or "random twin", Gaussian filters of the same shape.
        layer: "conv 1", "conv 2", "conv 3" or "head". Without effect on your own filters.
        run: the optimiser and its learning rate: "SGD 0.01", "SGD 0.1", "orthogonal SGD 0.01" or "orthogonal
            SGD 0.03". Without effect on your own filters.

    Raises:
        ValueError: an argument has a value that the view has no place for; the weight has another shape,
            holds NaN or infinity, or fewer than two filters that are not zero.
    """
    one_of("filters", filters, (_TRAINED, _TWIN))
    one_of("layer", layer, _SHAPES)
    one_of("run", run, _RUNS)
    own = None if weight is None else _own(weight)
    places = [place for place in _PLACES if own is None or place <= len(_pairs(own.matrix))]
    one_of("k", k, places)

    def given(state: State) -> list[str]:
        if own is None:
            return changed(state, _DEFAULTS)
        return ["weight", *changed(state, {key: _DEFAULTS[key] for key in ("k", "filters")})]

    twin = {**_DEFAULTS, "filters": _TWIN}
    stored = {
        "its random twin": twin,
        "second layer": {**_DEFAULTS, "layer": "conv 2"},
        "orthogonal SGD": {**_DEFAULTS, "run": "orthogonal SGD 0.03"},
    }
    return View(
        "filter_gallery",
        partial(_draw, _Scene(), cache(partial(_sheet, own))),
        {
            "k": control(w.SelectionSlider, "k-th most alike pair", k, options=places),
            "filters": control(w.ToggleButtons, "filters", filters, options=(_TRAINED, _TWIN)),
            "layer": control(w.ToggleButtons, "layer", layer, options=list(_SHAPES)),
            "run": control(w.ToggleButtons, "run", run, options=_RUNS),
        },
        presets={"most alike": _DEFAULTS, **(stored if own is None else {})},
        lose=_CHANCE if own is None else twin,
        visible=lambda state: ["k", "filters", *(["layer", "run"] if own is None else [])],
        more=["run"] if own is None else [],
        state={} if own is None else {"yours": True},
        given=given,
        trail=True,
    )


class _Filters(NamedTuple):
    """Filters as rows, and the shape of each."""

    matrix: Tensor
    shape: tuple[int, ...]


class _Sheet(NamedTuple):
    """Filters in the order in which they are shown, and how alike they are."""

    pictures: NDArray[np.float64]
    """(filters, height, width, 3), as colours."""
    cosine: NDArray[np.float64]
    pairs: list[tuple[int, int]]
    """Places of every two, the most alike first."""
    chance: NDArray[np.float64]
    """|cos| of the pairs of random filters, (draws, pairs), the most alike first."""
    channels: int


def _sheet(own: _Filters | None, layer: str, filters: str, run: str) -> _Sheet:
    """The filters of a state, sorted."""
    given = own or _Filters(_stored()[f"{run}/{layer}"].float(), _SHAPES[layer])
    matrix, shape = given
    if filters == _TWIN:
        matrix = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(2))
    matrix = matrix[_sorted(cosine_matrix(matrix))]
    cosine = cosine_matrix(matrix).double().numpy()
    present = int((~np.isnan(cosine.diagonal())).sum())
    return _Sheet(
        _pictures(_Filters(matrix, shape)),
        cosine,
        _pairs(matrix),
        _chance(present, matrix.shape[1]),
        shape[0],
    )


@cache
def _stored() -> dict[str, Tensor]:
    return dict(load_file(folder("filters") / "weights.safetensors"))


def _sorted(cosine: Tensor) -> list[int]:
    """From one of the most alike pair on, to the most alike of those that are left; whatever the sign."""
    alike = cosine.abs().nan_to_num(-1).fill_diagonal_(-2).numpy()
    order = [int(alike.argmax()) // len(alike)]
    left = set(range(len(alike))) - set(order)
    while left:
        order.append(max(left, key=alike[order[-1]].__getitem__))
        left.remove(order[-1])
    return order


def _pairs(matrix: Tensor) -> list[tuple[int, int]]:
    """Every two filters that have a direction, the most alike first."""
    alike = cosine_matrix(matrix).abs().numpy()
    i, j = np.triu_indices(len(alike), 1)
    values = alike[i, j]
    best = np.argsort(-values, kind="stable")
    best = best[~np.isnan(values[best])]
    return list(zip(i[best].tolist(), j[best].tolist(), strict=True))


@cache
def _chance(m: int, n: int) -> NDArray[np.float64]:
    """|cos| of the pairs of random filters, the most alike first, in many draws."""
    generator = torch.Generator().manual_seed(0)
    draws = int(min(_DRAWS, max(50, _NUMBERS / (m * n))))
    i, j = torch.triu_indices(m, m, 1)
    batch = 50
    drawn = [
        cosine_matrix(torch.randn(batch, m, n, generator=generator))[:, i, j].abs()
        for _ in range(math.ceil(draws / batch))
    ]
    alike = torch.cat(drawn).sort(descending=True)[0]
    return alike.double().numpy()


def _pictures(filters: _Filters) -> NDArray[np.float64]:
    """Each filter in colours: three channels as red, green and blue, more as their mean."""
    values = filters.matrix.unflatten(1, filters.shape)
    colour = filters.shape[0] == 3
    values = values if colour else values.mean(1, keepdim=True)
    scaled = values / values.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30)
    places = (scaled.permute(0, 2, 3, 1).double().numpy() + 1) / 2
    return places if colour else _coloured(places[..., 0])


def _coloured(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers from 0 to 1 from blue to red."""
    colours: NDArray[np.float64] = matplotlib.colormaps["RdBu_r"](places)[..., :3]
    return colours


def _own(weight: Tensor) -> _Filters:
    """The learner's filters, where they can be shown."""
    given = torch.as_tensor(weight).detach().cpu()
    if given.ndim not in (2, 4) or 0 in given.shape or len(given) < 2:
        raise ValueError(
            "weight must be (m, n) or (m, channels, height, width) with two filters or more, got shape "
            f"{tuple(given.shape)}"
        )
    if not given.dtype.is_floating_point:
        raise ValueError(f"weight must be real floating point, got {given.dtype}")
    if not bool(given.isfinite().all()):
        raise ValueError("weight holds NaN or infinity")
    matrix = given.flatten(1).float()[:_MOST_ROWS]
    if not _pairs(matrix):
        raise ValueError("weight must hold at least two filters that are not zero")
    shape = tuple(given.shape[1:])
    if given.ndim == 2:
        shape = (1, *_folded(given.shape[1]))
    return _Filters(matrix, shape)


def _folded(n: int) -> tuple[int, int]:
    """Height and width of n weights, as near to a square as it goes."""
    height = next(side for side in range(math.isqrt(n), 0, -1) if n % side == 0)
    return height, n // height


class _Scene:
    """Places and artists; all of the pictures move."""

    def __init__(self) -> None:
        figure, (gallery,) = new_figure(9, 4.5)
        self.stage = Stage(figure)
        figure.set_layout_engine("none")
        gallery.set_position((0.015, 0.05, 0.37, 0.86))
        self.gallery = gallery
        self.matrix = figure.add_axes((0.42, 0.39, 0.2613, 0.5226))
        self.large = [figure.add_axes((x, 0.56, 0.1361, 0.2722)) for x in (0.695, 0.845)]
        for ax in (gallery, self.matrix, *self.large):
            ax.set(xticks=(), yticks=())
            ax.spines[:].set_visible(False)
        self.images = [_image(ax) for ax in (gallery, self.matrix, *self.large)]
        self.matrix.set_xlabel("cosines, filters in the same order", fontsize=10)
        self.strip = figure.add_axes((0.42, 0.13, 0.56, 0.15))
        self.strip.set(xlim=(0, 1), ylim=(0, 1.1), yticks=())
        self.strip.set_xlabel("|cos| of the pair, and of the same place among random filters", fontsize=10)
        self.strip.spines[["top", "right", "left"]].set_visible(False)
        self.band = self.strip.text(1, 1.15, "", ha="right", color=RANDOM, fontsize=10, animated=True)
        self.edges = np.linspace(0, 1, 101)
        self.random = self.strip.stairs(
            np.zeros(100), self.edges, fill=True, color=RANDOM, alpha=0.6, animated=True
        )
        self.here = self.strip.axvline(0, lw=3, animated=True)
        self.ghosts = [self.strip.axvline(0, lw=2, alpha=0.3, animated=True) for _ in range(3)]
        self.outlines = [_outline(ax) for ax in (gallery, gallery, self.matrix, self.matrix)]
        middle: dict[str, Any] = dict(ha="center", va="top", animated=True)
        self.how = figure.text(0.2, 0.965, "", fontsize=10, color=INK, **middle)
        self.value = figure.text(0.838, 0.545, "", fontsize=12, color=INK, **middle)
        self.place = figure.text(0.838, 0.91, "", fontsize=11, color=INK, **middle)

    def show_sheet(self, pictures: NDArray[np.float64], pair: tuple[int, int]) -> None:
        """All filters in lines, and the pair's outlines."""
        count, height, width, _ = pictures.shape
        columns = min(count, math.ceil(math.sqrt(0.9 * count * height / width)))
        lines = -(-count // columns)
        gap = 0.2 * max(height, width)
        fine = 5  # pixels of a gap are smaller than a weight's
        tall, wide, space = fine * height, fine * width, round(fine * gap)
        sheet = np.ones((lines * (tall + space), columns * (wide + space), 3))
        for place, picture in enumerate(pictures):
            top, left = place // columns * (tall + space), place % columns * (wide + space)
            sheet[top : top + tall, left : left + wide] = np.kron(picture, np.ones((fine, fine, 1)))
        _fit(self.gallery, self.images[0], sheet)
        for outline, place in zip(self.outlines[:2], pair, strict=True):
            line, column = divmod(place, columns)
            outline.set_bounds(column * (wide + space) - 1, line * (tall + space) - 1, wide + 2, tall + 2)

    def show_cosines(self, cosine: NDArray[np.float64], pair: tuple[int, int]) -> None:
        """The matrix, with the pair's two places outlined."""
        colours = _coloured((np.nan_to_num(cosine) + 1) / 2)
        _fit(self.matrix, self.images[1], colours)
        for outline, (x, y) in zip(self.outlines[2:], (pair, pair[::-1]), strict=True):
            outline.set_bounds(x, y, 1, 1)


def _outline(ax: Axes) -> Rectangle:
    box = Rectangle((0, 0), 1, 1, fill=False, ec=_CHOSEN, lw=2.5, animated=True)
    ax.add_patch(box)
    return box


def _image(ax: Axes) -> Any:
    return ax.imshow(np.zeros((1, 1, 3)), interpolation="nearest", aspect="auto", animated=True)


def _fit(ax: Axes, image: Any, pixels: NDArray[np.float64]) -> None:
    """Pixels as large as the axes allow, square, from the top on."""
    height, width = pixels.shape[:2]
    image.set_data(pixels)
    image.set_extent((0, width, height, 0))
    box = ax.get_window_extent()
    room = box.width / box.height
    broad, high = max(width, height * room), max(height, width / room)
    ax.set_xlim((width - broad) / 2 - 0.01 * broad, (width + broad) / 2 + 0.01 * broad)
    ax.set_ylim(1.01 * high, -0.01 * high)


def _draw(scene: _Scene, find: Callable[[str, str, str], _Sheet], state: State) -> Picture:
    """The picture of a state."""
    sheet = find(state["layer"], state["filters"], state["run"])
    k = min(state["k"], len(sheet.pairs))
    pair = sheet.pairs[k - 1]
    cosine = float(sheet.cosine[pair])
    chance = sheet.chance[:, k - 1]
    scene.show_sheet(sheet.pictures, pair)
    scene.show_cosines(sheet.cosine, pair)
    for ax, image, place in zip(scene.large, scene.images[2:], pair, strict=True):
        _fit(ax, image, sheet.pictures[place])
    counts, _ = np.histogram(chance, scene.edges)
    scene.random.set_data(counts / counts.max())
    scene.here.set(xdata=[abs(cosine)] * 2, color=_colour(state))
    ghosts = scene.ghosts[: len(state["earlier"])]
    for ghost, earlier in zip(ghosts, state["earlier"], strict=True):
        was = find(earlier["layer"], earlier["filters"], earlier["run"])
        there = abs(was.cosine[was.pairs[min(earlier["k"], len(was.pairs)) - 1]])
        ghost.set(xdata=[there] * 2, color=_colour(earlier))
    low, high = np.quantile(chance, (0.05, 0.95))
    scene.band.set_text(f"random: {low:.3f} to {high:.3f} (5 to 95 %)")
    title, text = _message(state, sheet, k, cosine)
    scene.place.set_text(f"{_nth(k)} of {len(sheet.pairs)} pairs")
    scene.value.set_text(f"cos = {cosine:.3f}{', opposite' * (cosine < -0.5)}")
    whose = "red, green, blue" if sheet.channels == 3 else f"mean of {sheet.channels} channels"
    scene.how.set_text(f"filters, sorted ({whose})" if sheet.channels > 1 else "filters, sorted")
    texts = (scene.band, scene.place, scene.value, scene.how)
    moving: list[Artist] = [*scene.images, *scene.outlines, scene.random, *ghosts, scene.here, *texts]
    return Picture(scene.stage, moving, title, text, photo=True)


def _colour(state: State) -> str:
    """Grey is always random."""
    if state["filters"] == _TWIN:
        return RANDOM
    if "yours" in state:
        return INK
    return ORTHOGONAL if state["run"].startswith("orthogonal") else SGD


def _message(state: State, sheet: _Sheet, k: int, cosine: float) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    low, middle, high = np.quantile(sheet.chance[:, k - 1], (0.05, 0.5, 0.95))
    whose = (
        "your filters" if "yours" in state else f"{state['layer']}'s filters after {_with_lr(state['run'])}"
    )
    if state["filters"] == _TWIN:
        whose = "random filters of the same shape"
    text = (
        f"The {_nth(k)} pair of {whose} has a cosine of {cosine:.3f}; among random filters that pair has "
        f"{middle:.3f} ({low:.3f} to {high:.3f} in 90 % of draws), whatever the sign."
    )
    verdict = "Just random: chance makes a pair as alike"
    if abs(cosine) > high:
        verdict = "More alike than chance makes them"
    elif abs(cosine) < low:
        verdict = "Less alike than chance would make them"
    if state["filters"] == _TWIN:
        verdict = "These are random, and still some are alike"
    return f"Alike, or just random? {verdict}", text


def _with_lr(run: str) -> str:
    name, _, lr = run.rpartition(" ")
    return f"{name}, lr {lr},"


def _nth(k: int) -> str:
    """most alike, 2nd most alike, ..."""
    if k == 1:
        return "most alike"
    ending = "th" if 10 < k % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return f"{k}{ending} most alike"
