"""From a parameter to its matrix and back: whose rows are to be made orthogonal.

A parameter's matrix is described by a pair ``(kind, parts)`` of a string and a number, which an optimiser's
parameter group and a checkpoint can hold:

=================  ==========================================  =================================
kind               parameter                                   matrix
=================  ==========================================  =================================
``("rows", 1)``    Linear, Conv: ``(out, in, k...)``           ``(out, in*k)``
``("rows", g)``    grouped Conv: ``(out, in/g, k...)``         ``(g, out/g, in/g*k)``
``("rows", 3)``    stacked q, k, v: ``(3*d, n)``               ``(3, d, n)``
``("columns", g)`` ConvTranspose: ``(in, out/g, k...)``        ``(g, out/g, in/g*k)``
``("columns", p)`` stored as ``(in, p*out)``                   ``(p, out, in)``
``("stack", e)``   a stack of matrices: ``(e, m, n...)``       ``(e, m, n)``
``None``           biases, norms, gains, embeddings            left alone
=================  ==========================================  =================================
"""

import difflib
import html
import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["Decision", "Layout", "ParamGroups", "Table", "as_matrix", "from_matrix", "param_groups"]

Layout = tuple[str, int]


class Decision(NamedTuple):
    """What happens to a parameter, and why."""

    name: str
    shape: tuple[int, ...]
    layout: Layout | None
    why: str


class ParamGroups(list[dict[str, Any]]):
    """What :func:`param_groups` returns: a list for any torch optimiser that can also explain itself."""

    decisions: tuple[Decision, ...] = ()

    def table(self) -> "Table":
        """Every parameter, its matrix, and the reason. Print it, or let a notebook show it."""
        return Table(self.decisions)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


class Table:
    """A readable account of :class:`Decision`, as text and as HTML."""

    _head = ("parameter", "shape", "matrix", "why")

    def __init__(self, decisions: tuple[Decision, ...]) -> None:
        self._rows = [(d.name, _times(d.shape), _matrix_text(d), d.why) for d in decisions]

    def __str__(self) -> str:
        widths = [max(len(row[i]) for row in [self._head, *self._rows]) for i in range(3)]
        lines = []
        for *cells, why in [self._head, *self._rows]:
            fixed = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{fixed}  {why}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            inner = "".join(f'<{tag} style="text-align:left">{html.escape(cell)}</{tag}>' for cell in cells)
            return f"<tr>{inner}</tr>"

        body = "".join(row(cells, "td") for cells in self._rows)
        return f"<table><thead>{row(self._head, 'th')}</thead><tbody>{body}</tbody></table>"


