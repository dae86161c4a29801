"""The paper's figures, from one's own runs."""

import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orthoviz.plots.frames import finals, in_words, need, with_labels
from orthoviz.plots.steps import compare, feature_cosine, filter_cosine, over_steps, training_curves
from orthoviz.verdicts import last_rows


def _batch_size(data: pd.DataFrame, ax: Axes | None = None) -> Figure:
    need(data, "optimizer", "batch_size", "test_accuracy")
    data = with_labels(data)
    last = last_rows(data) if "epoch" in data else data
    figure, panel = finals(last, "batch_size", hue="optimizer", chance=0.1, ax=ax)
    smallest = last[last["batch_size"] == last["batch_size"].min()]
    means = smallest.groupby("optimizer", observed=True)["test_accuracy"].mean()
    ends = means.sort_values().iloc[[0, -1]]
    text = f"At batch size {smallest['batch_size'].iloc[0]} between {in_words(dict(ends))}"
    panel.set_title(textwrap.fill(text, 60), fontsize=11)
    return figure


def _barlow(data: pd.DataFrame, ax: Axes | None = None) -> Figure:
    figure = compare(data, "train_loss", chance=None, ax=ax)
    (ax or figure.axes[0]).set_ylabel("Barlow Twins loss (no unit)")
    return figure


_FIGURES: dict[str, Callable[..., Figure]] = {
    "speedup": compare,
    "imagenet": partial(training_curves, chance=1e-3),
    "barlow": _barlow,
    "batch_size": _batch_size,
    "filter_cosine": filter_cosine,
    "feature_cosine": feature_cosine,
    "dead_parameters": partial(over_steps, quantity="dead_parameters"),
}


def paper_figure(name: str, data: pd.DataFrame, **options: Any) -> Figure:
    """One of the paper's figures, from your own runs.

    =================  ==========================================================  =======================
    name               shows                                                       data
    =================  ==========================================================  =======================
    "speedup"          accuracy by epoch, its Figure 1                             histories of fit
    "imagenet"         accuracy and loss by epoch                                  histories of fit
    "barlow"           loss by epoch                                               histories
    "batch_size"       final accuracy by batch size                                histories, ``batch_size``
    "filter_cosine"    mean absolute cosine of filters, its Figure 6               a monitor's frame
    "feature_cosine"   mean absolute cosine of feature maps, its Figure 7          a monitor's frame
    "dead_parameters"  share of gradients up to 1e-4                               a monitor's frame
    =================  ==========================================================  =======================

    Several runs stand below one another, told apart by the column ``optimizer``. What chance would give is
    drawn too.

    Args:
        name: see above.
        data: see above.
        options: of the function that draws it, such as ``ax`` where it is a single panel.

    Raises:
        ValueError: there is no such figure; the data lacks what it needs.
    """
    if name not in _FIGURES:
        raise ValueError(f"name must be one of {', '.join(_FIGURES)}, got {name!r}")
    return _FIGURES[name](data, **options)
