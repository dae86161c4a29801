"""The rules over final accuracies and losses: from stored tables, checked when they were stored, to parts.

First what all rules share: one comparison, by seeds and by rates, and its figures in words.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import mean

import pandas as pd

from orthoviz.claims.parts import AGAINST, FOR, NO_CASE, ONE_RUN, UNCLEAR, Part
from orthoviz.optim.named import label_of
from orthoviz.training.outcomes import edges, last_values
from orthoviz.verdicts import lead, verdict

# By name, one value a run.
Values = Mapping[str, Sequence[float]]

SGD, OURS = "sgd", "orthogonal_sgd"
MUON, SCALED = "muon_order", "muon_order_rms"
KEPT = "orthogonal_sgd_keep"  # what the paper's code does
CHANCE = 0.1
# An accuracy that is lower by no more than this is as good.
MARGIN = 0.01


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


# The rules


def _sizes(runs: pd.DataFrame, least: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """A table by its name; or where it has several batch sizes, those from the least on, one by one."""
    name, several = runs.attrs["name"], runs["batch_size"].nunique() > 1
    for size, some in runs[runs["batch_size"] >= least].groupby("batch_size"):
        yield f"{name.partition('-')[2]}, batch {size}" if several else name, some


def better(
    *tables: pd.DataFrame, pairs: Sequence[Sequence[str]] = ((OURS, SGD),),
    columns: Sequence[str] = ("test_accuracy",), least: int = 0, lr: float | None = None,
    tuned: bool = False, margin: bool = False,
) -> Iterator[Part]:  # fmt: skip
    """The first of each pair ends better than the second, or with a margin as good: in every table, batch
    size from the least on, and column; at one rate for both, or at the chosen ones, which are tuned where the
    claim says so."""
    tables = tables if lr is None else tuple(at_rate(runs, lr) for runs in tables)
    kinds = [kind for runs in tables for kind in _sizes(runs, least)]
    alone = len(kinds) * len(pairs) * len(columns) == 1
    for (place, runs), (first, second), column in product(kinds, pairs, columns):
        names, loss = [label_of(first), label_of(second)], "loss" in column
        words = [
            place if len(pairs) == 1 or len(kinds) > 1 else "",
            " against ".join(names) if len(pairs) > 1 else "",
            "loss" if loss else "",
        ]
        label = ", ".join(filter(None, words))
        if not {first, second} <= set(runs["optimizer"]):
            yield Part(label, ONE_RUN, "not run" if len(pairs) > 1 else f"{' or '.join(names)} was not run")
            continue
        values = ends(runs, column)
        at_edge = () if lr is not None else unsure(runs) if tuned else edges(runs)
        if margin:
            yield margin_part(label, values, first, second, at_edge)
            continue
        figures = (by_name if alone else against)(values, first, second, form=LOSS if loss else PERCENT)
        found = compare(values, first, second, more_is_better=not loss, at_edge=at_edge)
        yield Part(label, found, figures + edge_text(at_edge, first, second))


def equal_step(runs: pd.DataFrame) -> Iterator[Part]:
    """Orthogonal SGD ends better. A table without the lengths of its steps does not show them to be equal."""
    if "step_length" in runs:
        yield from better(runs)
    else:
        yield Part("", ONE_RUN, "steps were made equal over the first 50 only, and their lengths not stored")


def convolutions_only(*tables: pd.DataFrame) -> Iterator[Part]:
    """Two tables a network: with the head left alone, and with it."""
    for only, every in zip(tables[::2], tables[1::2], strict=True):
        values = {"convolutions only": ends(only)[OURS], "all layers": ends(every)[OURS]}
        yield margin_part(only.attrs["name"], values, *values)


def sooner(runs: pd.DataFrame, targets: Sequence[int]) -> Iterator[Part]:
    """Epochs and seconds until a run first has so many per cent right; a run that never has, counts as one
    epoch longer than it was."""
    at_edge, runs = edges(runs), runs[runs["chosen"]]
    keys = [runs["optimizer"], runs["seed"]]
    for target in targets:
        right = runs["test_accuracy"] >= target / 100
        for unit in ("epoch", "seconds"):
            label = f"{unit.removesuffix('s')}s to {target} %"
            if not right.any():
                yield Part(label, NO_CASE, "no run reached it")
                continue
            longer = runs.groupby(keys)[unit].transform("max") * (1 + 1 / runs["epoch"].max())
            first = runs[unit].where(right, longer).groupby(keys).min()
            values = {name: first[name].tolist() for name in (OURS, SGD)}
            ours, sgd = mean(values[OURS]), mean(values[SGD])
            found = compare(values, more_is_better=False, at_edge=at_edge)
            yield Part(label, found, f"{ours:.3g} against {sgd:.3g} ({sgd / ours:.1f} times)")


def _over_rates(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Final accuracies of orthogonal SGD and of SGD: a row a seed, a column a learning rate."""
    last = runs[runs["epoch"] == runs["epoch"].max()].pivot(
        index="seed", columns=["optimizer", "lr"], values="test_accuracy"
    )
    return pd.DataFrame(last[OURS]), pd.DataFrame(last[SGD])


