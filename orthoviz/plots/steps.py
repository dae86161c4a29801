"""Quantities over the steps of a run, and runs beside one another."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orthoviz.measures.quantities import QUANTITIES, Sizes
from orthoviz.plots import frames
from orthoviz.plots.frames import ends, in_words, lines, mark, need, only, plain_legend, select, with_labels
from orthoviz.plots.style import INK, look, new_figure
from orthoviz.verdicts import last_rows, verdict

# So many layers stand side by side; of more, so many are taken, evenly spaced.
_MOST = 6


def over_steps(
    data: pd.DataFrame,
    quantity: str | None = None,
    *,
    stage: str | None = None,
    layer: Any = None,
    hue: str = "optimizer",
    x: str = "step",
    title: str | Callable[[dict[str, float]], str | None] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Any quantity over the steps, a panel a layer; numbers in the title are means over the layers.

    Where a quantity has several values (units, directions) their mean is drawn; where there are several
    seeds or runs, their mean and a band from least to most. What chance would give is drawn in grey where it
    is known.

    Args:
        data: a monitor's frame (:data:`orthoviz.monitor.COLUMNS`), or several joined.
        quantity: which. Default: the only one in the frame.
        stage, layer: which rows; layers as patterns.
        hue: column whose values get a line each.
        x: "step" or "epoch".
        title: or a function that makes it of the values at the end. Default: those values.
        ax: axes to draw on, for one layer.

    Returns:
        The figure.

    Raises:
        ValueError: the frame has no such rows, or several quantities or stages and none is chosen.
    """
    if quantity is None:
        quantity = only([q for q in data["quantity"].unique() if q not in Sizes._fields], "quantity")
    rows = select(data, quantity, stage, layer)
    only(rows["stage"], "stage")
    layers = list(rows["layer"].unique())
    if ax is not None and len(layers) > 1:
        raise ValueError(f"ax takes one layer, the frame has {', '.join(layers)}: pass layer=")
    places = np.linspace(0, len(layers) - 1, min(len(layers), _MOST))
    shown = [layers[round(place)] for place in places]
    width = max(4.8, min(13.0, 3.4 * len(shown)))
    figure, panels = new_figure(width, 3.6, (1,) * len(shown), ax=ax)
    for panel, name in zip(panels, shown, strict=True):
        frames.baseline(panel, quantity, data, name)
        lines(panel, rows[rows["layer"] == name], x=x, hue=hue)
        panel.set_title(name, fontsize=11)
        if quantity in QUANTITIES and QUANTITIES[quantity].is_share:
            panel.set_ylim(0, max(0.05, panel.get_ylim()[1]))
        if panel is not panels[0]:
            panel.set_ylabel("")
            plain_legend(panel, shown=False)
    last = ends(rows, hue, x)
    text = (title(last) if callable(title) else title) or (
        f"{frames.sentence(frames.label(quantity))} at the end: {in_words(last)}"
    )
    if ax is not None:
        ax.set_title(text)
    else:
        left = f" ({len(shown)} of {len(layers)} layers, evenly spaced)" if len(layers) > len(shown) else ""
        figure.suptitle(text + left, fontsize=12)
    return figure


def training_curves(data: pd.DataFrame, *, hue: str = "optimizer", chance: float = 0.1) -> Figure:
    """Loss and test accuracy by epoch.

    Args:
        data: histories of :class:`orthoviz.training.Run` below one another, with a column for ``hue``:
            ``epoch``, ``train_loss``, ``test_loss``, ``test_accuracy``, and ``seed`` where there are several.
        hue: column whose values get a line each.
        chance: accuracy of guessing, drawn in grey where a run comes near it.
    """
    need(data, hue, "epoch", "train_loss", "test_loss", "test_accuracy")
    data = with_labels(data)
    last = ends(data.assign(value=data["test_accuracy"]), hue, "epoch")
    data = data.astype({hue: str})
    keys, losses = [c for c in (hue, "seed", "epoch") if c in data], ["train_loss", "test_loss"]
    tall = data.melt(keys, [*losses, "test_accuracy"], "quantity").dropna(subset="value")
    figure, axes = new_figure(10, 3.8, (1, 1))
    for panel, name in zip(axes, ["test_loss", "test_accuracy"], strict=True):
        lines(panel, tall[tall["quantity"] == name], x="epoch", hue=hue)
    axes[1].set_ylim(0, 1)
    mark(axes[1], chance, "chance")
    training = tall[tall["quantity"] == "train_loss"].groupby([hue, "epoch"], observed=True)["value"].mean()
    for name, colour in look(data[hue].unique())["palette"].items():
        axes[0].plot(training[name].index, training[name], color=colour, lw=1, alpha=0.5)
    axes[0].set_ylabel("loss (nats): test, and training (thin)")
    plain_legend(axes[1], shown=False)
    figure.suptitle(f"Test accuracy after the last epoch: {in_words(last)}", fontsize=12)
    return figure


