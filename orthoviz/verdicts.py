"""Which of several is better, by pairs of runs that share a seed: one rule for all who say it."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    import pandas as pd

# How often equal ones may be called different.
LEVEL = 0.05


class Lead(NamedTuple):
    """How far the runs of one are ahead of another's, in pairs of runs with the same seed.

    Attributes:
        low, high: the ends of the 95 % interval.
        p: how often equal ones would come as far apart, by chance.
    """

    mean: float
    low: float
    high: float
    p: float


def last_rows(data: "pd.DataFrame", x: str = "epoch", *more: str) -> "pd.DataFrame":
    """The rows of each run at its own last x: runs that stopped early too.

    Args:
        more: columns that tell runs apart, beside those that usually do.
    """
    known = (*more, "run", "optimizer", "lr", "rest_lr", "batch_size", "seed")
    keys = [c for c in dict.fromkeys(known) if c in data]
    runs = data.groupby(keys, observed=True, dropna=False) if keys else data.groupby(lambda _: 0)
    rows: pd.DataFrame = data[data[x] == runs[x].transform("max")]
    return rows


def lead(ours: Sequence[float], theirs: Sequence[float]) -> Lead:
    """The mean of the paired differences, with Student's t interval; one pair, two that are equal, and runs
    without a number have an infinite one.

    Differences are compared to nine digits, so that 0.97 - 0.96 is 0.01.

    Raises:
        ValueError: not equally many runs, or none.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"pairs need equally many runs, at least one, got {len(ours)} and {len(theirs)}")
    leads = [round(a - b, 9) for a, b in zip(ours, theirs, strict=True)]
    middle, free = mean(leads), len(leads) - 1
    error = stdev(leads) / math.sqrt(len(leads)) if free and math.isfinite(middle) else math.nan
    # A run that diverged has no loss to compare; two leads that are equal are chance: accuracies are counts
    if math.isnan(error) or (error == 0 and free == 1):
        return Lead(middle, -math.inf, math.inf, 1.0)
    if error == 0:
        return Lead(middle, middle, middle, float(middle == 0))
    half = error * float(stdtrit(free, 1 - LEVEL / 2))
    return Lead(middle, middle - half, middle + half, 2 * float(stdtr(free, -abs(middle) / error)))


def different(leads: Mapping[str, Lead]) -> set[str]:
    """Those whose lead is not chance, corrected for their number (Holm 1979)."""
    found: set[str] = set()
    for name in sorted(leads, key=lambda name: leads[name].p):
        if leads[name].p > LEVEL / (len(leads) - len(found)):
            break
        found.add(name)
    return found


def verdict(values: Mapping[str, Sequence[float]], *, more_is_better: bool = True) -> str:
    """In words: which are better or worse than the first, and which are not separated from it.

    Args:
        values: the runs' final values by name, two names or more, in the order of their seeds.
        more_is_better: of accuracies; False for losses.
    """
    first, *others = values
    if min(map(len, values.values())) < 2:
        return "not separated by one run each"
    if len(set(map(len, values.values()))) > 1:
        return "not compared, for their runs make no pairs"
    leads = {name: lead(values[name], values[first]) for name in others}
    told = different(leads)
    ahead = [name for name in others if name in told and (leads[name].mean > 0) == more_is_better]
    behind = [name for name in others if name in told and name not in ahead]
    if not told:
        return "not separated"
    if len(others) == 1:
        return f"{(ahead or [first])[0]} better"
    beside = [name for name in others if name not in told]
    groups = {"better than": ahead, "worse than": behind, "not separated from": beside}
    # semicolons: names may have commas in them
    return ", ".join(f"{'; '.join(names)} {word} {first}" for word, names in groups.items() if names)


def decision(ours: Sequence[float], theirs: Sequence[float], worth: float) -> str:
    """Whether to change: "adopt", "stay" or "cannot tell".

    Adopt where the whole interval of our lead is above ``worth``, stay where none of it is; otherwise, and
    of one pair, the runs cannot tell.

    Args:
        ours, theirs: the runs' final values in the order of their seeds; more is better.
        worth: what the change must bring, in their unit.

    Raises:
        ValueError: not equally many runs, or none.
    """
    _, low, high, _ = lead(ours, theirs)
    if low > worth:
        return "adopt"
    return "cannot tell" if high > worth else "stay"
