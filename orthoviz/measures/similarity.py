"""How alike filters are."""

import torch
from torch import Tensor

from orthoviz.measures.spectra import checked


def cosine_matrix(matrix: Tensor) -> Tensor:
    r"""Cosine of the angle between every two rows.

    .. math:: C_{ij} = \frac{w_i^\top w_j}{\|w_i\| \|w_j\|} \in [-1, 1]

    Two random rows of n entries have a mean absolute cosine of about :math:`\sqrt{2 / (\pi n)}`: read no
    number without it.

    Args:
        matrix: ``(..., m, n)``, real floating point. Rows are components (filters).

    Returns:
        ``(..., m, m)``, dimensionless, in the matrix's dtype. Rows without a direction (length under 1e-12 of
        the longest row's) are left out: their row and column is NaN, on the diagonal too, so that
        ``.diagonal(dim1=-2, dim2=-1).isnan().sum(-1)`` counts them.

    Raises:
        TypeError, ValueError: it is no real matrix.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 3.1.
    """
    rows = checked(matrix).double()
    length = rows.norm(dim=-1, keepdim=True)
    present = length > 1e-12 * length.amax(-2, keepdim=True)
    unit = torch.where(present, rows / length, torch.nan)
    return (unit @ unit.mT).clamp(-1, 1).to(matrix.dtype)
