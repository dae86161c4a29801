"""The rules: from stored tables, which were checked when they were stored, to comparisons."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

import pandas as pd

from orthoviz.claims.parts import AGAINST, FOR, NO_CASE, ONE_RUN, UNCLEAR, Part
from orthoviz.models import BASIC_CNN_LAYERS
from orthoviz.optim.named import label_of
from orthoviz.training.outcomes import best_rate, edges, last_values
from orthoviz.verdicts import lead, verdict

_Values = Mapping[str, Sequence[float]]
"""By name, one value a run."""

SGD, OURS, MUON, SCALED = "sgd", "orthogonal_sgd", "muon_order", "muon_order_rms"
KEPT = "orthogonal_sgd_keep"  # what the paper's code does
CHANCE = 0.1
ABOUT_TEN = (5, 20)
MARGIN = 0.01
"""An accuracy that is lower by no more than this is as good."""


# What rules share


def _compare(
    values: _Values, first: str = OURS, second: str = SGD, *, more_is_better: bool = True,
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


def _decide(holds: bool, runs: int, otherwise: str = AGAINST) -> str:
    return ONE_RUN if runs < 2 else FOR if holds else otherwise


def _all_or_some(right: "pd.Series[bool]") -> str:
    return FOR if right.all() else UNCLEAR if right.any() else AGAINST


def _fewest(values: _Values) -> int:
    return min(map(len, values.values()))


_Form = tuple[int, str, str]
_PERCENT, _POINTS, _LOSS = (100, ".1f", " %"), (100, ".1f", ""), (1, ".4g", "")


def _spread(some: Sequence[float], form: _Form) -> str:
    """The mean, and from the lowest run to the highest."""
    scale, digits, unit = form
    low, middle, high = (f"{scale * value:{digits}}" for value in (min(some), mean(some), max(some)))
    return f"{middle}{unit} ({low} to {high})" if len(some) > 1 else f"{middle}{unit}"


def _by_name(values: _Values, *which: str, form: _Form = _PERCENT) -> str:
    return ", ".join(f"{label_of(name)} {_spread(values[name], form)}" for name in which)


def _unsure(runs: pd.DataFrame) -> list[str]:
    """The optimisers whose rate is not tuned: the first or last of its grid, or of fewer than three."""
    counts = runs.groupby("optimizer")["lr"].nunique()
    return [*dict.fromkeys([*edges(runs), *map(str, counts[counts < 3].index)])]


def _edge_text(at_edge: Sequence[str], *which: str) -> str:
    """Whose rate is at the end of its grid."""
    those = [label_of(name) for name in which if name in at_edge]
    return f" (rate not tuned, or at the end of its grid: {', '.join(those)})" if those else ""


def _against(values: _Values, *which: str, form: _Form = _PERCENT) -> str:
    """Two, where the label or the claim says which."""
    return " against ".join(_spread(values[name], form) for name in which)


def _ends(runs: pd.DataFrame, column: str = "test_accuracy") -> dict[str, list[float]]:
    """Final values of each optimiser at its chosen rate, one a run."""
    return last_values(runs[runs["chosen"]], column)


def _at_rate(runs: pd.DataFrame, lr: float) -> pd.DataFrame:
    """The runs at one rate for all, as those that count."""
    return runs[runs["lr"] == lr].assign(chosen=True)


def _as_good(label: str, values: _Values, first: str, second: str, at_edge: Sequence[str] = ()) -> Part:
    """The whole interval of the first's lead lies above minus the margin; against, where none of it does."""
    if len(values[first]) != len(values[second]):
        return Part(label, ONE_RUN, f"{_by_name(values, first, second)}, which make no pairs")
    ahead = lead(values[first], values[second])
    found = FOR if ahead.low > -MARGIN else AGAINST if ahead.high < -MARGIN else UNCLEAR
    found = ONE_RUN if _fewest(values) < 2 else UNCLEAR if {first, second} & set(at_edge) else found
    figures = f"{_by_name(values, first, second)}, a lead of {100 * ahead.mean:.1f} points"
    return Part(label, found, f"{figures} ({100 * ahead.low:.1f} to {100 * ahead.high:.1f})")


# Final accuracies and losses


