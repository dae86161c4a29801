"""SGD with momentum, along orthogonalised gradients, orthogonalised momentum, or both."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from orthoviz.optim.base import MatrixOptimizer, by_group, move
from orthoviz.optim.directions import Entry, Group, set_steps
from orthoviz.optim.ranks import ProcessGroup
from orthoviz.polar.methods import Method

ORDERS = ("before_momentum", "after_momentum", "both")
RESTS = ("sgd", "adamw")


class OrthogonalSGD(MatrixOptimizer):
    r"""Stochastic gradient descent along orthogonalised gradients, with momentum.

    For a weight with matrix :math:`G_t = U S V^\top` (see :func:`orthoviz.param_groups`), learning
    rate :math:`\eta`, momentum :math:`\mu`, dampening :math:`\tau` and weight decay :math:`\lambda`:

    .. math::
        O_t &= U V^\top \\
        x_t &= O_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) x_t, \qquad b_1 = x_1 \\
        \theta_t &= \theta_{t-1} - \eta b_t

    (with Nesterov momentum the step is :math:`x_t + \mu b_t`). The order is the paper's,
    ``"before_momentum"``: gradient, polar factor, momentum. With ``"after_momentum"``, Muon's order,
    :math:`x_t = G_t` and the step is the polar factor of what the buffer gives, plus
    :math:`\lambda \theta_{t-1}`. With ``"both"`` it is the polar factor of a buffer of polar factors, plus
    the same. Weight decay never enters a polar factor, which would give it full length.

    The step's length no longer depends on the gradient's: ``O`` has Frobenius norm
    :math:`\sqrt{\mathrm{rank}\, G}`, so a good ``lr`` is not SGD's. Biases, norms and whatever else is no
    matrix follow :class:`torch.optim.SGD`'s rule, or AdamW's, in the same object.

    Args:
        params: ``ov.param_groups(model)``. Bare parameters work too: then a tensor of two or more
            dimensions is taken as ``flatten(1)``, with one warning. A group may have its own value of every
            option below.
        lr: learning rate, at least 0; a number or a 0-d tensor.
        momentum: factor of the buffer, at least 0.
        dampening: fraction of each new step that does not enter the buffer.
        weight_decay: at least 0. Coupled, as in torch's SGD and in the paper's code: added to what enters
            the buffer, so that the step's singular values leave 1.
        nesterov: look ahead along the buffer; needs momentum and no dampening.
        decoupled: shrink the weights by ``1 - lr * weight_decay`` instead, as AdamW and Muon do.
        order: where the polar factor stands: ``"before_momentum"``, ``"after_momentum"`` or ``"both"``.
        method: how the factor is computed: a name or an object, see :func:`orthoviz.polar_factor`. Or a
            control that is none: ``"per_tensor"``, the gradient at the factor's length, or ``"per_filter"``,
            each row at the same length.
        tol: smallest singular value that counts, relative to the largest. ``"bf16"`` or ``"fp16"`` where
            gradients come from autocast: what is rounding there would get full length.
        null: ``"drop"`` leaves directions that the gradient lacks alone, ``"keep"`` steps at full
            size along arbitrary ones, as the paper's code does.
        scale: factor of the direction of an m x n matrix. None: 1. ``"sqrt_max"``:
            :math:`\sqrt{\max(1, m/n)}` (Muon). ``"sqrt_ratio"``: :math:`\sqrt{m/n}` (Bernstein & Newhouse
            2024). ``"rms"``: :math:`0.2 \sqrt{\max(m, n)}`, for AdamW's learning rates (Moonlight).
            ``"match"``: the length of what went in, gradient or buffer, so that only the shape of the
            step is new.
        rest: rule of what is no matrix, ``"sgd"`` (with this lr, momentum and so on) or ``"adamw"``.
        rest_lr: learning rate of the rest; becomes the ``lr`` of its groups, so that schedules reach it.
        betas, eps: AdamW's.
        maximize: ascend.
        process_group: ranks that share the work of the polar factors, such as
            ``torch.distributed.group.WORLD`` under DistributedDataParallel. They must hold the same
            parameters and gradients and step together. Sharded parameters (FSDP2) share it anyway.

    Raises:
        ValueError: an argument outside the ranges above; also when a group is added later.
        TypeError: a gradient is sparse or complex.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 2; Jordan et al. 2024 (Muon);
    Liu et al. 2025 (Moonlight, arXiv 2502.16982), equation 4.

    Example:
        >>> model = ov.models.digits_cnn(seed=0)
        >>> optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=1e-2, momentum=0.9)
        >>> loss_fn(model(images), labels).backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        decoupled: bool = False,
        order: str = "before_momentum",
        method: str | tuple[str, float] | Method = "exact",
        tol: float | str | None = None,
        null: str = "drop",
        scale: str | None = None,
        rest: str = "sgd",
        rest_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        sgd = dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )
        direction = dict(order=order, method=method, tol=tol, null=null, scale=scale, maximize=maximize)
        others = dict(decoupled=decoupled, rest=rest, rest_lr=rest_lr, eps=eps)
        self._betas = betas  # no default: with one, torch's OneCycleLR would cycle it and not momentum
        super().__init__(params, sgd | direction | others, process_group)

    def _prepare(self, group: Group) -> Group:
        first = self.param_groups[0] if self.param_groups else {}
        return {"betas": getattr(self, "_betas", first.get("betas", (0.9, 0.999))), **super()._prepare(group)}

    def _check(self, group: Group) -> None:
        super()._check(group)
        for name, known in (("order", ORDERS), ("rest", RESTS)):
            if group[name] not in known:
                words = " or ".join(map(repr, known))
                raise ValueError(f"{name} must be {words}, got {group[name]!r}")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening 0, "
                f"got momentum {group['momentum']} and dampening {group['dampening']}"
            )

    def _update(self, entries: list[Entry]) -> None:
        self._adamw([entry for entry in entries if entry.layout is None and entry.group["rest"] == "adamw"])
        entries = [entry for entry in entries if entry.layout is not None or entry.group["rest"] == "sgd"]
        for entry in entries:
            entry.step = entry.step.neg() if entry.group["maximize"] else entry.step
        self._take_directions(e for e in entries if e.group["order"] != "after_momentum")
        for members in by_group(entries):
            self._add_momentum(members, members[0].group)
        last = [e for e in entries if e.group["order"] != "before_momentum"]
        self._take_directions(last)
        for members in by_group([entry for entry in last if entry.layout is not None]):
            self._add_decay(members, members[0].group)
        move(entries)

    def _add_decay(self, entries: list[Entry], group: Group) -> None:
        """Add coupled weight decay to the steps of one group."""
        if entries and group["weight_decay"] and not group["decoupled"]:
            weights, steps = [e.parameter for e in entries], [e.step for e in entries]
            set_steps(entries, torch._foreach_add(steps, weights, alpha=group["weight_decay"]))

    def _add_momentum(self, entries: list[Entry], group: Group) -> None:
        """Send the steps of one group through the buffer, with decay where no factor comes after it."""
        first = [e for e in entries if e.layout is None or group["order"] == "before_momentum"]
        self._add_decay(first, group)
        if not group["momentum"]:
            return
        x = [entry.step for entry in entries]
        buffers, old, new = [], [], []
        for entry in entries:
            state = self.state[entry.parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = entry.step.clone()
            else:
                old.append(state["momentum_buffer"])
                new.append(entry.step)
            buffers.append(state["momentum_buffer"])
        if old:
            torch._foreach_mul_(old, group["momentum"])
            torch._foreach_add_(old, new, alpha=1 - group["dampening"])
        set_steps(entries, buffers)
        self._stages.announce("momentum", entries)
        if group["nesterov"]:
            set_steps(entries, torch._foreach_add(x, buffers, alpha=group["momentum"]))
