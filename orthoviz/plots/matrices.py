"""Matrices as pictures: spectra, cosines, likeness of networks, filters."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from orthoviz import measures
from orthoviz.measures.quantities import Sizes
from orthoviz.plots.frames import mark, select, sizes_of
from orthoviz.plots.style import INK, RANDOM, STAGES, look, new_figure
from orthoviz.polar import counts, default_tol


def spectra(data: pd.DataFrame, *, stage: str = "raw", layer: Any = None) -> Figure:
    """A layer's singular values over the steps: as a waterfall and as a heat map.

    Both are relative to the step's largest. Grey: a Gaussian matrix of the same shape. Of a layer with
    several matrices (a grouped convolution, fused gates) the first is drawn.

    Args:
        data: a monitor's frame of one run, with "singular_values".
        stage: of which matrix: "raw", "orthogonal", "momentum", "applied" or "weight".
        layer: which. Default: the first.

    Raises:
        ValueError: the frame has no such rows, or those of several runs.
    """
    rows, name = _one_matrix(data, stage, layer)
    table = rows.pivot(index="step", columns="index", values="value")
    relative = table.to_numpy() / table.to_numpy()[:, :1]
    steps = table.index.to_numpy()
    half = [int((np.cumsum(r**2) < 0.5 * (r**2).sum()).sum() + 1) for r in relative[[0, -1]]]
    count = relative.shape[1]
    title = f"{name}: half of the energy in {half[0]} of {count} directions at first, in {half[1]} at the end"
    figure, axes = new_figure(10, 4, (1, 1.15))
    _waterfall(axes[0], relative, steps, sizes_of(data, rows["layer"].iloc[0]))
    image = axes[1].imshow(
        np.log10(np.maximum(relative.T, 1e-6)), aspect="auto", cmap="cividis", vmax=0,
        extent=(-0.5, len(steps) - 0.5, count + 0.5, 0.5), interpolation="nearest",
    )  # fmt: skip
    ticks = np.unique(np.linspace(0, len(steps) - 1, 6).astype(int))
    axes[1].set_xticks(ticks, steps[ticks])
    axes[1].set(xlabel="step", ylabel="index i")
    figure.colorbar(image, ax=axes[1], label=r"$\log_{10}\, s_i / s_1$")
    figure.suptitle(title, fontsize=12)
    return figure


def _waterfall(ax: Axes, relative: NDArray[Any], steps: NDArray[Any], sizes: Sizes) -> None:
    colours = matplotlib.colormaps["cividis_r"](np.linspace(0.1, 1, len(steps)))
    index = np.arange(1, relative.shape[1] + 1)
    for row, colour in zip(relative, colours, strict=True):
        ax.plot(index, row, color=colour, lw=1.2)
    if sizes.rows:
        gaussian = torch.randn(sizes[:2], generator=torch.Generator().manual_seed(0))
        s = measures.singular_values(gaussian).numpy()
        ax.plot(index, s / s[0], color=RANDOM, ls=":", lw=2, label="random matrix")
    ax.plot([], [], color=colours[0], label=f"step {steps[0]}")
    ax.plot([], [], color=colours[-1], label=f"step {steps[-1]}")
    ax.set(yscale="log", xlabel="index i", ylabel=r"singular value $s_i / s_1$", ylim=(1e-3, 1.4))
    ax.legend(frameon=False, loc="lower left")


def stage_spectra(
    data: pd.DataFrame, *, step: int | None = None, layer: Any = None, momentum: float | None = None,
    ax: Axes | None = None,
) -> Figure:  # fmt: skip
    r"""What becomes of a gradient's spectrum: raw, orthogonal, in the momentum buffer, applied.

    Raw and applied are drawn relative to their largest value, the others as they are. Grey: 1, the length of
    every direction of a polar factor; with ``momentum``, what the buffer would be where steps are unrelated,
    :math:`1/\sqrt{1-\gamma^2}`, and where they agree, :math:`1/(1-\gamma)`.

    Args:
        data: a monitor's frame of one run, with "singular_values" at several stages.
        step: which. Default: the last that has gradients.
        layer: which. Default: the first; if it has several matrices, the first of them.
        momentum: the optimiser's, for the two marks.

    Raises:
        ValueError: the frame has no such rows, or those of several runs; ``step`` was not measured.
    """
    rows, name = _one_matrix(data, None, layer)
    rows = rows[rows["stage"] != "weight"]
    step = int(rows["step"].max()) if step is None else step
    now = rows[rows["step"] == step]
    if now.empty:
        raise ValueError(f"step must be one of {', '.join(map(str, rows['step'].unique()))}, got {step}")
    figure, (panel,) = new_figure(7, 4.4, ax=ax)
    mark(panel, 1, "1")
    if momentum:
        mark(panel, (1 - momentum**2) ** -0.5, "steps unrelated")
        mark(panel, 1 / (1 - momentum), "steps agree")
    says = []
    for stage, (colour, style) in STAGES.items():
        values = now[now["stage"] == stage].sort_values("index")["value"].to_numpy()
        if not len(values):
            continue
        own = stage in ("orthogonal", "momentum")
        drawn = values if own else values / values[0]
        label = stage if own else f"{stage}, $s/s_1$"
        panel.plot(np.arange(1, len(values) + 1), drawn, color=colour, ls=style, lw=2, label=label)
        if stage in ("raw", "momentum"):
            says.append(f"{stage} {values[0] / np.median(values):.3g}")
    panel.set(yscale="log", xlabel="index i", ylabel="singular value")
    panel.legend(frameon=False, fontsize=9)
    panel.set_title(f"{name}, step {step}; largest over median: {', '.join(says)}", fontsize=11)
    return figure


def _one_matrix(data: pd.DataFrame, stage: str | None, layer: Any) -> tuple[pd.DataFrame, str]:
    """The spectra of one layer in one run, and its name; of a layer with several matrices the first's."""
    rows = select(data, "singular_values", stage, layer)
    name = str(rows["layer"].iloc[0])
    rows = rows[rows["layer"] == name]
    labels = [c for c in ("run", "optimizer", "seed") if c in rows]
    if len(rows[labels].drop_duplicates()) > 1 or rows.duplicated(["step", "stage", "index"]).any():
        raise ValueError("the frame holds several runs: draw one, as data[data.run == ...]")
    count = min(sizes_of(data, name)[:2])
    parts = (rows["index"].max() + 1) // count if count else 1
    if parts > 1:
        return rows[rows["index"] < count], f"{name} (first of {parts} matrices)"
    return rows, name


