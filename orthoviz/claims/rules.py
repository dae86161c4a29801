"""The rules: from stored tables to comparisons."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean

import pandas as pd

from orthoviz.claims.parts import AGAINST, FOR, NO_CASE, ONE_RUN, UNCLEAR, Part
from orthoviz.models import BASIC_CNN_LAYERS
from orthoviz.training.comparison import best_rate, last_values
from orthoviz.verdicts import verdict


def sound(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """These rows with the column as numbers, if there are any and it is a number in all of them."""
    if rows.empty:
        raise ValueError(f"there are no rows whose {column} the rule could read")
    numbers = pd.to_numeric(rows[column], errors="coerce")
    if bad := int((~numbers.map(math.isfinite)).sum()):
        raise ValueError(f"{column} is no number in {bad} of {len(rows)} rows that the rule reads")
    return rows.assign(**{column: numbers})


def _seeds(
    values: Mapping[str, Sequence[float]], first: str, second: str, *, more_is_better: bool = True
) -> str:
    """Whether the first is better, by the rule that all comparisons of this package share."""
    told = verdict({name: values[name] for name in (first, second)}, more_is_better=more_is_better)
    found = {f"{first} better": FOR, f"{second} better": AGAINST, "not separated": UNCLEAR}
    return found.get(told, ONE_RUN)


_Form = tuple[int, str, str]
_PERCENT, _POINTS, _LOSS = (100, ".1f", " %"), (100, ".1f", ""), (1, ".4g", "")


def _spread(some: Sequence[float], form: _Form) -> str:
    """The mean, and from the lowest run to the highest."""
    scale, digits, unit = form
    low, middle, high = (f"{scale * value:{digits}}" for value in (min(some), mean(some), max(some)))
    return f"{middle}{unit} ({low} to {high})" if len(some) > 1 else f"{middle}{unit}"


def _each(values: Mapping[str, Sequence[float]], *which: str, form: _Form = _PERCENT) -> str:
    """By name."""
    return ", ".join(f"{name} {_spread(values[name], form)}" for name in which)


def _both(values: Mapping[str, Sequence[float]], *which: str, form: _Form = _PERCENT) -> str:
    """Two, where the label or the claim says which."""
    return " against ".join(_spread(values[name], form) for name in which)


def _ends(runs: pd.DataFrame, column: str = "test_accuracy") -> dict[str, list[float]]:
    """Final values of each optimiser at its chosen rate, one a run."""
    values = last_values(runs[runs["chosen"]], column)
    last = pd.DataFrame([(name, value) for name in values for value in values[name]], columns=["of", column])
    return {str(name): some[column].tolist() for name, some in sound(last, column).groupby("of")}


def _sizes(runs: pd.DataFrame, least: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """A table by its name; or where it has several batch sizes, those from the least on, one by one."""
    name, sizes = runs.attrs["name"], sorted(runs["batch_size"].unique())
    for size in sizes:
        if size >= least:
            label = f"{name.partition('-')[2]}, batch {size}" if len(sizes) > 1 else name
            yield label, runs[runs["batch_size"] == size]


def better(
    *tables: pd.DataFrame,
    first: str = "orthogonal SGD",
    second: str = "SGD",
    columns: Sequence[str] = ("test_accuracy",),
    least: int = 0,
) -> list[Part]:
    """The first ends better than the second: in every table, batch size from the least on, and column."""
    parts = []
    kinds = [(*kind, column) for runs in tables for kind in _sizes(runs, least) for column in columns]
    for label, runs, column in kinds:
        values, loss = _ends(runs, column), "loss" in column
        found = _seeds(values, first, second, more_is_better=not loss)
        told = (_each if len(kinds) == 1 else _both)(values, first, second, form=_LOSS if loss else _PERCENT)
        parts.append(Part(f"{label}, loss" if loss else label, found, told))
    return parts


def _as_good(label: str, values: Mapping[str, Sequence[float]], first: str, second: str) -> Part:
    """The first is better; or not separated from the second, and no lower on average."""
    found = _seeds(values, first, second)
    if found == UNCLEAR and mean(values[first]) >= mean(values[second]):
        found = FOR
    return Part(label, found, _each(values, first, second))


def convolutions_only(*tables: pd.DataFrame) -> list[Part]:
    """Two tables a network: with the head left alone, and with it."""
    parts = []
    for only, every in zip(tables[::2], tables[1::2], strict=True):
        both = (_ends(runs)["orthogonal SGD"] for runs in (only, every))
        values = dict(zip(("convolutions only", "all layers"), both, strict=True))
        parts.append(_as_good(only.attrs["name"], values, *values))
    return parts


def sooner(runs: pd.DataFrame, targets: Sequence[int]) -> list[Part]:
    """Epochs and seconds until a run first has so many per cent right; never takes infinitely many."""
    runs = sound(sound(runs[runs["chosen"]], "test_accuracy"), "seconds")
    parts = []
    for target in targets:
        reached = runs[runs["test_accuracy"] >= target / 100]
        for unit in ("epoch", "seconds"):
            first = reached.groupby(["optimizer", "seed"])[unit].min()
            values = {
                str(name): [float(first.get((name, seed), math.inf)) for seed in some["seed"].unique()]
                for name, some in runs.groupby("optimizer")
            }
            found = _seeds(values, "orthogonal SGD", "SGD", more_is_better=False)
            ours, sgd = mean(values["orthogonal SGD"]), mean(values["SGD"])
            times = f" ({sgd / ours:.1f} times)" if sgd < math.inf else ""
            label = f"{unit.removesuffix('s')}s to {target} %"
            parts.append(Part(label, found, f"{ours:.3g} against {sgd:.3g}{times}"))
    return parts


def _by_seed(rows: pd.DataFrame, columns: str | list[str], values: str) -> pd.DataFrame:
    """A row a seed, and all of them in every column."""
    wide = rows.pivot(index="seed", columns=columns, values=values)
    if wide.isna().any(axis=None):
        raise ValueError(f"not all {len(wide)} seeds have a {values} for every {columns}")
    return wide


def _over_rates(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Final accuracies of SGD and of orthogonal SGD: a row a seed, a column a learning rate."""
    last = sound(runs[runs["epoch"] == runs["epoch"].max()], "test_accuracy")
    wide = _by_seed(last, ["optimizer", "lr"], "test_accuracy")
    if wide["SGD"].shape != wide["orthogonal SGD"].shape:
        raise ValueError("the optimisers have not equally many learning rates")
    return pd.DataFrame(wide["SGD"]), pd.DataFrame(wide["orthogonal SGD"])


