"""Products whose result is known to be symmetric, at less than the price of a general one."""

from typing import NamedTuple

import torch
from torch import Tensor

from orthoviz.polar.crossovers import SYMMETRIC_BLOCKS_FROM


class Cost(NamedTuple):
    """What a method takes for one matrix.

    Attributes:
        operations: on floating-point numbers; multiplications and additions are counted apart.
        words: numbers that it holds at a time, beyond the matrix.
    """

    operations: float
    words: int


def symmetric_product(A: Tensor, B: Tensor, *, blocks_from: int = SYMMETRIC_BLOCKS_FROM) -> Tensor:
    """A B, where the caller knows that the result is symmetric.

    On a CPU the product of large matrices is made block by block: those above the diagonal are copies
    of those below it. Halving twice leaves 10 of 16 blocks to compute.

    Args:
        A: ``(..., m, k)``.
        B: ``(..., k, m)``, such that A B is symmetric: A^T, or a matrix that commutes with a symmetric A.
        blocks_from: rows from which a CPU works by blocks.

    Returns:
        ``(..., m, m)``, in A's dtype.
    """
    m = A.shape[-2]
    if A.device.type != "cpu" or m < blocks_from:
        return torch.matmul(A, B)
    half = m // 2
    C = A.new_empty(*A.shape[:-1], m)
    corner = A[..., half:, :] @ B[..., :half]
    C[..., half:, :half] = corner
    C[..., :half, half:] = corner.mT
    C[..., :half, :half] = symmetric_product(A[..., :half, :], B[..., :half])
    C[..., half:, half:] = symmetric_product(A[..., half:, :], B[..., half:])
    return C


def product_as(X: Tensor, S: Tensor) -> Tensor:
    """S X for a symmetric S, laid out in memory as X is: a transposed X gives a transposed result."""
    transposed = X.stride(-1) != 1 and X.stride(-2) == 1
    product: Tensor = (X.mT @ S).mT if transposed else S @ X
    return product
