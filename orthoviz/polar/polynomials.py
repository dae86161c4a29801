r"""Polynomials that push singular values towards 1: named tables, and a generator of optimal ones.

An iteration replaces every singular value x of a matrix by p(x), with an odd polynomial p a step,
written as its coefficients (a, b, c, ...) of x, x^3, x^5, ... All tables here expect singular values
in [0, 1]. What they do to a small one is read off by evaluating them, see :func:`gain`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from torch import Tensor

# One tuple of coefficients a step.
Coefficients = tuple[tuple[float, ...], ...]

# Muon's, tuned for speed: gets near 1 in five steps and never arrives (0.68 to 1.13). Jordan et al. 2024.
JORDAN: Coefficients = ((3.4445, -4.7750, 2.0315),) * 5

# Five steps found by numerical search. Jiacheng You 2024, as quoted in arXiv 2505.16932.
YOU: Coefficients = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)

# Six steps of the modula library (Bernstein et al.).
MODULA: Coefficients = tuple(
    (a / 1024, b / 1024, c / 1024)
    for a, b, c in (
        (3955, -8306, 5008),
        (3735, -6681, 3463),
        (3799, -6499, 3211),
        (4019, -6385, 2906),
        (2677, -3029, 1162),
        (2172, -1833, 682),
    )
)

# Newton-Schulz proper: slow at first, then exact. Higham 2008, *Functions of Matrices*, section 8.3.
CUBIC: Coefficients = ((1.5, -0.5),) * 30

# coefficients(1e-3, 8, safety=1.01, cushion=0.02). Amsel et al. 2025 (arXiv 2505.16932).
POLAR_EXPRESS: Coefficients = (
    (8.237312, -23.157747, 16.680568),
    (4.082442, -2.893048, 0.525285),
    (3.926348, -2.854747, 0.531802),
    (3.298219, -2.424542, 0.486320),
    (2.297037, -1.636626, 0.400263),
    (1.876381, -1.234790, 0.358919),
    (1.856442, -1.213245, 0.356800),
    (1.875, -1.25, 0.375),
)

# coefficients(4.5e-3, 5, safety=1.001), for a start scaled by the Schatten-8 norm.
GRAM: Coefficients = (
    (8.311479, -24.440331, 18.065988),
    (3.942631, -2.934471, 0.558947),
    (3.246406, -2.429743, 0.501712),
    (2.242766, -1.613670, 0.411317),
    (1.886378, -1.262585, 0.376261),
)

# coefficients(7.8e-3, 3, 9, safety=1.001): the reach of five quintic steps for 12 products, not 17.
DEGREE_NINE: Coefficients = (
    (14.16444, -135.888349, 448.838178, -574.25867, 248.961351),
    (5.198573, -11.808709, 10.348404, -3.610404, 0.431453),
    (2.769525, -4.258056, 3.944511, -1.758195, 0.296156),
)


def coefficients(
    lower: float, steps: int, degree: int = 5, *, safety: float = 1.0, cushion: float = 0.0
) -> Coefficients:
    r"""Optimal odd polynomials, one a step, that take singular values in [lower, 1] to 1.

    Each step's polynomial has the smallest largest error on the interval [l, u] where the singular
    values are by then, and the next interval is what it makes of this one:

    .. math:: p_t = \arg\min_p \max_{l_t \le x \le u_t} |1 - p(x)|, \qquad
              l_{t+1} = p_t(l_t), \quad u_{t+1} = 2 - l_{t+1}

    Taken greedily like this, their composition is the best of all compositions of that many
    polynomials of that degree (theorem 3.1 of the paper).

    Args:
        lower: smallest singular value to be brought to 1, relative to the largest; in (0, 1).
        steps: number of polynomials, at least 1.
        degree: of each polynomial: odd, at least 3.
        safety: divides the argument of every polynomial but the last, so that rounding cannot push a
            singular value out of the interval; at least 1.
        cushion: a polynomial is computed for a lower end of at least ``cushion * u``, so that it is not
            too steep for low precision, and then centred on the true interval; in [0, 1).

    Returns:
        ``steps`` tuples of ``(degree + 1) / 2`` numbers.

    Raises:
        ValueError: an argument outside its range.

    Source: Amsel, Persson, Musco & Gower 2025 (arXiv 2505.16932), section 3 and algorithm 1.
    """
    if not (0 < lower < 1 and steps >= 1 and degree >= 3 and degree % 2 and safety >= 1 and 0 <= cushion < 1):
        raise ValueError(
            "lower must be in (0, 1), steps at least 1, degree odd and at least 3, safety at least 1 and "
            f"cushion in [0, 1), got {lower=}, {steps=}, {degree=}, {safety=}, {cushion=}"
        )
    table = []
    low, high = lower, 1.0
    for step in range(steps):
        p = best_odd_polynomial(max(low, cushion * high), high, degree)
        if cushion * high > low:  # centre it: as far below 1 at the low end as above it at the high end
            centre = 2 / (_evaluate(p, low) + _evaluate(p, high))
            p = tuple(centre * c for c in p)
        if step < steps - 1:
            p = tuple(c / safety ** (2 * i + 1) for i, c in enumerate(p))
        table.append(p)
        low = _evaluate(p, low)
        high = 2 - low
    return tuple(table)


def best_odd_polynomial(low: float, high: float, degree: int) -> tuple[float, ...]:
    r"""Coefficients of the odd polynomial with the smallest largest distance from 1 on [low, high].

    By Chebyshev's theorem it is the one whose error takes its largest size, with alternating sign, at
    one point more than it has coefficients. Remez's exchange finds them: solve for the polynomial
    whose errors at the present points are equal and alternate, move the points to where its error is
    largest, repeat. It is written as :math:`x\, q(t)` with :math:`t = (x^2 - \text{middle}) / \text{half}`
    in [-1, 1], which keeps the equations well-conditioned on a short interval.
    """
    count = (degree + 1) // 2
    middle, half = (high**2 + low**2) / 2, (high**2 - low**2) / 2
    if half ** (count - 1) < 1e-10:  # so short that only rounding would tell it from the Taylor polynomial
        series = sum(math.comb(2 * j, j) / 4**j * Polynomial([1, -1]) ** j for j in range(count))
        return tuple(c / middle ** (i + 0.5) for i, c in enumerate(series.coef.tolist()))
    t = np.cos(np.pi * np.arange(count, -1, -1) / count)
    for _ in range(50):
        x = np.sqrt(middle + half * t)
        system = np.column_stack(
            [x[:, None] * t[:, None] ** np.arange(count), (-1.0) ** np.arange(count + 1)]
        )
        q = Polynomial(np.linalg.solve(system, np.ones_like(t))[:count])
        slope = q + Polynomial([2 * middle / half, 2]) * q.deriv()  # of x q(t), times 2 x / half
        moved = np.concatenate([[-1], np.sort(slope.roots().real).clip(-1, 1), [1]])
        settled = np.abs(moved - t).max() < 1e-12
        t = moved
        if settled:
            break
    p = Polynomial([0, 1]) * q(Polynomial([-middle / half, 0, 1 / half]))
    return tuple(p.coef[1::2].tolist())


def gain(table: Coefficients, x: Tensor) -> Tensor:
    """What the steps make of a singular value x in [0, 1]: p_T(... p_2(p_1(x))). Any shape, elementwise."""
    for step in table:
        x = _evaluate(step, x)
    return x


def _evaluate(p: Sequence[float], x: Any) -> Any:
    return sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
