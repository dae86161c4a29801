"""Singular values and what is made of them."""

import torch
from torch import Tensor


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
    s, finite = values64(matrix)
    return torch.where(finite[..., None], s, torch.nan).to(matrix.dtype)


def values64(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values in float64, and which matrices are finite."""
    matrix = checked(matrix)
    finite = matrix.isfinite().all(-1).all(-1)
    return torch.linalg.svdvals(torch.where(finite[..., None, None], matrix, 0.0).double()), finite


def checked(matrix: Tensor, name: str = "matrix") -> Tensor:
    """The matrix, where it is one that can be measured."""
    if not matrix.dtype.is_floating_point:
        raise TypeError(f"{name} must be real floating point, got {matrix.dtype}")
    if matrix.ndim < 2:
        raise ValueError(f"{name} must be (..., m, n), got shape {tuple(matrix.shape)}")
    return matrix
