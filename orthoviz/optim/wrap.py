"""Any torch optimiser, fed with polar factors instead of gradients."""

import functools
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from orthoviz.matrices import Layout, layout_of_shape, param_groups
from orthoviz.optim.base import UNKNOWN, Stages, entries_of, warn_of_shapes
from orthoviz.optim.directions import Entry, as_control, check_settings, set_steps, take_directions
from orthoviz.optim.ranks import ProcessGroup, check_agreement
from orthoviz.polar.decompositions import Decomposing
from orthoviz.polar.methods import Method, as_method, to_plain


class Orthogonalised:
    """What :func:`orthogonalise` returns; ``remove()`` gives the optimiser back as it was."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layouts: dict[Tensor, Layout | None],
        settings: dict[str, Any],
        process_group: ProcessGroup | None,
    ) -> None:
        self._optimizer = optimizer
        self._layouts = layouts
        self._settings = settings
        self._process_group = process_group
        self._stages = Stages()
        self._raw: list[tuple[Tensor, Tensor]] = []
        self._active = True
        self._before = vars(optimizer).get("step")  # a scheduler's, or none
        self._step = self._wrap(optimizer.step)
        optimizer.step = self._step  # type: ignore[method-assign]
        optimizer.register_stage_hook = self._stages.register  # type: ignore[attr-defined]
        optimizer.orthogonal_settings = settings  # type: ignore[attr-defined]

    def remove(self) -> None:
        """Undo it. Removing twice does nothing."""
        if not self._active:
            return
        self._active = False  # a wrapper around our step may still call it
        if vars(self._optimizer).get("step") is self._step:
            if self._before is None:
                del self._optimizer.step
            else:
                self._optimizer.step = self._before  # type: ignore[method-assign]
        del self._optimizer.register_stage_hook, self._optimizer.orthogonal_settings  # type: ignore[attr-defined]

    def __enter__(self) -> "Orthogonalised":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _wrap(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """``step`` with polar factors in ``p.grad`` while it runs, however it ends.

        torch's hook after a step is not called when the step raises, and the gradients would stay replaced.
        """

        @functools.wraps(inner)
        def step(
            optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any
        ) -> Any:
            def orthogonal_closure() -> Any:
                """The user's closure, which finds its own gradients; the optimiser finds their factors."""
                self._restore()
                loss = closure()  # type: ignore[misc]
                self._replace()
                return loss

            if not self._active:
                return inner(*([] if closure is None else [closure]), **kwargs)
            if getattr(optimizer, "grad_scale", None) is not None:
                del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]  # the scaler's
                raise RuntimeError(
                    "a fused optimiser under GradScaler would divide the polar factors by the loss scale: "
                    "call scaler.unscale_(optimizer) before scaler.step(optimizer), or use fused=False"
                )
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            before = {p: p.detach().clone() for p in parameters} if self._stages.hooks else {}
            replaced = False

            def replace(*_: Any) -> None:
                nonlocal replaced
                if not replaced:  # a step that calls its parent's step runs the hooks twice
                    replaced = True
                    self._replace()

            try:
                if closure is not None:
                    result = inner(orthogonal_closure, **kwargs)
                else:  # the last hook, so that the user's own see gradients, and may clip them
                    with optimizer.register_step_pre_hook(replace):
                        result = inner(**kwargs)
            finally:
                self._restore()
            if closure is None and not replaced:
                raise RuntimeError(
                    f"this {type(optimizer).__name__} took a plain step: its step was replaced by one that "
                    "runs no hooks. Call ov.orthogonalise on the optimiser as it was made"
                )
            if before:
                self._announce_after(before)
            return result

        return types.MethodType(step, self._optimizer)  # bound, because schedulers ask for __func__

    @torch.no_grad()
    def _replace(self) -> None:
        entries = self._entries()
        self._stages.announce("raw", entries)
        raw = [(entry.parameter, entry.step) for entry in entries]
        take_directions(entries, self._process_group)
        self._stages.announce("orthogonal", entries)
        self._raw = raw
        for entry in entries:
            entry.parameter.grad = entry.step

    def _restore(self) -> None:
        for parameter, gradient in self._raw:
            parameter.grad = gradient
        self._raw = []

    def _entries(self) -> list[Entry]:
        """The matrices that have a gradient, with the settings of all."""
        # layouts as they were made: a loaded state may have groups without matrices
        groups = self._optimizer.param_groups
        if not all(p in self._layouts for group in groups for p in group["params"]):  # some came later
            self._layouts = _layouts(self._optimizer, None, self._layouts)
        entries = entries_of(self._optimizer, self._layouts)
        for entry in entries:
            entry.group = self._settings
        return entries

    def _announce_after(self, before: dict[Tensor, Tensor]) -> None:
        """The stages that are known once the step is done."""
        entries = [entry for entry in self._entries() if entry.parameter in before]
        state = self._optimizer.state
        buffered = [e for e in entries if state[e.parameter].get("momentum_buffer") is not None]
        set_steps(buffered, [state[entry.parameter]["momentum_buffer"] for entry in buffered])
        self._stages.announce("momentum", buffered)
        set_steps(entries, [entry.parameter.detach() - before[entry.parameter] for entry in entries])
        self._stages.announce("applied", entries)


