r"""What is wrong with a run: ten faults, each named with the number that shows it and what to do.

At every measured step a monitor notes a few numbers (:mod:`orthoviz.monitor.facts`) of each parameter that
its optimiser holds, whatever the quantities are; when the next step begins, how far the weights are from
where they were left; and every loss. They leave the device with the step's record, and are no part of the
frame. :data:`RULES` says what is made of them: medians over the measured steps, so that one odd step is no
fault.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from orthoviz.monitor.facts import has_own_length

if TYPE_CHECKING:
    import pandas as pd

    from orthoviz.monitor.monitor import Monitor


class Fault(NamedTuple):
    """One fault.

    Attributes:
        fault: its name, a key of :data:`RULES`.
        layers: the weights that have it, worst first. Empty: it is the whole run's.
        value: the number that shows it, of the worst.
        text: one line: number, meaning, what to do.
    """

    fault: str
    layers: tuple[str, ...]
    value: float
    text: str


class Report(list[Fault]):
    """Faults; ``print`` it. Empty for a healthy run.

    Attributes:
        steps, measured: of the optimiser, and how many of them were measured.
    """

    steps: int = 0
    measured: int = 0

    def __str__(self) -> str:
        nothing = f"Nothing found by {self.measured} measurements in {self.steps} steps."
        return "\n".join(f"{fault.fault}: {fault.text}" for fault in self) or nothing

    __repr__ = __str__


class Run(NamedTuple):
    """What rules look at beside the table of parameters.

    Attributes:
        measured: steps.
        claims: the optimiser is one that orthogonalises.
        rest: rms change of an entry of the rest over that of the matrices.
        lost: the step since when no loss (or a weight, where none is logged) is finite; infinity if never.
    """

    measured: int
    claims: bool
    rest: float
    lost: float


# How a fault is found, as the values of the layers that have it; and what is said of the worst.
Rule = tuple[Callable[["pd.DataFrame", Run], "pd.Series[float]"], str]


def _whole(value: float, wrong: bool) -> "pd.Series[float]":
    """A fault of the whole run."""
    import pandas as pd

    return pd.Series({"": value} if wrong else {}, dtype=float)


# The ten faults by name.
RULES: dict[str, Rule] = {
    "shrunk by its optimiser": (
        lambda t, run: (1 / t.reached)[t.reached < 1 / 3],
        "{layers}: {value:.3g} times shorter than the factor promised. The optimiser clips gradients, and a "
        "factor has length sqrt(rank): switch that off (timm's Lamb: max_grad_norm=None). Or weights in half "
        "precision swallow the step: keep them in float32"),
    "shrunk by hand": (
        lambda t, run: t.between[t.between > 0.1],
        "{layers}: weights changed between two steps, by {value:.3g} times the length of the step before. "
        "Leave them to the optimiser: a lower rate, its weight_decay"),
    "nothing orthogonalised": (
        lambda t, run: _whole(t.wide.sum(), run.claims and not any(t.factored) and any(t.gradient > 0)),
        "none of {value:.0f} parameters with two or more dimensions had a factor. The optimiser's groups "
        "call none a matrix: make it from ov.param_groups(model)"),
    "embedding orthogonalised": (
        lambda t, run: t.rows[t.factored & t.embedding & ~t.tied],
        "{layers}: a table of {value:.0f} rows, of which a batch uses some, and each moves as far whether "
        "seen once or often. Leave it to the rest, as ov.param_groups(model) does"),
    "head orthogonalised": (
        lambda t, run: t.tall[t.factored & (t.tied | (t.final & (t.tall >= 10)))],
        "{layers}: {value:.3g} times as tall as wide, or shared with an embedding. Rare classes move as far "
        "as common ones: leave it to the rest, overrides={{name: 'skip'}}"),
    "rate of the rest": (
        lambda t, run: _whole(run.rest, run.rest > 100 or 0 < run.rest < 1 / 100),
        "an entry of biases, norms and embeddings moves {value:.3g} times as far as one of the matrices. "
        "Give them a rate of their own: rest='adamw', rest_lr=..."),
    "rounding stepped along": (
        lambda t, run: t.noise[t.noise > 0.1],
        "{layers}: {value:.0%} of the factor's directions are rounding of half precision, at full length. "
        "Cut them off: tol='bf16' or 'fp16' with method='exact'"),
    "rank under half": (
        lambda t, run: 1 - t["rank"][t["rank"] < 0.5],
        "{layers}: the gradient lacks {value:.0%} of its possible directions, which stand still. Take a "
        "larger batch, or momentum before the factor: order='after_momentum'"),
    "does not move": (
        lambda t, run: t.gradient.fillna(0)[t.still & (run.measured > 1)],
        "{layers}: the same after each measured step, at a gradient of length {value:.3g}. Does it require "
        "gradients, reach the loss, and have a rate above 0? Else take it out of the optimiser"),
    "not finite": (
        lambda t, run: _whole(run.lost, run.lost < torch.inf),
        "the loss (or, where none is logged, a weight) is not finite since step {value:.0f}. Start again "
        "from before with a lower rate or a warm-up; float16 needs a GradScaler"),
}  # fmt: skip


def report(monitor: "Monitor") -> Report:
    """Judge what a monitor has noted. :meth:`Monitor.report` is the method that one calls."""
    import pandas as pd

    facts: dict[str, dict[str, pd.Series[float]]] = {"loss": {}, "change": {}}
    for (layer, fact), pairs in monitor.recorder.facts.items():
        facts.setdefault(fact, {})[layer] = pd.Series(pairs[1::2], pd.Index(pairs[::2], dtype=int))
    changes = pd.DataFrame(facts["change"], dtype=float)  # a row a step, a column a parameter
    table = _parameters(monitor).reindex(changes.columns)
    for fact in ("gradient", "reached", "between", "rank", "noise"):
        medians = {name: values.median() for name, values in facts.get(fact, {}).items()}
        table[fact] = pd.Series(medians, dtype=float).reindex(table.index)
    still = (changes.fillna(0) == 0).all()
    table["still"] = still & (table.wide | all(still | table.wide))  # biases: only if none of them moves
    losses = facts["loss"] or facts["change"]
    run = Run(
        measured=len(changes),
        claims=hasattr(monitor.optimizer, "register_stage_hook"),
        rest=_rest(monitor, changes, table),
        lost=min(map(_lost, losses.values()), default=torch.inf),
    )
    found = Report()
    found.steps, found.measured = monitor.step, run.measured
    for name, (find, text) in RULES.items():
        values = find(table, run).sort_values(ascending=False)
        if len(values):
            layers, value = tuple(filter(None, map(str, values.index))), float(values.iloc[0])
            told = ", ".join(layers[:3]) + f" and {len(layers) - 3} more" * (len(layers) > 3)
            found.append(Fault(name, layers, value, text.format(layers=told, value=value)))
    return found


def _parameters(monitor: "Monitor") -> "pd.DataFrame":
    """What is known of each parameter without a measurement."""
    import pandas as pd

    users: dict[Tensor, list[bool]] = {}  # of each module that holds it, whether it is an embedding
    for module in monitor.model.modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(parameter, []).append(isinstance(module, nn.Embedding | nn.EmbeddingBag))
    rows = {}
    for layer in (*monitor.layers, *monitor.rest):
        p, embedding = layer.parameter, users.get(layer.parameter, [False])
        rows[layer.name] = {
            "rows": len(p) if p.ndim else 1, "tall": len(p) ** 2 / p.numel() if p.ndim and len(p) else 1.0,
            "entries": p.numel(), "wide": p.ndim > 1, "factored": p in monitor.factored,
            "embedding": any(embedding), "tied": any(embedding) and not all(embedding),
        }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index")
    order = [name for name, p in monitor.model.named_parameters() if p.ndim == 2 and name in rows]
    order = [name for name in order if not table.embedding[name]]
    table["final"] = table.index.isin(order[-1:])
    return table


def _rest(monitor: "Monitor", changes: "pd.DataFrame", table: "pd.DataFrame") -> float:
    """How many times as far the rest's entries move as the matrices'; NaN where it says nothing of rates."""
    parts = table.index[~table.factored], table.index[table.factored]
    groups = [] if monitor.optimizer is None else monitor.optimizer.param_groups
    if not all(map(len, parts)) or any(map(has_own_length, groups)):
        return torch.nan
    rest, matrices = ((changes[names] ** 2).sum(axis=1) / table.entries[names].sum() for names in parts)
    return float((rest / matrices).median() ** 0.5)


def _lost(values: "pd.Series[float]") -> float:
    """The step since when no value is finite; infinity if the last one is."""
    finite = values.abs() < torch.inf
    since = values.index[~finite[::-1].cummax()[::-1]]
    return float(min(since, default=torch.inf))
