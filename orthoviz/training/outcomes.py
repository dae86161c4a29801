"""What finished runs say: their last values, each optimiser's best rate, and a verdict in a sentence."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from orthoviz.optim.named import label_of
from orthoviz.verdicts import last_rows, verdict

# A learning rate; or two, where that of the rest, biases and norms, is tuned too.
Rate = float | tuple[float, float]


def rates_of(table: pd.DataFrame) -> pd.Series:
    """The rate of each row: ``lr``, or with ``rest_lr`` a pair."""
    if "rest_lr" not in table:
        return table["lr"]
    return pd.Series([*zip(table["lr"], table["rest_lr"], strict=True)], index=table.index, name="lr")


def in_columns(rate: Rate) -> dict[str, float]:
    """A rate as the columns of a table have it."""
    return dict(zip(("lr", "rest_lr"), rate if isinstance(rate, tuple) else (rate,), strict=False))


def summary(
    table: pd.DataFrame, heading: str, *, chance: float = 0.0, score: str = "accuracy", higher: bool = True
) -> str:
    """The verdict on the final test accuracies or another score, with their means and learning rates.

    Each optimiser is compared with the first, in pairs of runs with the same seed; runs without a partner are
    left out of that. "Better" and "worse" are said where the paired differences are not chance (Student's t,
    5 %, Holm's correction). The verdict is "unclear" where a rate was chosen from several and is the first or
    last of them: the best may lie beyond.

    Args:
        table: of runs, with ``chosen`` where there are several rates for an optimiser.
        chance: accuracy of guessing; who has hardly more at the end is named.
        score: the column is ``test_`` and this.
        higher: whether higher is better.
    """
    chosen = table[table["chosen"]] if "chosen" in table else table
    values = last_values(chosen, f"test_{score}")
    rates = rates_of(chosen).groupby(chosen["optimizer"]).first()
    means = {name: statistics.mean(some) for name, some in values.items()}
    says = ", ".join(
        f"{label_of(name)} {_in_words(means[name], score)} ({rate_in_words(rates[name])})"
        for name in sorted(means, key=means.__getitem__, reverse=higher)
    )
    several = [name for name in values if len(values[name]) > 1]
    told = several if len(several) > 1 and several[0] == next(iter(values)) else list(values)
    wide = last_rows(chosen).pivot(index="seed", columns="optimizer", values=f"test_{score}")
    wide, found = wide[told].dropna(), ""
    if len(values) > 1:
        found = verdict({label_of(name): wide[name].tolist() for name in told}, more_is_better=higher)
    if left := [label_of(name) for name in values if name not in told]:
        found += f", {' and '.join(left)} not separated by one run each"
    if at_edges := [label_of(name) for name in edges(table)]:
        found = f"unclear, for the best rate of {' and '.join(at_edges)} is at the end of its grid"
    if "step_length" in table:
        lengths = chosen.groupby("optimizer", sort=False)["step_length"].first()
        says += f"; mean length of a step {', '.join(f'{length:.4g}' for length in lengths)}"
    if lost := [label_of(name) for name, middle in means.items() if chance and middle <= 1.2 * chance]:
        says += f"; hardly better than chance ({100 * chance:.3g} %): {', '.join(lost)}"
    return f"{heading}: {found}: {says}" if found else f"{heading}: {says}"


def _in_words(value: float, score: str) -> str:
    return f"{100 * value:.1f} %" if score == "accuracy" else f"{score} {value:.4g}"


def rate_in_words(rate: Rate) -> str:
    """ "lr 0.03", or "lr 0.03, rest 0.003"."""
    return "lr " + ", rest ".join(f"{value:.3g}" for value in in_columns(rate).values())


def edges(table: pd.DataFrame) -> list[str]:
    """The optimisers whose chosen rate, or one of two, is the first or last of several that were run."""
    found: dict[str, None] = {}
    columns = [column for column in ("lr", "rest_lr") if column in table]
    for name, runs in table.groupby("optimizer", sort=False) if "chosen" in table else ():
        for column in columns:
            tried = runs[column].unique()
            if len(tried) > 1 and runs.loc[runs["chosen"], column].isin([tried.min(), tried.max()]).any():
                found[str(name)] = None
    return list(found)


_MOST_RATES = 12


def next_rate(tried: Sequence[float], best: float) -> float | None:
    """The next rate beyond a grid whose best is its first or last, by half decades (1, 3, 10); else None."""
    if len(tried) >= _MOST_RATES or (min(tried) < best < max(tried)):
        return None
    place = 2 * math.log10(best)
    near = round(place) if abs(place - round(place)) < 0.1 else place  # 0.3 is half a decade above 0.1
    after = math.floor(near) + 1 if best == max(tried) else math.ceil(near) - 1
    return float(f"{10 ** (after / 2):.0e}")


def last_values(frame: pd.DataFrame, column: str = "test_accuracy") -> dict[str, list[float]]:
    """Each optimiser's values at the end of its runs, which are of one learning rate each, by seed."""
    last = last_rows(frame).sort_values("seed", kind="stable")
    values = {str(name): some.tolist() for name, some in last.groupby("optimizer")[column]}
    return {str(name): values[str(name)] for name in frame["optimizer"].unique()}


def best_rates(runs: pd.DataFrame, by: str, *, higher: bool = True) -> dict[str, Rate]:
    """The best rate of each optimiser."""
    groups = runs.groupby("optimizer", sort=False, observed=True)
    return {str(name): best_rate(some, by, higher=higher) for name, some in groups}


def best_rate(runs: pd.DataFrame, by: str, *, higher: bool = True) -> Rate:
    """The rate of one optimiser's runs with the best mean at the end, by this column.

    A rate with a run that has no number there is worse than all others.
    """
    last = last_rows(runs).fillna({by: -math.inf if higher else math.inf})
    means = last.groupby(rates_of(last))[by].mean()
    best: Any = means.idxmax() if higher else means.idxmin()
    return (float(best[0]), float(best[1])) if isinstance(best, tuple) else float(best)