def orthogonalise(
    optimizer: torch.optim.Optimizer,
    model: nn.Module | None = None,
    *,
    method: str | Method = "exact",
    tol: float | str | None = None,
    null: str = "drop",
    scale: str | None = None,
    process_group: ProcessGroup | None = None,
) -> Orthogonalised:
    r"""Make an optimiser step along polar factors: it sees :math:`UV^\top` instead of a gradient.

    Works on any ``torch.optim.Optimizer`` instance, in its step and in what a closure computes. ``p.grad``
    is the gradient again when ``step`` returns or raises. The order is the paper's: gradient, polar factor,
    then whatever the optimiser does (momentum, Adam's moments). Biases, norms and whatever else is no matrix
    are left to the optimiser as they are.

    Args:
        optimizer: an instance. If it was made from ``ov.param_groups(model)``, its groups say what is a
            matrix, overrides included.
        model: says so otherwise; it holds all of the optimiser's parameters, also those of groups that are
            added later. Without either, a real tensor of two or more dimensions is taken as ``flatten(1)``,
            with one warning.
        method, tol, null, scale, process_group: as for :class:`orthoviz.OrthogonalSGD`.

    Returns:
        A handle: ``handle.remove()`` undoes it, and so does leaving ``with orthogonalise(...):``. It need not
        be kept. The optimiser also gets ``register_stage_hook``, as this package's own have; "momentum" is
        announced where there is a ``momentum_buffer``.

    Raises:
        TypeError: not an optimiser; the gradient of a matrix is sparse or complex.
        ValueError: the optimiser is orthogonal already; it wraps another one; it holds parameters that are
            not the model's; an argument has a value that does not exist.
        RuntimeError: in a step under GradScaler with a fused optimiser, whose gradients are still scaled; or
            after a step of an instance whose own ``step`` runs no hooks.

    Note:
        A copied or unpickled optimiser is a plain one: torch copies no hooks either. The state dict is the
        optimiser's own.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), section 2.

    Example:
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        >>> handle = ov.orthogonalise(optimizer, model)
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer instance, got {type(optimizer).__name__}; "
            "for a matrix there is ov.polar_factor(G)"
        )
    if hasattr(optimizer, "register_stage_hook"):
        raise ValueError(f"this {type(optimizer).__name__} is orthogonal already")
    # its methods, such as SAM's first_step and second_step, would move the weights past our step
    if any(isinstance(value, torch.optim.Optimizer) for value in vars(optimizer).values()):
        raise ValueError(
            f"{type(optimizer).__name__} wraps another optimiser: orthogonalise that one, before wrapping it"
        )
    settings = dict(method=to_plain(method), tol=tol, null=null, scale=scale)
    check_settings(settings)
    layouts = _layouts(optimizer, model)
    if process_group is not None:
        check_agreement([tuple(p.shape) for p in layouts], process_group)
    return Orthogonalised(optimizer, layouts, settings, process_group)


@contextmanager
def following(optimizer: torch.optim.Optimizer, precision: str | None) -> Iterator[None]:
    """Let an optimiser cut off what is rounding of gradients under autocast, where no ``tol`` was chosen.

    Args:
        precision: "bf16", "fp16", or None, which changes nothing.

    Warns:
        UserWarning: its method is an iteration, which cannot cut.
    """
    own, changed = getattr(optimizer, "orthogonal_settings", None), []
    for settings in [] if precision is None else optimizer.param_groups if own is None else [own]:
        if settings.get("null") is None or settings["tol"] is not None or as_control(settings["method"]):
            continue
        if isinstance(as_method(settings["method"]), Decomposing):
            settings["tol"] = precision
            changed.append(settings)
        else:
            warnings.warn(
                f"method={settings['method']!r} steps along what is rounding of {precision} too, where a "
                "batch leaves a matrix short of directions: take method='exact', which cuts it off",
                stacklevel=4,
            )
            break
    try:
        yield
    finally:
        for settings in changed:
            settings["tol"] = None


def _layouts(
    optimizer: torch.optim.Optimizer, model: nn.Module | None, known: Mapping[Tensor, Layout | None] = {}
) -> dict[Tensor, Layout | None]:
    """Each parameter's matrix: as is known, or as its group says, or else the model, or else its shape."""
    groups = optimizer.param_groups
    told = {p: g["layout"] for g in groups if g.get("layout", UNKNOWN) != UNKNOWN for p in g["params"]}
    known = told | dict(known)
    unknown = [p for group in groups for p in group["params"] if p not in known]
    if model is None:
        warn_of_shapes("orthogonalise", unknown)
        found = {p: None if p.is_complex() else layout_of_shape(tuple(p.shape)) for p in unknown}
    else:
        found = {p: group["layout"] for group in param_groups(model) for _, p in group["params"]}
    strangers = sum(p not in found for p in unknown)
    if strangers:
        raise ValueError(
            f"{strangers} of the optimiser's parameters are not the model's: pass the model they belong to"
        )
    return found | known  # all of the model's: some may come to the optimiser later
