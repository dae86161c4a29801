"""How alike filters, feature maps and representations are, and what chance alone would give."""

import math
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from orthoviz.measures.spectra import centre
from orthoviz.polar.factor import check_matrix


class Chance(NamedTuple):
    """Mean absolute cosine of random rows: what to expect, and how far a matrix strays from it."""

    mean: float
    deviation: float


def cosine_matrix(matrix: Tensor) -> Tensor:
    r"""Cosine of the angle between every two rows.

    .. math:: C_{ij} = \frac{w_i^\top w_j}{\|w_i\| \|w_j\|} \in [-1, 1]

    Read no number of it without :func:`random_cosine`.

    Args:
        matrix: ``(..., m, n)``, real floating point. Rows are components (filters).

    Returns:
        ``(..., m, m)``, dimensionless, in the matrix's dtype. Rows without a direction (length under 1e-12 of
        the longest row's) are left out: their row and column is NaN, on the diagonal too, so that
        ``.diagonal(dim1=-2, dim2=-1).isnan().sum(-1)`` counts them. Differentiable.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 3.1.
    """
    cosine, present = _cosines(check_matrix(matrix, "matrix"))
    return cosine.where(present.unsqueeze(-1) & present.unsqueeze(-2), torch.nan).to(matrix.dtype)


def mean_abs_cosine(matrix: Tensor) -> Tensor:
    r"""How alike the rows of a matrix are on average, whatever the sign.

    .. math:: \frac{2}{m(m-1)} \sum_{i<j} |\cos(w_i, w_j)| \in [0, 1]

    Random rows of n entries have about :math:`\sqrt{2/(\pi n)}` (:func:`random_cosine`); where m > n no
    matrix gets below :math:`(m-n)/(n(m-1))`.

    Args:
        matrix: ``(..., m, n)``, real floating point. Rows without a direction do not count.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for fewer than two rows that count.
        Differentiable.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 3.1.
    """
    return _over_pairs(matrix, torch.abs)


def rms_cosine(matrix: Tensor) -> Tensor:
    r"""How alike the rows of a matrix are, with large cosines weighing more.

    .. math:: \sqrt{\frac{2}{m(m-1)} \sum_{i<j} \cos^2(w_i, w_j)} \in [0, 1]

    Random rows of n entries have about :math:`1/\sqrt n`; where m > n no matrix gets below
    :func:`welch_floor`.

    Args:
        matrix: ``(..., m, n)``, real floating point. Rows without a direction do not count.

    Returns:
        ``(...)``, dimensionless, in the matrix's dtype. NaN for fewer than two rows that count.
        Differentiable where it is not zero.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Welch 1974.
    """
    return _over_pairs(matrix, torch.square).sqrt()


def random_cosine(m: int, n: int) -> Chance:
    r"""Mean absolute cosine of m random rows of n entries (Gaussian or on the sphere).

    .. math:: \frac{\Gamma(n/2)}{\sqrt\pi\, \Gamma((n+1)/2)} \approx \sqrt{\frac{2}{\pi n}}

    The cosines of different pairs are uncorrelated, so the mean over m(m-1)/2 pairs strays from it by
    :math:`\sqrt{(1/n - \mathrm{mean}^2)\, 2 / (m(m-1))}`.

    Returns:
        A pair ``mean, deviation`` (one standard deviation); the band of 95 % is two deviations wide to
        either side.

    Raises:
        ValueError: ``m`` is less than 2, or ``n`` less than 1.
    """
    if m < 2 or n < 1:
        raise ValueError(f"random_cosine needs m >= 2 rows of n >= 1 entries, got {m} and {n}")
    mean = math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2)) / math.sqrt(math.pi)
    return Chance(mean, math.sqrt(max(1 / n - mean**2, 0.0) * 2 / (m * (m - 1))))