def flat(runs: pd.DataFrame) -> Iterator[Part]:
    """Accuracy falls less over a grid of rates; nothing is said where a run ended early."""
    both = zip((OURS, SGD), _over_rates(runs), strict=True)
    falls = {name: (wide.max(axis=1, skipna=False) - wide.min(axis=1)).tolist() for name, wide in both}
    rates = runs.groupby("optimizer")["lr"].nunique()[SGD]
    figures = f"points from the best to the worst of {rates} rates: {by_name(falls, *falls, form=POINTS)}"
    yield Part("", compare(falls, more_is_better=False), figures)


def ruler(runs: pd.DataFrame) -> Iterator[Part]:
    ours, sgd = _over_rates(runs)
    best = {name: wide.mean().idxmax() for name, wide in ((OURS, ours), (SGD, sgd))}
    leads = {
        "at 0.01 for both": (ours[0.01] - sgd[0.01]).tolist(),
        "each at its best": (ours[best[OURS]] - sgd[best[SGD]]).tolist(),
    }
    at_edge = edges(runs.assign(chosen=runs["lr"] == runs["optimizer"].map(best)))
    found = UNCLEAR if at_edge else compare(leads, *leads)
    figures = f"points of lead: {by_name(leads, *leads, form=POINTS)}"
    yield Part("", found, figures + edge_text(at_edge, *at_edge))


def lead_grows(runs: pd.DataFrame, *, sizes: Sequence[int]) -> Iterator[Part]:
    """The lead at the second batch size is larger than at the first, each at its best rate."""
    leads, at_edge = {}, []
    for size in sizes:
        some = runs[runs["batch_size"] == size]
        values, name = ends(some), f"batch {size}"
        leads[name] = [a - b for a, b in zip(values[OURS], values[SGD], strict=True)]
        at_edge += [name] * bool({OURS, SGD} & set(unsure(some)))
    first, second = leads
    found = compare(leads, second, first, at_edge=at_edge)
    figures = f"points of lead: {by_name(leads, *leads, form=POINTS)}"
    yield Part("", found, figures + edge_text(at_edge, *leads))


def adamw_rate(runs: pd.DataFrame) -> Iterator[Part]:
    chosen = runs[runs["chosen"]].groupby("optimizer")["lr"].first()
    lr, best = float(chosen["adamw"]), f"at its own best rate, {chosen[SCALED]:g}"
    at = last_values(runs[runs["lr"] == lr])
    rates = {f"at {lr:g}": at[SCALED], best: ends(runs)[SCALED]}
    plain, untuned = (SCALED, MUON), unsure(runs)
    yield margin_part("against AdamW", at, SCALED, "adamw", [name for name in untuned if name == "adamw"])
    own = "against its own best rate"
    if chosen[SCALED] == lr:
        yield Part(own, NO_CASE, "they are the same")
    else:
        yield margin_part(own, rates, f"at {lr:g}", best, [best] if SCALED in untuned else [])
    yield Part("against no scale", compare(at, *plain), by_name(at, *plain))


def lower_curve(runs: pd.DataFrame) -> Iterator[Part]:
    pair = ("orthogonal_lars", "lars")
    for epoch, some in runs[runs["chosen"] & (runs["epoch"] > 0)].groupby("epoch"):
        values = last_values(some, "train_loss")
        share = mean(values[pair[0]]) / mean(values[pair[1]])
        found = compare(values, *pair, more_is_better=False)
        yield Part(f"epoch {epoch}", found, f"{share:.3f} of LARS's loss")


# Batches of four


def _collapsed(values: Values, name: str) -> bool:
    """Whether every run has less than half of what the worst of SGD's has over chance."""
    return max(values[name]) - CHANCE < (min(values[SGD]) - CHANCE) / 2


def _at_four(tables: Sequence[pd.DataFrame]) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Of each table its network, and the final accuracies at batch 4 and rate 0.01."""
    for runs in tables:
        yield runs.attrs["name"].partition("-")[2], ends(at_rate(runs[runs["batch_size"] == 4], 0.01))


def collapse(*tables: pd.DataFrame) -> Iterator[Part]:
    for network, values in _at_four(tables):
        ours, sgd = (100 * (mean(values[name]) - CHANCE) for name in (KEPT, SGD))
        over = f"{ours:.1f} points over chance, SGD {sgd:.1f}"
        found = decide(_collapsed(values, KEPT), fewest(values))
        behind = compare(values, SGD, KEPT)
        yield Part(f"{network} behind SGD", behind, against(values, KEPT, SGD))
        yield Part(f"{network} collapsed", found, over)


def null(*tables: pd.DataFrame) -> Iterator[Part]:
    for network, values in _at_four(tables):
        happened = _collapsed(values, KEPT)
        holds = happened and not _collapsed(values, OURS)
        found = decide(holds, fewest(values), AGAINST if happened else NO_CASE)
        three = {"kept": values[KEPT], "dropped": values[OURS], "SGD": values[SGD]}
        yield Part(network, found, by_name(three, *three))