def _sizes(runs: pd.DataFrame, least: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """A table by its name; or where it has several batch sizes, those from the least on, one by one."""
    name, several = runs.attrs["name"], runs["batch_size"].nunique() > 1
    for size, some in runs[runs["batch_size"] >= least].groupby("batch_size"):
        yield f"{name.partition('-')[2]}, batch {size}" if several else name, some


def better(
    *tables: pd.DataFrame, first: str = OURS, second: str = SGD,
    columns: Sequence[str] = ("test_accuracy",), least: int = 0, lr: float | None = None,
    tuned: bool = False,
) -> Iterator[Part]:  # fmt: skip
    """The first ends better than the second: in every table, batch size from the least on, and column; at
    one rate for both, or at the chosen ones, which are tuned where the claim says so."""
    tables = tables if lr is None else tuple(_at_rate(runs, lr) for runs in tables)
    kinds = [(*kind, column) for runs in tables for kind in _sizes(runs, least) for column in columns]
    for label, runs, column in kinds:
        if not {first, second} <= set(runs["optimizer"]):
            yield Part(label, ONE_RUN, f"{label_of(first)} or {label_of(second)} was not run")
            continue
        values, loss = _ends(runs, column), "loss" in column
        label, form = (f"{label}, loss", _LOSS) if loss else (label, _PERCENT)
        figures = (_by_name if len(kinds) == 1 else _against)(values, first, second, form=form)
        at_edge = () if lr is not None else _unsure(runs) if tuned else edges(runs)
        found = _compare(values, first, second, more_is_better=not loss, at_edge=at_edge)
        yield Part(label, found, figures + _edge_text(at_edge, first, second))


def equal_step(runs: pd.DataFrame) -> Iterator[Part]:
    """Orthogonal SGD ends better. A table without the lengths of its steps does not show them to be equal."""
    if "step_length" in runs:
        yield from better(runs)
    else:
        yield Part("", ONE_RUN, "steps were made equal over the first 50 only, and their lengths not stored")


def convolutions_only(*tables: pd.DataFrame) -> Iterator[Part]:
    """Two tables a network: with the head left alone, and with it."""
    for only, every in zip(tables[::2], tables[1::2], strict=True):
        values = {"convolutions only": _ends(only)[OURS], "all layers": _ends(every)[OURS]}
        yield _as_good(only.attrs["name"], values, *values)


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
            found = _compare(values, more_is_better=False, at_edge=at_edge)
            yield Part(label, found, f"{ours:.3g} against {sgd:.3g} ({sgd / ours:.1f} times)")


def _over_rates(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Final accuracies of orthogonal SGD and of SGD: a row a seed, a column a learning rate."""
    last = runs[runs["epoch"] == runs["epoch"].max()].pivot(
        index="seed", columns=["optimizer", "lr"], values="test_accuracy"
    )
    return pd.DataFrame(last[OURS]), pd.DataFrame(last[SGD])


def flat(runs: pd.DataFrame) -> Iterator[Part]:
    both = zip((OURS, SGD), _over_rates(runs), strict=True)
    falls = {name: (wide.max(axis=1) - wide.min(axis=1)).tolist() for name, wide in both}
    rates = runs.groupby("optimizer")["lr"].nunique()[SGD]
    figures = f"points from the best to the worst of {rates} rates: {_by_name(falls, *falls, form=_POINTS)}"
    yield Part("", _compare(falls, more_is_better=False), figures)


def ruler(runs: pd.DataFrame) -> Iterator[Part]:
    ours, sgd = _over_rates(runs)
    best = {name: wide.mean().idxmax() for name, wide in ((OURS, ours), (SGD, sgd))}
    leads = {
        "at 0.01 for both": (ours[0.01] - sgd[0.01]).tolist(),
        "each at its best": (ours[best[OURS]] - sgd[best[SGD]]).tolist(),
    }
    at_edge = edges(runs.assign(chosen=runs["lr"] == runs["optimizer"].map(best)))
    found = UNCLEAR if at_edge else _compare(leads, *leads)
    figures = f"points of lead: {_by_name(leads, *leads, form=_POINTS)}"
    yield Part("", found, figures + _edge_text(at_edge, *at_edge))


def ahead(*tables: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Iterator[Part]:
    """The first of each pair is better, each at its best rate."""
    for runs in tables:
        values, at_edge = _ends(runs), _unsure(runs)
        name = f"{runs.attrs['name']}, " if len(tables) > 1 else ""
        for two in pairs:
            label = f"{name}{' against '.join(map(label_of, two))}"
            if not set(two) <= set(values):
                yield Part(label, ONE_RUN, "not run")
                continue
            found = _compare(values, *two, at_edge=at_edge)
            yield Part(label, found, _against(values, *two) + _edge_text(at_edge, *two))


def as_good(*tables: pd.DataFrame, first: str, second: str) -> Iterator[Part]:
    """The first is as good as the second, each at its best rate."""
    for runs in tables:
        name = str(runs.attrs["name"])
        if {first, second} <= set(runs["optimizer"]):
            yield _as_good(name, _ends(runs), first, second, _unsure(runs))
        else:
            yield Part(name, ONE_RUN, "not run")


def lead_grows(runs: pd.DataFrame, *, sizes: tuple[int, int]) -> Iterator[Part]:
    """The lead at the second batch size is larger than at the first, each at its best rate."""
    leads, at_edge = {}, []
    for size in sizes:
        some = runs[runs["batch_size"] == size]
        values, name = _ends(some), f"batch {size}"
        leads[name] = [a - b for a, b in zip(values[OURS], values[SGD], strict=True)]
        at_edge += [name] * bool({OURS, SGD} & set(_unsure(some)))
    first, second = leads
    found = _compare(leads, second, first, at_edge=at_edge)
    figures = f"points of lead: {_by_name(leads, *leads, form=_POINTS)}"
    yield Part("", found, figures + _edge_text(at_edge, *leads))


def adamw_rate(runs: pd.DataFrame) -> Iterator[Part]:
    chosen = runs[runs["chosen"]].groupby("optimizer")["lr"].first()
    lr, best = float(chosen["adamw"]), f"at its own best rate, {chosen[SCALED]:g}"
    at = last_values(runs[runs["lr"] == lr])
    rates = {f"at {lr:g}": at[SCALED], best: _ends(runs)[SCALED]}
    plain, unsure = (SCALED, MUON), _unsure(runs)
    yield _as_good("against AdamW", at, SCALED, "adamw", [name for name in unsure if name == "adamw"])
    own = "against its own best rate"
    if chosen[SCALED] == lr:
        yield Part(own, NO_CASE, "they are the same")
    else:
        yield _as_good(own, rates, f"at {lr:g}", best, [best] if SCALED in unsure else [])
    yield Part("against no scale", _compare(at, *plain), _by_name(at, *plain))


def no_state(runs: pd.DataFrame) -> Iterator[Part]:
    for other in ("adamw", SCALED):
        yield _as_good(f"against {label_of(other)}", _ends(runs), "swan", other, edges(runs))


def lower_curve(runs: pd.DataFrame) -> Iterator[Part]:
    pair = ("orthogonal_lars", "lars")
    for epoch, some in runs[runs["chosen"] & (runs["epoch"] > 0)].groupby("epoch"):
        values = last_values(some, "train_loss")
        share = mean(values[pair[0]]) / mean(values[pair[1]])
        found = _compare(values, *pair, more_is_better=False)
        yield Part(f"epoch {epoch}", found, f"{share:.3f} of LARS's loss")


# Batches of four


def _collapsed(values: _Values, name: str) -> bool:
    """Whether every run has less than half of what the worst of SGD's has over chance."""
    return max(values[name]) - CHANCE < (min(values[SGD]) - CHANCE) / 2


def _at_four(tables: Sequence[pd.DataFrame]) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Of each table its network, and the final accuracies at batch 4 and rate 0.01."""
    for runs in tables:
        yield runs.attrs["name"].partition("-")[2], _ends(_at_rate(runs[runs["batch_size"] == 4], 0.01))


def collapse(*tables: pd.DataFrame) -> Iterator[Part]:
    for network, values in _at_four(tables):
        ours, sgd = (100 * (mean(values[name]) - CHANCE) for name in (KEPT, SGD))
        over = f"{ours:.1f} points over chance, SGD {sgd:.1f}"
        found = _decide(_collapsed(values, KEPT), _fewest(values))
        behind = _compare(values, SGD, KEPT)
        yield Part(f"{network} behind SGD", behind, _against(values, KEPT, SGD))
        yield Part(f"{network} collapsed", found, over)


def null(*tables: pd.DataFrame) -> Iterator[Part]:
    for network, values in _at_four(tables):
        happened = _collapsed(values, KEPT)
        holds = happened and not _collapsed(values, OURS)
        found = _decide(holds, _fewest(values), AGAINST if happened else NO_CASE)
        three = {"kept": values[KEPT], "dropped": values[OURS], "SGD": values[SGD]}
        yield Part(network, found, _by_name(three, *three))


# What a monitor saw in the layers of BasicCNN


def _name(layer: object) -> str:
    return BASIC_CNN_LAYERS.get(str(layer), str(layer))


EQUAL = {SGD: 0.01, OURS: 0.01}


def _best_rates(seen: pd.DataFrame) -> dict[str, float]:
    scores = seen[seen["quantity"] == "test_accuracy"]
    return {str(name): best_rate(some, "value") for name, some in scores.groupby("optimizer")}


def _layers(seen: pd.DataFrame, quantity: str, rates: Mapping[str, float]) -> Iterator[tuple[str, _Values]]:
    """By layer, what was seen last of each optimiser at its learning rate."""
    rows = seen[(seen["quantity"] == quantity) & (seen["lr"] == seen["optimizer"].map(rates))]
    rows = rows.sort_values("seed", kind="stable")
    for layer, some in rows[rows["step"] == rows["step"].max()].groupby("layer", sort=False):
        values = {str(name): part["value"].tolist() for name, part in some.groupby("optimizer")}
        yield _name(layer), values


def less_alike(
    *tables: pd.DataFrame, quantity: str, runs: Sequence[tuple[str, Mapping[str, float] | None]]
) -> Iterator[Part]:
    """A cosine is lower with orthogonal SGD: in every layer of every table, at its rates or the best."""
    for seen, (length, given) in zip(tables, runs, strict=True):
        rates = given or _best_rates(seen)
        tried = seen.groupby("optimizer")["lr"].agg(["min", "max"])
        at_edge = [] if given else [name for name in (OURS, SGD) if rates[name] in [*tried.loc[name]]]
        at = " and ".join(dict.fromkeys(f"{rates[name]:g}" for name in (OURS, SGD)))
        for layer, values in _layers(seen, quantity, rates):
            found = _compare(values, more_is_better=False, at_edge=at_edge)
            figures = f"{mean(values[OURS]):.3f} against {mean(values[SGD]):.3f}"
            yield Part(f"{length} at {at}, {layer}", found, figures)


def falling(seen: pd.DataFrame) -> Iterator[Part]:
    """By layer: a cosine at the start and after each quarter of the training."""
    rows = seen[(seen["quantity"] == "feature_cosine") & (seen["optimizer"] == OURS)]
    for layer, part in rows.groupby("layer", sort=False):
        wide = part.pivot(index="seed", columns="step", values="value")
        marks = wide.iloc[:, [round(quarter * (wide.shape[1] - 1) / 4) for quarter in range(5)]]
        falls = bool((marks.diff(axis=1).iloc[:, 1:] < 0).all(axis=None))
        no_lower = bool((marks.iloc[:, -1] >= marks.iloc[:, 0]).all())
        found = _decide(falls, len(wide), AGAINST if no_lower else UNCLEAR)
        figures = ", ".join(f"{value:.3f}" for value in marks.mean())
        yield Part(_name(layer), found, figures)


def dead(seen: pd.DataFrame) -> Iterator[Part]:
    for layer, values in _layers(seen, "dead_parameters", EQUAL):
        sgd, ours = mean(values[SGD]), mean(values[OURS])
        times = ours / sgd if sgd else math.inf
        found = _decide(ABOUT_TEN[0] <= times <= ABOUT_TEN[1], _fewest(values))
        yield Part(f"{layer}, more", _compare(values), _against(values, OURS, SGD))
        yield Part(f"{layer}, about ten times", found, f"{times:.1f}")


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
            yield Part(f"{case}, {measure}", _compare(values, "after", "before"), figures)


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
