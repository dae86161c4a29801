"""Which learning rate gives another optimiser steps of the same length."""

import math
import statistics

import torch
from torch import Tensor, nn

from orthoviz.matrices import Layout, ParamGroups, as_matrix, from_matrix, param_groups
from orthoviz.optim.named import OPTIMIZERS, Make

_STEPS, _MEASURED = 60, 10  # a momentum of 0.95 forgets within the first fifty
_CLOSE = 0.01


def translate(lr: float, *, of: str | Make, to: str | Make, model: nn.Module) -> float:
    r"""The learning rate at which ``to`` takes steps as long as ``of`` does at ``lr``.

    A step's length is its root mean square over the elements of the model's matrices,

    .. math::
        \ell(\eta) = \sqrt{\frac{\sum_W \|\Delta W\|_F^2}{\sum_W m_W n_W}},

    measured from the optimisers themselves, on copies. The answer is :math:`\eta\, \ell_\text{of}(\eta) /
    \ell_\text{to}(\eta)`; the length at that rate is measured too.

    *Assumption.* Gradients are noise of the size that the model's gradients have now. At each step the rows
    and columns of every gradient :math:`G` get new random signs: singular values and the size of each element
    stay, the direction is new. Momentum is in its steady state, the weights stay, and decay is left out. So,
    for full-rank m x n matrices:

    ===============================  ==========================================================
    optimiser                        length of a step
    ===============================  ==========================================================
    SGD                              :math:`\eta\, \mathrm{rms}(G) / \sqrt{1 - \mu^2}`
    AdamW                            :math:`\eta \sqrt{(1 - \beta_1) / (1 + \beta_1)}`, 0.23 lr
    orthogonal SGD                   :math:`\eta / \sqrt{\max(m, n)\, (1 - \mu^2)}`
    Muon's order                     :math:`\eta / \sqrt{\max(m, n)}`; scaled by "rms", 0.2 lr
    ===============================  ==========================================================

    *Limits.* Where gradients agree from step to step, as in the first steps of a training, momentum adds them
    up: the first three are then up to :math:`\sqrt{(1 + \mu) / (1 - \mu)}` times longer (4.4 at 0.9), Muon's
    order is not. The rate of SGD is right as long as gradients are as large as now. The matrices together
    move as far, not each of them.

    Args:
        lr: learning rate of ``of``, above 0.
        of, to: a name of ``ov.optim.OPTIMIZERS``, or ``make(ov.param_groups(model), lr)``.
        model: its parameters hold gradients, after ``loss.backward()``. It stays as it is.

    Raises:
        ValueError: an unknown name; a rate that is not above 0; the model holds no gradients of matrices, or
            one that is not finite; an optimiser does not move; a step is not proportional to its rate.

    Source: Liu et al. 2025 (Moonlight, arXiv 2502.16982), section 2.2, who match the same length, and saw 0.2
    to 0.4 lr for AdamW; the lengths above are those of averages of independent terms.

    Example:
        >>> loss_fn(model(images), labels).backward()
        >>> lr = ov.optim.translate(1e-3, of="adamw", to="orthogonal_sgd", model=model)
    """
    makes = [_find(name, maker) for name, maker in (("of", of), ("to", to))]
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be above 0 and finite, got {lr}")
    right, now = (step_length(make, lr, model) for make in makes)
    if not min(right, now) > 0:
        raise ValueError(f"of and to must move the matrices, got steps of length {right:.3g} and {now:.3g}")
    rate = lr * right / now
    now = step_length(makes[1], rate, model)
    if not abs(now / right - 1) < _CLOSE:
        raise ValueError(
            f"to must take steps in proportion to its rate, but at {rate:.3g} they are {now:.4g} long, not "
            f"{right:.4g}: such an optimiser needs a search, as compare(protocol='equal_step') does"
        )
    return rate


def step_length(make: Make, lr: float, model: nn.Module) -> float:
    """The root mean square of a step over the elements of the model's matrices, as :func:`translate` has it.

    Raises:
        ValueError: the model holds no gradients of matrices, or one that is not finite.
    """
    groups, matrices = _copies(model)
    optimizer = make(groups, lr)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    random = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(_STEPS):
        for copy, _, gradient, layout in matrices:
            copy.grad = _turn(gradient, layout, random)
        optimizer.step()
        with torch.no_grad():
            squares.append(sum(float((copy - start).square().sum()) for copy, start, *_ in matrices))
            for copy, start, *_ in matrices:
                copy.copy_(start)
    return math.sqrt(statistics.mean(squares[-_MEASURED:]) / sum(start.numel() for _, start, *_ in matrices))


def _find(name: str, maker: str | Make) -> Make:
    """What makes an optimiser."""
    if callable(maker):
        return maker
    if maker not in OPTIMIZERS:
        known = ", ".join(map(repr, OPTIMIZERS))
        raise ValueError(f"{name} must be make(groups, lr) or one of {known}, got {maker!r}")
    return OPTIMIZERS[maker]


def _copies(model: nn.Module) -> tuple[ParamGroups, list[tuple[nn.Parameter, Tensor, Tensor, Layout]]]:
    """Groups for an optimiser, of copies of the matrices that have gradients; and each copy with its start,
    gradient and layout."""
    groups, matrices = ParamGroups(), []
    for group in param_groups(model):
        pairs = []
        for name, p in group["params"] if group["layout"] is not None else ():
            if p.grad is None:
                continue
            if not bool(p.grad.isfinite().all()):
                raise ValueError(f"the gradient of {name} holds NaN or infinity: take another batch")
            dtype = torch.promote_types(p.dtype, torch.float32)  # half precision rounds small steps away
            start, gradient = p.detach().to(dtype), p.grad.detach().to(dtype)
            copy = nn.Parameter(start.clone())
            pairs.append((name, copy))
            matrices.append((copy, start, gradient, group["layout"]))
        if pairs:
            groups.append({"params": pairs, "layout": group["layout"]})
    if not matrices:
        raise ValueError("the model holds no gradients of matrices: call loss.backward() first")
    return groups, matrices


def _turn(gradient: Tensor, layout: Layout, random: torch.Generator) -> Tensor:
    """The gradient with random signs on the rows and columns of its matrix."""
    G = as_matrix(gradient, layout)
    *parts, m, n = G.shape
    for shape in ((*parts, m, 1), (*parts, 1, n)):
        G = G * (2 * torch.randint(2, shape, generator=random) - 1).to(G)
    return from_matrix(G, layout, like=gradient)
