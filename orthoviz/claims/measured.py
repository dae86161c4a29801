"""The rules over what was watched, timed, counted and computed: from stored tables to comparisons."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

import pandas as pd

from orthoviz.claims.parts import AGAINST, FOR, NO_CASE, UNCLEAR, Part
from orthoviz.claims.rules import OURS, SGD, Values, against, compare, decide, fewest
from orthoviz.models import BASIC_CNN_LAYERS
from orthoviz.training.outcomes import best_rates


def _all_or_some(right: "pd.Series[bool]") -> str:
    return FOR if right.all() else UNCLEAR if right.any() else AGAINST


# What a monitor saw in the layers of BasicCNN


def _name(layer: object) -> str:
    return BASIC_CNN_LAYERS.get(str(layer), str(layer))


EQUAL = {SGD: 0.01, OURS: 0.01}


def _layers(seen: pd.DataFrame, quantity: str, rates: Mapping[str, float]) -> Iterator[tuple[str, Values]]:
    """By layer, what was seen last of each optimiser at its learning rate."""
    rows = seen[(seen["quantity"] == quantity) & (seen["lr"] == seen["optimizer"].map(rates))]
    rows = rows.sort_values("seed", kind="stable").fillna({"layer": ""})  # of the whole network
    for layer, some in rows[rows["step"] == rows["step"].max()].groupby("layer", sort=False):
        values = {str(name): part["value"].tolist() for name, part in some.groupby("optimizer")}
        yield _name(layer), values


def less_alike(*tables: pd.DataFrame, quantity: str, runs: Sequence[tuple[str, str]]) -> Iterator[Part]:
    """A cosine is lower with orthogonal SGD: in every layer of every table, at "equal" rates or "best"."""
    for seen, (length, which) in zip(tables, runs, strict=True):
        scores = seen[seen["quantity"] == "test_accuracy"]
        rates: Mapping[str, Any] = EQUAL if which == "equal" else best_rates(scores, "value")
        tried = seen.groupby("optimizer")["lr"].agg(["min", "max"])
        at_edge = (
            [] if which == "equal" else [name for name in (OURS, SGD) if rates[name] in [*tried.loc[name]]]
        )
        at = " and ".join(dict.fromkeys(f"{rates[name]:g}" for name in (OURS, SGD)))
        for layer, values in _layers(seen, quantity, rates):
            found = compare(values, more_is_better=False, at_edge=at_edge)
            figures = f"{mean(values[OURS]):.3f} against {mean(values[SGD]):.3f}"
            yield Part(f"{length} at {at}, {layer}", found, figures)


def higher(seen: pd.DataFrame, *, quantities: Sequence[str], first: str, second: str = SGD) -> Iterator[Part]:
    """What was measured last is higher with the first: in every layer that has it."""
    rates = {str(name): lr for name, lr in seen.groupby("optimizer")["lr"].first().items()}
    for quantity in quantities:
        for layer, values in _layers(seen, quantity, rates):
            figures = f"{mean(values[first]):.3g} against {mean(values[second]):.3g}"
            label = ", ".join(filter(None, (quantity.replace("_", " "), layer)))
            yield Part(label, compare(values, first, second), figures)


def falling(seen: pd.DataFrame) -> Iterator[Part]:
    """By layer: a cosine at the start and after each quarter of the training."""
    rows = seen[(seen["quantity"] == "feature_cosine") & (seen["optimizer"] == OURS)]
    for layer, part in rows.groupby("layer", sort=False):
        wide = part.pivot(index="seed", columns="step", values="value")
        marks = wide.iloc[:, [round(quarter * (wide.shape[1] - 1) / 4) for quarter in range(5)]]
        falls = bool((marks.diff(axis=1).iloc[:, 1:] < 0).all(axis=None))
        no_lower = bool((marks.iloc[:, -1] >= marks.iloc[:, 0]).all())
        found = decide(falls, len(wide), AGAINST if no_lower else UNCLEAR)
        figures = ", ".join(f"{value:.3f}" for value in marks.mean())
        yield Part(_name(layer), found, figures)


def dead(seen: pd.DataFrame, *, times: Sequence[float]) -> Iterator[Part]:
    """By layer: more dead parameters with orthogonal SGD, and so many times as many."""
    for layer, values in _layers(seen, "dead_parameters", EQUAL):
        sgd, ours = mean(values[SGD]), mean(values[OURS])
        more = ours / sgd if sgd else math.inf
        found = decide(times[0] <= more <= times[1], fewest(values))
        yield Part(f"{layer}, more", compare(values), against(values, OURS, SGD))
        yield Part(f"{layer}, about ten times", found, f"{more:.1f}")


# What was timed, counted and computed


def per_step(costs: pd.DataFrame) -> Iterator[Part]:
    steps = costs[costs["optimizer"] == "OrthogonalSGD svd"].sort_values("batch")
    for network, some in steps.groupby("model"):
        falls = bool((some["to_sgd"].diff().iloc[1:] < 0).all())
        found = NO_CASE if len(some) < 2 else FOR if falls else AGAINST
        each = ", ".join(f"{x:.2f} at {size}" for size, x in zip(some["batch"], some["to_sgd"], strict=True))
        yield Part(str(network), found, f"{each} images")


def fast(times: pd.DataFrame, errors: pd.DataFrame) -> Iterator[Part]:
    for network, some in times[~times["job"].str.contains(" x ")].groupby("job"):
        by = some.set_index("contender")
        ours, quintic = by.loc["orthoviz fast"], by.loc["quintic float32"]
        found = FOR if ours["to_svd"] > 1 and ours["error"] < quintic["error"] else AGAINST
        figures = f"{ours['to_svd']:.1f} times as fast, error {ours['error']:.3f}"
        yield Part(str(network), found, figures)
    real = errors[errors["stage"].isin(("early", "late"))]
    for (run, stage), some in real.groupby(["run", "stage"]):
        error = some.pivot(index="layer", columns="method", values="error")
        less = error["fast"] < error["newton_schulz"]
        figures = f"errs less in {less.sum()} of {len(less)} layers, at most {error['fast'].max():.2f}"
        yield Part(f"{run}'s {stage} gradients", _all_or_some(less), figures)


def deficient(budget: pd.DataFrame) -> Iterator[Part]:
    for size, most, some in budget[["batch_size", "possible", "supported"]].itertuples(index=False):
        # the rows of a softmax head's gradient add up to zero: one direction is missing of any batch
        yield Part(f"batch {size}", FOR if some < most - 1 else AGAINST, f"{some:.0f} of {most:.0f}")


def _cases(table: pd.DataFrame, theory: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cases of a theory: a row a seed, a column a quantity."""
    for case, some in table[table["theory"] == theory].groupby("case", sort=False):
        yield str(case), some.pivot(index="seed", columns="quantity", values="value")


def averages_first(table: pd.DataFrame) -> Iterator[Part]:
    for case, wide in _cases(table, "momentum_first"):
        for measure in ("gain", "cosine"):
            values = {order: wide[f"{measure}_{order}"].tolist() for order in ("after", "before")}
            figures = " against ".join(f"{mean(some):.2f}" for some in values.values())
            yield Part(f"{case}, {measure}", compare(values, "after", "before"), figures)


def nuclear(table: pd.DataFrame, *, steps: str) -> Iterator[Part]:
    """The test at the first gradient foretells what lowers the loss further in so many steps."""
    for case, wide in _cases(table, "nuclear_rank"):
        if not case.endswith(steps):
            continue
        foretold = wide["nuclear_rank"] >= wide["stable_rank"]
        right = foretold == (wide["drop_spectral"] > wide["drop_gradient"])
        ranks = f"{wide['nuclear_rank'].mean():.1f} against {wide['stable_rank'].mean():.1f}"
        figures = f"ranks {ranks}, right in {right.sum()} of {len(right)} runs"
        yield Part(case, _all_or_some(right), figures)
