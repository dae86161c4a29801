"""Quantities over the steps of a run, and runs beside one another."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orthoviz.plots.frames import (
    SHARES,
    SIZES,
    at_end,
    baseline,
    ends,
    figure_of,
    finals,
    label,
    lines,
    mark,
    need,
    only,
    panels,
    plain_legend,
    select,
    sentence,
    told,
)
from orthoviz.plots.style import look, new_figure
from orthoviz.verdicts import verdict


def over_steps(
    data: pd.DataFrame,
    quantity: str | None = None,
    *,
    stage: str | None = None,
    layer: Any = None,
    hue: str = "optimizer",
    x: str = "step",
    title: str | None = None,
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
        title: default: the values at the end.
        ax: axes to draw on, for one layer.

    Returns:
        The figure.

    Raises:
        ValueError: the frame has no such rows, or several quantities or stages and none is chosen.
    """
    if quantity is None:
        quantity = only([q for q in data["quantity"].unique() if q not in SIZES], "quantity")
    rows = select(data, quantity, stage, layer)
    only(rows["stage"], "stage")

    def draw(panel: Axes, part: pd.DataFrame, name: str) -> None:
        baseline(panel, quantity, data, name)
        lines(panel, part, x=x, hue=hue)
        if quantity in SHARES:
            panel.set_ylim(0, max(0.05, panel.get_ylim()[1]))

    return panels(
        rows, ax, draw, title or f"{sentence(label(quantity))} at the end: {told(ends(rows, hue, x))}"
    )


def training_curves(
    data: pd.DataFrame, *, hue: str = "optimizer", chance: float = 0.1, ax: Axes | None = None
) -> Figure:
    """Loss and test accuracy by epoch.

    Args:
        data: histories of :class:`orthoviz.training.Run` below one another, with a column for ``hue``:
            ``epoch``, ``train_loss``, ``test_loss``, ``test_accuracy``, and ``seed`` where there are several.
        hue: column whose values get a line each.
        chance: accuracy of guessing, drawn in grey where a run comes near it.
        ax: draws the accuracy alone on these axes.
    """
    need(data, hue, "epoch", "train_loss", "test_loss", "test_accuracy")
    last = ends(data.assign(value=data["test_accuracy"]), hue, "epoch")
    title = f"Test accuracy after the last epoch: {told(last)}"
    data = data.astype({hue: str})
    tall = data.melt(
        [c for c in (hue, "seed", "epoch") if c in data],
        ["train_loss", "test_loss", "test_accuracy"],
        "quantity",
    ).dropna(subset="value")
    figure, axes = (figure_of(ax), [ax]) if ax is not None else new_figure(10, 3.8, (1, 1))
    names = ["test_accuracy"] if ax is not None else ["test_loss", "test_accuracy"]
    for panel, name in zip(axes, names, strict=True):
        lines(panel, tall[tall["quantity"] == name], x="epoch", hue=hue)
        if name == "test_accuracy":
            panel.set_ylim(0, 1)
            mark(panel, chance, "chance")
    if ax is None:
        training = (
            tall[tall["quantity"] == "train_loss"].groupby([hue, "epoch"], observed=True)["value"].mean()
        )
        for name, colour in look(data[hue].astype(str).unique())["palette"].items():
            axes[0].plot(training[name].index, training[name], color=colour, lw=1, alpha=0.5)
        axes[0].set_ylabel("loss (nats): test, and training (thin)")
        plain_legend(axes[1], shown=False)
        figure.suptitle(title, fontsize=12)
    else:
        ax.set_title(title)
    return figure


def lr_flatness(
    data: pd.DataFrame, *, hue: str = "optimizer", chance: float = 0.1, ax: Axes | None = None
) -> Figure:
    """Final test accuracy over learning rates: how much the choice of the rate matters.

    Args:
        data: a row a run and epoch, or a run: ``lr``, ``test_accuracy``, a column for ``hue``, ``seed`` where
            there are several; of ``epoch`` the last counts.
        hue: column whose values get a line each.
        chance: accuracy of guessing, drawn in grey where a run comes near it.
    """
    need(data, hue, "lr", "test_accuracy")
    last = at_end(data, "epoch", hue) if "epoch" in data else data
    means = last.groupby([hue, "lr"], observed=True)["test_accuracy"].mean()
    best = sorted(means.groupby(hue, observed=True).idxmax(), key=lambda place: -means[place])
    ends = best if len(best) < 3 else [best[0], best[-1]]
    says = " … ".join(f"{name} {means[name, lr]:.3f} (lr {lr:g})" for name, lr in ends)
    figure, panel = finals(last, "lr", hue=hue, chance=chance, ax=ax)
    panel.set_xlabel("learning rate")
    title = f"At the best rate: {says}"
    panel.set_title(title if len(title) < 80 else title.replace(" … ", " …\n"), fontsize=10)
    return figure


