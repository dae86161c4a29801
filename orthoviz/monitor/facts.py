"""What a monitor notes of a step for its report: a few numbers of each parameter."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from orthoviz.matrices import Layout, as_matrix
from orthoviz.measures.spectra import values64
from orthoviz.polar import counts, default_tol


def facts_of(
    seen: Mapping[str, Tensor], spectra: Mapping[str, tuple[Tensor, Tensor]],
    group: Mapping[str, Any], state: Mapping[str, Any], before: Tensor | None, layout: Layout | None,
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    r"""Name and value of what is noted of one parameter after a step.

    "change" and "gradient" are lengths, :math:`\|\Delta W\|_F` and :math:`\|G\|_F`. Of a matrix that had a
    factor also "rank", the share of the possible directions that it was made from, "noise", see
    :func:`rounding`, and "reached", see :func:`reached`.

    Args:
        seen: the parameter's matrices by stage, and "change", which is there without a gradient too.
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
    known = spectra.get("raw" if matrix is seen["raw"] else "input")
    s, finite = values64(matrix) if known is None else known
    some = finite & (s[..., 0] > 0)
    rank = counts(s, default_tol(matrix.dtype)).double().mean(-1)
    yield "rank", rank.where(some, torch.nan).nanmean()
    tol = half_tol(seen["raw"])
    if tol is not None:
        yield "noise", rounding(matrix, factor, s, tol).where(some, torch.nan).nanmean()
    after = moment(state, layout, factor)
    buffers = {name for name, value in state.items() if isinstance(value, Tensor) and value.ndim > 1}
    if group and (after is not None or (buffers <= {"momentum_buffer"} and not has_own_length(group))):
        yield "reached", reached(change, factor, before, after, group)


def length(tensor: Tensor) -> Tensor:
    """Frobenius norm, in float32 where the tensor is shorter."""
    norm: Tensor = torch.linalg.vector_norm(tensor if tensor.dtype == torch.float64 else tensor.float())
    return norm


def moment(state: Mapping[str, Any], layout: Layout | None, factor: Tensor) -> Tensor | None:
    """How far Adam's first moment goes along a factor; None where an optimiser has none."""
    if layout is None or not {"exp_avg", "exp_avg_sq"} <= state.keys():
        return None
    return (as_matrix(state["exp_avg"].detach(), layout) * factor).sum(dtype=torch.float32)


def has_own_length(group: Mapping[str, Any]) -> bool:
    """Whether steps of matrices are made as long as a share of the weights, as in LARS."""
    return any("trust" in name for name in group)


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
        new = after if before is None else after - beta * before
        share: Tensor = (new / ((1 - beta) * length(factor) ** 2)).abs()
    else:
        taken = 1 - group.get("dampening", 0) if group.get("momentum") else 1
        share = change / (group["lr"] * taken * length(factor))
    return share


def rounding(matrix: Tensor, factor: Tensor, s: Tensor, tol: float) -> Tensor:
    r"""How many of a factor's directions are noise in half precision, as a share of min(m, n).

    A factor with gain c in k directions has :math:`\|O\|^2 = c^2 k` and
    :math:`\langle O, G \rangle = c \sum_i s_i`, which gives k.
    """
    along = (factor.double() * matrix.double()).sum((-2, -1))
    kept = factor.double().square().sum((-2, -1)) * (s.sum(-1) / along).square()
    return kept / s.shape[-1] - counts(s, tol).double().mean(-1)


def half_tol(gradient: Tensor) -> float | None:
    """The tolerance of the half precision that a gradient was computed in, if it was.

    Autocast leaves float32 numbers with few different mantissas, also when they are clipped: at most 128 of
    bfloat16 and 1,024 of float16. Gradients that were added up have more, and are not recognised; nor are
    those of fewer than 256 entries.
    """
    if gradient.dtype in (torch.float16, torch.bfloat16):
        return default_tol(gradient.dtype)
    entries = gradient.flatten()
    entries = entries[:: max(1, len(entries) // 4096)].cpu()
    entries = entries[entries != 0]
    different = len(torch.frexp(entries.abs()).mantissa.unique())
    if len(entries) < max(256, 3 * different):
        return None
    return default_tol(torch.bfloat16 if different <= 128 else torch.float16)
