"""The ledger of claims: what the paper and its successors say, and what the stored runs say to that.

A claim's rule turns the stored tables that it needs into comparisons, each for the claim, against it, or
unclear, and :func:`concluded` makes a verdict of them. No verdict is typed in: a table changes, and it does.
"""

import json
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from orthoviz.training import recipes
from orthoviz.training.comparison import best_rate, last_values
from orthoviz.training.stored import folder, names, results
from orthoviz.verdicts import verdict

if TYPE_CHECKING:
    from IPython.display import Markdown

__all__ = ["CLAIMS", "VERDICTS", "Claim", "Part", "concluded", "judge", "ledger", "listing", "shown", "table"]

VERDICTS = HOLDS, FAILS, MIXED, UNTESTED = ("holds", "does not hold here", "mixed", "not tested")
"""What a claim can come to."""

FOR, AGAINST, UNCLEAR, ONE_RUN = "for", "against", "unclear", "one run each"

_WIDTH = 100


class Part(NamedTuple):
    """One comparison of a rule."""

    label: str
    """What is compared, where there are several."""
    found: str
    """``"for"`` the claim, ``"against"`` it, ``"unclear"``, or ``"one run each"``, which tells nothing."""
    figures: str


class Claim(NamedTuple):
    """A claim, and how it is decided."""

    by: str
    """Whose it is: "the paper", "this course" or "its successors"."""
    text: str
    """In one sentence."""
    source: str
    needs: tuple[str, ...]
    """Stored tables; ``"name/watched"`` is ``results/name/watched.csv``."""
    rule: str
    """In words."""
    parts: Callable[..., list[Part]]
    """The rule: from the tables that are needed, in this order, to comparisons."""


def concluded(parts: Sequence[Part]) -> str:
    """The verdict on a claim.

    "holds" where every comparison is for it; "does not hold here" where none is, and at least one is against
    it; otherwise "mixed". Comparisons of one run each count for nothing; "not tested" where there are no
    others.
    """
    found = [part.found for part in parts if part.found != ONE_RUN]
    if not found:
        return UNTESTED
    if set(found) == {FOR}:
        return HOLDS
    return FAILS if AGAINST in found and FOR not in found else MIXED


def judge(name: str) -> tuple[str, str]:
    """A claim's verdict, and the figures that it rests on: none where a table is missing.

    Raises:
        ValueError: there is no such claim; or a stored table lacks what the rule reads, or has something else
            than numbers there.
    """
    claim = _claim(name)
    if _missing(claim):
        return UNTESTED, ""
    try:
        parts = claim.parts(*map(_read, claim.needs))
        if not parts:
            raise ValueError("there is nothing that the rule compares")
    except (KeyError, ValueError) as error:
        reason = f"the rule reads what is not there, {error}" if isinstance(error, KeyError) else error
        places = " and ".join(dict.fromkeys(f"results/{need}" for need in claim.needs))
        made = "; ".join(dict.fromkeys(map(_command, claim.needs)))
        raise ValueError(f"claim {name!r} cannot be judged by {places}: {reason}. Made by: {made}") from error
    return concluded(parts), _figures(parts)


def _figures(parts: Sequence[Part]) -> str:
    """Where there are several comparisons, those for the claim together, then those against it, and so on."""
    if len(parts) == 1 and parts[0].found != ONE_RUN:
        return parts[0].figures
    says = []
    for found in (FOR, AGAINST, UNCLEAR, ONE_RUN):
        if some := [f"{part.label}: {part.figures}" for part in parts if part.found == found]:
            says.append(f"{found.capitalize()}: {'; '.join(some)}.")
    return " ".join(says)


def ledger(*chosen: str) -> pd.DataFrame:
    """A claim a row: all, or those that are named.

    Returns:
        Columns ``name``, ``by``, ``claim``, ``source``, ``rule``, ``results``, ``verdict``, ``figures``, and
        ``command``, which makes the runs that a claim lacks.

    Raises:
        ValueError: as :func:`judge`.
    """
    rows = []
    for name in chosen or CLAIMS:
        claim, (decided, figures) = _claim(name), judge(name)
        told = {"name": name, "by": claim.by, "claim": claim.text, "source": claim.source, "rule": claim.rule}
        told |= {"results": ", ".join(dict.fromkeys(claim.needs)), "verdict": decided, "figures": figures}
        rows.append(told | {"command": _lacking(claim) if decided == UNTESTED else ""})
    return pd.DataFrame(rows)


