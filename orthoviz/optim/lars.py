"""LARS: each layer's step as long as a fixed part of its weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from orthoviz.optim.base import entries_of


class LARS(torch.optim.Optimizer):
    r"""Layer-wise adaptive rate scaling, as Barlow Twins uses it.

    For a weight :math:`\theta` of two or more dimensions, trust coefficient :math:`\kappa`:

    .. math::
        x_t &= G_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + \kappa \frac{\|\theta_{t-1}\|}{\|x_t\|} x_t \\
        \theta_t &= \theta_{t-1} - \eta b_t

    (the whole factor is 1 where either norm is zero). Vectors, which are biases and norms' gains, follow SGD
    with momentum and are not decayed. Orthogonal LARS is ``ov.orthogonalise(ov.LARS(...), model)``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, at least 0.
        momentum: factor of the buffer, at least 0.
        weight_decay: at least 0, coupled.
        trust_coefficient: length of a layer's step relative to its weights, at lr 1 and without momentum.

    Raises:
        ValueError: an argument is negative.
        TypeError: a gradient is sparse or complex.

    Source: You, Gitman & Ginsburg 2017 (arXiv 1708.03888), algorithm 1; Zbontar et al. 2021 (arXiv
    2103.03230, Barlow Twins), whose code divides by :math:`\|G + \lambda\theta\|` where You et al. have
    :math:`\|G\| + \lambda\|\theta\|`, and keeps the learning rate outside of the buffer.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        options = dict(
            lr=lr, momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient
        )
        for name, value in options.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for entry in entries_of(self):
            p, x, group, state = entry.parameter, entry.step, entry.group, self.state[entry.parameter]
            if p.ndim > 1:
                x = x + group["weight_decay"] * p
                x = x * _ratio(p, x, group["trust_coefficient"])
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(x)
            p.add_(buffer, alpha=-group["lr"])
        return loss


def _ratio(weight: Tensor, update: Tensor, trust: float) -> Tensor:
    """trust * ||weight|| / ||update||, without waiting for a GPU."""
    size, length = weight.norm(), update.norm()
    return torch.where((size > 0) & (length > 0), trust * size / length, 1.0)