def lr_flatness(
    data: pd.DataFrame, *, hue: str = "optimizer", chance: float = 0.1, ax: Axes | None = None
) -> Figure:
    """Final test accuracy over learning rates: how much the choice of the rate matters.

    A best rate that is the first or last of its grid is hollow: a better one may lie beyond. Where
    ``rest_lr`` was tuned too, each rate has the best of it.

    Args:
        data: a row a run and epoch, or a run: ``lr``, ``test_accuracy``, a column for ``hue``, ``seed`` where
            there are several; of ``epoch`` the last counts.
        hue: column whose values get a line each.
        chance: accuracy of guessing, drawn in grey where a run comes near it.
    """
    need(data, hue, "lr", "test_accuracy")
    data = with_labels(data)
    last = last_rows(data, "epoch", hue) if "epoch" in data else data
    if "rest_lr" in last:
        pairs = last.groupby([hue, "lr", "rest_lr"], observed=True)["test_accuracy"].mean()
        best_pairs = pairs.groupby([hue, "lr"], observed=True).idxmax()
        last = last.set_index([hue, "lr", "rest_lr"]).loc[[*best_pairs]].reset_index()
    means = last.groupby([hue, "lr"], observed=True)["test_accuracy"].mean()
    best = sorted(means.groupby(hue, observed=True).idxmax(), key=lambda place: -means[place])
    ends = best if len(best) < 3 else [best[0], best[-1]]
    says = " … ".join(f"{name} {means[name, lr]:.3f} (lr {lr:g})" for name, lr in ends)
    figure, panel = frames.finals(last, "lr", hue=hue, chance=chance, ax=ax)
    tried = last.groupby(hue, observed=True)["lr"].agg(["min", "max"])
    several = tried[tried["min"] < tried["max"]]
    at_ends = [(name, lr) for name, lr in best if name in several.index and lr in [*several.loc[name]]]
    for name, lr in at_ends:  # the best may lie beyond
        panel.plot([lr], [means[name, lr]], "o", mfc="white", mec=INK, ms=9, zorder=5)
    panel.set_xlabel("learning rate" + (" (hollow: best at the end of its grid)" if at_ends else ""))
    title = f"At the best rate: {says}"
    panel.set_title(title if len(title) < 80 else title.replace(" … ", " …\n"), fontsize=10)
    return figure


def dead_units(data: pd.DataFrame, **options: Any) -> Figure:
    """Share of a layer's units that never fire on the probe, over the steps.

    Args:
        options: ``layer``, ``hue``, ``ax`` and the others of :func:`over_steps`.
    """
    return over_steps(data, "dead_units", **options)


def rank(data: pd.DataFrame, quantity: str = "effective_rank", **options: Any) -> Figure:
    """How many directions a gradient or weight has, over the steps, beside a random matrix of its shape.

    Args:
        quantity: one of the ranks: "stable_rank", "effective_rank", "participation_ratio", "nuclear_rank".
        options: ``stage`` ("raw" by default), ``layer`` and the others of :func:`over_steps`.
    """
    return over_steps(data, quantity, **{"stage": "raw", **options})


