"""From gradients to directions: every weight's matrix replaced by its polar factor, or by a control.

All optimisers here call one function, :func:`take_directions`. Its settings are strings and numbers in a
parameter group: ``method``, ``tol``, ``null``, ``scale``.
"""

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from orthoviz.matrices import Layout, as_matrix, from_matrix
from orthoviz.optim.ranks import ProcessGroup, gathered, mesh_group, shared, spread_like
from orthoviz.polar import METHODS, counts, default_tol, polar_factors
from orthoviz.polar.factor import power_of_two
from orthoviz.polar.methods import as_method
from orthoviz.seeds import seeded

Group = dict[str, Any]


@dataclass
class Entry:
    """A parameter that has a gradient, on its way through a step.

    Attributes:
        step: what becomes of the gradient: at first itself, at last what the parameter is moved along.
        group: its settings.
        layout: of its matrix, see :mod:`orthoviz.matrices`. None: it is no matrix.
    """

    parameter: Tensor
    step: Tensor
    group: Group
    layout: Layout | None


def set_steps(entries: Iterable[Entry], steps: Iterable[Tensor]) -> None:
    """Give each entry its step."""
    for entry, step in zip(entries, steps, strict=True):
        entry.step = step


def take_directions(entries: Iterable[Entry], process_group: ProcessGroup | None = None) -> None:
    """Replace each step by its direction: its matrix's polar factor (or control), scaled, in its own shape.

    Args:
        entries: they have matrices. Their steps are gradients or momentum buffers, which are not changed; a
            sharded one (DTensor) is gathered first.
        process_group: ranks that hold the same steps and share the work. Ranks of sharded tensors share it
            in any case.
    """
    work: dict[Any, list[Entry]] = {}
    for entry in entries:
        settings = tuple(entry.group[name] for name in ("method", "tol", "null", "scale"))
        work.setdefault((mesh_group(entry.step) or process_group, settings), []).append(entry)
    for (ranks, settings), members in work.items():
        layouts: list[Layout] = [entry.layout for entry in members]  # type: ignore[misc]
        tensors = [gathered(entry.step) for entry in members]
        # A channels-last convolution as (out, k, k, in) is a matrix without a copy. That permutes its
        # columns and its factor's alike: O(G P) = O(G) P. Not between ranks, which must agree on the order.
        last = [
            process_group is None and layout[0] == "rows" and _is_channels_last(tensor)
            for tensor, layout in zip(tensors, layouts, strict=True)
        ]
        tensors = [t.permute(0, 2, 3, 1) if here else t for t, here in zip(tensors, last, strict=True)]
        matrices = [as_matrix(*pair) for pair in zip(tensors, layouts, strict=True)]
        costs = [G.numel() * min(G.shape[-2:]) for G in matrices]
        factors = shared(partial(_scaled_factors, *settings), matrices, costs, ranks)
        for entry, O, layout, tensor, here in zip(members, factors, layouts, tensors, last, strict=True):
            direction = from_matrix(O, layout, like=tensor)
            entry.step = spread_like(direction.permute(0, 3, 1, 2) if here else direction, like=entry.step)


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.permute(0, 2, 3, 1).is_contiguous()


def check_settings(group: Group) -> None:
    """Raise ValueError for a method, tol, null or scale that does not exist."""
    if group["scale"] not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}, got {group['scale']!r}")
    method, tol, null = group["method"], group["tol"], group["null"]
    if isinstance(method, str) and method not in [*METHODS, *CONTROLS]:
        raise ValueError(f"method must be one of {', '.join([*METHODS, *CONTROLS])}, got {method!r}")
    if as_control(method) is None:
        as_method(method, tol, null)
    elif tol is not None or null != "drop":
        raise ValueError(f"{method} is no polar factor: leave out tol and null")


def per_tensor(G: Tensor) -> Tensor:
    r"""A control: the gradient with the polar factor's length but not its shape,
    :math:`\sqrt{\min(m, n)}\, G / \|G\|_F`; zero for zero."""
    return normalise(G, (-2, -1)) * math.sqrt(min(G.shape[-2:]))


def per_filter(G: Tensor) -> Tensor:
    r"""A control: every row of the same length :math:`\sqrt{\min(m, n) / m}`, so that the whole has the polar
    factor's; a zero row stays zero."""
    m, n = G.shape[-2:]
    return normalise(G, (-1,)) * math.sqrt(min(m, n) / m)


