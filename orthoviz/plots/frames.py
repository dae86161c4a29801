"""Tidy frames as lines: what all plots over steps share."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orthoviz import measures
from orthoviz.plots.style import RANDOM, look, new_figure

LABELS = {
    "singular_values": "singular value",
    "condition_number": "condition number",
    "stable_rank": "stable rank (directions)",
    "effective_rank": "effective rank (directions)",
    "participation_ratio": "participation ratio (directions)",
    "nuclear_rank": "nuclear rank (directions)",
    "mean_abs_cosine": "mean |cos| between rows",
    "rms_cosine": "rms cos between rows",
    "step_inflation": "orthogonal step / gradient (length)",
    "direction_gain": "gain of a direction",
    "alignment": "alignment",
    "orthogonality_residual": "orthogonality residual",
    "update_ratio": "step / weight (length)",
    "step_cosine": "cos between steps in a row",
    "dead_parameters": "share of |gradient| up to 1e-4",
    "zero_rows": "rows of zeros",
    "dead_units": "share of dead units",
    "dormant_units": "share of dormant units",
    "feature_cosine": "mean |cos| between feature maps",
    "centred_feature_cosine": "mean |cos| between centred maps",
    "activation_participation_ratio": "participation ratio (directions)",
    "incoming_stable_rank": "stable rank of the input (directions)",
    "loss": "loss (nats)",
    "train_loss": "training loss (nats)",
    "test_loss": "test loss (nats)",
    "test_accuracy": "test accuracy",
}
"""Axis labels of quantities."""

_MOST = 6
"""So many layers stand side by side; of more, so many are taken, evenly spaced."""

SHARES = {"dead_units", "dormant_units", "dead_parameters"}
_ONE = {"alignment", "direction_gain", "step_inflation"}
_RANKS = {"stable_rank", "effective_rank", "participation_ratio", "nuclear_rank"}


def select(data: pd.DataFrame, quantity: str, stage: str | None = None, layer: Any = None) -> pd.DataFrame:
    """Rows of a monitor's frame.

    Raises:
        ValueError: there is none; the message says what there is.
    """
    need(data, "quantity", "value", "layer", "stage")
    rows = data[data["quantity"] == quantity]
    if rows.empty:
        there = ", ".join(map(str, data["quantity"].unique()))
        raise ValueError(f"there is no {quantity} in the frame; there is: {there}")
    for column, wish in (("stage", stage), ("layer", layer)):
        if wish is None:
            continue
        patterns = [wish] if isinstance(wish, str) else list(wish)
        there = ", ".join(map(str, rows[column].unique()))
        fits = [name for name in rows[column].unique() if any(fnmatchcase(str(name), p) for p in patterns)]
        rows = rows[rows[column].isin(fits)]
        if rows.empty:
            raise ValueError(f"there is no {quantity} of {column} {wish!r} in the frame; there is: {there}")
    return rows.astype({c: str for c in ("layer", "stage", "optimizer") if c in rows})


def need(data: pd.DataFrame, *columns: str) -> None:
    """Raise ValueError where a frame lacks one of these columns."""
    lacking = [name for name in columns if name not in data]
    if lacking:
        raise ValueError(
            f"data needs a column {', '.join(lacking)}; it has {', '.join(map(str, data.columns))}"
        )


def panels(
    rows: pd.DataFrame, ax: Axes | None, draw: Callable[[Axes, pd.DataFrame, str], None], title: str
) -> Figure:
    """A panel for each layer in a row, or one on the axes that are given."""
    layers = list(rows["layer"].unique())
    if ax is not None:
        if len(layers) > 1:
            raise ValueError(f"ax takes one layer, the frame has {', '.join(layers)}: pass layer=")
        draw(ax, rows, layers[0])
        ax.set_title(title)
        return figure_of(ax)
    shown = [layers[round(i * (len(layers) - 1) / (_MOST - 1))] for i in range(_MOST)]
    shown = layers if len(layers) <= _MOST else list(dict.fromkeys(shown))
    width = max(4.8, min(13.0, 3.4 * len(shown)))
    figure, axes = new_figure(width, 3.6, (1,) * len(shown))
    for i, (panel, layer) in enumerate(zip(axes, shown, strict=True)):
        draw(panel, rows[rows["layer"] == layer], layer)
        panel.set_title(layer, fontsize=11)
        if i:
            panel.set_ylabel("")
            plain_legend(panel, shown=False)
    left = f" ({len(shown)} of {len(layers)} layers, evenly spaced)" if len(layers) > len(shown) else ""
    figure.suptitle(title + left, fontsize=12)
    return figure


def lines(ax: Axes, rows: pd.DataFrame, *, x: str = "step", hue: str = "optimizer") -> None:
    """A line for each hue; of several seeds or runs the mean, and a band from least to most."""
    need(rows, hue, x)
    by = [c for c in (hue, "seed", "run", x) if c in rows]
    means = rows.groupby(list(dict.fromkeys(by)), observed=True, sort=False, dropna=False)["value"]
    tidy = means.mean().reset_index().astype({hue: str})
    band = _band(tidy, hue, x)
    sns.lineplot(
        tidy, x=x, y="value", hue=hue, style=hue, ax=ax, errorbar=band, lw=2, **look(tidy[hue].unique())
    )
    quantity = str(rows["quantity"].iloc[0])
    ax.set(xlabel=x, ylabel=label(quantity))
    if x != "seconds":
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    plain_legend(ax)


def _band(tidy: pd.DataFrame, hue: str, x: str) -> Any:
    """From least to most, where a hue has several values at one x."""
    return ("pi", 100) if tidy.duplicated([hue, x]).any() else None


def label(quantity: str) -> str:
    """What an axis says of a quantity."""
    return LABELS.get(quantity, quantity.replace("_", " "))


def sentence(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def plain_legend(ax: Axes, shown: bool = True) -> None:
    """The legend that seaborn made, without frame and title, or away with it."""
    if legend := ax.get_legend():
        legend.set(title=None, frame_on=False, visible=shown)


def at_end(data: pd.DataFrame, x: str, *more: str) -> pd.DataFrame:
    """The rows of each run at its own last x: runs that stopped early too."""
    keys = [c for c in dict.fromkeys((*more, "run", "optimizer", "lr", "batch_size", "seed")) if c in data]
    runs = data.groupby(keys, observed=True, dropna=False) if keys else data.groupby(lambda _: 0)
    rows: pd.DataFrame = data[data[x] == runs[x].transform("max")]
    return rows


def ends(rows: pd.DataFrame, hue: str = "optimizer", x: str = "step") -> dict[str, float]:
    """The mean value of each hue at its runs' last steps."""
    need(rows, hue, x)
    return {
        str(name): float(v)
        for name, v in at_end(rows, x, hue).groupby(hue, observed=True, sort=False)["value"].mean().items()
    }