def update_ratio(data: pd.DataFrame, **options: Any) -> Figure:
    """How far a step moves a weight, relative to its length, over the steps; on a log scale.

    Args:
        options: ``layer``, ``hue``, ``ax`` and the others of :func:`over_steps`.
    """

    def title(last: dict[str, float]) -> str:
        percent = {name: 100 * value for name, value in last.items()}
        return f"A step moves a weight, at the end, by % of its length: {in_words(percent)}"

    figure = over_steps(data, "update_ratio", **{"title": title, **options})
    for panel in [options["ax"]] if options.get("ax") else figure.axes:
        panel.set_yscale("log")
    return figure


def filter_cosine(data: pd.DataFrame, *, rms: bool = False, **options: Any) -> Figure:
    """How alike a layer's filters are, over the steps, beside random ones.

    The mean absolute cosine with the band of 95 % of random filters; or, with ``rms``, the rms cosine with
    random filters' and Welch's floor, which bounds this one alone.

    Args:
        options: ``layer``, ``hue``, ``ax`` and the others of :func:`over_steps`.
    """
    quantity = "rms_cosine" if rms else "mean_abs_cosine"
    return over_steps(data, quantity, stage="weight", **options)


def feature_cosine(data: pd.DataFrame, *, centred: bool = False, **options: Any) -> Figure:
    """How alike the feature maps of one input are, over the steps.

    Grey: unrelated maps after a ReLU have 1/pi, not 0. Centred ones of d positions have about sqrt(2/(pi d)),
    and lie above it where maps are smooth.

    Args:
        centred: with each map's mean subtracted.
        options: ``layer``, ``hue``, ``ax`` and the others of :func:`over_steps`.
    """
    return over_steps(data, "centred_feature_cosine" if centred else "feature_cosine", **options)


def compare(
    data: pd.DataFrame, quantity: str = "test_accuracy", *, x: str = "epoch", hue: str = "optimizer",
    chance: float | None = 0.1, ax: Axes | None = None,
) -> Figure:  # fmt: skip
    """Runs beside one another, with bands over seeds, and whether they can be told apart.

    "Better" is said only where the seeds' ranges at the end do not overlap.

    Args:
        data: a monitor's frame, or one with a column named as the quantity; a column for ``hue``, ``seed``
            where there are several.
        quantity: what to compare. Of accuracies more is better, of losses less.
        x: "epoch", "step" or "seconds".
        chance: accuracy of guessing, drawn in grey, or for a loss that of guessing. None where there is none.
    """
    if "quantity" in data:
        rows = select(data, quantity)
        only(rows["stage"], "stage")
        only(rows["layer"], "layer")
    else:
        need(data, hue, x, quantity)
        rows = with_labels(data).assign(quantity=quantity, value=data[quantity]).dropna(subset="value")
    figure, (panel,) = new_figure(7, 4, ax=ax)
    lines(panel, rows, x=x, hue=hue)
    if quantity == "test_accuracy":
        panel.set_ylim(0, 1)
    if chance and quantity in ("test_accuracy", "train_loss", "test_loss"):
        mark(panel, chance if quantity == "test_accuracy" else -math.log(chance), "chance")
    panel.set_title(frames.sentence(_outcome(rows, quantity, x=x, hue=hue)), fontsize=11)
    return figure


def _outcome(rows: pd.DataFrame, quantity: str, *, x: str, hue: str) -> str:
    """Which hue is better at the end, if the runs can tell, and their means."""
    runs = [c for c in dict.fromkeys((hue, "run", "optimizer", "lr", "rest_lr", "seed")) if c in rows]
    one_each = last_rows(rows, x, hue).groupby(runs, observed=True, dropna=False)["value"].mean()
    of_hue = one_each.index.get_level_values(hue)
    values = {str(name): one_each[of_hue == name].tolist() for name in rows[hue].unique()}
    more_is_better = "accuracy" in quantity
    means = one_each.groupby(hue, observed=True).mean().sort_values(ascending=not more_is_better)
    if len(values) < 2 or not (more_is_better or "loss" in quantity):
        return in_words(dict(means))
    return f"{verdict(values, more_is_better=more_is_better)}: {in_words(dict(means))}"
