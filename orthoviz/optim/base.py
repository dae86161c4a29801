"""What this package's optimisers have in common: groups that are checked, stages that can be watched."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.utils.hooks import RemovableHandle

from orthoviz.matrices import Layout, as_matrix, check_layout, layout_of_shape
from orthoviz.optim.directions import Entry, Group, check_settings, set_steps, take_directions
from orthoviz.optim.ranks import ProcessGroup, check_agreement
from orthoviz.polar.methods import to_plain

# The layout of a group that did not come from param_groups.
UNKNOWN = "not told"

StageHook = Callable[[Tensor, str, Tensor], None]


class Stages:
    """Who wants to see what becomes of a gradient."""

    def __init__(self) -> None:
        self.hooks: OrderedDict[int, StageHook] = OrderedDict()

    def register(self, hook: StageHook) -> RemovableHandle:
        """Add ``hook(parameter, stage, matrix)``."""
        handle = RemovableHandle(self.hooks)
        self.hooks[handle.id] = hook
        return handle

    def announce(self, stage: str, entries: Iterable[Entry]) -> None:
        """Show every hook the matrix of each entry's step."""
        for entry in entries if self.hooks else ():
            if entry.layout is not None:
                for hook in list(self.hooks.values()):
                    hook(entry.parameter, stage, as_matrix(entry.step.detach(), entry.layout))


