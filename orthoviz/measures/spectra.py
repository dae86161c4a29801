"""Singular values, and the numbers that say how many directions a matrix has."""

from collections.abc import Callable

import torch
from torch import Tensor

from orthoviz.polar import counts, default_tol
from orthoviz.polar.factor import check_matrix


def centre(rows: Tensor) -> Tensor:
    """Rows less their mean. What rounding alone leaves of equal values, up to 1e-12 of the mean, is zero."""
    mean = rows.mean(-2, keepdim=True)
    return torch.where((rows - mean).abs() > 1e-12 * mean.abs(), rows - mean, 0.0)


def singular_values(matrix: Tensor) -> Tensor:
    r"""Lengths of the axes of the ellipsoid that the matrix makes of the unit sphere.

    .. math:: s_1 \ge s_2 \ge \dots \ge s_{\min(m, n)} \ge 0, \qquad s_i^2 \text{ eigenvalues of } G G^\top

    Computed in float64, so that the small ones are right to the input's rounding: a value s is off by
    about eps * s1, with the eps of the matrix's dtype. Divide by the first for s/s1.

    Args:
        matrix: ``(..., m, n)``, real floating point. Rows are components (filters).

    Returns:
        ``(..., min(m, n))``, descending, in the matrix's unit and dtype. NaN where the matrix holds NaN
        or infinity. Differentiable where the values differ from one another.

    Raises:
        TypeError: the matrix is complex or integer.
        ValueError: it has fewer than two dimensions.
    """
    return _measured("singular_values", matrix)


def condition_number(matrix: Tensor, *, tol: float | None = None) -> Tensor:
    r"""How many times longer the longest axis is than the shortest that counts.

    .. math:: s_1 / \min \{ s_i : s_i > \mathrm{tol} \cdot s_1 \} \in [1, 1/\mathrm{tol})

    Args:
        matrix: ``(..., m, n)``, real floating point.
        tol: singular values up to ``tol * s_1`` are noise and left out. Default: that of ``ov.polar_factor``.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: it is no real matrix.
    """
    return _measured("condition_number", matrix, tol)


def stable_rank(matrix: Tensor) -> Tensor:
    r"""How many directions carry the matrix's energy, counted in units of the strongest.

    .. math:: \frac{\sum_i s_i^2}{s_1^2} \in [1, \operatorname{rank} G]

    Small noise moves it little, which is why it is drawn where the rank itself would jump.

    Args:
        matrix: ``(..., m, n)``, real floating point.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Rudelson & Vershynin 2007.
    """
    return _measured("stable_rank", matrix)


def effective_rank(matrix: Tensor) -> Tensor:
    r"""How many equally strong directions would be as spread out as the matrix's.

    .. math:: \exp\Bigl(-\sum_i p_i \ln p_i\Bigr) \in [1, \operatorname{rank} G], \qquad
              p_i = s_i / \textstyle\sum_j s_j, \quad 0 \ln 0 = 0

    Weak directions weigh more here than in the stable rank, which squares.

    Args:
        matrix: ``(..., m, n)``, real floating point.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Roy & Vetterli 2007.
    """
    return _measured("effective_rank", matrix)


def participation_ratio(matrix: Tensor, *, centred: bool = False) -> Tensor:
    r"""How many directions take part in the matrix's variance.

    .. math:: \frac{(\sum_i s_i^2)^2}{\sum_i s_i^4} \in [1, \operatorname{rank} G]

    Args:
        matrix: ``(..., m, n)``, real floating point.
        centred: subtract the mean row first: for activations, with a row a sample, s_i^2 are then the
            eigenvalues of their covariance. The number depends on how many samples there are, so compare
            runs at one number only.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for a zero matrix and one that is not finite;
        if centred, for equal rows too.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Gao et al. 2017.
    """
    if centred:
        rows = check_matrix(matrix, "matrix").double()
        matrix = centre(rows).to(matrix.dtype)
    return _measured("participation_ratio", matrix)


