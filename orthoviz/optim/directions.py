"""From gradients to directions: every weight's matrix replaced by its polar factor, or by a control.

One function, :func:`directions`, is what all optimisers here call. Its settings stand in a parameter group
as strings and numbers: ``method``, ``tol``, ``null``, ``scale``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from orthoviz.matrices import Layout, as_matrix, from_matrix
from orthoviz.optim.ranks import ProcessGroup, gathered, mesh_group, shared, spread_like
from orthoviz.polar import METHODS, polar_factors
from orthoviz.polar.factor import power_of_two
from orthoviz.polar.methods import as_method

Group = dict[str, Any]


def directions(
    tensors: Sequence[Tensor],
    layouts: Sequence[Layout],
    groups: Sequence[Group],
    process_group: ProcessGroup | None = None,
) -> list[Tensor]:
    """What each weight is moved along: its matrix's polar factor (or control), scaled, in its own shape.

    Args:
        tensors: gradients or momentum buffers; a sharded one (DTensor) is gathered first.
        layouts: how each becomes a matrix, see :mod:`orthoviz.matrices`.
        groups: the settings of each.
        process_group: ranks that hold the same tensors and share the work. Ranks of sharded tensors do
            without being told.

    Returns:
        New tensors of the same shapes, dtypes and memory formats.
    """
    work: dict[Any, list[int]] = {}
    for i, (tensor, group) in enumerate(zip(tensors, groups, strict=True)):
        settings = (group["method"], group["tol"], group["null"], group["scale"])
        work.setdefault((mesh_group(tensor) or process_group, settings), []).append(i)
    full = [gathered(tensor) for tensor in tensors]
    # A channels-last convolution as (out, k, k, in) is a matrix without a copy. That permutes its columns,
    # and with them its factor's: O(G P) = O(G) P. Not between ranks, which must agree on the order.
    last = [
        process_group is None and layout[0] == "rows" and _is_channels_last(tensor)
        for tensor, layout in zip(full, layouts, strict=True)
    ]
    full = [tensor.permute(0, 2, 3, 1) if here else tensor for tensor, here in zip(full, last, strict=True)]
    found: dict[int, Tensor] = {}
    for (ranks, settings), indices in work.items():
        matrices = [as_matrix(full[i], layouts[i]) for i in indices]
        costs = [G.numel() * min(G.shape[-2:]) for G in matrices]
        results = shared(_work(*settings), matrices, costs, ranks)
        found.update(zip(indices, results, strict=True))
    found_tensors = [from_matrix(found[i], layouts[i], like=full[i]) for i in range(len(tensors))]
    return [
        spread_like(result.permute(0, 3, 1, 2) if here else result, like=tensor)
        for result, here, tensor in zip(found_tensors, last, tensors, strict=True)
    ]


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.permute(0, 2, 3, 1).is_contiguous()


def check_settings(group: Group) -> None:
    """Raise ValueError for a method, tol, null or scale that does not exist."""
    if group["scale"] not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}, got {group['scale']!r}")
    if group["method"] not in CONTROLS:
        if isinstance(group["method"], str) and group["method"] not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join([*METHODS, *CONTROLS])}, got {group['method']!r}"
            )
        as_method(group["method"], group["tol"], group["null"])
    elif group["tol"] is not None or group["null"] != "drop":
        raise ValueError(f"{group['method']} is no polar factor: leave out tol and null")


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


CONTROLS: dict[str, Callable[[Tensor], Tensor]] = {"per_tensor": per_tensor, "per_filter": per_filter}

SCALES: dict[str | None, Callable[[Tensor, Tensor], Tensor]] = {
    None: lambda O, G: O,
    "sqrt_max": lambda O, G: O * math.sqrt(max(1.0, G.shape[-2] / G.shape[-1])),
    "sqrt_ratio": lambda O, G: O * math.sqrt(G.shape[-2] / G.shape[-1]),
    "rms": lambda O, G: O * (0.2 * math.sqrt(max(G.shape[-2:]))),
    "match": _match_length,
}
"""The scaled direction of a factor O, by ``scale``; G is what O was made from."""


def _work(
    method: str | tuple[Any, ...], tol: float | None, null: str, scale: str | None
) -> Callable[[list[Tensor]], list[Tensor]]:
    """The function from matrices to scaled factors that the settings ask for."""

    def work(matrices: list[Tensor]) -> list[Tensor]:
        if method in CONTROLS:
            factors = [CONTROLS[method](G) for G in matrices]  # type: ignore[index]
        else:
            factors = polar_factors(matrices, as_method(method, tol, null))
        return [SCALES[scale](O, G) for O, G in zip(factors, matrices, strict=True)]

    return work
