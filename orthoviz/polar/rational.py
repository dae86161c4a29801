r"""The polar factor by a rational function: a handful of shifted inverses of the Gram matrix.

A polynomial must grow where it is large, so it needs many steps to be flat. A rational function need not:
among all of its type the one by Zolotarev (1877) comes nearest to 1 on [l, 1] (and, being odd, to the sign
function), with an error that falls like :math:`4 \exp(-\pi^2 (2r + 1) / (2 \ln(4/l)))`. In partial fractions

.. math:: z(x) = M x \prod_{j=1}^{r} \frac{x^2 + c_{2j}}{x^2 + c_{2j-1}}
               = M x \Big(1 + \sum_{j=1}^{r} \frac{a_j}{x^2 + c_{2j-1}}\Big)
   \qquad\Longrightarrow\qquad
   O \approx M \Big(I + \sum_{j=1}^{r} a_j\, (K + c_{2j-1} I)^{-1}\Big) X, \quad K = X X^\top

so all it takes beyond the two products with X are r inverses of symmetric positive definite matrices, by
Cholesky, independent of one another. Directions below l fade in proportion to x: nothing blows up.

Source: Nakatsukasa & Freund 2016, *Computing fundamental matrix decompositions accurately via the matrix
sign function in two iterations: the power of Zolotarev's functions*, SIAM Review 58(3), equations 3.3 to
3.9; used here once, for a few digits, on the Gram matrix.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from orthoviz.polar.products import Cost, product_as, symmetric_product


class Zolotarev(NamedTuple):
    """The function z of :mod:`~orthoviz.polar.rational` on [lower, 1].

    Attributes:
        factor: M, such that z lies between 1 - error and 1 + error.
        shifts: c_1, c_3, ...
        weights: a_1, a_2, ...
    """

    factor: float
    shifts: tuple[float, ...]
    weights: tuple[float, ...]
    error: float

    def __call__(self, x: Tensor) -> Tensor:
        """z(x), elementwise: what becomes of a singular value."""
        terms = [a / (x**2 + c) for a, c in zip(self.weights, self.shifts, strict=True)]
        return self.factor * x * (1 + torch.stack(terms).sum(0))


def zolotarev(lower: float, poles: int) -> Zolotarev:
    r"""The best rational function of its type for singular values in [lower, 1].

    .. math:: c_i = l^2\, \frac{\mathrm{sn}^2(u_i; k)}{\mathrm{cn}^2(u_i; k)}, \quad
              u_i = \frac{i K(k)}{2r + 1}, \quad k^2 = 1 - l^2, \qquad
              a_j = -\frac{\prod_k (c_{2j-1} - c_{2k})}{\prod_{k \ne j} (c_{2j-1} - c_{2k-1})}

    Args:
        lower: l, in (0, 1).
        poles: r, at least 1.

    Raises:
        ValueError: an argument outside its range.
    """
    if not (0 < lower < 1 and poles >= 1):
        raise ValueError(f"lower must be in (0, 1) and poles at least 1, got {lower} and {poles}")
    c = [lower**2 * t**2 for t in _tangents(lower, 2 * poles + 1)]
    odd, even = c[0::2], c[1::2]
    weights = []
    for j, shift in enumerate(odd):
        above = math.prod(shift - e for e in even)
        below = math.prod(shift - o for i, o in enumerate(odd) if i != j)
        weights.append(-above / below)
    z = Zolotarev(1.0, tuple(odd), tuple(weights), 0.0)
    x = torch.logspace(math.log10(lower), 0, 20_001, dtype=torch.float64)
    low, high = (v.item() for v in z(x).aminmax())
    return z._replace(factor=2 / (low + high), error=(high - low) / (high + low))


@dataclass(frozen=True)
class Rational:
    r"""Approximate polar factor by Zolotarev's function: a few shifted inverses.

    X is scaled by a bound on s1 that needs no more than the trace and norm of K (Wolkowicz & Styan
    1980), with :math:`\mu` the mean and :math:`\sigma` the standard deviation of its eigenvalues:
    :math:`s_1^2 \le \mu + \sigma \sqrt{m - 1}`.

    Args:
        lower: smallest singular value to be brought to 1, relative to a bound on the largest.
        poles: number of inverses.

    Raises:
        ValueError: an argument outside its range, or a shift so small that float32 rounding would make
            the shifted matrix indefinite.
    """

    lower: float = 0.003
    poles: int = 4

    @cached_property
    def function(self) -> Zolotarev:
        return zolotarev(self.lower, self.poles)

    def __post_init__(self) -> None:
        smallest = self.function.shifts[0]
        if smallest < 5e-6:
            raise ValueError(
                f"lower = {self.lower:g} with {self.poles} poles needs a shift of {smallest:.1e}; one under "
                "5e-6 can drown in float32's rounding: take a larger lower or fewer poles"
            )

    def __call__(self, X: Tensor) -> Tensor:
        m, z = X.shape[-2], self.function
        K = symmetric_product(X, X.mT)
        mean = K.diagonal(dim1=-2, dim2=-1).mean(-1)
        square = torch.linalg.matrix_norm(K).square() / m
        bound = mean + ((square - mean.square()).clamp_min(0) * (m - 1)).sqrt()
        bound = bound.clamp_min(0.1)[..., None, None]  # zero stays zero
        K = K / bound
        W: Tensor | float = 0.0  # takes the memory layout of the inverses
        for shift, weight in zip(z.shifts, z.weights, strict=True):
            shifted = K.clone()
            shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
            L, failed = torch.linalg.cholesky_ex(shifted)
            inverse = torch.cholesky_inverse(L)
            W = W + inverse * weight * torch.where(failed == 0, 1.0, torch.nan)[..., None, None]
        assert isinstance(W, Tensor)
        W.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return product_as(X, W * (z.factor * bound.rsqrt()))

    def cost(self, m: int, n: int) -> Cost:
        return Cost(4 * m * m * n + self.poles * m**3, words=2 * m * n + 6 * m * m)


def _tangents(lower: float, parts: int) -> list[float]:
    """sn/cn at i K / parts, i = 1 .. parts - 1, for k^2 = 1 - lower^2: by arithmetic-geometric means.

    Source: Abramowitz & Stegun 1964, 16.4 and 17.6.
    """
    a, b = 1.0, lower
    steps = []
    while a - b > 1e-15 * a:
        a, b, c = (a + b) / 2, math.sqrt(a * b), (a - b) / 2
        steps.append(c / a)
    quarter = math.pi / (2 * a)
    result = []
    for i in range(1, parts):
        angle = 2 ** len(steps) * a * quarter * i / parts
        for ratio in reversed(steps):
            angle = (angle + math.asin(ratio * math.sin(angle))) / 2
        result.append(math.tan(angle))
    return result