def flat(runs: pd.DataFrame) -> list[Part]:
    sgd, ours = _over_rates(runs)
    both = {"SGD": sgd, "orthogonal SGD": ours}
    falls = {name: (some.max(axis=1) - some.min(axis=1)).tolist() for name, some in both.items()}
    found = _seeds(falls, "orthogonal SGD", "SGD", more_is_better=False)
    points = _each(falls, "orthogonal SGD", "SGD", form=_POINTS)
    return [Part("", found, f"points from the best to the worst of {sgd.shape[1]} rates: {points}")]


def ruler(runs: pd.DataFrame) -> list[Part]:
    sgd, ours = _over_rates(runs)
    leads = {
        "at 0.01 for both": (ours[0.01] - sgd[0.01]).tolist(),
        "each at its best": (ours[ours.mean().idxmax()] - sgd[sgd.mean().idxmax()]).tolist(),
    }
    return [Part("", _seeds(leads, *leads), f"points of lead: {_each(leads, *leads, form=_POINTS)}")]


def shape(runs: pd.DataFrame) -> list[Part]:
    values = _ends(runs)
    pairs = (("norm-matched", "SGD"), ("orthogonal SGD", "per tensor"), ("orthogonal SGD", "per filter"))
    return [Part(" against ".join(pair), _seeds(values, *pair), _both(values, *pair)) for pair in pairs]


KEPT = "orthogonal SGD, null kept"  # what the paper's code does
CHANCE = 0.1


def _collapsed(values: Mapping[str, Sequence[float]], name: str) -> bool:
    """Whether every run has less than half of what the worst of SGD's has over chance."""
    return max(values[name]) - CHANCE < (min(values["SGD"]) - CHANCE) / 2


def _at_four(tables: Sequence[pd.DataFrame]) -> Iterator[tuple[str, dict[str, list[float]], bool]]:
    """Of each table its network, the final accuracies at batch 4, and whether there are several runs."""
    for runs in tables:
        values = _ends(runs[runs["batch_size"] == 4])
        yield runs.attrs["name"].partition("-")[2], values, min(map(len, values.values())) > 1


def collapse(*tables: pd.DataFrame) -> list[Part]:
    parts = []
    for network, values, several in _at_four(tables):
        behind = _seeds(values, "SGD", KEPT)
        parts.append(Part(f"{network} behind SGD", behind, _both(values, KEPT, "SGD")))
        found = FOR if _collapsed(values, KEPT) else AGAINST
        ours, sgd = (100 * (mean(values[name]) - CHANCE) for name in (KEPT, "SGD"))
        over = f"{ours:.1f} points over chance, SGD {sgd:.1f}"
        parts.append(Part(f"{network} collapsed", found if several else ONE_RUN, over))
    return parts


