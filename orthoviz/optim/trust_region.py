"""The orthogonal step as the best step within a ball."""

from collections.abc import Iterable
from typing import Any

from orthoviz.optim.base import Entry, MatrixOptimizer, move
from orthoviz.optim.directions import Group, normalised
from orthoviz.polar.methods import Method


class TrustRegion(MatrixOptimizer):
    r"""Go where the averaged gradient falls fastest, no further than ``lr`` in the spectral norm.

    .. math::
        m_t &= \mu m_{t-1} + (1 - \mu) G_t, \qquad m_1 = G_1 \\
        \theta_t &= \operatorname*{arg\,min}_\theta \{ \langle m_t, \theta \rangle :
        \| \theta - (1 - \eta\lambda)\,\theta_{t-1} \| \le \eta \}

    For a matrix and its spectral norm the answer is :math:`(1 - \eta\lambda)\theta_{t-1} - \eta U V^\top`
    with the polar factor of :math:`m_t`: Muon. For the rest the norm is the Euclidean one, and the answer the
    normalised average. Theory as code: the same steps as ``OrthogonalSGD(order="after_momentum",
    dampening=momentum, decoupled=True)`` on matrices.

    Args:
        params: ``ov.param_groups(model)``.
        lr: radius of the ball, at least 0.
        momentum: weight of the past in the average, in [0, 1); the paper's 1 - alpha.
        weight_decay: at least 0; the paper's beta is ``lr * weight_decay``.
        method: how the polar factor is computed.
        error_if_nonfinite: as in :class:`orthoviz.OrthogonalSGD`.

    Raises:
        ValueError: an argument outside its range.

    Source: Kovalev 2025 (arXiv 2503.12645), the stochastic non-Euclidean trust-region gradient method with
    momentum, and its variant with weight decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        method: str | Method = "exact",
        error_if_nonfinite: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            method=method,
            tol=None,
            null="drop",
            scale=None,
            error_if_nonfinite=error_if_nonfinite,
        )
        super().__init__(params, defaults)

    def _check(self, group: Group) -> None:
        super()._check(group)
        if not group["momentum"] < 1:
            raise ValueError(f"momentum must be in [0, 1), got {group['momentum']}")

    def _update(self, entries: list[Entry]) -> None:
        averages = []
        for p, gradient, group, _ in entries:
            state = self.state[p]
            if "average" not in state:
                state["average"] = gradient.clone()
            averages.append(state["average"].lerp_(gradient, 1 - group["momentum"]))
        self._stages.announce("momentum", entries, averages)
        steps = [
            normalised(step, tuple(range(step.ndim))) if entry.layout is None else step
            for entry, step in zip(entries, self._directions(entries, averages), strict=True)
        ]
        move(entries, steps)