def gain_per_direction(
    factors: Tensor | Mapping[str, Tensor], matrix: Tensor, *, ax: Axes | None = None
) -> Figure:
    """How long each direction of a gradient comes out, from strong to weak: 1 for the polar factor.

    Grey: the gradient itself, stretched to the length of the polar factor.

    Args:
        factors: what the gradient was replaced by, ``(m, n)``, or several by name.
        matrix: the gradient.
    """
    factors = {"factor": factors} if isinstance(factors, Tensor) else dict(factors)
    matrix = matrix.detach().cpu()
    s = measures.singular_values(matrix)
    counted = counts(s, default_tol(matrix.dtype))
    x = (s / s[0])[counted].numpy()
    figure, (panel,) = new_figure(7, 4, ax=ax)
    length = len(x) ** 0.5 * s[counted] / s[counted].norm()
    panel.plot(x, length.numpy(), color=RANDOM, ls=":", lw=2, label="gradient, stretched")
    mark(panel, 1, "1")
    styles = look(factors)
    says = []
    for name, factor in factors.items():
        gain = measures.direction_gain(factor.detach().cpu(), matrix)[counted].numpy()
        panel.plot(x, gain, "o", color=styles["palette"][name], ms=4, alpha=0.8, label=name)
        if np.isfinite(gain).any():
            says.append(f"{name} {np.nanmin(gain):.2g} to {np.nanmax(gain):.2g}")
    panel.set(xscale="log", xlabel=r"direction $s_i / s_1$", ylabel="gain $u_i^T O v_i$")
    panel.legend(frameon=False)
    panel.set_title(f"Gain of the directions: {'; '.join(says)}", fontsize=11)
    return figure