def null(*tables: pd.DataFrame) -> list[Part]:
    parts = []
    for network, values, several in _at_four(tables):
        dropped_too = _collapsed(values, "orthogonal SGD")
        found = (AGAINST if dropped_too else FOR) if _collapsed(values, KEPT) else NO_CASE
        told = {"kept": values[KEPT], "dropped": values["orthogonal SGD"], "SGD": values["SGD"]}
        parts.append(Part(network, found if several else ONE_RUN, _each(told, *told)))
    return parts


def _named(layer: object) -> str:
    return BASIC_CNN_LAYERS.get(str(layer), str(layer))


def _layers(
    seen: pd.DataFrame, quantity: str, rates: Mapping[str, float]
) -> dict[str, dict[str, list[float]]]:
    """What a monitor saw last: layer and optimiser, at these learning rates, to values, one a run."""
    rows = seen[(seen["quantity"] == quantity) & (seen["lr"] == seen["optimizer"].map(rates))]
    last = sound(rows[rows["step"] == rows["step"].max()], "value")
    return {
        _named(layer): {str(name): some["value"].tolist() for name, some in part.groupby("optimizer")}
        for layer, part in last.groupby("layer", sort=False)
    }


_Rates = Callable[[pd.DataFrame], dict[str, float]]


def equal_rates(seen: pd.DataFrame) -> dict[str, float]:
    return {"SGD": 0.01, "orthogonal SGD": 0.01}


def best_rates(seen: pd.DataFrame) -> dict[str, float]:
    scores = sound(seen[seen["quantity"] == "test_accuracy"], "value")
    return {str(name): best_rate(some, "value") for name, some in scores.groupby("optimizer")}


def less_alike(*tables: pd.DataFrame, quantity: str, runs: Sequence[tuple[str, _Rates]]) -> list[Part]:
    """A cosine is lower with orthogonal SGD: in every layer of every table, at its rates."""
    parts = []
    for seen, (length, chosen) in zip(tables, runs, strict=True):
        lrs = chosen(seen)
        rated = " and ".join(dict.fromkeys(f"{lrs[name]:g}" for name in ("orthogonal SGD", "SGD")))
        for layer, values in _layers(seen, quantity, lrs).items():
            found = _seeds(values, "orthogonal SGD", "SGD", more_is_better=False)
            ours, sgd = (mean(values[name]) for name in ("orthogonal SGD", "SGD"))
            label = f"{length} at {rated}, {layer}"
            parts.append(Part(label, found, f"{ours:.3f} against {sgd:.3f}"))
    return parts


def falling(seen: pd.DataFrame) -> list[Part]:
    """By layer: a cosine at the start and after each quarter of the training."""
    rows = seen[(seen["quantity"] == "feature_cosine") & (seen["optimizer"] == "orthogonal SGD")]
    parts = []
    for layer, part in sound(rows, "value").groupby("layer", sort=False):
        wide = _by_seed(part, "step", "value")
        marks = wide.iloc[:, [round(quarter * (wide.shape[1] - 1) / 4) for quarter in range(5)]]
        falls = bool((marks.diff(axis=1).iloc[:, 1:] < 0).all(axis=None))
        ends_no_lower = bool((marks.iloc[:, -1] >= marks.iloc[:, 0]).all())
        found = FOR if falls else AGAINST if ends_no_lower else UNCLEAR
        found = found if len(wide) > 1 else ONE_RUN
        parts.append(Part(_named(layer), found, ", ".join(f"{value:.3f}" for value in marks.mean())))
    return parts


ABOUT_TEN = (5, 20)


def dead(seen: pd.DataFrame) -> list[Part]:
    parts = []
    for layer, values in _layers(seen, "dead_parameters", equal_rates(seen)).items():
        more = _seeds(values, "orthogonal SGD", "SGD")
        parts.append(Part(f"{layer}, more", more, _both(values, "orthogonal SGD", "SGD")))
        sgd, ours = mean(values["SGD"]), mean(values["orthogonal SGD"])
        times = ours / sgd if sgd else math.inf
        found = FOR if ABOUT_TEN[0] <= times <= ABOUT_TEN[1] else AGAINST
        found = found if min(map(len, values.values())) > 1 else ONE_RUN
        parts.append(Part(f"{layer}, about ten times", found, f"{times:.1f}"))
    return parts


def lower_curve(runs: pd.DataFrame) -> list[Part]:
    runs = sound(runs[runs["chosen"] & (runs["epoch"] > 0)], "train_loss")
    parts = []
    for epoch, some in runs.groupby("epoch"):
        values = last_values(some, "train_loss")
        found = _seeds(values, "orthogonal LARS", "LARS", more_is_better=False)
        share = mean(values["orthogonal LARS"]) / mean(values["LARS"])
        parts.append(Part(f"epoch {epoch}", found, f"{share:.3f} of LARS's loss"))
    return parts


