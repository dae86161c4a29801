r"""The polar factor by matrix products alone: Newton-Schulz and its Gram form.

**Newton-Schulz.** For a matrix X with singular values in [0, 1] and an odd polynomial
:math:`p(x) = a x + b x^3 + c x^5 + \dots`,

.. math:: X \leftarrow a X + b\, (X X^\top) X + c\, (X X^\top)^2 X + \dots

changes every singular value x into p(x) and leaves the singular vectors as they are. Step by step the
values approach 1, and X the polar factor. A step costs :math:`4 m^2 n + 2 m^3` operations at degree 5.

**The Gram form.** All that a step multiplies X with is a polynomial in :math:`K = X X^\top`, and K can
follow by itself. With :math:`q(y) = a + b y + c y^2 + \dots`, so that :math:`p(x) = q(x^2)\, x`, and
:math:`Q = q(K)`,

.. math:: X' = Q X, \qquad K' = X' X'^\top = Q K Q, \qquad R' = Q R

where R, from R = I on, gathers the factors. Only at the end :math:`O = R X`. So X is touched twice,
for :math:`2 m^2 n` operations each, and the steps in between cost m x m products (five at degree 9,
four at degree 5), all of them symmetric because everything commutes with K. For a convolution, nine
times wider than tall, that is a third of the work.

**What it loses, and the restart.** K holds the squares: a singular value x is there as :math:`x^2`, among
rounding of relative size eps, so directions with x < sqrt(eps) are noise in K, where X itself still has
them to relative eps. Each step multiplies the weak ones, and this noise with them, by about
:math:`a^2`; where rounding made an eigenvalue negative, it grows away from 1 instead of towards it. The
restart mends it: form :math:`X \leftarrow R X` and :math:`K \leftarrow X X^\top` anew. By then the weak
directions have grown by :math:`a_1 a_2 \cdots`, and stand well above eps. In float32 the short tables
here need none; in float16 they do.

Source: Higham 2008, *Functions of Matrices*, chapter 8; Jordan et al. 2024 (Muon); Amsel et al. 2025
(arXiv 2505.16932), whose section on rectangular matrices has the Gram form.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from orthoviz.polar.polynomials import Coefficients
from orthoviz.polar.products import product_as, symmetric_product


def newton_schulz(
    X: Tensor, table: Coefficients, *, headroom: float = 1.0, precision: torch.dtype | None = None
) -> Tensor:
    """Iterate on X itself.

    Args:
        X: ``(..., m, n)`` with m <= n, largest entry in [1/2, 1) or zero.
        table: coefficients, a tuple a step.
        headroom: the start is X / (headroom * its Frobenius norm).
        precision: dtype to iterate in. Default: X's.

    Returns:
        ``(..., m, n)``, near the polar factor, in X's dtype.
    """
    size = _size(X).clamp_min(0.25)  # zero stays zero
    O: Tensor = (X / (headroom * size)).to(precision or X.dtype)
    for step in table:
        K = symmetric_product(O, O.mT)
        K2 = symmetric_product(K, K) if len(step) > 2 else K
        O = product_as(O, _polynomial((0.0, *step[1:]), K, K2)).add_(O, alpha=step[0])
    return O.to(X.dtype)


def gram_newton_schulz(
    X: Tensor,
    table: Coefficients,
    *,
    restarts: Sequence[int] = (),
    precision: torch.dtype | None = None,
    triton: bool = False,
) -> Tensor:
    r"""Iterate on the Gram matrix, and multiply X once, at the end.

    The start is scaled by a bound on s1 that comes free with the first product: the Schatten-8 norm,
    :math:`(\sum s_i^8)^{1/8} = \|K^2\|_F^{1/4}`. It is at most :math:`m^{1/8}` times s1 (2.2 at m = 512),
    where the Frobenius norm can be :math:`m^{1/2}` times (23), and what is wasted there is missing at
    the small singular values.

    Args:
        X: ``(..., m, n)`` with m <= n, largest entry in [1/2, 1) or zero.
        table: coefficients, a tuple a step.
        restarts: before these steps (0 is the first) the Gram matrix is formed anew.
        precision: dtype to iterate in. Default: X's.
        triton: use the package's kernel for symmetric products on a GPU.

    Returns:
        ``(..., m, n)``, near the polar factor, in X's dtype.
    """
    given, dtype = X.dtype, precision or X.dtype
    if dtype.itemsize < 4:  # squares of squares would leave float16's range: bring the entries near 1 first
        X = X / _size(X).clamp_min(0.25)
    X = X.to(dtype)
    K = symmetric_product(X, X.mT, triton=triton)
    if dtype.itemsize < 4:
        X, K = _scaled(X, K, _size(K.to(given)))
    K2 = symmetric_product(K, K, triton=triton)
    bound = _size(K2.to(given)).clamp_min(1e-6)
    inverse = bound.rsqrt()  # of s1^2; clamped, so that zero stays zero
    K, K2 = (K * inverse).to(dtype), (K2 * inverse.square()).to(dtype)
    scale, R = inverse.sqrt(), None  # X is scaled where R first multiplies it
    for t, step in enumerate(table):
        if t in restarts and R is not None:
            X = product_as(X, (R * scale).to(dtype))
            scale, R = torch.ones_like(scale), None
            K = symmetric_product(X, X.mT, triton=triton)
        if t > 0:
            K2 = symmetric_product(K, K, triton=triton) if len(step) > 2 else K
        Q = _polynomial(step, K, K2, triton=triton)
        R = Q if R is None else symmetric_product(Q, R, triton=triton)
        if t + 1 < len(table) and t + 1 not in restarts:
            K = symmetric_product(Q, symmetric_product(Q, K, triton=triton), triton=triton)
    assert R is not None
    return product_as(X, (R * scale).to(dtype)).to(given)


def _polynomial(c: Sequence[float], K: Tensor, K2: Tensor, *, triton: bool = False) -> Tensor:
    """c0 I + c1 K + c2 K^2 + ..., by Horner's rule in K^2: one product for degrees 3 and 4, none below."""
    if len(c) <= 3:
        Q = c[1] * K
        if len(c) == 3:
            Q = Q.add_(K2, alpha=c[2])
    else:
        higher = _polynomial(c[2:], K, K2, triton=triton)
        Q = symmetric_product(K2, higher, triton=triton).add_(K, alpha=c[1])
    if c[0]:
        Q.diagonal(dim1=-2, dim2=-1).add_(c[0])
    return Q


def _size(X: Tensor) -> Tensor:
    """The Frobenius norm, kept as ``(..., 1, 1)``."""
    size: Tensor = torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True)
    return size


def _scaled(X: Tensor, K: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """X and its Gram matrix K, for X divided by the root of ``size``."""
    size = size.clamp_min(1e-6)
    return (X * size.rsqrt()).to(X.dtype), (K / size).to(K.dtype)
