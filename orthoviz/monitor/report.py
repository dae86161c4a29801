r"""What is wrong with a run: ten faults, each named with the number that shows it and what to do.

At every measured step a monitor notes a few numbers of each parameter that its optimiser holds, whatever the
quantities are: lengths of gradient and change (:math:`\|G\|_F`, :math:`\|\Delta W\|_F`), and of a matrix that
was orthogonalised how much of its factor reached the step, how many directions the factor was made from, how
many of them are rounding, and how far the weights are from where the step left them when the next one begins.
They leave the device with the step's record, and are no part of the frame. :data:`RULES` says what is made of
them: medians over the measured steps, so that one odd step is no fault.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from orthoviz.matrices import Layout, as_matrix
from orthoviz.measures.spectra import values64
from orthoviz.polar import counts, default_tol

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


# What is noted at a measured step


def length(tensor: Tensor) -> Tensor:
    """Frobenius norm, in float32 where the tensor is shorter."""
    norm: Tensor = torch.linalg.vector_norm(tensor if tensor.dtype == torch.float64 else tensor.float())
    return norm


def moment(state: Mapping[str, Any], layout: Layout | None, factor: Tensor) -> Tensor | None:
    """How far Adam's first moment goes along a factor; None where an optimiser has none."""
    if layout is None or not {"exp_avg", "exp_avg_sq"} <= state.keys():
        return None
    return (as_matrix(state["exp_avg"].detach(), layout) * factor).sum(dtype=torch.float32)


def reached(
    change: Tensor, factor: Tensor, before: Tensor | None, after: Tensor | None, group: Mapping[str, Any]
) -> Tensor:
    r"""What share of a factor O reached the step: 1 unless the optimiser clips.

    From Adam's first moment :math:`m_t = \beta m_{t-1} + (1 - \beta)\, c\, O` it is
    :math:`c = \langle m_t - \beta m_{t-1}, O \rangle / ((1 - \beta) \|O\|^2)`; without one it is
    :math:`\|\Delta W\| / (\eta (1 - \tau) \|O\|)` with dampening :math:`\tau`, or more where momentum adds.
    """
    if after is not None and "betas" in group:
        beta = group["betas"][0]
        known = 0 if before is None else beta * before
        share: Tensor = (after - known) / ((1 - beta) * length(factor) ** 2)
        return share.abs()
    taken = 1 - group.get("dampening", 0) if group.get("momentum") else 1
    promised: Tensor = group["lr"] * taken * length(factor)
    return change / promised