def normalise(G: Tensor, dim: tuple[int, ...]) -> Tensor:
    """G with all its parts along ``dim`` of length 1, whatever their scale; zero for zero."""
    X = G.to(torch.promote_types(G.dtype, torch.float32))
    X = X * power_of_two(X.abs().amax(dim, keepdim=True))
    length = torch.linalg.vector_norm(X, dim=dim, keepdim=True)
    unit: Tensor = X / torch.where(length == 0, 1, length)
    return unit.to(G.dtype)


def _match_length(O: Tensor, G: Tensor) -> Tensor:
    """O at G's length. Its own length is sqrt(rank) only for an exact factor, so it is measured."""
    X = G.to(torch.promote_types(G.dtype, torch.float32))
    power = power_of_two(X.abs().amax((-2, -1), keepdim=True))
    length = torch.linalg.matrix_norm(X * power, keepdim=True)
    matched: Tensor = normalise(O, (-2, -1)).to(X.dtype) * length / power
    return matched.to(G.dtype)


def power(G: Tensor, p: float) -> Tensor:
    r"""A control: :math:`U S^p V^\top` at the polar factor's length. p = 0 is the factor, p = 1 per tensor;
    with p < 0 the weakest directions become the strongest."""
    return _with_spectrum(G, lambda s: s**p)


def random_spectrum(G: Tensor) -> Tensor:
    r"""A control: :math:`U D V^\top` at the polar factor's length, D uniform at random.

    D is drawn from a seed that G itself gives, so that a step can be repeated, on every rank and in a run
    that is resumed.
    """
    generator = seeded(-1 - int.from_bytes(struct.pack("d", float(G.sum(dtype=torch.float64)))))
    return _with_spectrum(G, lambda s: torch.rand(s.shape, generator=generator).to(s))


def _with_spectrum(G: Tensor, spectrum: Callable[[Tensor], Tensor]) -> Tensor:
    """G with other singular values in the directions that count, at the factor's length. NaN gives NaN."""
    X = G.to(torch.float64)
    X = X * power_of_two(X.abs().amax((-2, -1), keepdim=True))
    finite = X.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    U, s, Vh = torch.linalg.svd(torch.where(finite, X, 0.0), full_matrices=False)
    kept = counts(s, default_tol(G.dtype))
    s = torch.where(kept, spectrum(torch.where(kept, s, 1.0)), 0.0)
    length = torch.linalg.vector_norm(s, dim=-1, keepdim=True)
    s = s * (kept.sum(-1, keepdim=True).sqrt() / torch.where(length == 0, 1, length))
    return torch.where(finite, (U * s.unsqueeze(-2)) @ Vh, torch.nan).to(G.dtype)


# By the name that method takes; ("power", p) is power at any p.
CONTROLS: dict[str, Callable[[Tensor], Tensor]] = {
    "per_tensor": per_tensor,
    "per_filter": per_filter,
    "half": partial(power, p=0.5),
    "random_spectrum": random_spectrum,
}


def as_control(method: Any) -> Callable[[Tensor], Tensor] | None:
    """The control that a method names, or None."""
    if isinstance(method, tuple) and method[:1] == ("power",):
        if len(method) != 2 or not isinstance(method[1], int | float) or not math.isfinite(method[1]):
            raise ValueError(f"method ('power', p) takes a number p, got {method!r}")
        return partial(power, p=method[1])
    return CONTROLS.get(method) if isinstance(method, str) else None


# The scaled direction of a factor O, by scale; G is what O was made from.
SCALES: dict[str | None, Callable[[Tensor, Tensor], Tensor]] = {
    None: lambda O, G: O,
    "sqrt_max": lambda O, G: O * math.sqrt(max(1.0, G.shape[-2] / G.shape[-1])),
    "sqrt_ratio": lambda O, G: O * math.sqrt(G.shape[-2] / G.shape[-1]),
    "rms": lambda O, G: O * (0.2 * math.sqrt(max(G.shape[-2:]))),
    "match": _match_length,
}


def _scaled_factors(
    method: str | tuple[Any, ...],
    tol: float | str | None,
    null: str,
    scale: str | None,
    matrices: list[Tensor],
) -> list[Tensor]:
    """The polar factors or controls of the matrices, scaled."""
    if control := as_control(method):
        factors = [control(G) for G in matrices]
    else:
        factors = polar_factors(matrices, as_method(method, tol, null))
    return [SCALES[scale](O, G) for O, G in zip(factors, matrices, strict=True)]