def cosine_matrix(matrix: Tensor, *, cluster: bool = False) -> Figure:
    """Cosines between every two rows, beside those of random rows.

    Args:
        matrix: ``(m, n)``, or a convolution's weight; rows are filters.
        cluster: put alike rows beside one another (average linkage on 1 - abs(cos)).
    """
    rows = matrix.detach().flatten(1).float().cpu()
    own, chance = measures.mean_abs_cosine(rows).item(), measures.random_cosine(*rows.shape)
    title = f"Mean |cos| {own:.3f}; random rows {chance.mean:.3f} ± {chance.deviation:.3f}"
    random = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    figure, axes = new_figure(9.4, 4.4, (1, 1))
    for panel, name, W in zip(axes, ("rows", "random"), (rows, random), strict=True):
        cosine = measures.cosine_matrix(W).numpy()
        order = _alike(cosine) if cluster else np.arange(len(cosine))
        image = panel.imshow(cosine[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
        panel.set(xlabel="row, clustered" if cluster else "row", ylabel="row", title=name)
    figure.colorbar(image, ax=axes, label="cos")
    figure.suptitle(title, fontsize=12)
    return figure


def _alike(cosine: NDArray[Any]) -> NDArray[Any]:
    """An order in which alike rows are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(cosine) < 3:
        return np.arange(len(cosine))
    distance = squareform(1 - np.abs(np.nan_to_num(cosine)), checks=False)
    return np.asarray(leaves_list(linkage(distance, "average", optimal_ordering=True)))


def cka_matrix(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor] | None = None,
    *,
    names: Sequence[str] = ("first", "second"),
) -> Figure:
    """How alike the layers of two networks are (unbiased linear CKA), beside chance.

    Chance: the same with the second network's samples in another order; it should be near 0.

    Args:
        first, second: each layer's activations, ``(samples, ...)``, of the same samples in the same order.
            Default for the second: the first.
        names: of the two networks, for the axes.
    """
    second = first if second is None else second
    left, right = ({k: v.flatten(1) for k, v in network.items()} for network in (first, second))
    own, chance = _cka(left, right), _cka(left, {k: v.roll(1, 0) for k, v in right.items()})
    figure, axes = new_figure(10, 4.4, (1, 1))
    titles = ("the same samples", "chance: other samples")
    for panel, name, table in zip(axes, titles, (own, chance), strict=True):
        image = panel.imshow(table, cmap="cividis", vmin=0, vmax=1, origin="lower")
        for (i, j), value in np.ndenumerate(table):
            shade = "white" if value < 0.5 else INK
            panel.text(j, i, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=8)
        panel.set_xticks(range(len(right)), list(right), rotation=45, ha="right")
        panel.set_yticks(range(len(left)), list(left))
        panel.set(xlabel=names[1], ylabel=names[0], title=name)
    figure.colorbar(image, ax=axes, label="CKA")
    title = f"Most alike at {own.max():.2f}; chance {np.abs(chance).max():.2f} at most"
    figure.suptitle(title, fontsize=12)
    return figure


def _cka(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> NDArray[Any]:
    pairs = [[(X, Y) for Y in right.values()] for X in left.values()]
    return np.array([[measures.minibatch_cka([pair]).item() for pair in row] for row in pairs])


def filters(weight: Tensor, *, title: str | None = None) -> Figure:
    """A convolution's filters as pictures, beside random ones of the same shape.

    With three input channels in colour, each filter stretched to its own range; with more, the mean over
    them, blue to red around 0.

    Args:
        weight: ``(filters, channels, height, width)``.
        title: default: how alike the filters are.

    Raises:
        ValueError: the weight is not a two-dimensional convolution's.
    """
    if weight.ndim != 4:
        shape = tuple(weight.shape)
        raise ValueError(f"weight must be (filters, channels, height, width), got shape {shape}")
    weight = weight.detach().float().cpu()
    random = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    own, chance = (measures.mean_abs_cosine(W.flatten(1)).item() for W in (weight, random))
    title = title or f"Mean |cos| of these filters {own:.3f}, of random ones {chance:.3f}"
    sheet = _sheet(weight)
    height = 4.8 * len(sheet) / sheet.shape[1] + 0.9
    figure, axes = new_figure(10, height, (1, 1))
    for panel, name, W in zip(axes, ("filters", "random"), (weight, random), strict=True):
        panel.imshow(_sheet(W), cmap="RdBu_r", norm=None if W.shape[1] == 3 else Normalize(-1, 1))
        panel.set_axis_off()
        panel.set_title(name, fontsize=11)
    figure.suptitle(title, fontsize=12)
    return figure


def _sheet(weight: Tensor) -> NDArray[Any]:
    """Filters in rows and columns, with a gap between."""
    count, channels, height, width = weight.shape
    colour = channels == 3
    pictures = weight if colour else weight.mean(1, keepdim=True)
    pictures = pictures / pictures.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30)
    columns = int(np.ceil(count**0.5 * 1.3))
    lines = -(-count // columns)
    blank = 1.0 if colour else np.nan
    sheet = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1, pictures.shape[1]), blank)
    for i, picture in enumerate(pictures.permute(0, 2, 3, 1).numpy()):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = (picture + 1) / 2 if colour else picture
    return sheet if colour else sheet[..., 0]
