"""From a parameter to its matrix and back: whose rows are to be made orthogonal.

A parameter's matrix is described by a pair ``(kind, parts)`` of a string and a number, which can
stand in an optimiser's parameter group and in a checkpoint:

=================  ==========================================  =================================
kind               parameter                                   matrix
=================  ==========================================  =================================
``("rows", 1)``    Linear, Conv: ``(out, in, k...)``           ``(out, in*k)``
``("rows", g)``    grouped Conv: ``(out, in/g, k...)``         ``(g, out/g, in/g*k)``
``("rows", 3)``    stacked q, k, v: ``(3*d, n)``               ``(3, d, n)``
``("columns", g)`` ConvTranspose: ``(in, out/g, k...)``        ``(g, out/g, in/g*k)``
``None``           biases, norms, gains, embeddings            left alone
=================  ==========================================  =================================
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Layout", "as_matrix", "check_layout", "from_matrix", "layout_of_shape", "param_groups"]

Layout = tuple[str, int]


def param_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The model's parameters as groups for an optimiser, each group with its matrix.

    What a weight's rows are is read from its module, not guessed from its shape: a transposed
    convolution stores its inputs first, a grouped one holds a matrix for every group, attention
    stacks three. Embeddings and depthwise convolutions (one row a group) are left alone.

    Args:
        model: any module. A parameter used in several places is listed once.

    Returns:
        A list of dicts for any ``torch.optim`` optimiser. ``params`` holds ``(name, parameter)``
        pairs, ``matrix`` the pair described in :mod:`orthoviz.matrices`, or None for parameters
        that an orthogonal optimiser treats as plain SGD would.
    """
    groups: dict[Layout | None, list[tuple[str, nn.Parameter]]] = {}
    seen = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault(_layout(module, name, parameter), []).append((name, parameter))
    return [{"params": pairs, "matrix": layout} for layout, pairs in groups.items()]


def layout_of_shape(shape: tuple[int, ...]) -> Layout | None:
    """The layout of a parameter of which only the shape is known: ``flatten(1)``, as in the paper."""
    return _if_matrix(("rows", 1), shape)


def check_layout(layout: Layout | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a layout that is none, or that a parameter of this shape cannot have."""
    if layout is None:
        return
    kind, parts = layout
    if kind not in ("rows", "columns") or len(shape) < 2 or parts < 1 or shape[0] % parts:
        raise ValueError(
            "matrix must be None, ('rows', parts) or ('columns', parts) with parts that divide the first "
            f"dimension, got {layout} for a parameter of shape {tuple(shape)}: see ov.param_groups"
        )


def as_matrix(tensor: Tensor, layout: Layout) -> Tensor:
    """``tensor`` as ``(m, n)``, or ``(parts, m, n)`` where parts > 1. Rows are components."""
    kind, parts = layout
    if kind == "columns":
        tensor = tensor.unflatten(0, (parts, -1)).transpose(1, 2).flatten(0, 1)
    matrix = tensor.reshape(parts, tensor.shape[0] // parts, -1)
    return matrix if parts > 1 else matrix[0]


def from_matrix(matrix: Tensor, layout: Layout, like: Tensor) -> Tensor:
    """The inverse of :func:`as_matrix`: a new tensor of ``like``'s shape, dtype and memory format."""
    kind, parts = layout
    if kind == "columns":
        inputs, outputs, *kernel = like.shape
        blocks = matrix.reshape(parts, outputs, inputs // parts, *kernel)
        matrix = blocks.transpose(1, 2)
    return torch.empty_like(like).copy_(matrix.reshape(like.shape))


def _layout(module: nn.Module, name: str, parameter: nn.Parameter) -> Layout | None:
    kind, parts = "rows", 1
    match module:
        case nn.Embedding() | nn.EmbeddingBag() | nn.LayerNorm() | nn.RMSNorm():
            return None
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            kind, parts = "columns", module.groups
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            parts = module.groups
        case nn.MultiheadAttention() if name.endswith("in_proj_weight"):
            parts = 3
    return _if_matrix((kind, parts), parameter.shape)


def _if_matrix(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout, unless it leaves fewer than two rows or columns to make orthogonal."""
    if len(shape) < 2 or 0 in shape:
        return None
    kind, parts = layout
    rows = shape[1] if kind == "columns" else shape[0] // parts
    columns = math.prod(shape) // (parts * rows)
    return layout if min(rows, columns) > 1 else None