def listing() -> str:
    """All claims in words, those of one origin together, and how many came to which verdict."""
    frame = ledger()
    lines = []
    for by, rows in frame.groupby("by", sort=False):
        lines += [f"{by}".upper(), ""]
        for row in rows.to_dict("records"):
            told = row["figures"] or f"Not run: {row['command']}"
            lines += [f"{row['name']}: {row['verdict']}", *_wrapped(row["claim"]), *_wrapped(told), ""]
    counts = frame["verdict"].value_counts()
    tally = ", ".join(f"{one} {counts.get(one, 0)}" for one in VERDICTS)
    lines += [
        f"{len(frame)} claims: {tally}.",
        "One in full, with its source and its rule: orthoviz claims NAME",
        "A run counts once it is stored: orthoviz results store RECIPE FOLDER COPY",
    ]
    return "\n".join(lines)


def shown(name: str) -> str:
    """One claim in full: source, rule, figures, and the runs that they come from.

    Raises:
        ValueError: as :func:`judge`.
    """
    claim = _claim(name)
    decided, figures = judge(name)
    told = {"claim": claim.text, "source": f"{claim.by}: {claim.source}", "rule": claim.rule}
    if figures:
        told["figures"] = figures
    if decided == UNTESTED:
        told["not run"] = _lacking(claim)
    for stored in dict.fromkeys(need.partition("/")[0] for need in claim.needs):
        if stored in names():
            about = json.loads(results(stored).attrs["provenance"])
            told[f"results/{stored}"] = f"{about['what']}. {about['data']}. {about['date']}"
    lines = [f"{name}: {decided}"]
    for key, text in told.items():
        lines += ["", key, *_wrapped(text)]
    return "\n".join(lines)


def table(*chosen: str) -> "Markdown":
    """The ledger for a notebook: all claims, or those that are named. ``.data`` is its Markdown.

    Raises:
        ValueError: as :func:`judge`.
    """
    from IPython.display import Markdown

    lines = ["| claim | verdict | figures |", "|---|---|---|"]
    for row in ledger(*chosen).to_dict("records"):
        told = row["figures"] or f"not run: `{row['command']}`"
        cells = [cell.replace("|", r"\|") for cell in (row["claim"], f"**{row['verdict']}**", told)]
        lines.append(f"| {' | '.join(cells)} |")
    return Markdown("\n".join(lines))  # type: ignore[no-untyped-call]


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise ValueError(f"there is no claim {name!r}; there is: {', '.join(CLAIMS)}")
    return CLAIMS[name]


