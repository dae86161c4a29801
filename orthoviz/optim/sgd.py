"""SGD with momentum, on orthogonalised gradients."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from orthoviz.matrices import as_matrix, check_layout, from_matrix, layout_of_shape
from orthoviz.polar import polar_factor
from orthoviz.polar.factor import as_method

_UNKNOWN = "not told"  # the `matrix` of parameters that came without param_groups


class OrthogonalSGD(torch.optim.Optimizer):
    r"""Stochastic gradient descent along orthogonalised gradients, with momentum.

    For a weight with matrix :math:`G_t = U S V^\top` (see :func:`orthoviz.param_groups`), learning
    rate :math:`\eta`, momentum :math:`\mu`, dampening :math:`\tau` and weight decay :math:`\lambda`:

    .. math::
        O_t &= U V^\top \\
        x_t &= O_t + \lambda \theta_{t-1} \\
        b_t &= \mu b_{t-1} + (1 - \tau) x_t, \qquad b_1 = x_1 \\
        \theta_t &= \theta_{t-1} - \eta b_t

    (with Nesterov momentum the step is :math:`x_t + \mu b_t`). The order is the paper's: gradient,
    polar factor, momentum. The step's length no longer depends on the gradient's: ``O`` has Frobenius
    norm :math:`\sqrt{\mathrm{rank}\, G}`, so a good ``lr`` is not SGD's. Weight decay is added after
    the polar factor, as in the paper's code. Biases, norms and whatever else is no matrix follow
    :class:`torch.optim.SGD`'s rule in the same object.

    Args:
        params: ``ov.param_groups(model)``. Bare parameters work too: then a tensor of two or more
            dimensions is taken as ``flatten(1)``, with one warning.
        lr: learning rate, at least 0; may be a schedule's.
        momentum: factor of the buffer, at least 0.
        dampening: fraction of each new step that does not enter the buffer.
        weight_decay: at least 0, coupled (added to the step, as in torch's SGD).
        nesterov: look ahead along the buffer; needs momentum and no dampening.
        method: how the factor is computed, see :func:`orthoviz.polar_factor`.
        tol: smallest singular value that counts, relative to the largest.
        null: ``"drop"`` leaves directions that the gradient lacks alone, ``"keep"`` steps at full
            size along arbitrary ones, as the paper's code does.
        error_if_nonfinite: raise RuntimeError, naming the parameter and before anything has moved,
            when a gradient holds NaN or infinity.

    Raises:
        ValueError: an argument outside the ranges above; also when a group is added later.
        TypeError: a gradient is sparse or complex.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 2.

    Example:
        >>> model = ov.models.digits_cnn(seed=0)
        >>> optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=1e-2, momentum=0.9)
        >>> loss_fn(model(images), labels).backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        method: str = "exact",
        tol: float | None = None,
        null: str = "drop",
        error_if_nonfinite: bool = False,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            method=method,
            tol=tol,
            null=null,
            error_if_nonfinite=error_if_nonfinite,
            matrix=_UNKNOWN,
        )
        super().__init__(params, defaults)
        if any(
            layout_of_shape(p.shape)
            for group in self.param_groups
            if group["matrix"] == _UNKNOWN
            for p in group["params"]
        ):
            warnings.warn(
                "OrthogonalSGD was given parameters without their modules, so grouped and transposed "
                "convolutions cannot be told apart from plain ones: pass ov.param_groups(model).",
                stacklevel=2,
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked like the first (torch's own method otherwise)."""
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss and its gradients anew, under ``torch.enable_grad``.

        Returns:
            What the closure returned, or None. ``p.grad`` is left as it was.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _check_gradients(group)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        layout = group["matrix"]
        if layout == _UNKNOWN:
            layout = layout_of_shape(p.shape)
        x = grad if layout is None else _orthogonalised(grad, layout, group)
        if group["weight_decay"]:
            x = x.add(p, alpha=group["weight_decay"])
        if group["momentum"]:
            state = self.state[p]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = x.clone()
            else:
                buffer.mul_(group["momentum"]).add_(x, alpha=1 - group["dampening"])
            x = x.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
        p.add_(x, alpha=-group["lr"])


def _orthogonalised(grad: Tensor, layout: tuple[str, int], group: dict[str, Any]) -> Tensor:
    matrix = as_matrix(grad, layout)
    factor = polar_factor(matrix, group["method"], tol=group["tol"], null=group["null"])
    return from_matrix(factor, layout, like=grad)


def _check_group(group: dict[str, Any]) -> None:
    for name in ("lr", "momentum", "weight_decay"):
        if not group[name] >= 0:
            raise ValueError(f"{name} must be at least 0, got {group[name]}")
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError(
            "nesterov needs momentum > 0 and dampening 0, "
            f"got momentum {group['momentum']} and dampening {group['dampening']}"
        )
    as_method(group["method"], group["tol"], group["null"])
    if group["matrix"] != _UNKNOWN:
        for p in group["params"]:
            check_layout(group["matrix"], p.shape)


def _check_gradients(group: dict[str, Any]) -> None:
    """Refuse what cannot be stepped along before any parameter has moved."""
    for i, p in enumerate(group["params"]):
        if p.grad is None:
            continue
        name = group["param_names"][i] if "param_names" in group else f"of shape {tuple(p.shape)}"
        if p.grad.is_sparse:
            raise TypeError(f"the gradient of parameter {name} is sparse: use a dense gradient")
        if p.grad.is_complex():
            raise TypeError(f"the gradient of parameter {name} is complex: only real ones are supported")
        if group["error_if_nonfinite"] and not bool(p.grad.isfinite().all()):
            raise RuntimeError(f"the gradient of parameter {name} holds NaN or infinity")
