"""Tidy frames as lines: what all plots over steps share."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orthoviz.measures.quantities import QUANTITIES, Sizes
from orthoviz.optim.named import label_of
from orthoviz.plots.style import RANDOM, literal, look, new_figure
from orthoviz.verdicts import last_rows

# Axis labels of what a training loop says itself.
_LOGGED = {
    "loss": "loss (nats)",
    "train_loss": "training loss (nats)",
    "test_loss": "test loss (nats)",
    "test_accuracy": "test accuracy",
}


def select(data: pd.DataFrame, quantity: str, stage: str | None = None, layer: Any = None) -> pd.DataFrame:
    """Rows of a monitor's frame; layers as patterns.

    Raises:
        ValueError: there is none; the message says what there is.
    """
    need(data, "quantity", "value", "layer", "stage")
    rows = data[data["quantity"] == quantity]
    if rows.empty:
        there = ", ".join(map(str, data["quantity"].unique()))
        raise ValueError(f"there is no {quantity} in the frame; there is: {there}")
    for column, wish in (("stage", stage), ("layer", layer)):
        patterns = ["*"] if wish is None else [wish] if isinstance(wish, str) else list(wish)
        names = [str(name) for name in rows[column].unique()]
        rows = rows[rows[column].isin([n for n in names if any(fnmatchcase(n, p) for p in patterns)])]
        if rows.empty:
            there = ", ".join(names)
            raise ValueError(f"there is no {quantity} of {column} {wish!r} in the frame; there is: {there}")
    return with_labels(rows.astype({"layer": str, "stage": str}))


def with_labels(data: pd.DataFrame) -> pd.DataFrame:
    """The same with optimisers as a reader sees them, and with names in which a $ begins no formula."""
    names = [column for column in ("optimizer", "run") if column in data]
    return data.assign(**{name: data[name].astype(str).map(label_of).map(literal) for name in names})


def need(data: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError where a frame lacks one of these columns."""
    lacking = [name for name in columns if name not in data]
    if lacking:
        there = ", ".join(map(str, data.columns))
        raise ValueError(f"data needs a column {', '.join(lacking)}; it has {there}")


def lines(ax: Axes, rows: pd.DataFrame, *, x: str = "step", hue: str = "optimizer") -> None:
    """A line for each hue; of several seeds or runs the mean, and a band from least to most."""
    need(rows, hue, x)
    by = list(dict.fromkeys(c for c in (hue, "seed", "run", x) if c in rows))
    means = rows.groupby(by, observed=True, sort=False, dropna=False)["value"].mean().reset_index()
    draw_lines(ax, means, x, "value", hue)
    ax.set(xlabel=x, ylabel=label(str(rows["quantity"].iloc[0])))
    if x != "seconds":
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def draw_lines(ax: Axes, data: pd.DataFrame, x: str, y: str, hue: str, **options: Any) -> None:
    """seaborn's lines with the look of this package, and a band where a hue has several values at one x."""
    data = data.astype({hue: str})
    band = ("pi", 100) if data.duplicated([hue, x]).any() else None
    sns.lineplot(
        data, x=x, y=y, hue=hue, style=hue, ax=ax, errorbar=band, lw=2, **look(data[hue].unique()), **options
    )
    plain_legend(ax)


def label(quantity: str) -> str:
    """What an axis says of a quantity."""
    measured = QUANTITIES.get(quantity)
    return measured.label if measured else _LOGGED.get(quantity, quantity.replace("_", " "))


def sentence(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def plain_legend(ax: Axes, shown: bool = True) -> None:
    """The legend that seaborn made, without frame and title, or away with it."""
    if legend := ax.get_legend():
        legend.set(title=None, frame_on=False, visible=shown)


def ends(rows: pd.DataFrame, hue: str = "optimizer", x: str = "step") -> dict[str, float]:
    """The mean value of each hue at its runs' last steps."""
    need(rows, hue, x)
    means = last_rows(rows, x, hue).groupby(hue, observed=True, sort=False)["value"].mean()
    return {str(name): float(value) for name, value in means.items()}


def in_words(values: Mapping[Any, float]) -> str:
    """Names and numbers as words: "SGD 0.18, orthogonal SGD 0.16"."""
    return ", ".join(f"{name} {value:.3g}".strip() for name, value in values.items())


def finals(data: pd.DataFrame, x: str, *, hue: str, chance: float, ax: Axes | None) -> tuple[Figure, Axes]:
    """Test accuracy of finished runs over x, on a log scale, a line a hue."""
    figure, (panel,) = new_figure(6.4, 4, ax=ax)
    draw_lines(panel, data, x, "test_accuracy", hue, marker="o")
    low, high = data["test_accuracy"].min(), data["test_accuracy"].max()
    panel.set(xscale="log", ylim=(0, 1), xlabel=x.replace("_", " "), ylabel=label("test_accuracy"))
    if low > 3 * chance:  # the curves, not the room below them
        panel.set_ylim(low - 0.04, high + 0.04)
    else:
        mark(panel, chance, "chance")
    places = sorted(data[x].unique())
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.minorticks_off()
    return figure, panel


def sizes_of(data: pd.DataFrame, layer: str) -> Sizes:
    """The sizes of a layer's matrix and maps, as a monitor has stored them; 0 where it has not."""
    rows = data[data["quantity"].isin(Sizes._fields) & (data["layer"] == layer)]
    return Sizes(**dict(zip(rows["quantity"], rows["value"].astype(int), strict=True)))


def baseline(ax: Axes, quantity: str, data: pd.DataFrame, layer: str) -> None:
    """What chance, or no change at all, would give, in grey."""
    if quantity == "loss":
        rows = data[data["quantity"] == "loss"]
        mark(ax, rows[rows["step"] == rows["step"].min()]["value"].mean(), "at the start")
    for level in QUANTITIES[quantity].chance(sizes_of(data, layer)) if quantity in QUANTITIES else ():
        if level.deviation:
            low, high = level.value - 2 * level.deviation, level.value + 2 * level.deviation
            ax.axhspan(low, high, color=RANDOM, alpha=0.3, lw=0)
        mark(ax, level.value, level.text, (0, (5, 2)) if level.is_bound else ":")


def mark(ax: Axes, value: float, text: str, style: Any = ":") -> None:
    """A grey line across, with its name at the right end."""
    ax.axhline(value, color=RANDOM, ls=style, lw=1.3, zorder=1)
    ax.annotate(
        text, (1, value), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", color="#666666", fontsize=9,
    )  # fmt: skip


def only(names: Iterable[Any], what: str) -> str:
    """The one name that there is."""
    found = list(dict.fromkeys(map(str, names)))
    if len(found) > 1:
        there = ", ".join(found[:6])
        raise ValueError(f"the data has {len(found)} values of {what}, {there}: choose one with {what}=")
    return found[0]