@cache
def random_pairs(m: int, n: int) -> Tensor:
    """How alike every two of m random rows of n entries (Gaussian) are, in many draws.

    Returns:
        ``(draws, m (m - 1) / 2)``, float64: of each draw the absolute cosines, the largest first. 50 to 1,000
        draws from a fixed seed, the fewer the larger the matrix. Do not change it: it is kept.
    """
    draws = min(1000, max(50, 4_000_000 // (m * n)))
    generator = torch.Generator().manual_seed(0)
    layers = (torch.randn(50, m, n, generator=generator) for _ in range(math.ceil(draws / 50)))
    i, j = torch.triu_indices(m, m, 1)
    alike = torch.cat([cosine_matrix(some)[:, i, j].abs() for some in layers])
    return alike.sort(descending=True)[0].double()


def welch_floor(m: int, n: int) -> float:
    r"""The least rms cosine that m rows of n entries can have.

    .. math:: \sqrt{\frac{m - n}{n (m - 1)}} \text{ where } m > n, \text{ else } 0

    It bounds :func:`rms_cosine` only: a mean absolute cosine may lie below it.

    Source: Welch 1974.
    """
    return math.sqrt(max(m - n, 0) / (n * (m - 1))) if m > 1 else 0.0


def feature_cosine(maps: Tensor, *, centred: bool = False) -> Tensor:
    r"""How alike the feature maps of one input are, averaged over inputs.

    .. math:: \frac1N \sum_{x} \frac{2}{c(c-1)} \sum_{i<j} |\cos(h_i(x), h_j(x))|

    After a ReLU maps are positive, and unrelated ones have a cosine of :math:`1/\pi = .318`: compare with
    that, not with 0. Centred maps (minus each one's mean) compare with :func:`random_cosine`; smooth maps
    lie above it, because neighbouring pixels say the same.

    Args:
        maps: ``(inputs, channels, height, width)`` or ``(inputs, channels, anything)``, real floating point.
            Maps without a direction (all zero, or constant when centred) do not count.
        centred: subtract each map's mean over its pixels first.

    Returns:
        Scalar, dimensionless, in the maps' dtype. Inputs with fewer than two maps that count are left out;
        NaN where none is left. Differentiable.

    Raises:
        TypeError, ValueError: they are no real feature maps.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 3.2 (not centred).
    """
    if check_matrix(maps, "maps").ndim < 3:
        raise ValueError(f"maps must be (inputs, channels, pixels...), got shape {tuple(maps.shape)}")
    flat = maps.flatten(2)
    if centred:
        mean = flat.mean(-1, keepdim=True)
        # What is left of a constant map is rounding; it has no direction
        flat = torch.where((flat - mean).abs() > 1e-6 * mean.abs(), flat - mean, 0.0)
    # A few inputs at a time, whose cosines fit a cache
    at_once = max(1, 2**20 // flat.shape[1] ** 2)
    return torch.cat([mean_abs_cosine(part) for part in flat.split(at_once)]).nanmean()


def linear_cka(X: Tensor, Y: Tensor) -> Tensor:
    r"""How alike two representations of the same samples are, whatever their rotation and scale.

    .. math:: \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \|Y^\top Y\|_F} \in [0, 1], \quad \text{columns centred}

    Biased: with fewer samples than features even unrelated noise is near 1 (.89 at 64 samples of 512
    features). :func:`minibatch_cka` is not.

    Args:
        X: ``(..., samples, features)``, real floating point.
        Y: the same samples in the same order, with any number of features.

    Returns:
        ``(...)``, dimensionless, in X's dtype. NaN where one of them does not vary. Differentiable.

    Raises:
        TypeError, ValueError: they are no real matrices, or differ in their samples.

    Source: Kornblith et al. 2019.
    """
    _same_samples(X, Y)
    grams = []
    for Z in (X.double(), Y.double()):
        Z = centre(Z)
        gram = Z @ Z.mT  # samples x samples, however many features there are
        length = torch.where(gram.abs().amax((-2, -1)) > 0, gram.norm(dim=(-2, -1)), torch.nan)
        grams.append(gram / length[..., None, None])
    return (grams[0] * grams[1]).sum((-2, -1)).to(X.dtype)


def minibatch_cka(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    r"""Linear CKA without bias, from batches: unrelated representations give about 0.

    .. math:: \frac{S_{KL}}{\sqrt{S_{KK}\, S_{LL}}}, \qquad S_{KL} = \sum_{\text{batches}} \frac{1}{n(n-3)}
       \Bigl[\operatorname{tr} KL + \frac{(1^\top K 1)(1^\top L 1)}{(n-1)(n-2)}
       - \frac{2}{n-2} 1^\top K L 1\Bigr]

    with K = X X^T and L = Y Y^T, their diagonals set to zero.

    Args:
        batches: pairs ``(X, Y)`` of representations of the same n >= 4 samples in the same order,
            ``(n, features)`` each: the two networks must see the same batches, so do not shuffle a loader
            in between.

    Returns:
        Scalar in float64, at most about 1; it can be slightly negative. NaN, with a warning, where the
        denominator's estimate is not positive. Differentiable.

    Raises:
        TypeError, ValueError: they are no real matrices, differ in their samples, have fewer than four, or
            there is no batch.

    Source: Song et al. 2012; Nguyen, Raghu & Kornblith 2021.
    """
    found: list[Tensor] = []
    for X, Y in batches:
        _same_samples(X, Y)
        if X.ndim != 2 or len(X) < 4:
            raise ValueError(f"a batch must be (n, features) with n >= 4 samples, got shape {tuple(X.shape)}")
        centred = (centre(Z.double()) for Z in (X, Y))  # changes nothing but what rounding leaves
        K, L = (_hollow(Z @ Z.mT) for Z in centred)
        found.append(torch.stack([_hsic(K, L), _hsic(K, K), _hsic(L, L)]))
    if not found:
        raise ValueError("there is no batch")
    shared, own, other = torch.stack(found).sum(0).unbind()
    if not (own > 0 and other > 0):
        warnings.warn(
            f"minibatch_cka: the samples do not vary enough for an estimate (HSIC {own:.3g} and {other:.3g} "
            "must be positive): take larger batches, or more of them",
            stacklevel=2,
        )
        return shared * torch.nan
    return shared / (own * other).sqrt()


def _hsic(K: Tensor, L: Tensor) -> Tensor:
    """Unbiased HSIC of two Gram matrices with zero diagonals."""
    n = len(K)
    total = K.sum() * L.sum() / ((n - 1) * (n - 2))
    value: Tensor = ((K * L).sum() + total - 2 / (n - 2) * (K.sum(0) @ L.sum(0))) / (n * (n - 3))
    return value


def _hollow(gram: Tensor) -> Tensor:
    return gram - gram.diagonal().diag()


def _same_samples(X: Tensor, Y: Tensor) -> None:
    if check_matrix(X, "X").shape[:-1] != check_matrix(Y, "Y").shape[:-1]:
        raise ValueError(
            f"X and Y must hold the same samples, got shapes {tuple(X.shape)} and {tuple(Y.shape)}"
        )


def _over_pairs(matrix: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of a measure of the cosines over pairs of different rows that count; a measure of 0 is 0."""
    cosine, present = _cosines(check_matrix(matrix, "matrix"))
    itself = torch.eye(cosine.shape[-1], dtype=torch.bool, device=cosine.device)
    count = present.sum(-1)
    mean: Tensor = measure(cosine.masked_fill(itself, 0.0)).sum((-2, -1)) / (count * (count - 1))
    return mean.where(count > 1, torch.nan).to(matrix.dtype)


def _cosines(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines between rows in float64 (0 of one without direction); which rows have one, ``(..., m)``.

    From the Gram matrix, which is small: lengths stand on its diagonal, and the rows are read once.
    """
    rows = matrix.double()
    if matrix.dtype == torch.float64:  # whose squares may overflow
        rows = rows / rows.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    gram = rows @ rows.mT
    squares = gram.diagonal(dim1=-2, dim2=-1)
    present = squares > 1e-24 * squares.amax(-1, keepdim=True)
    scale = torch.where(present, torch.where(present, squares, 1.0).rsqrt(), 0.0)
    return (gram * scale.unsqueeze(-1) * scale.unsqueeze(-2)).clamp(-1, 1), present