def dead_units(
    data: pd.DataFrame, *, layer: Any = None, hue: str = "optimizer", ax: Axes | None = None
) -> Figure:
    """Share of a layer's units that never fire on the probe, over the steps.

    Args: as for :func:`over_steps`.
    """
    return over_steps(data, "dead_units", layer=layer, hue=hue, ax=ax)


def rank(
    data: pd.DataFrame, quantity: str = "effective_rank", *, stage: str = "raw", layer: Any = None,
    hue: str = "optimizer", ax: Axes | None = None,
) -> Figure:  # fmt: skip
    """How many directions a gradient or weight has, over the steps, beside a random matrix of its shape.

    Args:
        quantity: one of the ranks: "stable_rank", "effective_rank", "participation_ratio", "nuclear_rank".
        The others as for :func:`over_steps`.
    """
    return over_steps(data, quantity, stage=stage, layer=layer, hue=hue, ax=ax)


def update_ratio(
    data: pd.DataFrame, *, layer: Any = None, hue: str = "optimizer", ax: Axes | None = None
) -> Figure:
    """How far a step moves a weight, relative to its length, over the steps; on a log scale.

    Args: as for :func:`over_steps`.
    """
    rows = select(data, "update_ratio", "applied", layer)
    last = {name: 100 * value for name, value in ends(rows, hue).items()}
    title = f"A step moves a weight, at the end, by % of its length: {told(last)}"
    figure = over_steps(data, "update_ratio", layer=layer, hue=hue, title=title, ax=ax)
    for panel in [ax] if ax is not None else figure.axes:
        panel.set_yscale("log")
    return figure


def filter_cosine(
    data: pd.DataFrame,
    *,
    rms: bool = False,
    layer: Any = None,
    hue: str = "optimizer",
    ax: Axes | None = None,
) -> Figure:
    """How alike a layer's filters are, over the steps, beside random ones.

    The mean absolute cosine with the band of 95 % of random filters; or, with ``rms``, the rms cosine with
    random filters' and Welch's floor, which bounds this one alone.

    Args: as for :func:`over_steps`.
    """
    quantity = "rms_cosine" if rms else "mean_abs_cosine"
    rows = select(data, quantity, "weight", layer)
    values = ends(rows, hue)
    most = max(values, key=lambda name: values[name])
    title = f"Filters end most alike with {most}: {told(values)}" if len(values) > 1 else None
    return over_steps(data, quantity, stage="weight", layer=layer, hue=hue, title=title, ax=ax)


def feature_cosine(
    data: pd.DataFrame,
    *,
    centred: bool = False,
    layer: Any = None,
    hue: str = "optimizer",
    ax: Axes | None = None,
) -> Figure:
    """How alike the feature maps of one input are, over the steps.

    Grey: unrelated maps after a ReLU have 1/pi, not 0. Centred ones of d positions have about sqrt(2/(pi d)),
    and lie above it where maps are smooth.

    Args:
        centred: with each map's mean subtracted.
        The others as for :func:`over_steps`.
    """
    quantity = "centred_feature_cosine" if centred else "feature_cosine"
    return over_steps(data, quantity, layer=layer, hue=hue, ax=ax)


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
        rows = data.assign(quantity=quantity, value=data[quantity]).dropna(subset="value")
    figure, (panel, *_) = (figure_of(ax), [ax]) if ax is not None else new_figure(7, 4)
    lines(panel, rows, x=x, hue=hue)
    if quantity == "test_accuracy":
        panel.set_ylim(0, 1)
    if quantity == "test_accuracy" and chance:
        mark(panel, chance, "chance")
    elif quantity in ("train_loss", "test_loss") and chance:
        mark(panel, -math.log(chance), "chance")
    panel.set_title(sentence(_said(rows, quantity, x=x, hue=hue)), fontsize=11)
    return figure


def _said(rows: pd.DataFrame, quantity: str, *, x: str, hue: str) -> str:
    """Which hue is better at the end, if the runs can tell, and their means."""
    runs = [c for c in dict.fromkeys((hue, "run", "optimizer", "lr", "seed")) if c in rows]
    one_each = at_end(rows, x, hue).groupby(runs, observed=True, dropna=False)["value"].mean()
    values = {str(name): some.tolist() for name, some in one_each.groupby(hue, observed=True)}
    more_is_better = "accuracy" in quantity
    means = one_each.groupby(hue, observed=True).mean().sort_values(ascending=not more_is_better)
    if len(values) < 2 or not (more_is_better or "loss" in quantity):
        return told(dict(means))
    return f"{verdict(values, more_is_better=more_is_better)}: {told(dict(means))}"