def half_tol(gradient: Tensor) -> Tensor:
    """The tolerance of the half precision that a gradient was computed in; NaN if it was not.

    Autocast leaves float32 numbers with few different mantissas, also when they are clipped: at most 128 of
    bfloat16 and 1,024 of float16. Gradients that were added up have more, and are not recognised.
    """
    if gradient.dtype in (torch.float16, torch.bfloat16):
        return torch.full((), default_tol(gradient.dtype), device=gradient.device)
    entries = gradient.flatten()
    entries = entries[:: max(1, len(entries) // 4096)]
    mantissas = torch.frexp(entries.abs()).mantissa.sort().values
    different, count = mantissas.diff().count_nonzero() + 1, entries.count_nonzero()
    bf16, fp16 = (default_tol(dtype) for dtype in (torch.bfloat16, torch.float16))
    tol = torch.where(different <= 129, bf16, fp16)  # and zero's
    return tol.where((3 * different < count) & (count > 256), torch.nan)


def directions(
    matrix: Tensor, factor: Tensor, gradient: Tensor, spectrum: tuple[Tensor, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    r"""The rank of what a factor was made from, and how many of the factor's directions are rounding in half
    precision; both as shares of min(m, n), a mean over the parts.

    A factor with gain c in k directions has :math:`\|O\|^2 = c^2 k` and
    :math:`\langle O, G \rangle = c \sum_i s_i`, which gives k.
    """
    s, finite = spectrum
    zero = (s[..., 0] == 0) | ~finite
    rank = counts(s, default_tol(matrix.dtype)).double().mean(-1)
    yield "rank", rank.where(~zero, torch.nan).nanmean()
    O = factor.double()
    along = (O * matrix.double()).sum((-2, -1))
    kept = O.square().sum((-2, -1)) * s.sum(-1).square() / along.square() / s.shape[-1]
    tol = half_tol(gradient).to(s)
    noise = kept - counts(s, tol).double().mean(-1)
    yield "noise", (noise.where(~zero, torch.nan) + 0 * tol).nanmean()


def facts_of(
    seen: Mapping[str, Tensor],
    spectra: Mapping[str, tuple[Tensor, Tensor]],
    group: Mapping[str, Any],
    state: Mapping[str, Any],
    before: Tensor | None,
    layout: Layout | None,
) -> Iterator[tuple[str, Tensor]]:
    """Name and value of what is noted of one parameter after a step.

    Args:
        seen: its matrices by stage, and "change", which is there without a gradient too.
        spectra: those that are known already, by stage.
        group, state: the optimiser's. An empty group: what the step promised is not known.
        before: :func:`moment` before the step.
        layout: of its matrix.
    """
    change = length(seen["change"])
    yield "change", change
    if "raw" not in seen:
        return
    yield "gradient", length(seen["raw"])
    if layout is None or "orthogonal" not in seen:
        return
    matrix, factor = seen["input"], seen["orthogonal"]
    stage = "raw" if matrix is seen["raw"] else "input"
    yield from directions(matrix, factor, seen["raw"], spectra.get(stage) or values64(matrix))
    sized = {name for name, value in state.items() if isinstance(value, Tensor) and value.ndim > 1}
    after = moment(state, layout, factor)
    promised = sized <= {"momentum_buffer"} and not _own_length(group)
    if group and (after is not None or promised):
        yield "reached", reached(change, factor, before, after, group)


def _own_length(group: Mapping[str, Any]) -> bool:
    """Whether steps of matrices are made as long as a share of the weights, as in LARS."""
    return any("trust" in name for name in group)


# What is made of it


class Run(NamedTuple):
    """What rules look at beside the table of parameters.

    Attributes:
        measured: steps.
        claims: the optimiser is one that orthogonalises.
        rest: rms change of an entry of the rest over that of the matrices.
        lost: the first of the last steps whose loss (or weights, where no loss is logged) is not finite.
    """

    measured: int
    claims: bool
    rest: float
    lost: float


class Rule(NamedTuple):
    """How a fault is found: the values of layers that have it; then what is said."""

    find: Callable[["pd.DataFrame", Run], "pd.Series[float]"]
    text: str
    worst: Callable[["pd.Series[float]"], float] = max


def _whole(value: float, wrong: bool) -> "pd.Series[float]":
    """A fault of the whole run."""
    import pandas as pd

    return pd.Series({"": value} if wrong else {}, dtype=float)


RULES = {
    "shrunk by its optimiser": Rule(
        lambda t, run: (1 / t.reached)[t.reached < 1 / 3],
        "{layers}: {value:.3g} times shorter than the factor promised. The optimiser clips or normalises what "
        "it is given, and a factor has length sqrt(rank): switch that off (timm's Lamb: max_grad_norm=None)"),
    "shrunk by hand": Rule(
        lambda t, run: t.between[t.between > 0.1],
        "{layers}: weights changed between two steps, by {value:.3g} times the length of the step before. "
        "Leave them to the optimiser: a lower rate, its weight_decay"),
    "nothing orthogonalised": Rule(
        lambda t, run: _whole(t.wide.sum(), run.claims and not any(t.factored) and any(t.gradient > 0)),
        "none of {value:.0f} parameters with two or more dimensions had a factor. The optimiser's groups "
        "call none a matrix: make it from ov.param_groups(model)"),
    "embedding orthogonalised": Rule(
        lambda t, run: t.rows[t.factored & t.embedding & ~t.tied],
        "{layers}: a table of {value:.0f} rows, of which a batch uses some, and each moves as far whether seen "
        "once or often. Leave it to the rest, as ov.param_groups(model) does"),
    "head orthogonalised": Rule(
        lambda t, run: t.tall[t.factored & (t.tied | (t.final & (t.tall >= 10)))],
        "{layers}: {value:.3g} times as tall as wide, or shared with an embedding. Rare classes move as far "
        "as common ones: leave it to the rest, overrides={{name: 'skip'}}"),
    "rate of the rest": Rule(
        lambda t, run: _whole(run.rest, run.rest > 100 or 0 < run.rest < 1 / 100),
        "an entry of biases, norms and embeddings moves {value:.3g} times as far as one of the matrices. Give "
        "them a rate of their own: rest='adamw', rest_lr=..."),
    "rounding stepped along": Rule(
        lambda t, run: t.noise[t.noise > 0.1],
        "{layers}: {value:.0%} of the factor's directions are rounding of half precision, at full length. "
        "Cut them off: tol='bf16' or 'fp16' with method='exact'"),
    "rank under half": Rule(
        lambda t, run: t["rank"][t["rank"] < 0.5],
        "{layers}: the gradient has {value:.0%} of its possible directions, and the others stand still. Take "
        "a larger batch, or momentum before the factor: order='after_momentum'", min),
    "does not move": Rule(
        lambda t, run: t.gradient.fillna(0)[t.still & (run.measured > 1)],
        "{layers}: the same after each measured step, at a gradient of length {value:.3g}. Does it require "
        "gradients, reach the loss, and have a rate above 0? Else take it out of the optimiser"),
    "not finite": Rule(
        lambda t, run: _whole(run.lost, run.lost >= 0),
        "the loss (or, where none is logged, a weight) is not finite since step {value:.0f}. Start again "
        "from before with a lower rate or a warm-up; float16 needs a GradScaler"),
}  # fmt: skip
"""The ten faults by name."""


def report(monitor: "Monitor") -> Report:
    """Judge what a monitor has noted. :meth:`Monitor.report` is the method that one calls."""
    import pandas as pd

    facts: dict[str, dict[str, pd.Series[float]]] = {}
    for (layer, fact), pairs in monitor.facts.items():
        facts.setdefault(fact, {})[layer] = pd.Series(pairs[1::2], pd.Index(pairs[::2], dtype=int))
    groups = [] if monitor.optimizer is None else monitor.optimizer.param_groups
    changes = pd.DataFrame(facts.get("change", {}), dtype=float)  # a row a step, a column a parameter
    table = _parameters(monitor).reindex(changes.columns)
    for fact in ("gradient", "reached", "between", "rank", "noise"):
        medians = {name: values.median() for name, values in facts.get(fact, {}).items()}
        table[fact] = pd.Series(medians, dtype=float).reindex(table.index)
    still = (changes.fillna(0) == 0).all()
    table["still"] = still & (table.wide | all(still | table.wide))  # biases: only if none of them moves
    lost = facts.get("loss", {}).get("", changes.sum(axis=1, skipna=False))
    run = Run(
        measured=len(changes),
        claims=hasattr(monitor.optimizer, "register_stage_hook"),
        rest=torch.nan if any(map(_own_length, groups)) else _rest(changes, table),
        lost=_lost(lost),
    )
    found = Report()
    found.steps, found.measured = monitor.step, run.measured
    for name, rule in RULES.items():
        values = rule.find(table, run)
        if len(values):
            values = values.sort_values(ascending=rule.worst is min)
            layers = tuple(str(layer) for layer in values.index if layer)
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            value = float(values.iloc[0])
            text = rule.text.format(layers=", ".join(layers[:3]) + more, value=value)
            found.append(Fault(name, layers, value, text))
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


def _rest(changes: "pd.DataFrame", table: "pd.DataFrame") -> float:
    """How many times as far the rest's entries move as the matrices'; NaN where nothing is orthogonalised."""
    parts = table.index[~table.factored], table.index[table.factored]
    if not all(map(len, parts)):
        return torch.nan
    rest, matrices = ((changes[names] ** 2).sum(axis=1) / table.entries[names].sum() for names in parts)
    return float((rest / matrices).median() ** 0.5)


def _lost(values: "pd.Series[float]") -> float:
    """The step since when no value is finite; -1 if the last one is."""
    finite = values.abs() < torch.inf
    since = values[~finite[::-1].cummax()[::-1]]
    return float(since.index[0]) if len(since) else -1.0