def param_groups(
    model: nn.Module,
    *,
    convolutions_only: bool = False,
    overrides: Mapping[str, str | Mapping[str, int]] | None = None,
) -> ParamGroups:
    """The model's parameters as groups for an optimiser, each group with its matrix.

    What a weight's rows are is read from its module, not guessed from its shape: a transposed
    convolution stores its inputs first, a grouped one holds a matrix for every group, attention
    stacks three, an LSTM four. The weight under a parametrisation (weight norm, spectral norm, ...) is read
    like the weight itself. Embeddings, depthwise convolutions (one row a group) and complex parameters are
    left alone. Of a parameter that a module of yours holds itself, the table says that its matrix is
    *guessed*: a row for each entry of the first dimension, but one of three dimensions, and one whose name is
    that of a table (position, token, ...), are left alone.

    Args:
        model: any module. A parameter used in several places is listed once; where its uses disagree
            (an embedding tied to the head) it is left alone.
        convolutions_only: leave everything else alone, as in the paper's Table 3.
        overrides: what to do instead, by the parameter's or module's name; patterns with ``*`` and ``?``. The
            first that fits counts. ``"skip"``: leave alone. ``"matrix"``: take it as (out, rest), an
            embedding too. ``"columns"``: it is stored as (in, out). ``"stack"``: the first dimension counts
            matrices, such as experts. ``{"split": n}``: n equal blocks of rows, such as 3 for a fused q, k,
            v. ``{"split_heads": h}``: a matrix for each of h heads, of queries, keys and values each where
            they are fused. ``"normalise"``: a single row too, whose step is its gradient at length 1, as in
            the paper's code.

    Returns:
        A list of dicts for any ``torch.optim`` optimiser; ``.table()`` says what was decided and why.
        ``params`` holds ``(name, parameter)`` pairs, ``layout`` the pair described in
        :mod:`orthoviz.matrices`, or None for parameters that are left to the optimiser's rule for the rest;
        ``positions`` their places in ``model.parameters()``.

    Raises:
        ValueError: an override fits no parameter, is none of the above, or does not divide the rows; the
            model has lazy parameters that have no shape yet.
    """
    overrides = dict(overrides or {})
    unused = set(overrides)
    uses: dict[int, tuple[nn.Parameter, list[Decision]]] = {}
    for prefix, module, name, parameter in _parameters(model):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet: run a batch through the model first")
        layout, why = _layout(prefix, module, name, parameter)
        if convolutions_only and layout is not None and not isinstance(module, _CONVOLUTIONS):
            layout, why = None, "only convolutions were asked for"
        for pattern, wish in overrides.items():
            if fnmatchcase(name, pattern) or fnmatchcase(prefix, pattern):
                unused.discard(pattern)
                if wish == "normalise" and parameter.ndim > 1:
                    layout, why = _layout(prefix, module, name, parameter, single=True)
                layout, why = _apply_override(pattern, wish, layout, name, parameter)
                break
        decision = Decision(name, tuple(parameter.shape), layout, why)
        uses.setdefault(id(parameter), (parameter, []))[1].append(decision)
    for pattern in unused:
        names = [d.name for _, decisions in uses.values() for d in decisions]
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0) or names[:3]
        raise ValueError(
            f"the override {pattern!r} fits no parameter; there is, for example, {', '.join(near)}"
        )

    result = ParamGroups()
    result.decisions = tuple(_merge(found) for _, found in uses.values())
    named = [(d.name, parameter) for d, (parameter, _) in zip(result.decisions, uses.values(), strict=True)]
    for layout in dict.fromkeys(d.layout for d in result.decisions):
        positions = tuple(i for i, d in enumerate(result.decisions) if d.layout == layout)
        result.append({"params": [named[i] for i in positions], "layout": layout, "positions": positions})
    return result


def layout_of_shape(shape: tuple[int, ...]) -> Layout | None:
    """The layout where only the parameter's shape is known: ``flatten(1)``, as in the paper."""
    return None if _why_not(("rows", 1), shape) else ("rows", 1)


