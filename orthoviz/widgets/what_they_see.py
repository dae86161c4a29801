"""what_they_see: how many filters of a layer do work of their own, and what excites them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from orthoviz.measures import effective_rank
from orthoviz.models import basic_cnn
from orthoviz.plots import INK, ORTHOGONAL, SGD
from orthoviz.training.stored import folder
from orthoviz.widgets.filter_gallery import fit
from orthoviz.widgets.view import Canvas, Scene, buttons, own_tensor, slider, view

_PAIR, _ALL = "most alike pair", "all filters"
_LAYERS = ("conv 1", "conv 2", "conv 3")
_RUNS = {"SGD": "sgd", "orthogonal SGD": "orthogonal_sgd"}
_MEAN, _DEVIATION = torch.tensor([[0.49, 0.48, 0.45], [0.25, 0.24, 0.26]]).reshape(2, 3, 1, 1)
"""Of CIFAR-10's channels: what the stored networks were trained on."""
_GREYS = matplotlib.colormaps["gray"]
_PATCHES, _SIDE, _WIDE = 3, 240, 5.7
_SEEDS = (0, 1, 2)


@view(
    layer=buttons("layer", _LAYERS),
    epoch=buttons("epoch", (0, 1, 5)),
    below=buttons("below", (_PAIR, _ALL)),
    seed=slider("seed", (0, 1, 2), more=True),
    presets={
        "first layer": {},
        "third layer": {"layer": "conv 3"},
        "before training": {"epoch": 0},
        "what excites each filter": {"below": _ALL},
    },
    lose={"layer": "conv 3", "epoch": 1, "seed": 1},
    photo=True,
)
def what_they_see(
    canvas: Canvas, models: Mapping[str, nn.Module] | None = None, images: Tensor | None = None, *,
    layer: str | None = None, epoch: int = 5, below: str = _PAIR, seed: int = 0,
) -> Scene:  # fmt: skip
    """*How many filters do work of their own?*

    A filter makes a map of every image. The maps of all filters vary together: their covariance has an
    eigenvalue for each direction of variation. A square's area is that eigenvalue's share of the whole, and
    the effective rank of the covariance (the exponential of the entropy of the shares) says how many filters
    the layer is worth. Below, both maps of one photograph of the pair whose maps are most correlated, and
    the patches of the images that excite each of the two most; a patch is what the filter can see.

    The stored networks are BasicCNN after five epochs on CIFAR-10, SGD and orthogonal SGD, each at its best
    rate. They look at windows of the two photographs that come with scikit-learn.

    Args:
        models: your own, two by name, whose activations have maps ``(N, C, height, width)``.
        images: your own, ``(N, channels, height, width)``, as the models expect them.
        layer: "conv 1", "conv 2" or "conv 3"; of your own models, the name of an activation. Default: the
            first, of your own models the last.
        epoch: 0, 1 or 5. Without effect on your own models.
        below: "most alike pair" or "all filters".
        seed: 0, 1 or 2. Without effect on your own models.

    Raises:
        ValueError: an argument has a value that the view has no place for; the models are not two, or have
            no maps; the images have another shape.
    """
    windows, photograph = _photographs() if images is None else _own(images)
    names = list(_RUNS if models is None else models)
    if len(names) != 2:
        raise ValueError(f"models must be two by name, got {len(names)}")
    figure = Figure((4.5, 5.2) if canvas.narrow else (9, 5.6))
    canvas.add(figure)
    squares = figure.add_axes((0.02, 0.53, 0.73, 0.46), frameon=False, xticks=(), yticks=())
    squares.set(xlim=(0, _WIDE), ylim=(0, 2), aspect="equal", anchor="W")
    panels = [figure.add_axes((x, 0.02, 0.47, 0.41)) for x in (0.02, 0.51)]
    for ax in panels:
        ax.set_axis_off()
    images_of = [ax.imshow(np.zeros((1, 1, 3)), interpolation="nearest", aspect="auto") for ax in panels]
    canvas.moves(*images_of)
    colours, heights = (SGD, ORTHOGONAL), (0.87, 0.64)
    above = zip(colours, heights, strict=True)
    numerals = [canvas.text(figure, 0.76, y, fontsize=24, color=colour, va="center") for colour, y in above]
    note = (0.76, 0.1) if canvas.narrow else (0.865, 0)  # x, and how much below the numeral
    notes = [canvas.text(figure, note[0], y - note[1], fontsize=11, color=INK, va="center") for y in heights]
    below_them = zip(colours, (0.02, 0.51), strict=True)
    captions = [canvas.text(figure, x, 0.44, fontsize=11, color=colour) for colour, x in below_them]

    @cache
    def maps(who: str, epoch: int, seed: int, images: str) -> dict[str, Tensor]:
        x = windows if images == "windows" else photograph
        if models is not None:
            return maps_of(models[who], x)
        return dict(zip(_LAYERS, maps_of(_stored(_RUNS[who], seed, epoch), x).values(), strict=True))

    @cache
    def spectrum(who: str, layer: str, epoch: int, seed: int) -> tuple[Tensor, float]:
        return _spectrum(maps(who, epoch, seed, "windows")[layer])

    @cache
    def pictures_of(who: str, layer: str, epoch: int, seed: int) -> tuple[float, Any, Any]:
        whole = maps(who, epoch, seed, "photograph")[layer]
        return _draw(maps(who, epoch, seed, "windows")[layer], whole, windows)

    def show(layer: str, epoch: int, below: str, seed: int) -> tuple[str, str]:
        ranks, alike = [], []
        for i, who in enumerate(names):
            shares, rank = spectrum(who, layer, epoch, seed)
            r, pair, sheet = pictures_of(who, layer, epoch, seed)
            canvas.now(*_draw_squares(squares, shares, 1 - i, colours[i]))
            numerals[i].set_text(f"{rank:.1f}")
            others = [] if models else [f"{spectrum(who, layer, epoch, s)[1]:.1f}" for s in _SEEDS]
            words = [who, f"of {len(shares)} filters", ", ".join(others)]
            notes[i].set_text(words[1] if canvas.narrow else "\n".join(words))
            what = f"most alike pair, r = {r:.2f}" if below == _PAIR else "what excites each filter"
            captions[i].set_text(f"{who}\n{what}" if canvas.narrow else f"{who}: {what}")
            fit(images_of[i], pair if below == _PAIR else sheet)
            ranks.append(rank)
            alike.append(r)
        return _say(layer, len(shares), *zip(names, ranks, alike, strict=True))

    if models is None:
        return Scene(show, first={"layer": _LAYERS[0]})
    first, second = (maps(who, 0, 0, "windows") for who in names)
    layers = [name for name in first if name in second]
    if not layers:
        raise ValueError("the models have no activation in common whose output is (N, C, height, width)")
    return Scene(
        lambda layer, below: show(layer, 0, below, 0),
        options={"layer": layers},
        first={"layer": layers[-1]},
        presets={"what excites each filter": {"below": _ALL}},
    )


