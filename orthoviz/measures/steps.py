"""How long a step is: against the gradient, and against the weights."""

import torch
from torch import Tensor

from orthoviz.measures.spectra import checked


def step_inflation(factor: Tensor, matrix: Tensor) -> Tensor:
    r"""How many times longer the orthogonal step is than the gradient's at the same learning rate.

    .. math:: \|O\|_F / \|G\|_F

    The confound of every comparison at an equal learning rate: the polar factor has length
    :math:`\sqrt{\mathrm{rank}\,G}` however short the gradient is.

    Args:
        factor: O, ``(..., m, n)``.
        matrix: G, of the same shape.

    Returns:
        ``(...)``, dimensionless, at least 0. NaN for a zero G.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or the shapes differ.
    """
    return _ratio(factor, matrix, "factor", "matrix")


def update_ratio(change: Tensor, weight: Tensor) -> Tensor:
    r"""How far one step moves a weight, relative to its size.

    .. math:: \|\Delta W\|_F / \|W\|_F

    Args:
        change: the weight after the step minus the weight before, ``(..., m, n)``.
        weight: the weight before the step, of the same shape.

    Returns:
        ``(...)``, dimensionless, at least 0. NaN for a zero weight.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or the shapes differ.
    """
    return _ratio(change, weight, "change", "weight")


def _ratio(above: Tensor, below: Tensor, *names: str) -> Tensor:
    length = _length(below)
    if above.shape != below.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must be (..., m, n) of one shape, "
            f"got {tuple(above.shape)} and {tuple(below.shape)}"
        )
    ratio = _length(above) / length
    return ratio.where(length > 0, float("nan")).to(above.dtype)


def _length(matrix: Tensor) -> Tensor:
    length: Tensor = torch.linalg.matrix_norm(checked(matrix).double())
    return length