def check_layout(layout: Layout | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError for what is no layout, or one that a parameter of this shape cannot have."""
    if layout is None:
        return
    kind, parts = layout
    fits = len(shape) > 1 and parts > 0 and shape[_split_side(kind, len(shape))] % parts == 0
    if kind not in ("rows", "columns", "stack") or not fits or (kind == "stack" and shape[0] != parts):
        raise ValueError(
            "layout must be None, ('rows', parts) or ('columns', parts) with parts that divide the first "
            "dimension (of two columns the second), or ('stack', parts) with parts that are all of it, "
            f"got {layout} for a parameter of shape {tuple(shape)}: see ov.param_groups"
        )


def _split_side(kind: str, ndim: int) -> int:
    """The dimension that parts divide."""
    return 1 if kind == "columns" and ndim == 2 else 0


def as_matrix(tensor: Tensor, layout: Layout) -> Tensor:
    """``tensor`` as ``(m, n)``, or ``(parts, m, n)`` where parts > 1. Rows are components."""
    kind, parts = layout
    if kind == "columns" and tensor.ndim == 2:
        tensor = tensor.T
    elif kind == "columns":
        tensor = tensor.unflatten(0, (parts, -1)).transpose(1, 2).flatten(0, 1)
    rows = tensor.shape[1] if kind == "stack" else tensor.shape[0] // parts
    matrix = tensor.reshape(parts, rows, -1)
    return matrix if parts > 1 else matrix[0]


def from_matrix(matrix: Tensor, layout: Layout, like: Tensor) -> Tensor:
    """The inverse of :func:`as_matrix`: a tensor of ``like``'s shape, dtype and memory format. Shares memory
    with ``matrix`` where that has them already."""
    kind, parts = layout
    if kind == "columns" and like.ndim == 2:
        matrix = matrix.reshape(like.shape[1], like.shape[0]).T
    elif kind == "columns":
        inputs, outputs, *kernel = like.shape
        blocks = matrix.reshape(parts, outputs, inputs // parts, *kernel)
        matrix = blocks.transpose(1, 2)
    tensor = matrix.reshape(like.shape)
    if tensor.stride() == like.stride() and tensor.dtype == like.dtype:
        return tensor
    return torch.empty_like(like).copy_(tensor)


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
# Modules of which it is known what the rows are.
_READ = (nn.Linear, nn.Bilinear, *_CONVOLUTIONS, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
# Names of tables, of which a batch uses some rows, or which are added to activations.
_TABLE = re.compile(r"(^|_)(pos|position|positional|tables?|embed|embeddings?|tokens?)(_|$)")
# Names of the layers that make queries, keys and values, one after the other.
_FUSED = re.compile(r"(to_|w)?qkv(_proj)?|c_attn|in_proj", re.IGNORECASE)
_FOUR_GATES, _THREE_GATES = (nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell)


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Name and module of every use of a parameter, its name there, and it; a parametrised weight's module
    is the one that has it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for prefix, module in modules.items():
        owner = prefix
        if isinstance(module, ParametrizationList):
            owner = f".{prefix}".rpartition(".parametrizations.")[0].removeprefix(".")
        for name, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            yield owner, modules[owner], name, parameter


def _last_of(prefix: str) -> str:
    """A module's own name."""
    return prefix.rpartition(".")[2]


def _layout(
    prefix: str, module: nn.Module, name: str, parameter: nn.Parameter, *, single: bool = False
) -> tuple[Layout | None, str]:
    """A parameter's matrix and why it has it, or None and why not; a single row has one where asked."""
    kind, parts, why = "rows", 1, "a row for each output"
    name = re.sub(r"parametrizations\.(\w+)\.original\d*$", r"\1", name)
    match module:
        case nn.Embedding() | nn.EmbeddingBag():
            return None, "an embedding: only the rows of a batch's tokens have a gradient"
        case _ if isinstance(module, _NORMS):
            return None, "a norm's gain or bias"
        case _ if isinstance(module, _CONVOLUTIONS) and parameter.ndim > 1:
            kind = "columns" if isinstance(module, _TRANSPOSED) else "rows"
            parts = module.groups
            why = "a row for each output channel" + (f", a matrix for each of {parts} groups" * (parts > 1))
        case nn.MultiheadAttention() if name.endswith("in_proj_weight"):
            parts, why = 3, "queries, keys and values: a matrix each"
        case _ if isinstance(module, _FOUR_GATES + _THREE_GATES) and "weight_hr" not in name:
            parts = 4 if isinstance(module, _FOUR_GATES) else 3
            why = f"{parts} gates: a matrix each"
        case nn.Linear(in_features=n, out_features=m) if m == 3 * n and _FUSED.fullmatch(_last_of(prefix)):
            parts, why = 3, f"named {_last_of(prefix)} and three times as tall as wide: a matrix each"
    if parameter.ndim > 1 and parameter.shape[0] % parts:
        parts, why = 1, "a row for each output"
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # of Hugging Face's transformers
        fused = parameter.ndim == 2 and parameter.shape[1] == 3 * parameter.shape[0]
        fused = fused and bool(_FUSED.fullmatch(_last_of(prefix)))
        kind, parts = "columns", 3 if fused else 1
        why = "queries, keys and values: a matrix each" if fused else "a row for each output"
        why += "; stored as (in, out)"
    elif not isinstance(module, _READ):
        why = "guessed: a row for each entry of the first dimension"
        if parameter.ndim == 3 and parameter.numel() > max(parameter.shape):
            return None, "guessed: no matrix; if it is a stack of them, overrides={...: 'stack'}"
        if parameter.ndim > 1 and _TABLE.search(name.rpartition(".")[2]):
            return None, "guessed: a table, by its name"
    if single:
        return (kind, parts), why
    problem = "complex" if parameter.is_complex() else _why_not((kind, parts), parameter.shape)
    return (None, problem) if problem else ((kind, parts), why)


def _why_not(layout: Layout, shape: tuple[int, ...]) -> str:
    """Why this parameter has no matrix, or nothing."""
    if 0 in shape:
        return "empty"
    if math.prod(shape) == max(shape, default=1):
        return "a bias, gain or other vector"
    kind, parts = layout
    side = _split_side(kind, len(shape))
    rows = shape[side] // parts if kind == "rows" or side == 1 else shape[1]
    if rows == 1:
        alone = "depthwise: each group has one row" if parts > 1 else "a single row"
        return f"{alone}, with nothing to be orthogonal to"
    return "" if math.prod(shape) > parts * rows else "a single column: nothing to make orthogonal"


def _apply_override(
    pattern: str, wish: Any, layout: Layout | None, name: str, parameter: nn.Parameter
) -> tuple[Layout | None, str]:
    """What an override makes of a parameter."""
    why = f"override {pattern!r}"
    if wish == "skip":
        return None, why
    if parameter.ndim < 2:  # the biases of a module that is named as a whole
        return None, "a bias, gain or other vector"
    if wish == "normalise":
        rows = (
            0 if layout is None else as_matrix(torch.empty_like(parameter, device="meta"), layout).shape[-2]
        )
        if rows != 1:
            raise ValueError(f"{why}: {name} of shape {tuple(parameter.shape)} is no single row")
        return layout, f"{why}: a single row, at length 1"
    if wish == "matrix":
        wanted = layout or ("rows", 1)
    elif wish in ("columns", "stack"):
        wanted = (wish, 1 if wish == "columns" else parameter.shape[0])
        if wish == "stack" and parameter.ndim < 3:
            raise ValueError(f"{why}: {name} of shape {tuple(parameter.shape)} is no stack of matrices")
    elif isinstance(wish, Mapping) and len(wish) == 1 and set(wish) <= {"split", "split_heads"}:
        kind, fused = layout or ("rows", 1)
        if kind == "columns" and parameter.ndim > 2:
            raise ValueError(f"{why}: {name} is a transposed convolution's, whose rows are not split")
        ((key, count),) = wish.items()
        rows = parameter.shape[_split_side(kind, parameter.ndim)]
        whole = isinstance(count, int) and count > 0
        wanted = (kind, count * fused if key == "split_heads" and whole else count)
        if not whole or rows % wanted[1]:
            raise ValueError(f"{why}: {key} must divide {name}'s {rows} rows, got {count}")
    else:
        wishes = "'skip', 'matrix', 'columns', 'stack', 'normalise', {'split': n} or {'split_heads': h}"
        raise ValueError(f"{why} must be {wishes}, got {wish!r}")
    problem = _why_not(wanted, parameter.shape)
    if problem:
        raise ValueError(f"{why}: {name} of shape {tuple(parameter.shape)} has no matrix ({problem})")
    return wanted, why


def _merge(uses: list[Decision]) -> Decision:
    """One decision for a parameter that is used in several places."""
    first = uses[0]
    others = ", ".join(dict.fromkeys(d.name for d in uses[1:] if d.name != first.name))
    if len({d.layout for d in uses}) > 1:
        alone = next((d for d in uses if d.layout is None), first)
        return first._replace(layout=None, why=f"{alone.why} (shared with {others})")
    return first._replace(why=f"{first.why}; shared with {others}") if others else first


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _matrix_text(decision: Decision) -> str:
    if decision.layout is None:
        return "left alone"
    matrix = as_matrix(torch.empty(decision.shape, device="meta"), decision.layout)
    count = f"{matrix.shape[0]} of " if matrix.ndim == 3 else ""
    return count + _times(tuple(matrix.shape[-2:]))
