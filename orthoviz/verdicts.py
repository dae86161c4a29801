"""Which of several is better, said only where every run agrees: one rule for all who say it."""

from collections.abc import Mapping, Sequence
from statistics import mean


def verdict(values: Mapping[str, Sequence[float]], *, more_is_better: bool = True) -> str:
    """In words: "A better" where the worst run of A beats the best run of every other.

    Otherwise those that A, the best on average, beats in this sense, and those that it does not; "not
    separated" where it beats none, or where one has a single run.

    Args:
        values: the runs' final values by name, two names or more.
        more_is_better: of accuracies; False for losses.
    """
    if min(map(len, values.values())) < 2:
        return "not separated by one run each"
    sign = 1 if more_is_better else -1
    runs = {name: [sign * value for value in some] for name, some in values.items()}
    best, *others = sorted(runs, key=lambda name: -mean(runs[name]))
    behind = [name for name in others if max(runs[name]) < min(runs[best])]
    beside = [name for name in others if name not in behind]
    if not beside:
        return f"{best} better"
    if not behind:
        return "not separated"
    # semicolons: names may have commas in them
    return f"{best} better than {'; '.join(behind)}, not separated from {'; '.join(beside)}"


def decision(ours: Sequence[float], theirs: Sequence[float], worth: float) -> str:
    """Whether to change: "adopt", "stay" or "cannot tell".

    Adopt where every run of ours is ahead of every run of theirs by more than ``worth``; stay where none is
    ahead of any by more; otherwise, and where one of them has a single run, the runs cannot tell. Leads are
    compared to nine digits, so that 0.97 - 0.96 is 0.01.

    Args:
        ours, theirs: the runs' final values, more is better.
        worth: what the change must bring, in their unit.

    Raises:
        ValueError: one of them has no run.
    """
    if not (ours and theirs):
        raise ValueError(f"both need at least one run, got {len(ours)} and {len(theirs)}")
    if min(len(ours), len(theirs)) < 2:
        return "cannot tell"
    least, most = round(min(ours) - max(theirs), 9), round(max(ours) - min(theirs), 9)
    if least > worth:
        return "adopt"
    return "cannot tell" if most > worth else "stay"
