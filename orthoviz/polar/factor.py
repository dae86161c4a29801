"""The polar factor of any matrix, or of many: arguments, scale, NaN, memory; the methods do the rest."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from orthoviz.polar.crossovers import FILL_UP_TO, STACK_UP_TO
from orthoviz.polar.methods import Method, as_method, choose


def polar_factor(
    G: Tensor,
    method: str | Method = "exact",
    *,
    tol: float | None = None,
    null: str = "drop",
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
        tol: directions with ``s_i <= tol * s_1`` count as noise. Default: 10 times float32's epsilon
            (1.2e-6), for float64 inputs 10 times float64's. Only methods that decompose can cut.
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
    if G.device.type == "mps" and method.cuts:  # no float64 there
        return polar_factor(G.cpu(), method).to(G.device)
    pieces = 1 if G.ndim == 2 else _pieces(G, method)
    if pieces == 1:
        return _factor(G, method)
    batch = G.flatten(0, -3)
    size = math.ceil(len(batch) / pieces)
    return torch.cat([_factor(piece, method) for piece in batch.split(size)]).reshape(G.shape)


def polar_factors(
    matrices: Sequence[Tensor],
    method: str | Method = "exact",
    *,
    tol: float | None = None,
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
        tiny = G.ndim == 2 and not method.cuts and G.numel() <= FILL_UP_TO
        shape = "tiny" if tiny else G.shape if small or G.is_cuda else i
        stacks.setdefault((shape, G.dtype, G.device), []).append(i)
    factors: dict[int, Tensor] = {}
    for indices in stacks.values():
        alike = [matrices[i] for i in indices]
        stack = alike[0] if len(alike) == 1 else _stack(alike)
        O = polar_factor(stack, method)
        factors.update(zip(indices, [O] if len(alike) == 1 else _unstack(O, alike), strict=True))
    return [factors[i] for i in range(len(matrices))]


def _stack(matrices: list[Tensor]) -> Tensor:
    """One batch of them; where shapes differ, as wide ones and filled up with zeros."""
    if len({G.shape for G in matrices}) == 1:
        return torch.stack(matrices)
    wide = [_wide(G) for G in matrices]
    stack = wide[0].new_zeros(len(wide), max(len(X) for X in wide), max(X.shape[1] for X in wide))
    for place, X in zip(stack, wide, strict=True):
        place[: X.shape[0], : X.shape[1]] = X
    return stack


def _unstack(stack: Tensor, matrices: list[Tensor]) -> list[Tensor]:
    """The inverse of :func:`_stack`."""
    if stack.shape[1:] == matrices[0].shape and len({G.shape for G in matrices}) == 1:
        return list(stack)
    factors = []
    for O, G in zip(stack, matrices, strict=True):
        m, n = _wide(G).shape
        O = O[:m, :n]
        factors.append(torch.empty_like(G).copy_(O.mT if O.shape != G.shape else O))
    return factors


def _wide(G: Tensor) -> Tensor:
    return G.mT if G.shape[-2] > G.shape[-1] else G


def _factor(G: Tensor, method: Method) -> Tensor:
    """The polar factor of a batch that fits, in the method's precision under autocast too."""
    if torch.is_autocast_enabled(G.device.type):
        with torch.autocast(G.device.type, enabled=False):
            return _factor(G, method)
    X = G if G.dtype == torch.float64 else G.to(torch.float32)
    X = X * power_of_two(X.detach().abs().amax((-2, -1), keepdim=True))
    tall = X.shape[-2] > X.shape[-1]
    O = method(X.mT).mT if tall else method(X)
    return _lay_out(O.to(G.dtype), G)


def power_of_two(largest: Tensor) -> Tensor:
    """A power of two that brings the largest entry into [1/2, 1): multiplying by it rounds nothing.

    Finite for zero and subnormal numbers; NaN for what is not finite, so that such a matrix becomes NaN.
    """
    largest = largest.clamp_min(torch.finfo(largest.dtype).tiny)
    return torch.frexp(largest).mantissa / largest


def _lay_out(O: Tensor, G: Tensor) -> Tensor:
    """O with G's strides, where G fills its memory."""
    return O if O.stride() == G.stride() else torch.empty_like(G).copy_(O)


def _pieces(G: Tensor, method: Method) -> int:
    """Into how many pieces a batch is cut, so that a call needs at most four times its memory."""
    m, n = min(G.shape[-2:]), max(G.shape[-2:])
    word = 8 if G.dtype == torch.float64 else 4
    each = word * (choose(method, G)[0].words(m, n) + m * n)  # and the scaled copy
    count = G.shape[:-2].numel()
    return min(count, math.ceil(count * each / (4 * G.numel() * G.element_size())))


def check_matrix(G: Tensor) -> None:
    """Raise what :func:`polar_factor` raises for a G that has no polar factor here."""
    if not isinstance(G, Tensor):
        raise TypeError(f"G must be a tensor, got {type(G).__name__}")
    if G.layout != torch.strided:
        raise TypeError(f"G must be dense, got layout {G.layout}: call .to_dense() first")
    if not G.dtype.is_floating_point:
        raise TypeError(f"G must be real floating point, got {G.dtype}")
    if G.ndim < 2:
        raise ValueError(f"G must be (..., m, n), got shape {tuple(G.shape)}")
