"""What rules share: one comparison, by seeds and by rates, and its figures in words."""

from collections.abc import Mapping, Sequence
from statistics import mean

import pandas as pd

from orthoviz.claims.parts import AGAINST, FOR, ONE_RUN, UNCLEAR, Part
from orthoviz.optim.named import label_of
from orthoviz.training.outcomes import edges, last_values
from orthoviz.verdicts import lead, verdict

Values = Mapping[str, Sequence[float]]
"""By name, one value a run."""

SGD, OURS = "sgd", "orthogonal_sgd"
MARGIN = 0.01
"""An accuracy that is lower by no more than this is as good."""


def compare(
    values: Values, first: str = OURS, second: str = SGD, *, more_is_better: bool = True,
    at_edge: Sequence[str] = (),
) -> str:  # fmt: skip
    """Whether the first is better, by the rule that all comparisons of this package share.

    Args:
        at_edge: those whose rate is the first or last of a grid, of which nothing can be said.
    """
    if {first, second} & set(at_edge):
        return UNCLEAR
    says = verdict({name: values[name] for name in (first, second)}, more_is_better=more_is_better)
    return {f"{first} better": FOR, f"{second} better": AGAINST, "not separated": UNCLEAR}.get(says, ONE_RUN)


def decide(holds: bool, runs: int, otherwise: str = AGAINST) -> str:
    return ONE_RUN if runs < 2 else FOR if holds else otherwise


def fewest(values: Values) -> int:
    return min(map(len, values.values()))


_Form = tuple[int, str, str]
PERCENT, POINTS, LOSS = (100, ".1f", " %"), (100, ".1f", ""), (1, ".4g", "")


def _spread(some: Sequence[float], form: _Form) -> str:
    """The mean, and from the lowest run to the highest."""
    scale, digits, unit = form
    low, middle, high = (f"{scale * value:{digits}}" for value in (min(some), mean(some), max(some)))
    return f"{middle}{unit} ({low} to {high})" if len(some) > 1 else f"{middle}{unit}"


def by_name(values: Values, *which: str, form: _Form = PERCENT) -> str:
    return ", ".join(f"{label_of(name)} {_spread(values[name], form)}" for name in which)


def unsure(runs: pd.DataFrame) -> list[str]:
    """The optimisers whose rate is not tuned: the first or last of its grid, or of fewer than three."""
    counts = runs.groupby("optimizer")["lr"].nunique()
    return [*dict.fromkeys([*edges(runs), *map(str, counts[counts < 3].index)])]


def edge_text(at_edge: Sequence[str], *which: str) -> str:
    """Whose rate is at the end of its grid."""
    those = [label_of(name) for name in which if name in at_edge]
    return f" (rate not tuned, or at the end of its grid: {', '.join(those)})" if those else ""


def against(values: Values, *which: str, form: _Form = PERCENT) -> str:
    """Two, where the label or the claim says which."""
    return " against ".join(_spread(values[name], form) for name in which)


def ends(runs: pd.DataFrame, column: str = "test_accuracy") -> dict[str, list[float]]:
    """Final values of each optimiser at its chosen rate, one a run."""
    return last_values(runs[runs["chosen"]], column)


def at_rate(runs: pd.DataFrame, lr: float) -> pd.DataFrame:
    """The runs at one rate for all, as those that count."""
    return runs[runs["lr"] == lr].assign(chosen=True)


def margin_part(label: str, values: Values, first: str, second: str, at_edge: Sequence[str] = ()) -> Part:
    """The whole interval of the first's lead lies above minus the margin; against, where none of it does."""
    if len(values[first]) != len(values[second]):
        return Part(label, ONE_RUN, f"{by_name(values, first, second)}, which make no pairs")
    ahead = lead(values[first], values[second])
    found = FOR if ahead.low > -MARGIN else AGAINST if ahead.high < -MARGIN else UNCLEAR
    found = ONE_RUN if fewest(values) < 2 else UNCLEAR if {first, second} & set(at_edge) else found
    figures = f"{by_name(values, first, second)}, a lead of {100 * ahead.mean:.1f} points"
    return Part(label, found, f"{figures} ({100 * ahead.low:.1f} to {100 * ahead.high:.1f})")