def told(values: Mapping[Any, float]) -> str:
    """Names and numbers as words: "SGD 0.18, orthogonal SGD 0.16"."""
    return ", ".join(f"{name} {value:.3g}".strip() for name, value in values.items())


def finals(data: pd.DataFrame, x: str, *, hue: str, chance: float, ax: Axes | None) -> tuple[Figure, Axes]:
    """Test accuracy of finished runs over x, on a log scale, a line a hue."""
    figure, (panel, *_) = (figure_of(ax), [ax]) if ax is not None else new_figure(6.4, 4)
    names = data[hue].astype(str)
    sns.lineplot(
        data.assign(**{hue: names}), x=x, y="test_accuracy", hue=hue, style=hue, marker="o", lw=2, ax=panel,
        errorbar=_band(data, hue, x), **look(names.unique()),
    )  # fmt: skip
    low, high = data["test_accuracy"].min(), data["test_accuracy"].max()
    panel.set(xscale="log", ylim=(0, 1), xlabel=x.replace("_", " "), ylabel=LABELS["test_accuracy"])
    if low > 3 * chance:  # the curves, not the room below them
        panel.set_ylim(low - 0.04, high + 0.04)
    else:
        mark(panel, chance, "chance")
    places = sorted(data[x].unique())
    panel.set_xticks(places, [f"{place:g}" for place in places])
    panel.minorticks_off()
    plain_legend(panel)
    return figure, panel


SIZES = ("rows", "columns", "positions")
"""What a monitor stores once of each layer: its matrix's shape, and how large its feature maps are."""


def shape_of(
    data: pd.DataFrame, layer: str, sizes: tuple[str, str] = ("rows", "columns")
) -> tuple[int, int] | None:
    """Rows and columns of a layer's matrix, or two other :data:`SIZES`, where a monitor has stored them."""
    found = []
    for name in sizes:
        rows = data[data["quantity"] == name]
        value = rows[rows["layer"].astype(str) == layer]["value"]
        if value.empty:
            return None
        found.append(int(value.iloc[0]))
    return found[0], found[1]


def baseline(ax: Axes, quantity: str, data: pd.DataFrame, layer: str) -> None:
    """What chance, or no change at all, would give, in grey."""
    shape, maps = shape_of(data, layer), shape_of(data, layer, ("rows", "positions"))
    if quantity == "mean_abs_cosine" and shape:
        chance = measures.random_cosine(*shape)
        ax.axhspan(
            chance.mean - 2 * chance.deviation,
            chance.mean + 2 * chance.deviation,
            color=RANDOM,
            alpha=0.3,
            lw=0,
        )
        mark(ax, chance.mean, "random")
    elif quantity == "rms_cosine" and shape:
        mark(ax, shape[1] ** -0.5, "random")
        if floor := measures.welch_floor(*shape):
            mark(ax, floor, "Welch's floor", (0, (5, 2)))
    elif quantity in _RANKS and shape:
        gaussian = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        mark(ax, getattr(measures, quantity)(gaussian).item(), "random")
    elif quantity == "feature_cosine":
        mark(ax, 0.3183, "unrelated, 1/π")
    elif quantity == "centred_feature_cosine" and maps:
        mark(ax, measures.random_cosine(maps[0], maps[1] - 1).mean, "unrelated")  # centring takes one
    elif quantity == "loss":
        rows = data[data["quantity"] == "loss"]
        mark(ax, rows[rows["step"] == rows["step"].min()]["value"].mean(), "at the start")
    elif quantity == "update_ratio":
        mark(ax, 1e-3, "a thousandth")
    elif quantity in _ONE:
        mark(ax, 1, "1")
    elif quantity in SHARES | {"step_cosine", "zero_rows"}:
        mark(ax, 0, "0")


def mark(ax: Axes, value: float, text: str, style: Any = ":") -> None:
    """A grey line across, with its name at the right end."""
    ax.axhline(value, color=RANDOM, ls=style, lw=1.3, zorder=1)
    ax.annotate(
        text, (1, value), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", color="#666666", fontsize=9,
    )  # fmt: skip


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    return figure


def only(names: Iterable[Any], what: str) -> str:
    """The one name that there is."""
    found = list(dict.fromkeys(map(str, names)))
    if len(found) > 1:
        there = ", ".join(found[:6])
        raise ValueError(f"the data has {len(found)} {what}s, {there}: choose one with {what}=")
    return found[0]