def per_step(costs: pd.DataFrame) -> list[Part]:
    steps = sound(costs[costs["optimizer"] == "OrthogonalSGD svd"], "to_sgd")
    if steps.groupby("model")["batch"].nunique().min() < 2:
        raise ValueError("costs of a single batch size have nothing to be compared with")
    parts = []
    for network, some in steps.sort_values("batch").groupby("model"):
        found = FOR if bool((some["to_sgd"].diff().iloc[1:] < 0).all()) else AGAINST
        told = ", ".join(f"{x:.2f} at {size}" for size, x in zip(some["batch"], some["to_sgd"], strict=True))
        parts.append(Part(str(network), found, f"{told} images"))
    return parts


def fast(times: pd.DataFrame, errors: pd.DataFrame) -> list[Part]:
    contenders = ("orthoviz fast", "quintic float32")
    networks = times[~times["job"].str.contains(" x ") & times["contender"].isin(contenders)]
    rows = sound(sound(networks, "to_svd"), "error")
    parts = []
    for network, some in rows.groupby("job"):
        ours, quintic = (some.set_index("contender").loc[name] for name in contenders)
        found = FOR if ours["to_svd"] > 1 and ours["error"] < quintic["error"] else AGAINST
        told = f"{ours['to_svd']:.1f} times as fast, error {ours['error']:.3f}"
        parts.append(Part(str(network), found, told))
    real = sound(errors[errors["stage"].isin(("early", "late"))], "error")
    for (run, stage), some in real.groupby(["run", "stage"]):
        by_layer = some.pivot(index="layer", columns="method", values="error")
        less = by_layer["fast"] < by_layer["newton_schulz"]
        found = FOR if bool(less.all()) else UNCLEAR if bool(less.any()) else AGAINST
        told = f"errs less in {less.sum()} of {len(less)} layers, at most {by_layer['fast'].max():.2f}"
        parts.append(Part(f"{run}'s {stage} gradients", found, told))
    return parts


def deficient(budget: pd.DataFrame) -> list[Part]:
    rows = sound(sound(budget, "supported"), "possible")
    return [
        Part(f"batch {size}", FOR if some < most else AGAINST, f"{some:.0f} of {most:.0f}")
        for size, most, some in rows[["batch_size", "possible", "supported"]].itertuples(index=False)
    ]


_SCALED = "Muon's order, AdamW's scale"


def adamw_rate(runs: pd.DataFrame) -> list[Part]:
    chosen = runs[runs["chosen"]].groupby("optimizer")["lr"].first()
    lr = float(chosen["AdamW"])
    at, own = _ends(runs[runs["lr"] == lr].assign(chosen=True)), _ends(runs)[_SCALED]
    rates = {f"at {lr:g}": at[_SCALED], f"at its own best rate, {chosen[_SCALED]:g}": own}
    without = _seeds(at, _SCALED, "Muon's order")
    return [
        _as_good("against AdamW", at, _SCALED, "AdamW"),
        _as_good("against its own best rate", rates, *rates),
        Part("against no scale", without, _each(at, _SCALED, "Muon's order")),
    ]


def no_state(runs: pd.DataFrame) -> list[Part]:
    values = _ends(runs)
    return [_as_good(f"against {other}", values, "SWAN", other) for other in ("AdamW", _SCALED)]


def _theory(found: pd.DataFrame, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cases of a theory: a row a seed, a column a quantity."""
    rows = sound(found[found["theory"] == name], "value")
    for case, some in rows.groupby("case", sort=False):
        yield str(case), _by_seed(some, "quantity", "value")


def averages_first(found: pd.DataFrame) -> list[Part]:
    parts = []
    for case, wide in _theory(found, "momentum_first"):
        for measure in ("gain", "cosine"):
            values = {order: wide[f"{measure}_{order}"].tolist() for order in ("after", "before")}
            told = " against ".join(f"{mean(some):.2f}" for some in values.values())
            parts.append(Part(f"{case}, {measure}", _seeds(values, "after", "before"), told))
    return parts


def nuclear(found: pd.DataFrame) -> list[Part]:
    parts = []
    for case, wide in _theory(found, "nuclear_rank"):
        foretold = wide["nuclear_rank"] >= wide["stable_rank"]
        right = foretold == (wide["drop_spectral"] > wide["drop_gradient"])
        told = FOR if bool(right.all()) else UNCLEAR if bool(right.any()) else AGAINST
        ranks = f"{wide['nuclear_rank'].mean():.1f} against {wide['stable_rank'].mean():.1f}"
        parts.append(Part(case, told, f"ranks {ranks}, right in {right.sum()} of {len(right)} runs"))
    return parts
