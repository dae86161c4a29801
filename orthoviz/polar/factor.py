"""The polar factor of any matrix, or of many: arguments, scale, NaN, memory; the methods do the rest."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from orthoviz.polar.crossovers import FILL_UP_TO, STACK_UP_TO
from orthoviz.polar.decompositions import PRECISIONS, Decomposing, default_tol
from orthoviz.polar.methods import Method, Solver, as_method, choose


def polar_factor(
    G: Tensor, method: str | Method = "exact", *, tol: float | str | None = None, null: str = "drop"
) -> Tensor:
    r"""The nearest matrix with orthonormal rows (or columns): same directions, equal lengths.

    .. math:: G = U S V^\top \quad\longmapsto\quad O = \sum_{s_i > \mathrm{tol}\, s_1} u_i v_i^\top

    Every direction that G has is kept and gets length 1; the sizes :math:`s_i` are forgotten.
    Where m <= n the rows of O are orthonormal, where m > n the columns; where G lacks directions
    (a dead filter, a softmax head's rows, which sum to zero) O lacks them too. O is the matrix that
    maximises :math:`\langle O, G\rangle` over all with spectral norm at most 1.

    Args:
        G: ``(..., m, n)``, real floating point, any scale. Each matrix of a batch is on its own.
        method: a name of ``ov.polar.METHODS``, or an object such as ``ov.polar.NewtonSchulz(ov.polar.YOU)``.
            ``"exact"`` is right to rounding (1e-6 for float32 up to condition number 1e4), ``"fast"``
            within 0.01 for matrices at least twice as wide as tall; ``ov.polar.explain`` says what they
            choose. ``"svd"``, ``"eigh"``, ``"newton_schulz"``, ``"polar_express"`` and
            ``"gram_newton_schulz"`` are what they choose from, and their predecessors.
        tol: directions with ``s_i <= tol * s_1`` count as noise. Default: by G's dtype, 10 epsilons of
            float32 (1.2e-6) and float64, half an epsilon of half precision. ``"bf16"`` and ``"fp16"``: that
            of numbers computed so, such as gradients under autocast, in whatever dtype they are now. Only
            methods that decompose can cut.
        null: ``"drop"`` maps noise directions to zero; ``"keep"`` gives the plain SVD's
            :math:`UV^\top`, as in the paper's code, where a zero matrix becomes an arbitrary
            orthonormal one.

    Returns:
        ``(..., m, n)``, dimensionless, in G's dtype and memory layout, on its device. G is not changed.
        A matrix that holds NaN or infinity gives NaN, for itself alone.
        Half-precision inputs are computed in float32. Differentiable (``svd`` and ``eigh`` once). On
        Apple's GPUs, which have no float64, methods that decompose run on the CPU (not tested).

    Raises:
        TypeError: G is not a real, dense, floating-point tensor.
        ValueError: G has fewer than two dimensions; an argument has a value that does not exist; ``tol``
            or ``null="keep"`` with an iteration, which scales small directions by its polynomial instead.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 2; Higham 2008,
    *Functions of Matrices*, theorem 8.4 (nearest matrix).
    """
    method = as_method(method, tol, null)
    check_matrix(G)
    if G.numel() == 0:
        return G.clone()
    if G.dtype in PRECISIONS.values() and isinstance(method, Decomposing) and method.tol is None:
        method = replace(method, tol=default_tol(G.dtype))  # the solver sees float32
    if G.device.type == "mps" and isinstance(method, Decomposing):  # no float64 there
        return polar_factor(G.cpu(), method).to(G.device)
    solver, _ = choose(method, G)
    pieces = 1 if G.ndim == 2 else _pieces(G, solver)
    if pieces == 1:
        return _factor(G, solver)
    batch = G.flatten(0, -3)
    size = math.ceil(len(batch) / pieces)
    return torch.cat([_factor(piece, solver) for piece in batch.split(size)]).reshape(G.shape)


def polar_factors(
    matrices: Sequence[Tensor],
    method: str | Method = "exact",
    *,
    tol: float | str | None = None,
    null: str = "drop",
) -> list[Tensor]:
    """The polar factor of each of many matrices, such as all of a model's gradients.

    Equal shapes are stacked and run as one batch where that is faster: small ones, and all on a GPU. Tiny
    ones of different shapes share a stack too, filled up with zeros, which stay zero (iterations only).

    Args:
        matrices: tensors ``(..., m, n)``, as in :func:`polar_factor`; of any shapes, dtypes and devices.
        method, tol, null: as in :func:`polar_factor`.

    Returns:
        The polar factors, in the same order.
    """
    method = as_method(method, tol, null)
    stacks: dict[object, list[int]] = {}
    for i, G in enumerate(matrices):
        small = G.ndim >= 2 and min(G.shape[-2:]) <= STACK_UP_TO
        tiny = G.ndim == 2 and not isinstance(method, Decomposing) and G.numel() <= FILL_UP_TO
        shape = "tiny" if tiny else G.shape if small or G.is_cuda else i
        stacks.setdefault((shape, G.dtype, G.device), []).append(i)
    factors: dict[int, Tensor] = {}
    for indices in stacks.values():
        alike = [matrices[i] for i in indices]
        if len(alike) == 1:
            found = [polar_factor(alike[0], method)]
        elif len({G.shape for G in alike}) == 1:
            found = list(polar_factor(torch.stack(alike), method))
        else:
            found = _filled_up(alike, method)
        factors.update(zip(indices, found, strict=True))
    return [factors[i] for i in range(len(matrices))]


def _filled_up(matrices: list[Tensor], method: Method) -> list[Tensor]:
    """The factors of matrices of different shapes: they lie wide in one batch, filled up with zeros."""
    wide = [G.mT if G.shape[0] > G.shape[1] else G for G in matrices]
    batch = wide[0].new_zeros(len(wide), max(len(X) for X in wide), max(X.shape[1] for X in wide))
    for place, X in zip(batch, wide, strict=True):
        place[: X.shape[0], : X.shape[1]] = X
    factors = []
    for G, X, O in zip(matrices, wide, polar_factor(batch, method), strict=True):
        O = O[: X.shape[0], : X.shape[1]]
        factors.append(torch.empty_like(G).copy_(O if X is G else O.mT))
    return factors


class Explanation(NamedTuple):
    """How :func:`polar_factor` would treat a tensor; ``print`` it.

    Attributes:
        operations: floating-point operations in all, multiplications and additions counted apart.
        floor: operations of one pair of products, 4 m^2 n a matrix: what touching G twice costs.
    """

    asked: str
    chosen: Solver
    why: str
    matrices: int
    shape: tuple[int, int]
    operations: float
    floor: float

    def __str__(self) -> str:
        m, n = self.shape
        return (
            f"{self.asked}: {self.chosen}\n"
            f"  because: {self.why}\n"
            f"  for {self.matrices} x ({m} x {n}): {self.operations / 1e9:.3g} GFLOP, "
            f"{self.operations / self.floor:.3g} times the floor 4 m^2 n"
        )


def explain(
    G: Tensor, method: str | Method = "exact", *, tol: float | str | None = None, null: str = "drop"
) -> Explanation:
    """Say which method :func:`polar_factor` would use for G on its device, why, and how much work it is.

    Nothing is computed: the choice depends on shape, dtype and kind of device. (``eigh`` may still hand
    single matrices over to the SVD when it sees their values.)

    Args:
        G: ``(..., m, n)``, as for :func:`polar_factor`; may be on the meta device.
        method, tol, null: as for :func:`polar_factor`.

    Raises:
        TypeError, ValueError: as :func:`polar_factor` would.
    """
    name = method if isinstance(method, str) else type(method).__name__
    solver, why = choose(as_method(method, tol, null), check_matrix(G))
    *batch, rows, columns = G.shape
    m, n, count = min(rows, columns), max(rows, columns), math.prod(batch)
    work, floor = count * solver.cost(m, n).operations, count * 4.0 * m * m * n
    return Explanation(name, solver, why, count, (rows, columns), work, floor)


def _factor(G: Tensor, solver: Solver) -> Tensor:
    """The polar factor of a batch that fits, in the solver's precision under autocast too."""
    if torch.is_autocast_enabled(G.device.type):
        with torch.autocast(G.device.type, enabled=False):
            return _factor(G, solver)
    X = G if G.dtype == torch.float64 else G.to(torch.float32)
    X = X * power_of_two(X.detach().abs().amax((-2, -1), keepdim=True))
    tall = X.shape[-2] > X.shape[-1]
    O = (solver(X.mT).mT if tall else solver(X)).to(G.dtype)
    return O if O.stride() == G.stride() else torch.empty_like(G).copy_(O)


def power_of_two(largest: Tensor) -> Tensor:
    """A power of two that brings the largest entry into [1/2, 1): multiplying by it rounds nothing.

    Finite for zero and subnormal numbers; NaN for what is not finite, so that such a matrix becomes NaN.
    """
    largest = largest.clamp_min(torch.finfo(largest.dtype).tiny)
    return torch.frexp(largest).mantissa / largest


def _pieces(G: Tensor, solver: Solver) -> int:
    """Into how many pieces a batch is cut, so that a call needs at most four times its memory."""
    m, n = min(G.shape[-2:]), max(G.shape[-2:])
    word = 8 if G.dtype == torch.float64 else 4
    each = word * (solver.cost(m, n).words + m * n)  # and the scaled copy
    count = G.shape[:-2].numel()
    return min(count, math.ceil(count * each / (4 * G.numel() * G.element_size())))


def check_matrix(G: Tensor, name: str = "G") -> Tensor:
    """G itself. Raises TypeError and ValueError for what is no real, dense matrix."""
    if not isinstance(G, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(G).__name__}")
    if G.layout != torch.strided:
        raise TypeError(f"{name} must be dense, got layout {G.layout}: call .to_dense() first")
    if not G.dtype.is_floating_point:
        raise TypeError(f"{name} must be real floating point, got {G.dtype}")
    if G.ndim < 2:
        raise ValueError(f"{name} must be (..., m, n), got shape {tuple(G.shape)}")
    return G