def nuclear_rank(matrix: Tensor) -> Tensor:
    r"""Ratio of nuclear to Frobenius norm, squared: how much a spectral step gains on this gradient.

    .. math:: \frac{(\sum_i s_i)^2}{\sum_i s_i^2} \in [1, \operatorname{rank} G]

    A spectral step is predicted to help where this exceeds the :func:`stable_rank` of the layer's incoming
    activations.

    Args:
        matrix: ``(..., m, n)``, real floating point; the layer's gradient.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Davis & Drusvyatskiy 2025 (arXiv 2512.04299).
    """
    return _measured("nuclear_rank", matrix)


def rank_me(embeddings: Tensor) -> Tensor:
    r"""How many dimensions embeddings use, smoothly: a collapsed network gives 1.

    .. math:: \exp\Bigl(-\sum_i p_i \ln p_i\Bigr), \qquad p_i = \frac{s_i}{\sum_j s_j} + 10^{-7}

    Args:
        embeddings: ``(..., samples, features)``, real floating point, not centred. Depends on the number of
            samples: the authors use 25,600; keep it fixed when runs are compared.

    Returns:
        ``(...)``, dimensionless, in the embeddings' dtype, from 1 to min(samples, features): the small
        constant would lift it above, so it is cut there. NaN for zero embeddings and where one is not finite.

    Raises:
        TypeError, ValueError: they are no real matrix.

    Source: Garrido et al. 2023 (arXiv 2210.02885), equation 1.
    """
    s, finite = values64(check_matrix(embeddings, "embeddings"))
    p = s / s.sum(-1, keepdim=True) + 1e-7
    rank: Tensor = torch.special.entr(p).sum(-1).exp().clamp(max=min(embeddings.shape[-2:]))
    return rank.where(finite, torch.nan).to(embeddings.dtype)


def _effective_rank(s: Tensor, tol: float) -> Tensor:
    p = s / s.sum(-1, keepdim=True)
    # An entropy of 0, as p = 0 has it, but with a finite slope
    rank: Tensor = torch.special.entr(torch.where(p == 0, 1.0, p)).sum(-1).exp()
    return rank


# The measures of a spectrum by name, of s/s1 in float64 (NaN for a zero matrix) and the rank's tolerance.
FORMULAS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "condition_number": lambda s, tol: s[..., 0] / torch.where(counts(s, tol), s, torch.inf).amin(-1),
    "stable_rank": lambda s, tol: s.square().sum(-1),
    "effective_rank": _effective_rank,
    "participation_ratio": lambda s, tol: s.square().sum(-1).square() / s.pow(4).sum(-1),
    "nuclear_rank": lambda s, tol: s.sum(-1).square() / s.square().sum(-1),
}


def of_values(name: str, s: Tensor, finite: Tensor, dtype: torch.dtype, tol: float | None = None) -> Tensor:
    """A measure of a spectrum that is known already, as :func:`values64` gives it."""
    if name == "singular_values":
        return torch.where(finite[..., None], s, torch.nan).to(dtype)
    value = FORMULAS[name](s / s[..., :1], default_tol(dtype) if tol is None else tol)
    return torch.where(finite, value, torch.nan).to(dtype)


def _measured(name: str, matrix: Tensor, tol: float | None = None) -> Tensor:
    return of_values(name, *values64(matrix), matrix.dtype, tol)


def values64(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values in float64, and which matrices are finite."""
    finite = check_matrix(matrix, "matrix").isfinite().all(-1).all(-1)
    G = torch.where(finite[..., None, None], matrix, 0.0).double()
    if matrix.dtype == torch.float64 or matrix.requires_grad:
        return torch.linalg.svdvals(G), finite
    # Squaring costs half the digits of float64, and what is left exceeds those of the input; ten times faster
    gram = G @ G.mT if G.shape[-2] <= G.shape[-1] else G.mT @ G
    return torch.linalg.eigvalsh(gram).flip(-1).clamp(min=0).sqrt(), finite


def check_pair(one: Tensor, other: Tensor, *names: str) -> None:
    """Raise TypeError or ValueError where one of them is no real matrix, or their shapes differ."""
    if check_matrix(one, names[0]).shape != check_matrix(other, names[1]).shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must be (..., m, n) of one shape, "
            f"got {tuple(one.shape)} and {tuple(other.shape)}"
        )
