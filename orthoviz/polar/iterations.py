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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orthoviz.polar.polynomials import GRAM, JORDAN, Coefficients
from orthoviz.polar.products import Cost, product_as, symmetric_product


@dataclass(frozen=True)
class NewtonSchulz:
    """The iteration on the matrix itself.

    Args:
        coefficients: a tuple of (a, b, c, ...) a step, such as ``ov.polar.JORDAN``.
        precision: dtype to iterate in, such as ``torch.bfloat16``. None: the input's, at least float32.
        headroom: the start is G / (headroom * ||G||_F); a table's ``safety``.
    """

    coefficients: Coefficients = JORDAN
    precision: torch.dtype | None = None
    headroom: float = 1.0

    def __post_init__(self) -> None:
        _check_settings(self.coefficients, self.precision)

    def __call__(self, X: Tensor) -> Tensor:
        size = _size(X).clamp_min(0.25)  # zero stays zero
        O: Tensor = (X / (self.headroom * size)).to(self.precision or X.dtype)
        for step in self.coefficients:
            K = symmetric_product(O, O.mT)
            K2 = symmetric_product(K, K) if len(step) > 2 else K
            O = product_as(O, _polynomial((0.0, *step[1:]), K, K2)).add_(O, alpha=step[0])
        return O.to(X.dtype)

    def cost(self, m: int, n: int) -> Cost:
        operations = sum(4 * m * m * n + _products(step) * 2 * m**3 for step in self.coefficients)
        return Cost(operations, words=3 * m * n + 4 * m * m)


@dataclass(frozen=True)
class GramNewtonSchulz:
    r"""The same iteration on the m x m Gram matrix; X is multiplied once, at the end.

    The start is scaled by a bound on s1 that comes free with the first product: the Schatten-8 norm,
    :math:`(\sum s_i^8)^{1/8} = \|K^2\|_F^{1/4}`. It is at most :math:`m^{1/8}` times s1 (2.2 at m = 512),
    where the Frobenius norm can be :math:`m^{1/2}` times (23), and what is wasted there is missing at
    the small singular values.

    Args:
        coefficients: a tuple of (a, b, c, ...) a step.
        restarts: steps (0 is the first) before which the Gram matrix is formed anew.
        precision: dtype to iterate in. None: the input's, at least float32.

    Raises:
        ValueError: rounding in the Gram matrix would grow to a tenth of the result before it is formed
            anew, as with 30 cubic steps: set restarts.
    """

    coefficients: Coefficients = GRAM
    restarts: tuple[int, ...] = ()
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        _check_settings(self.coefficients, self.precision)
        growth = 1.0
        for t, step in enumerate(self.coefficients):
            growth = 1.0 if t in self.restarts else growth
            noise = growth * torch.finfo(self.precision or torch.float32).eps
            if noise > 0.1:
                raise ValueError(
                    f"the Gram form multiplies rounding by {growth:.0e} before step {t}, to {noise:.1g}: "
                    f"put a restart at step {t} or earlier, got restarts {self.restarts}"
                )
            growth *= step[0] ** 2

    def __call__(self, X: Tensor) -> Tensor:
        given, dtype = X.dtype, self.precision or X.dtype
        if dtype.itemsize < 4:  # squares of squares would leave float16's range: bring the entries near 1
            X = X / _size(X).clamp_min(0.25)
        X = X.to(dtype)
        K = symmetric_product(X, X.mT)
        if dtype.itemsize < 4:
            size = _size(K.to(given)).clamp_min(1e-6)
            X, K = (X * size.rsqrt()).to(dtype), (K / size).to(dtype)
        K2 = symmetric_product(K, K)
        bound = _size(K2.to(given)).clamp_min(1e-6)
        inverse = bound.rsqrt()  # of s1^2; clamped, so that zero stays zero
        K, K2 = (K * inverse).to(dtype), (K2 * inverse.square()).to(dtype)
        scale, R = inverse.sqrt(), None  # X is scaled where R first multiplies it
        for t, step in enumerate(self.coefficients):
            if t in self.restarts and R is not None:
                X = product_as(X, (R * scale).to(dtype))
                scale, R = torch.ones_like(scale), None
                K = symmetric_product(X, X.mT)
            if t > 0:
                K2 = symmetric_product(K, K) if len(step) > 2 else K
            Q = _polynomial(step, K, K2)
            R = Q if R is None else symmetric_product(Q, R)
            if t + 1 < len(self.coefficients) and t + 1 not in self.restarts:
                K = symmetric_product(Q, symmetric_product(Q, K))
        assert R is not None
        return product_as(X, (R * scale).to(dtype)).to(given)

    def cost(self, m: int, n: int) -> Cost:
        count = 0
        for t, step in enumerate(self.coefficients):
            first, last = t == 0 or t in self.restarts, t + 1 == len(self.coefficients)
            count += _products(step) + (not first) + (0 if last or t + 1 in self.restarts else 2)
        operations = 4 * m * m * n * (1 + len(self.restarts)) + count * 2 * m**3
        return Cost(operations, words=2 * m * n + 8 * m * m)


def _check_settings(table: Coefficients, precision: torch.dtype | None) -> None:
    if not table or any(len(step) < 2 for step in table):
        raise ValueError(
            "coefficients must be a tuple of (a, b, ...) for every step, such as ov.polar.JORDAN, "
            f"got {table!r}"
        )
    if precision is not None and not precision.is_floating_point:
        raise ValueError(f"precision must be a floating-point dtype, got {precision}")


def _products(step: tuple[float, ...]) -> int:
    """Products of m x m matrices that a step's polynomial in K takes: K^2, then one for two more powers."""
    return max(0, math.ceil((len(step) - 1) / 2))


def _polynomial(c: Sequence[float], K: Tensor, K2: Tensor) -> Tensor:
    """c0 I + c1 K + c2 K^2 + ..., by Horner's rule in K^2: one product for degrees 3 and 4, none below."""
    if len(c) <= 3:
        Q = c[1] * K
        if len(c) == 3:
            Q = Q.add_(K2, alpha=c[2])
    else:
        Q = symmetric_product(K2, _polynomial(c[2:], K, K2)).add_(K, alpha=c[1])
    if c[0]:
        Q.diagonal(dim1=-2, dim2=-1).add_(c[0])
    return Q


def _size(X: Tensor) -> Tensor:
    """The Frobenius norm, kept as ``(..., 1, 1)``."""
    size: Tensor = torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True)
    return size