def _say(layer: str, count: int, *of: tuple[str, float, float]) -> tuple[str, str]:
    """Title and sentence, from (name, effective rank, correlation of the most alike pair) of each."""
    (first, ours, alike), (second, theirs, as_alike) = of
    title = f"In {layer}, {count} filters do the work of {ours:.1f} ({first}) and {theirs:.1f} ({second})"
    return title, (
        f"Effective rank of the maps: {first} {ours:.1f}, {second} {theirs:.1f}. Correlation of the most "
        f"alike pair of maps: {alike:.2f} and {as_alike:.2f}."
    )


def _photographs() -> tuple[Tensor, Tensor]:
    """Windows of scikit-learn's two photographs at three sizes, and one photograph; normalised."""
    from sklearn.datasets import load_sample_images

    images = [torch.tensor(x).permute(2, 0, 1)[None] / 255 for x in load_sample_images().images]
    scaled = [interpolate(x, scale_factor=1 / s, mode="area") for x in images for s in (3, 4, 6)]
    windows = [x[0].unfold(1, 32, 16).unfold(2, 32, 16).permute(1, 2, 0, 3, 4).flatten(0, 1) for x in scaled]
    return (torch.cat(windows) - _MEAN) / _DEVIATION, (scaled[0] - _MEAN) / _DEVIATION


def _own(images: Tensor) -> tuple[Tensor, Tensor]:
    """The caller's images, and the first of them."""
    images = own_tensor("images", images, "(N, channels, height, width)", lambda x: x.ndim == 4).float()
    return images, images[:1]


@cache
def _stored(run: str, seed: int, epoch: int) -> nn.Sequential:
    """BasicCNN as it was after an epoch, without its head, which takes one size of image only."""
    weights = load_file(folder("features") / "weights.safetensors")
    of = f"{run}/{seed}/{epoch}/" if epoch else f"start/{seed}/0/"
    model = basic_cnn(seed=0)
    state = {key.removeprefix(of): value.float() for key, value in weights.items() if key.startswith(of)}
    model.load_state_dict(state, strict=False)  # but for the counts of batches
    return model[:-2].eval()


