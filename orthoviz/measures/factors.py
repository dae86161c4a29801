"""How right a polar factor is: the gain of every direction, and two numbers that can deceive."""

import torch
from torch import Tensor

from orthoviz.measures.spectra import check_pair, values64
from orthoviz.polar import counts, default_tol
from orthoviz.polar.factor import check_matrix


def direction_gain(factor: Tensor, matrix: Tensor, *, tol: float | None = None) -> Tensor:
    r"""Length that each of the matrix's directions has in the factor: 1 everywhere if it is the polar factor.

    .. math:: g_i = u_i^\top O v_i, \qquad G = \sum_i s_i u_i v_i^\top

    It is the one report that cannot be fooled: O may have orthonormal rows, and agree with G nearly as well
    as any matrix can, while its weakest directions are turned (see :func:`alignment`).

    Args:
        factor: O, ``(..., m, n)``.
        matrix: G, ``(..., m, n)``, real floating point.
        tol: directions with ``s_i <= tol * s_1`` have no gain. Default: that of ``ov.polar_factor``.

    Returns:
        ``(..., min(m, n))`` in order of falling s_i, dimensionless, in the factor's dtype. NaN for directions
        that do not count: all of a matrix that is zero or not finite.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or their shapes differ.
    """
    O, G = _pair(factor, matrix)
    O, G = (O, G) if G.shape[-2] <= G.shape[-1] else (O.mT, G.mT)
    # The triangle of G^T = Q R has G's values and left vectors, and a small SVD; v_i = G^T u_i / s_i
    R = torch.linalg.qr(G.mT, mode="r").R
    U, s, _ = torch.linalg.svd(R.mT)
    gain = (U * ((O @ G.mT) @ U)).sum(-2) / s
    counted = counts(s, default_tol(matrix.dtype) if tol is None else tol)
    return torch.where(counted, gain, torch.nan).to(factor.dtype)


def alignment(factor: Tensor, matrix: Tensor) -> Tensor:
    r"""How much of the largest possible agreement with the matrix the factor has.

    .. math:: \frac{\langle O, G\rangle}{\sum_i s_i} \in [-1, 1] \text{ for every O with } \|O\|_2 \le 1

    The polar factor, and it alone among them, gives 1. Weak directions weigh little here, so .998 is
    no proof: see :func:`direction_gain`.

    Args:
        factor, matrix: ``(..., m, n)``, real floating point.

    Returns:
        ``(...)``, dimensionless, in the factor's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or their shapes differ.
    """
    O, G = _pair(factor, matrix)
    s, finite = values64(matrix)
    agreement = (O * G).sum((-2, -1)) / s.sum(-1)
    return agreement.where(finite, torch.nan).to(factor.dtype)


def orthogonality_residual(factor: Tensor, *, tol: float | None = None) -> Tensor:
    r"""How far the factor's own singular values are from 1, whatever it is the factor of.

    .. math:: \frac{\|O O^\top - P\|_F}{\sqrt{r}} = \sqrt{\frac1r \sum_{i \le r} (s_i^2 - 1)^2}

    with P the projector on O's column space and r its rank. Zero for every partial isometry, the wrong
    ones too: it says nothing about the directions.

    Args:
        factor: O, ``(..., m, n)``, real floating point.
        tol: singular values of O up to ``tol * s_1`` are left out. Default: that of ``ov.polar_factor``.

    Returns:
        ``(...)``, dimensionless, in the factor's dtype. NaN for a zero matrix and one that is not finite.

    Raises:
        TypeError, ValueError: the factor is no real matrix.
    """
    s, finite = values64(check_matrix(factor, "factor"))
    counted = counts(s, default_tol(factor.dtype) if tol is None else tol)
    squares = torch.where(counted, (s.square() - 1).square(), 0.0)
    residual = (squares.sum(-1) / counted.sum(-1)).sqrt()
    return torch.where(finite, residual, torch.nan).to(factor.dtype)


def _pair(factor: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, a matrix that is not finite as zero."""
    check_pair(factor, matrix, "factor", "matrix")
    finite = matrix.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    return factor.double(), torch.where(finite, matrix, 0.0).double()
