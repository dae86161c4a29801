"""How long a step is, against the gradient and against the weights, and where it goes."""

import torch
from torch import Tensor

from orthoviz.measures.spectra import check_pair
from orthoviz.polar.factor import check_matrix


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


def step_cosine(change: Tensor, previous: Tensor) -> Tensor:
    r"""Whether a step goes on in the direction of the one before: 1 straight on, 0 unrelated, -1 back.

    .. math:: \frac{\langle \Delta W_t, \Delta W_{t-1} \rangle}
              {\|\Delta W_t\|_F \|\Delta W_{t-1}\|_F} \in [-1, 1]

    Args:
        change, previous: two steps in a row, ``(..., m, n)`` of one shape, real floating point.

    Returns:
        ``(...)``, dimensionless, in the step's dtype. NaN where one of them is zero.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or the shapes differ.
    """
    check_pair(change, previous, "change", "previous")
    lengths = _length(change) * _length(previous)
    cosine = (change.double() * previous.double()).sum((-2, -1)) / lengths
    return cosine.where(lengths > 0, torch.nan).clamp(-1, 1).to(change.dtype)


def effective_rate(change: Tensor) -> Tensor:
    r"""How far one step moves an entry of a weight: the learning rate as it was in effect, after all scaling.

    .. math:: \|\Delta W\|_F / \sqrt{mn}

    Adam's first step, whose entries are all 1 before its learning rate, has exactly that rate; an orthogonal
    step without momentum and scale has :math:`\eta / \sqrt{\max(m, n)}`.

    Args:
        change: the weight after the step minus the weight before, ``(..., m, n)``, real floating point.

    Returns:
        ``(...)``, in the weight's own unit, at least 0.

    Raises:
        TypeError, ValueError: it is no real matrix.
    """
    m, n = check_matrix(change, "change").shape[-2:]
    rate: Tensor = _length(change) / (m * n) ** 0.5
    return rate.to(change.dtype)


def predicted_change(change: Tensor, gradient: Tensor) -> Tensor:
    r"""By how much one step changes the loss, to first order.

    .. math:: \langle G, \Delta W \rangle

    Args:
        change: the weight after the step minus the weight before, ``(..., m, n)``, real floating point.
        gradient: of the loss before the step, of the same shape. One that was clipped predicts too little.

    Returns:
        ``(...)``, in the loss's unit; negative where the step goes downhill. Layers add up.

    Raises:
        TypeError, ValueError: one of them is no real matrix, or the shapes differ.
    """
    check_pair(change, gradient, "change", "gradient")
    return (change.double() * gradient.double()).sum((-2, -1)).to(change.dtype)


def _ratio(above: Tensor, below: Tensor, *names: str) -> Tensor:
    check_pair(above, below, *names)
    length = _length(below)
    ratio = _length(above) / length
    return ratio.where(length > 0, torch.nan).to(above.dtype)


def _length(matrix: Tensor) -> Tensor:
    length: Tensor = torch.linalg.matrix_norm(matrix.double())
    return length