@torch.no_grad()
def maps_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The maps of a network's activations, ``(N, C, height, width)``, by their names."""
    found: dict[str, Tensor] = {}

    def keep(name: str, maps: Tensor) -> None:
        if maps.ndim == 4:
            found[name] = maps

    hooks = [
        module.register_forward_hook(lambda _, __, maps, name=name: keep(name, maps))
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU | nn.GELU | nn.SiLU | nn.LeakyReLU)
    ]
    training = model.training
    try:
        model.eval()(images)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _covariance(maps: Tensor) -> Tensor:
    """Of the maps of all filters, over images and places."""
    rows = maps.transpose(0, 1).flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    return rows @ rows.T / rows.shape[1]


def _spectrum(maps: Tensor) -> tuple[Tensor, float]:
    """The shares of the maps' variance, the largest first, and their effective rank."""
    covariance = _covariance(maps)
    values = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)
    return values / values.sum(), effective_rank(covariance).item()


def _draw(maps: Tensor, whole: Tensor, images: Tensor) -> tuple[float, Any, Any]:
    """The correlation of the most alike pair of maps; the pair, and the patches of all filters, as pixels."""
    covariance = _covariance(maps)
    spread = covariance.diagonal().sqrt().clamp(min=1e-30)
    alike = (covariance / spread / spread[:, None]).fill_diagonal_(-2)
    pair = divmod(int(alike.argmax()), len(alike))
    patches = _patches(maps, images)
    both = [_lay_out_filter(whole[0, c], patches[c]) for c in pair]
    return alike.max().item(), np.concatenate(both, axis=1), _lay_out_sheet(patches)


def _patches(maps: Tensor, images: Tensor) -> Any:
    """``(C, 3, side, side, 3)`` pixels: for each filter the parts of three images that excite it most.

    A map of stride s comes from windows of 2 s - 1 pixels; those that stick out of the image are left out.
    """
    stride = images.shape[-1] // maps.shape[-1]
    half = stride - 1
    inner = maps[..., 1:, 1:]
    best, place = inner.flatten(2).max(2)
    pixels = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    low, high = pixels.amin(), pixels.amax()
    pixels = ((pixels - low) / (high - low)).permute(0, 2, 3, 1)
    cut = []
    for c in range(maps.shape[1]):
        for n in best[:, c].topk(min(_PATCHES, len(images))).indices.tolist():
            y, x = (stride * (1 + i) for i in divmod(int(place[n, c]), inner.shape[-1]))
            cut.append(pixels[n, y - half : y + half + 1, x - half : x + half + 1])
    return torch.stack(cut).unflatten(0, (maps.shape[1], -1)).numpy()


def _lay_out_filter(of_photograph: Tensor, patches: Any) -> Any:
    """A map of the photograph, as grey values, and the filter's patches below it."""
    height, width = of_photograph.shape
    side = _SIDE // 3
    tall = _SIDE * height // width
    grey = _GREYS((of_photograph / of_photograph.amax().clamp(min=1e-30)).numpy())[..., :3]
    sheet = np.ones((tall + side, _SIDE + 8, 3))
    sheet[:tall, :_SIDE] = _stretch(grey, tall, _SIDE)
    for i, patch in enumerate(patches):
        sheet[tall + 4 : tall + side, i * side : i * side + side - 4] = _stretch(patch, side - 4, side - 4)
    return sheet


def _lay_out_sheet(patches: Any, columns: int = 6) -> Any:
    """The patches of all filters, ``columns`` filters in a line."""
    side, count = 30, patches.shape[1]
    wide = count * side + 8
    sheet = np.ones((-(-len(patches) // columns) * (side + 8), columns * wide, 3))
    for c, of_filter in enumerate(patches):
        y, x = c // columns * (side + 8), c % columns * wide
        for i, patch in enumerate(of_filter):
            sheet[y : y + side, x + i * side : x + (i + 1) * side - 1] = _stretch(patch, side, side - 1)
    return sheet


def _stretch(pixels: Any, height: int, width: int) -> Any:
    """Pixels of another size, the nearest of those that are there."""
    y, x = (np.arange(n) * old // n for n, old in zip((height, width), pixels.shape, strict=False))
    return pixels[y][:, x]


def _draw_squares(ax: Any, shares: Tensor, row: int, colour: str) -> Iterator[Rectangle]:
    """Squares in a line, from the largest on; a line of equal ones would be as wide as the axes."""
    x, unit = 0.0, _WIDE / len(shares) ** 0.5
    for side in (shares.sqrt() * unit).tolist():
        yield ax.add_patch(Rectangle((x, row + 0.15), 0.94 * side, 0.94 * side, color=colour, lw=0))
        x += side