def _wrapped(text: str) -> list[str]:
    """Lines with a margin; a number and its % stay together."""
    margin, tied = " " * 4, text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(
        tied, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


# Stored tables

_KEYS = ("lr", "batch_size", "batch", "seed", "epoch", "step")  # by which rules pick rows


def _read(need: str) -> pd.DataFrame:
    stored, _, part = need.partition("/")
    read = pd.read_csv(folder(stored) / f"{part}.csv") if part else results(stored)
    read.attrs["name"] = stored
    for column in {*_KEYS} & {*read}:
        _sound(read, column)
    return read


def _missing(claim: Claim) -> list[str]:
    def there(need: str) -> bool:
        stored, _, part = need.partition("/")
        return stored in names() and (folder(stored) / f"{part or 'table'}.csv").is_file()

    return [need for need in claim.needs if not there(need)]


_BENCHMARKS = {
    "lr_sweep": "python -m benchmarks.lr_sweep COPY",
    "filters": "python -m benchmarks.traces COPY",
    "polar": "python -m benchmarks.polar",
    "polar_gradients": "python -m benchmarks.polar_gradients COPY",
    "optim": "python -m benchmarks.optim",
    "rank_budget": "python -m benchmarks.rank_budget COPY",
    "theories": "python -m benchmarks.theories",
}


def _command(need: str) -> str:
    """What makes a stored table."""
    made = {name.replace("/", "-"): f"orthoviz train {name}" for name in recipes.RECIPES}
    return (made | _BENCHMARKS)[need.partition("/")[0]]


def _lacking(claim: Claim) -> str:
    """What makes the tables that a claim lacks; or more runs, where those of one run each tell nothing."""
    if missing := _missing(claim):
        return "; ".join(dict.fromkeys(map(_command, missing)))
    trained = [command for command in map(_command, claim.needs) if command.startswith("orthoviz train")]
    return "; ".join(f"{command} --seeds 3" for command in dict.fromkeys(trained))


def _sound(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """These rows, if there are any and the column is a number in all of them."""
    if rows.empty:
        raise ValueError(f"there are no rows whose {column} the rule could read")
    numbers = pd.to_numeric(rows[column], errors="coerce")
    if bad := int((~numbers.map(math.isfinite)).sum()):
        raise ValueError(f"{column} is no number in {bad} of {len(rows)} rows that the rule reads")
    return rows


# From tables to comparisons


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
    _sound(pd.DataFrame({column: [value for some in values.values() for value in some]}), column)
    return values


def _sizes(runs: pd.DataFrame, least: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """A table by its name; or where it has several batch sizes, those from the least on, one by one."""
    name, sizes = runs.attrs["name"], sorted(runs["batch_size"].unique())
    for size in sizes:
        if size >= least:
            label = f"{name.partition('-')[2]}, batch {size}" if len(sizes) > 1 else name
            yield label, runs[runs["batch_size"] == size]


def _better(
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


def _convolutions_only(*tables: pd.DataFrame) -> list[Part]:
    """Two tables a network: with the head left alone, and with it."""
    parts = []
    for only, every in zip(tables[::2], tables[1::2], strict=True):
        both = (_ends(runs)["orthogonal SGD"] for runs in (only, every))
        values = dict(zip(("convolutions only", "all layers"), both, strict=True))
        parts.append(_as_good(only.attrs["name"], values, *values))
    return parts


def _sooner(runs: pd.DataFrame, targets: Sequence[int]) -> list[Part]:
    """Epochs and seconds until a run first has so many per cent right; never takes infinitely many."""
    runs = _sound(_sound(runs[runs["chosen"]], "test_accuracy"), "seconds")
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
    last = _sound(runs[runs["epoch"] == runs["epoch"].max()], "test_accuracy")
    wide = _by_seed(last, ["optimizer", "lr"], "test_accuracy")
    return pd.DataFrame(wide["SGD"]), pd.DataFrame(wide["orthogonal SGD"])


def _flat(runs: pd.DataFrame) -> list[Part]:
    both = zip(("SGD", "orthogonal SGD"), _over_rates(runs), strict=True)
    falls = {name: (some.max(axis=1) - some.min(axis=1)).tolist() for name, some in both}
    found = _seeds(falls, "orthogonal SGD", "SGD", more_is_better=False)
    points = _each(falls, "orthogonal SGD", "SGD", form=_POINTS)
    return [Part("", found, f"points from the best to the worst of four rates: {points}")]


def _ruler(runs: pd.DataFrame) -> list[Part]:
    sgd, ours = _over_rates(runs)
    leads = {
        "at 0.01 for both": (ours[0.01] - sgd[0.01]).tolist(),
        "each at its best": (ours[ours.mean().idxmax()] - sgd[sgd.mean().idxmax()]).tolist(),
    }
    return [Part("", _seeds(leads, *leads), f"points of lead: {_each(leads, *leads, form=_POINTS)}")]


def _shape(runs: pd.DataFrame) -> list[Part]:
    values = _ends(runs)
    pairs = (("norm-matched", "SGD"), ("orthogonal SGD", "per tensor"), ("orthogonal SGD", "per filter"))
    return [Part(" against ".join(pair), _seeds(values, *pair), _both(values, *pair)) for pair in pairs]


_KEPT = "orthogonal SGD, null kept"  # what the paper's code does
_CHANCE = 0.1


def _collapsed(values: Mapping[str, Sequence[float]], name: str) -> bool:
    """Whether every run has less than half of what the worst of SGD's has over chance."""
    return max(values[name]) - _CHANCE < (min(values["SGD"]) - _CHANCE) / 2


def _at_four(tables: Sequence[pd.DataFrame]) -> Iterator[tuple[str, dict[str, list[float]], bool]]:
    """Of each table its network, the final accuracies at batch 4, and whether there are several runs."""
    for runs in tables:
        values = _ends(runs[runs["batch_size"] == 4])
        yield runs.attrs["name"].partition("-")[2], values, min(map(len, values.values())) > 1


def _collapse(*tables: pd.DataFrame) -> list[Part]:
    parts = []
    for network, values, several in _at_four(tables):
        behind = _seeds(values, "SGD", _KEPT)
        parts.append(Part(f"{network} behind SGD", behind, _both(values, _KEPT, "SGD")))
        found = FOR if _collapsed(values, _KEPT) else AGAINST
        ours, sgd = (100 * (mean(values[name]) - _CHANCE) for name in (_KEPT, "SGD"))
        over = f"{ours:.1f} points over chance, SGD {sgd:.1f}"
        parts.append(Part(f"{network} collapsed", found if several else ONE_RUN, over))
    return parts


def _null(*tables: pd.DataFrame) -> list[Part]:
    parts = []
    for network, values, several in _at_four(tables):
        found = FOR if _collapsed(values, _KEPT) and not _collapsed(values, "orthogonal SGD") else AGAINST
        told = {"kept": values[_KEPT], "dropped": values["orthogonal SGD"], "SGD": values["SGD"]}
        parts.append(Part(network, found if several else ONE_RUN, _each(told, *told)))
    return parts


def _layers(
    seen: pd.DataFrame, quantity: str, rates: Mapping[str, float]
) -> dict[str, dict[str, list[float]]]:
    """What a monitor saw last: layer and optimiser, at these learning rates, to values, one a run."""
    rows = seen[(seen["quantity"] == quantity) & (seen["lr"] == seen["optimizer"].map(rates))]
    last = _sound(rows[rows["step"] == rows["step"].max()], "value")
    return {
        str(layer): {str(name): some["value"].tolist() for name, some in part.groupby("optimizer")}
        for layer, part in last.groupby("layer", sort=False)
    }


_Rates = Callable[[pd.DataFrame], dict[str, float]]


def _equal_rates(seen: pd.DataFrame) -> dict[str, float]:
    return {"SGD": 0.01, "orthogonal SGD": 0.01}


def _best_rates(seen: pd.DataFrame) -> dict[str, float]:
    scores = _sound(seen[seen["quantity"] == "test_accuracy"], "value")
    return {str(name): best_rate(some, "value") for name, some in scores.groupby("optimizer")}


def _less_alike(*tables: pd.DataFrame, quantity: str, rates: Sequence[_Rates]) -> list[Part]:
    """A cosine is lower with orthogonal SGD: in every layer of every table, at its rates."""
    parts = []
    for seen, chosen in zip(tables, rates, strict=True):
        lrs = chosen(seen)
        rated = " and ".join(dict.fromkeys(f"{lrs[name]:g}" for name in ("orthogonal SGD", "SGD")))
        for layer, values in _layers(seen, quantity, lrs).items():
            found = _seeds(values, "orthogonal SGD", "SGD", more_is_better=False)
            ours, sgd = (mean(values[name]) for name in ("orthogonal SGD", "SGD"))
            label = f"{seen.attrs['name']} at {rated}, {layer}"
            parts.append(Part(label, found, f"{ours:.3f} against {sgd:.3f}"))
    return parts


def _falling(seen: pd.DataFrame) -> list[Part]:
    """By layer: a cosine at the start and after each quarter of the training."""
    rows = seen[(seen["quantity"] == "feature_cosine") & (seen["optimizer"] == "orthogonal SGD")]
    parts = []
    for layer, part in _sound(rows, "value").groupby("layer", sort=False):
        wide = _by_seed(part, "step", "value")
        marks = wide.iloc[:, [round(quarter * (wide.shape[1] - 1) / 4) for quarter in range(5)]]
        falls = bool((marks.diff(axis=1).iloc[:, 1:] < 0).all(axis=None))
        ends_no_lower = bool((marks.iloc[:, -1] >= marks.iloc[:, 0]).all())
        found = FOR if falls else AGAINST if ends_no_lower else UNCLEAR
        parts.append(Part(str(layer), found, ", ".join(f"{value:.3f}" for value in marks.mean())))
    return parts


_ABOUT_TEN = (5, 20)


def _dead(seen: pd.DataFrame) -> list[Part]:
    parts = []
    for layer, values in _layers(seen, "dead_parameters", _equal_rates(seen)).items():
        more = _seeds(values, "orthogonal SGD", "SGD")
        parts.append(Part(f"{layer}, more", more, _both(values, "orthogonal SGD", "SGD")))
        sgd, ours = mean(values["SGD"]), mean(values["orthogonal SGD"])
        times = ours / sgd if sgd else math.inf
        found = FOR if _ABOUT_TEN[0] <= times <= _ABOUT_TEN[1] else AGAINST
        parts.append(Part(f"{layer}, about ten times", found, f"{times:.1f}"))
    return parts


def _lower_curve(runs: pd.DataFrame) -> list[Part]:
    runs = _sound(runs[runs["chosen"] & (runs["epoch"] > 0)], "train_loss")
    parts = []
    for epoch, some in runs.groupby("epoch"):
        values = last_values(some, "train_loss")
        found = _seeds(values, "orthogonal LARS", "LARS", more_is_better=False)
        share = mean(values["orthogonal LARS"]) / mean(values["LARS"])
        parts.append(Part(f"epoch {epoch}", found, f"{share:.3f} of LARS's loss"))
    return parts


def _per_step(costs: pd.DataFrame) -> list[Part]:
    steps = _sound(costs[costs["optimizer"] == "OrthogonalSGD svd"], "to_sgd")
    parts = []
    for network, some in steps.sort_values("batch").groupby("model"):
        found = FOR if bool((some["to_sgd"].diff().iloc[1:] < 0).all()) else AGAINST
        told = ", ".join(f"{x:.2f} at {size}" for size, x in zip(some["batch"], some["to_sgd"], strict=True))
        parts.append(Part(str(network), found, f"{told} images"))
    return parts


def _fast(times: pd.DataFrame, errors: pd.DataFrame) -> list[Part]:
    contenders = ("orthoviz fast", "quintic float32")
    networks = times[~times["job"].str.contains(" x ") & times["contender"].isin(contenders)]
    rows = _sound(_sound(networks, "to_svd"), "error")
    parts = []
    for network, some in rows.groupby("job"):
        fast, quintic = (some.set_index("contender").loc[name] for name in contenders)
        found = FOR if fast["to_svd"] > 1 and fast["error"] < quintic["error"] else AGAINST
        told = f"{fast['to_svd']:.1f} times as fast, error {fast['error']:.3f}"
        parts.append(Part(str(network), found, told))
    real = _sound(errors[errors["stage"].isin(("early", "late"))], "error")
    for (run, stage), some in real.groupby(["run", "stage"]):
        by_layer = some.pivot(index="layer", columns="method", values="error")
        less = by_layer["fast"] < by_layer["newton_schulz"]
        found = FOR if bool(less.all()) else UNCLEAR if bool(less.any()) else AGAINST
        told = f"errs less in {less.sum()} of {len(less)} layers, at most {by_layer['fast'].max():.2f}"
        parts.append(Part(f"{run}'s {stage} gradients", found, told))
    return parts


def _deficient(budget: pd.DataFrame) -> list[Part]:
    rows = _sound(_sound(budget, "supported"), "possible")
    return [
        Part(f"batch {size}", FOR if some < most else AGAINST, f"{some:.0f} of {most:.0f}")
        for size, most, some in rows[["batch_size", "possible", "supported"]].itertuples(index=False)
    ]


_SCALED = "Muon's order, AdamW's scale"


def _adamw_rate(runs: pd.DataFrame) -> list[Part]:
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


def _no_state(runs: pd.DataFrame) -> list[Part]:
    values = _ends(runs)
    return [_as_good(f"against {other}", values, "SWAN", other) for other in ("AdamW", _SCALED)]


def _theory(found: pd.DataFrame, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cases of a theory: a row a seed, a column a quantity."""
    rows = _sound(found[found["theory"] == name], "value")
    for case, some in rows.groupby("case", sort=False):
        yield str(case), _by_seed(some, "quantity", "value")


def _averages_first(found: pd.DataFrame) -> list[Part]:
    parts = []
    for case, wide in _theory(found, "momentum_first"):
        for measure in ("gain", "cosine"):
            values = {order: wide[f"{measure}_{order}"].tolist() for order in ("after", "before")}
            told = " against ".join(f"{mean(some):.2f}" for some in values.values())
            parts.append(Part(f"{case}, {measure}", _seeds(values, "after", "before"), told))
    return parts


def _nuclear(found: pd.DataFrame) -> list[Part]:
    parts = []
    for case, wide in _theory(found, "nuclear_rank"):
        foretold = wide["nuclear_rank"] >= wide["stable_rank"]
        right = foretold == (wide["drop_spectral"] > wide["drop_gradient"])
        told = FOR if bool(right.all()) else UNCLEAR if bool(right.any()) else AGAINST
        ranks = f"{wide['nuclear_rank'].mean():.1f} against {wide['stable_rank'].mean():.1f}"
        parts.append(Part(case, told, f"ranks {ranks}, right in {right.sum()} of {len(right)} runs"))
    return parts


# The claims

_SEEDS = "Better or worse where every run of one beats every run of the other, otherwise unclear. "
_MEAN = "Unclear counts as as good where the mean is no lower. "


def _paper(recipe: str) -> str:
    return recipes.recipe(recipe).paper


_RISES = [model for model, (_, _, sgd, ours) in recipes.PAPER_TABLE1.items() if float(ours) > float(sgd)]
_DEEP = [model for model in recipes.PAPER_TABLE1 if model != "basic_cnn"]
_HEADLESS = [model for model in recipes.PAPER_TABLE3 if model != "basic_cnn"]
_WATCHED = "table1-basic_cnn/watched"
_BATCHES = ("batch_size-basic_cnn", "batch_size-resnet18")

CLAIMS: dict[str, Claim] = {
    "table1_basic_cnn": Claim(
        "the paper",
        "At learning rate 0.01 for both, BasicCNN ends more accurate with orthogonal SGD than with SGD.",
        f"Table 1: {_paper('table1/basic_cnn')}",
        ("table1-basic_cnn",),
        _SEEDS + "Test accuracy after 100 epochs.",
        _better,
    ),
    "table1_loss": Claim(
        "the paper",
        "At learning rate 0.01 for both, BasicCNN ends with a lower test loss with orthogonal SGD.",
        f"Table 1: {_paper('table1/basic_cnn')}; in the same table it rises for {', '.join(_RISES)}",
        ("table1-basic_cnn",),
        _SEEDS + "Test loss after 100 epochs.",
        partial(_better, columns=("test_loss",)),
    ),
    "table1_resnets": Claim(
        "the paper",
        f"Each of Table 1's {len(_DEEP)} deeper networks ends more accurate with orthogonal SGD.",
        "Table 1: " + "; ".join(f"{model}: {_paper(f'table1/{model}')}" for model in _DEEP),
        tuple(f"table1-{model}" for model in _DEEP),
        _SEEDS + "Test accuracy after 100 epochs, in every network.",
        _better,
    ),
    "table2": Claim(
        "the paper",
        "With the recipe that was tuned for it, SGD ends more accurate on resnet20 than orthogonal SGD.",
        f"Table 2: {_paper('table2')}; Jordan and others 2024 (Muon) say so too",
        ("table2",),
        _SEEDS + "Test accuracy after 200 epochs.",
        partial(_better, first="SGD", second="orthogonal SGD"),
    ),
    "table3": Claim(
        "the paper",
        "On BasicCNN it is as good to orthogonalise the convolutions only as the head too, or better.",
        f"Table 3: {_paper('table3/basic_cnn')}; Table 1: {_paper('table1/basic_cnn')}",
        ("table3-basic_cnn", "table1-basic_cnn"),
        _SEEDS + _MEAN + "Test accuracy after 100 epochs.",
        _convolutions_only,
    ),
    "table3_resnets": Claim(
        "the paper",
        f"On {' and '.join(_HEADLESS)} it is as good to orthogonalise the convolutions only, or better.",
        "Table 3: " + "; ".join(f"{model}: {_paper(f'table3/{model}')}" for model in _HEADLESS),
        tuple(f"{name}-{model}" for model in _HEADLESS for name in ("table3", "table1")),
        _SEEDS + _MEAN + "Test accuracy after 100 epochs, in each network.",
        _convolutions_only,
    ),
    "imagenet": Claim(
        "the paper",
        "On ImageNet ResNet-34 ends more accurate with orthogonal SGD, and with a lower loss.",
        f"the experiment on ImageNet: {_paper('imagenet/resnet34')}",
        ("imagenet-resnet34",),
        _SEEDS + "Accuracy and loss on the validation images after 100 epochs.",
        partial(_better, columns=("test_accuracy", "test_loss")),
    ),
    "speedup": Claim(
        "the paper",
        "At learning rate 0.01 for both, orthogonal SGD reaches an accuracy sooner than SGD.",
        "Figure 1 and abstract: a large decrease in learning time",
        ("table1-basic_cnn",),
        _SEEDS + "Epochs, and seconds, until a run of BasicCNN first has 50, 60 and 70 % of the test images "
        "right.",
        partial(_sooner, targets=(50, 60, 70)),
    ),
    "flat": Claim(
        "the paper",
        "A naïvely chosen learning rate costs orthogonal SGD less than SGD.",
        "abstract: better accuracy for naïvely chosen hyper-parameters",
        ("lr_sweep",),
        _SEEDS + "Points of test accuracy between the best and the worst of four rates, in each seed; "
        "BasicCNN, five epochs.",
        _flat,
    ),
    "from_batch_16": Claim(
        "the paper",
        "From mini-batches of 16 images on, orthogonal SGD is ahead of SGD.",
        f"the experiment with mini-batch sizes: {_paper('batch_size/resnet18')}",
        _BATCHES,
        _SEEDS + "Final test accuracy at each batch size from 16 on, null directions kept as in the paper's "
        "code.",
        partial(_better, first=_KEPT, least=16),
    ),
    "collapse_at_4": Claim(
        "the paper",
        "At mini-batches of 4 images orthogonal SGD falls behind SGD and collapses.",
        f"the experiment with mini-batch sizes: {_paper('batch_size/resnet18')}",
        _BATCHES,
        _SEEDS + "Final test accuracy at batch 4, null directions kept. Collapsed: every run has less than "
        f"half of what SGD's worst has over chance, {100 * _CHANCE:.0f} %.",
        _collapse,
    ),
    "filters_equal_rate": Claim(
        "the paper",
        "Orthogonal steps leave the filters of a layer less alike than SGD's.",
        "the hypothesis; the paper's own Figure 6, on resnet20, is against it",
        ("filters", _WATCHED),
        _SEEDS + "Mean absolute cosine between the filters of each layer of BasicCNN at the end, at learning "
        "rate 0.01 for both as in the paper, after 5 and after 100 epochs.",
        partial(_less_alike, quantity="mean_abs_cosine", rates=(_equal_rates, _equal_rates)),
    ),
    "maps_lower": Claim(
        "the paper",
        "BasicCNN's feature maps are less alike with orthogonal SGD, in every layer.",
        "Figure 7",
        (_WATCHED,),
        _SEEDS
        + "Mean absolute cosine between the maps of each layer after 100 epochs at learning rate 0.01.",
        partial(_less_alike, quantity="feature_cosine", rates=(_equal_rates,)),
    ),
    "maps_fall": Claim(
        "the paper",
        "With orthogonal SGD the cosines of BasicCNN's feature maps fall throughout training.",
        "Figure 7",
        (_WATCHED,),
        "In each layer, at the start and after each quarter of 100 epochs. For: in every run each value is "
        "below the one before. Against: every run ends no lower than it began. Otherwise unclear.",
        _falling,
    ),
    "dead_parameters": Claim(
        "the paper",
        "About ten times as many parameters are temporarily dead with orthogonal SGD.",
        "the count in resnet50, layer2[1].conv2; dead: a gradient of at most 1e-4 (the paper's code)",
        (_WATCHED,),
        _SEEDS + "Share of dead parameters in each layer of BasicCNN, not of resnet50, in the last epochs of "
        f"100: more by the runs, and on average {_ABOUT_TEN[0]} to {_ABOUT_TEN[1]} times as many.",
        _dead,
    ),
    "barlow_twins": Claim(
        "the paper",
        "Barlow Twins have a lower loss with orthogonal LARS than with LARS, all along.",
        f"the experiment with Barlow Twins: {_paper('barlow_twins')}",
        ("barlow_twins",),
        _SEEDS + "Training loss after each of ten epochs on CIFAR-10 with BasicCNN, not on ImageNet.",
        _lower_curve,
    ),
    "svd_per_step": Claim(
        "the paper",
        "The SVD is paid per step, so small batches pay more for it.",
        "the experiment with mini-batch sizes",
        ("optim",),
        "For: a step with the SVD, in units of a step of SGD, costs less at each batch size than at the next "
        "smaller one. Timed on one machine, two networks.",
        _per_step,
    ),
    "fast_factor": Claim(
        "the paper",
        "A fast approximate orthogonaliser can take the SVD's place.",
        "the authors ask for one",
        ("polar", "polar_gradients"),
        "For: on Gaussian matrices of a network's shapes `fast` takes less time than an SVD of each and errs "
        "less than Muon's quintic, which is good enough for Muon; and on real gradients, early and late in "
        "training, it errs less in every layer (unclear: in some). Timed on one machine.",
        _fast,
    ),
    "rank_deficient": Claim(
        "the paper",
        "The gradients of a mini-batch have fewer directions than their matrices (so that QR will not do).",
        "the choice of the SVD",
        ("rank_budget",),
        "For: summed over all matrices of a ResNet-18 an eighth as wide, at its start, the mean over twenty "
        "batches is below what the shapes allow. At each batch size.",
        _deficient,
    ),
    "ruler": Claim(
        "this course",
        "Part of the lead at an equal learning rate is the length of the step: it shrinks where each has its "
        "best rate.",
        "lesson 00",
        ("lr_sweep",),
        _SEEDS + "Lead of orthogonal SGD in each seed at learning rate 0.01 for both, and with each at its "
        "best of four by mean test accuracy; BasicCNN, five epochs.",
        _ruler,
    ),
    "equal_step": Claim(
        "this course",
        "Where its steps are as long as those of SGD at its best rate, orthogonal SGD is ahead all the same.",
        "lesson 06",
        ("fair-equal_step",),
        _SEEDS + "Test accuracy of BasicCNN after ten epochs.",
        _better,
    ),
    "both_tuned": Claim(
        "this course",
        "Where both are tuned, each at its best of four rates, orthogonal SGD is ahead all the same.",
        "lesson 06; the authors concede that SGDM with a vast amount of tuning still wins (see table2)",
        ("fair-both_tuned",),
        _SEEDS + "Test accuracy of BasicCNN after ten epochs, rates chosen on held-out images.",
        _better,
    ),
    "speedup_tuned": Claim(
        "this course",
        "Where both are tuned, orthogonal SGD still reaches an accuracy sooner.",
        "lesson 06",
        ("fair-both_tuned",),
        _SEEDS + "Epochs, and seconds, until a run of BasicCNN first has 50, 60 and 63 % of the test images "
        "right.",
        partial(_sooner, targets=(50, 60, 63)),
    ),
    "shape": Claim(
        "this course",
        "It is the shape of the orthogonal step that helps, and not its length alone.",
        "lesson 06",
        ("controls",),
        _SEEDS + "Test accuracy of BasicCNN after three epochs, each at its best of four rates: the shape at "
        "the gradient's length (norm-matched) beats SGD, and orthogonal SGD beats the gradient at the "
        "factor's length (per tensor) and rows of equal length (per filter).",
        _shape,
    ),
    "filters_best_rate": Claim(
        "this course",
        "With each at its better rate, orthogonal SGD's filters are the less alike ones.",
        "lesson 04",
        ("filters",),
        _SEEDS + "Mean absolute cosine between the filters of each layer of BasicCNN after five epochs, at "
        "the better of two rates each, by test accuracy.",
        partial(_less_alike, quantity="mean_abs_cosine", rates=(_best_rates,)),
    ),
    "maps_centred": Claim(
        "this course",
        "With each map's mean taken off, feature maps are less alike with orthogonal SGD in every layer.",
        "lesson 04",
        ("filters", "filters", _WATCHED),
        _SEEDS + "Mean absolute cosine between centred maps of each layer of BasicCNN: after five epochs at "
        "equal rates and at the better of two, and after 100 at equal rates.",
        partial(
            _less_alike,
            quantity="centred_feature_cosine",
            rates=(_equal_rates, _best_rates, _equal_rates),
        ),
    ),
    "null_directions": Claim(
        "this course",
        "Null directions, which the paper's code keeps, are what makes orthogonal SGD collapse at batch 4.",
        "lesson 06",
        _BATCHES,
        "For: the runs that keep them collapse at batch 4 (less than half of what SGD's worst run has over "
        "chance), and those that drop them do not. Otherwise against.",
        _null,
    ),
    "muon_order": Claim(
        "its successors",
        "Muon's order, momentum before the polar factor, does better than the paper's.",
        "Jordan and others 2024 (Muon)",
        ("controls", "fair-both_tuned", "batch_size-basic_cnn"),
        _SEEDS
        + "Final test accuracy of BasicCNN: after three and after ten epochs, each at its best of four "
        "rates; and by batch size, at learning rate 0.01 for all.",
        partial(_better, first="Muon's order", second="orthogonal SGD"),
    ),
    "averages_first": Claim(
        "its successors",
        "Momentum before the polar factor averages the noise before the non-linear map, so that the step "
        "keeps more of the signal.",
        "Kovalev 2025 (arXiv 2503.12645)",
        ("theories",),
        _SEEDS + "Gain along a signal in noise, and cosine with it, of the factor of the average and of the "
        "average of the factors, at each strength of the signal.",
        _averages_first,
    ),
    "no_momentum": Claim(
        "its successors",
        "With whitened and normalised gradients no momentum is needed: SWAN is as good as AdamW and Muon, or "
        "better.",
        "Ma and others 2024 (SWAN, arXiv 2412.13148)",
        ("successors",),
        _SEEDS + _MEAN + "Test accuracy of BasicCNN after three epochs, each at its best of the same four "
        "rates, against AdamW and against Muon's order with AdamW's scale.",
        _no_state,
    ),
    "adamw_rate": Claim(
        "its successors",
        "With its update scaled by 0.2 sqrt(max(m, n)), Muon can take AdamW's learning rate.",
        "Liu and others 2025 (Moonlight, arXiv 2502.16982)",
        ("successors",),
        _SEEDS
        + _MEAN
        + "Test accuracy of BasicCNN after three epochs at AdamW's best of four rates: as good "
        "as AdamW, as good as at its own best rate, and better than without the scale.",
        _adamw_rate,
    ),
    "nuclear_rank": Claim(
        "its successors",
        "A spectral step lowers the loss more than a gradient step where the gradient's nuclear rank is at "
        "least the stable rank of the layer's inputs, and only there.",
        "Davis and Drusvyatskiy 2025 (arXiv 2512.04299)",
        ("theories",),
        "One linear layer, a noisy target of rank one, two batch sizes, five seeds. For: at the first "
        "gradient the test foretells in every run which step lowers the loss further, in one step that of "
        "the batch, in 200 the exact error. Against: in none. Otherwise unclear.",
        _nuclear,
    ),
}
"""By name; the paper's, then this course's questions to it, then its successors'."""