class MatrixOptimizer(torch.optim.Optimizer):
    """An optimiser that moves matrices along directions and the rest by a rule of its own.

    A subclass says in ``_update`` what happens to the parameters that have a gradient.
    """

    _process_group: ProcessGroup | None = None

    def __init__(
        self, params: Iterable[Any], defaults: dict[str, Any], process_group: ProcessGroup | None = None
    ) -> None:
        self._stages = Stages()
        self._process_group = process_group
        super().__init__(params, {**defaults, "layout": UNKNOWN})
        if process_group is not None:
            shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"]]
            check_agreement(shapes, process_group)
        self._warn(self.param_groups)
        self._made = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stages = getattr(self, "_stages", Stages())  # a copied or unpickled optimiser has no watchers
        self._made = True

    def register_stage_hook(self, hook: StageHook) -> RemovableHandle:
        """Call ``hook(parameter, stage, matrix)`` in every step, for every parameter that has a matrix.

        Stages: ``"raw"`` the gradient, ``"input"`` what a direction is made from (the gradient, or the buffer
        where momentum comes first), ``"orthogonal"`` that direction (polar factor or control, scaled),
        ``"momentum"`` the buffer, ``"applied"`` the change of the weight. They come in the order in which
        they are computed; a stage that an optimiser does not have does not come. The matrix is
        ``(m, n)`` or ``(parts, m, n)``, may share memory with the optimiser's own, and must not be changed:
        clone what is to be kept. Hooks are not copied, pickled or saved with the optimiser.

        Returns:
            A handle; ``handle.remove()`` takes the hook away.
        """
        return self._stages.register(hook)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked like the first (torch's own method otherwise)."""
        if not isinstance(param_group, dict):
            return super().add_param_group(param_group)  # torch says what is wrong
        named = [("param_names" in group) for group in self.param_groups]
        try:
            super().add_param_group(self._prepare(param_group))
        except ValueError as error:
            if "with/without names" in str(error) and all(named):
                raise ValueError(
                    "the new group's parameters have no names, unlike those of the others: add each group of "
                    "ov.param_groups(module), or named_parameters()"
                ) from error
            raise
        group = self.param_groups[-1]
        try:
            if "method" in group:
                group["method"] = to_plain(group["method"])
            self._check(group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        if getattr(self, "_made", False):
            self._warn([group])
        return None

    def _warn(self, groups: Iterable[Group]) -> None:
        """Say that matrices of groups are guessed, if any are."""
        bare = [p for group in groups if group["layout"] == UNKNOWN for p in group["params"]]
        warn_of_shapes(type(self).__name__, bare)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, also one of torch's SGD, or one from before an option existed.

        Options that the state lacks stay as they were constructed; which matrix a parameter is, is never
        loaded. One group of all parameters in the model's order, as in ``SGD(model.parameters())``, is
        distributed over the groups of ``ov.param_groups(model)``. Names are compared without the parts that
        DistributedDataParallel, ``torch.compile`` and activation checkpointing add. Hooks of
        ``register_load_state_dict_pre_hook`` see the state as it was given, and come first.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        last = self.register_load_state_dict_pre_hook(lambda _, state: self._adapt(state))
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The state with this optimiser's groups."""
        saved = [with_new_names(group) for group in state_dict["param_groups"]]
        groups = self.param_groups
        places = [i for group in groups for i in group.get("positions", ())]
        if len(saved) == 1 != len(groups) and sorted(places) == list(range(len(saved[0]["params"]))):
            (whole,) = saved
            lists = [key for key in ("params", "param_names") if key in whole]
            saved = [whole | {key: [whole[key][i] for i in g["positions"]] for key in lists} for g in groups]
            for own, theirs in zip(groups, saved, strict=True):
                if own["layout"] is None and own.get("rest_lr") is not None:
                    for key in ("lr", "initial_lr"):  # SGD's, not AdamW's
                        theirs.pop(key, None)
        kept = ("layout", "positions", "param_names")
        merged = []
        for own, theirs in zip(groups, saved, strict=False):
            _check_same_parameters(own, theirs, state_dict["state"])
            merged.append({**own, **theirs, **{key: own[key] for key in kept if key in own}})
            self._check({**merged[-1], "params": own["params"]})
        return {**state_dict, "param_groups": merged + list(saved[len(merged) :])}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss and its gradients anew, under ``torch.enable_grad``.

        Returns:
            What the closure returned, or None. ``p.grad`` is left as it was; a parameter whose gradient
            is None is left out.

        Raises:
            TypeError: a gradient is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        entries = entries_of(self)
        before = [entry.parameter.clone() for entry in entries] if self._stages.hooks else []
        self._stages.announce("raw", entries)
        self._update(entries)
        if before:
            set_steps(entries, torch._foreach_sub([entry.parameter for entry in entries], before))
            self._stages.announce("applied", entries)
        return loss

    def _update(self, entries: list[Entry]) -> None:
        raise NotImplementedError

    def _prepare(self, group: Group) -> Group:
        """A copy of a new group; one of the rest gets the learning rate of the rest."""
        rest_lr = group.get("rest_lr", self.defaults.get("rest_lr"))
        layout = group.get("layout", UNKNOWN)
        if rest_lr is not None and layout == UNKNOWN:
            raise ValueError("rest_lr needs groups that tell the rest apart: pass ov.param_groups(model)")
        return ({"lr": rest_lr} if rest_lr is not None and layout is None else {}) | group

    def _check(self, group: Group) -> None:
        """Raise ValueError for a group that cannot be."""
        for name in ("lr", "rest_lr"):
            if isinstance(group.get(name), Tensor) and group[name].numel() != 1:
                raise ValueError(f"{name} must be a number or a tensor of one, got {group[name]}")
        for name in ("lr", "rest_lr", "momentum", "weight_decay", "eps"):
            if group.get(name) is not None and not group[name] >= 0:
                raise ValueError(f"{name} must be at least 0, got {group[name]}")
        if "betas" in group and not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must both be in [0, 1), got {group['betas']}")
        for name in ("nesterov", "decoupled", "maximize"):
            if name in group and not isinstance(group[name], bool):
                raise TypeError(f"{name} must be True or False, got {group[name]!r}")
        check_settings(group)
        if group["layout"] != UNKNOWN:
            for p in group["params"]:
                check_layout(group["layout"], p.shape)

    def _take_directions(self, entries: Iterable[Entry]) -> None:
        """Replace the steps of matrices by their directions, and announce both."""
        matrices = [entry for entry in entries if entry.layout is not None]
        self._stages.announce("input", matrices)
        take_directions(matrices, self._process_group)
        self._stages.announce("orthogonal", matrices)

    def _adamw(self, entries: list[Entry]) -> None:
        """Move some parameters by torch's AdamW."""
        for members in by_group(entries):
            group, states = members[0].group, [self.state[entry.parameter] for entry in members]
            for entry, state in zip(members, states, strict=True):
                for name in ("exp_avg", "exp_avg_sq") if "exp_avg" not in state else ():
                    state[name] = torch.zeros_like(entry.parameter)
                state["step"] = torch.as_tensor(state.get("step", 0), dtype=torch.float32)  # may be a number
            parameters, gradients = [e.parameter for e in members], [e.step for e in members]
            means, squares, counts = ([s[key] for s in states] for key in ("exp_avg", "exp_avg_sq", "step"))
            (beta1, beta2), lr = group["betas"], _scalar(group["lr"])
            foreach = False if isinstance(lr, Tensor) else None
            adamw(
                parameters, gradients, means, squares, [], counts, foreach=foreach, amsgrad=False,
                beta1=beta1, beta2=beta2, lr=lr, weight_decay=group["weight_decay"], eps=group["eps"],
                maximize=group.get("maximize", False),
            )  # fmt: skip


def entries_of(
    optimizer: torch.optim.Optimizer, layouts: Mapping[Tensor, Layout | None] | None = None
) -> list[Entry]:
    """Every parameter that has a gradient, group by group.

    Args:
        layouts: which matrix a parameter is, before what its group or its shape says. With them, a parameter
            that is no matrix is left out.

    Raises:
        TypeError: a gradient is sparse or complex; so it is refused before any parameter has moved.
    """
    entries = []
    for group in optimizer.param_groups:
        for i, p in enumerate(group["params"]):
            if p.grad is None or not p.numel():
                continue
            layout = group.get("layout", UNKNOWN)
            layout = layout_of_shape(p.shape) if layout == UNKNOWN else layout
            layout = layout if layouts is None else layouts.get(p, layout)
            if layouts is not None and layout is None:
                continue
            name = group["param_names"][i] if "param_names" in group else f"of shape {tuple(p.shape)}"
            if p.grad.is_sparse:
                raise TypeError(f"the gradient of parameter {name} is sparse: use a dense gradient")
            if p.grad.is_complex():
                raise TypeError(f"the gradient of parameter {name} is complex: only real ones are supported")
            entries.append(Entry(p, p.grad, group, layout))
    return entries


def by_group(entries: list[Entry]) -> list[list[Entry]]:
    """The entries of each group; they stand group by group."""
    return [list(members) for _, members in groupby(entries, key=lambda entry: id(entry.group))]


def move(entries: list[Entry]) -> None:
    """Move each parameter by ``-lr`` times its step, with decoupled weight decay unless its group says no."""
    for members in by_group(entries):
        group, parameters = members[0].group, [entry.parameter for entry in members]
        lr, steps = _scalar(group["lr"]), [entry.step for entry in members]
        if group["weight_decay"] and group.get("decoupled", True):
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        if isinstance(lr, Tensor):
            torch._foreach_add_(parameters, torch._foreach_mul(steps, -lr))
        else:
            torch._foreach_add_(parameters, steps, alpha=-lr)


def _scalar(lr: float | Tensor) -> float | Tensor:
    """A learning rate that may be a tensor of one element, of any shape."""
    return lr.reshape(()) if isinstance(lr, Tensor) else lr


def with_new_names(group: Group) -> Group:
    """A saved group in today's words: version 0.1 wrote ``lr_scale``, ``match_norm`` and ``matrix``, and had
    two options more."""
    names = {"lr_scale": "scale", "matrix": "layout"}
    gone = ("foreach", "error_if_nonfinite") if "method" in group else ()  # torch's own has a foreach too
    group = {names.get(key, key): value for key, value in group.items() if key not in gone}
    return group | {"scale": "match"} if group.get("scale") == "match_norm" else group


# Parts of names that wrapped modules add.
_WRAPPERS = {"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}


def _check_same_parameters(own: Group, saved: Group, state: dict[Any, Any]) -> None:
    """Raise ValueError where a saved group is of other parameters, as far as names and shapes tell."""
    names = [
        [".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in group["param_names"]]
        for group in (own, saved)
        if "param_names" in group
    ]
    if len(names) == 2 and names[0] != names[1]:
        other = next((pair for pair in zip(*names, strict=False) if pair[0] != pair[1]), names)
        raise ValueError(
            f"the loaded state is of other parameters: {other[1]!r} where this has {other[0]!r}. Of a model "
            "that was read otherwise then, ov.param_groups(model, overrides=...) makes the same groups"
        )
    for p, number in zip(own["params"], saved["params"], strict=False):
        for key, value in state.get(number, {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != p.shape:
                raise ValueError(
                    f"the loaded state is of other parameters: {key} has shape {tuple(value.shape)}, "
                    f"its parameter {tuple(p.shape)}"
                )


def warn_of_shapes(name: str, parameters: Iterable[Tensor]) -> None:
    """Say once that matrices are guessed from shapes, if any are."""
    if any(layout_of_shape(p.shape) for p in parameters):
        warnings.warn(
            f"{name} was given parameters without their modules, so grouped and transposed convolutions "
            "cannot be told apart from plain ones: pass ov.param_groups(model).",
            stacklevel=4,
        )
