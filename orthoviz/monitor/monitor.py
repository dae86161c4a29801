"""The hooks: what is copied when, and when it is measured."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from orthoviz.measures.quantities import QUANTITIES, Quantity, measured
from orthoviz.monitor.facts import facts_of, length, moment
from orthoviz.monitor.frames import write_tensorboard
from orthoviz.monitor.layers import Layer
from orthoviz.monitor.probe import activations
from orthoviz.monitor.recorder import Recorder, Value
from orthoviz.monitor.report import Report, report

if TYPE_CHECKING:
    import pandas as pd


_POSITIONS = Quantity("positions", (), lambda maps: maps.new_tensor(maps[0, 0].numel(), dtype=torch.float32))


# Stages that a report looks at, whatever the quantities are.
_REPORTED = {"weight", "raw", "input", "orthogonal", "applied"}


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that never breaks the training: the first error is a warning, and the end of the watching."""

    @wraps(method)
    def guarded(self: "Monitor", *args: Any) -> Any:
        if self._failed:
            return None
        try:
            with torch.no_grad():
                return method(self, *args)
        except Exception as error:
            self._failed = True  # the hooks stay until stop(): torch is walking through them
            self._forget()
            warnings.warn(f"stopped watching at step {self.step}: {error}", stacklevel=3)
            return None

    return guarded


@dataclass(eq=False, repr=False)
class Monitor:
    """What :func:`watch` returns.

    Attributes:
        step: steps of the optimiser so far.
        epoch: set it to have an epoch in the frame; ``ov.training.fit`` does.
    """

    model: nn.Module
    optimizer: Optimizer | None
    every: int
    wanted: dict[str, tuple[str, ...]]
    layers: list[Layer]
    rest: list[Layer]
    probe: Any
    recorder: Recorder
    silent: bool
    step: int = 0
    epoch: int | None = None
    # Of the step that is going on:
    _matrices: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # by layer and stage
    _announced: set[str] = field(default_factory=set)  # layers whose gradient the optimiser has shown
    _evaluated: bool = False  # whether a closure has been, in this step
    _active: list[Value] = field(default_factory=list)  # of the activations before the step
    # From step to step:
    _changes: dict[str, Tensor] = field(default_factory=dict)
    _left: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # weights after a step, its change
    _handles: list[RemovableHandle] = field(default_factory=list)
    _stage_handle: RemovableHandle | None = None
    _failed: bool = False
    _sized: set[str] = field(default_factory=set)  # layers whose sizes are recorded
    _collected: int | None = None  # the last step that collect() measured
    # For the report:
    factored: set[Tensor] = field(default_factory=set)  # parameters that had a factor
    _moments: dict[str, Tensor | None] = field(default_factory=dict)  # before the step

    def __post_init__(self) -> None:
        stages = {s for name, own in self.wanted.items() for s in (*own, *QUANTITIES[name].needs)}
        self._needed = stages | _REPORTED
        self._layer_of = {layer.parameter: layer for layer in self.layers}

    def _moved(self, *others: Layer) -> list[Layer]:
        """The layers that the optimiser moves now; some may come to it later. Without one, all."""
        if self.optimizer is None:
            return self.layers
        held = {p for group in self.optimizer.param_groups for p in group["params"]}
        return [layer for layer in (*self.layers, *others) if layer.parameter in held]

    # Watching

    def start(self) -> Self:
        """Begin to watch.

        Raises:
            RuntimeError: it does already.
            ValueError: the model does not take the probe; the folder to stream to holds a run.
        """
        if self._handles:
            raise RuntimeError("this monitor is watching already: stop it first")
        if self.silent:
            return self
        self._collected = None  # the weights may have changed meanwhile
        if self.probe is not None:
            self._activations()  # finds out now whether the model takes it
        self.recorder.open_stream()
        if self.optimizer is not None:
            before: Any = torch.compiler.disable(self._before)
            after: Any = torch.compiler.disable(self._after)
            self._handles = [
                self.optimizer.register_step_pre_hook(before),
                self.optimizer.register_step_post_hook(after),
            ]
            self._listen()
        return self

    def stop(self) -> None:
        """Stop watching and take all hooks away. What was seen stays; ``start`` goes on."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._changes, self._left = [], {}, {}
        self._forget()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and self.optimizer is not None and self._handles:
                _guarded(Monitor.collect)(self)
        finally:
            self.stop()

    def __repr__(self) -> str:
        state = "watching" if self._handles else "not watching"
        return (
            f"Monitor of {len(self.layers)} matrices, {state}: step {self.step}, "
            f"every {self.every}, {len(self.recorder):,} values in memory"
        )

    def log(self, **values: float | Tensor) -> None:
        """Keep numbers of your own, such as ``monitor.log(loss=loss)``, at the step that comes next.

        Call it before ``optimizer.step()``; every call is kept, whatever ``every`` is. Tensors are not
        waited for.

        Raises:
            ValueError: a value is not a single number, or a measured quantity has its name.
        """
        for name, value in values.items():
            if name in QUANTITIES:
                raise ValueError(f"{name} is measured by the monitor: log yours under another name")
            exact = None if isinstance(value, Tensor) else torch.float64
            number = torch.as_tensor(value, dtype=exact).detach().clone()
            if number.numel() != 1:
                raise ValueError(f"{name} must be a single number, got shape {tuple(number.shape)}")
            if not self.silent:
                self.recorder.waiting.append((self.step, self.epoch, [("", "", name, number)]))
                if name == "loss":
                    self.recorder.note_loss(self.step, self.epoch, number)

    @torch.no_grad()
    def collect(self) -> None:
        """Measure weights and activations now; without an optimiser also the gradients, as they are.

        Leaving a ``with`` block without an error does it, so that the last step's weights are seen too.
        Without an optimiser nothing counts steps: set ``monitor.step`` before.

        Raises:
            ValueError: without an optimiser, at a step that was collected just before. With one, the weights
                are the same, and nothing is done.
        """
        if self.silent:
            return
        if self._collected == self.step:
            if self.optimizer is None:
                raise ValueError(f"step {self.step} is collected already: set monitor.step to the next one")
            return
        self._forget()
        for layer in self._moved():
            self._see(layer, "weight", layer.parameter)
        if self.optimizer is None:
            self._see_gradients()
        self._active = self._activations()
        self._measure()
        self._collected = self.step
        self._forget()
        self._listen()

    def _listen(self) -> None:
        """Ask for the next step's stages if it is a step to measure. They cost a copy, so only then."""
        if self._handles and self._due() and hasattr(self.optimizer, "register_stage_hook"):
            self._stage_handle = self.optimizer.register_stage_hook(self._take)  # type: ignore[union-attr]

    def _due(self, ahead: int = 0) -> bool:
        return (self.step + ahead) % self.every == 0

    def _forget(self) -> None:
        if self._stage_handle is not None:
            self._stage_handle.remove()
            self._stage_handle = None
        self._matrices, self._announced, self._evaluated, self._active = {}, set(), False, []
        self._moments = {}

    @_guarded
    def _take(self, parameter: Tensor, stage: str, matrix: Tensor) -> None:
        """A stage that the optimiser shows."""
        if stage == "orthogonal":
            self.factored.add(parameter)
        layer = self._layer_of.get(parameter)  # type: ignore[call-overload]
        if layer is None or stage not in self._needed or stage == "applied":
            return
        seen = self._matrices.setdefault(layer.name, {})
        if stage == "raw":
            self._announced.add(layer.name)
        if not (self._evaluated and stage in seen):  # a closure may be evaluated again, at other weights
            same = stage == "input" and "raw" in seen and torch.equal(matrix, seen["raw"])
            seen[stage] = seen["raw"] if same else matrix.clone()  # and decomposed once
        if stage == "orthogonal":
            self._moments[layer.name] = moment(self._state(layer), layer.layout, matrix)

    def _state(self, layer: Layer) -> dict[str, Any]:
        """What the optimiser keeps of a parameter."""
        states: dict[Tensor, dict[str, Any]] = {} if self.optimizer is None else self.optimizer.state
        return states.get(layer.parameter, {})

    @_guarded
    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a step: copy weights, and the gradients unless a closure has yet to compute them."""
        for layer in self.layers:
            if layer.name in self._left:
                left, change = self._left.pop(layer.name)
                between = layer.matrix(layer.parameter) - left
                self.recorder.noted.append((self.step - 1, layer.name, "between", length(between) / change))
        if self._due() or ("previous" in self._needed and self._due(ahead=1)):
            for layer in self._moved(*(self.rest if self._due() else ())):
                self._see(layer, "weight", layer.parameter)
        if self._due():
            self._active = self._activations()
            if self._stage_handle is None and hasattr(optimizer, "register_stage_hook"):
                warnings.warn(
                    f"step {self.step}'s gradients were polar factors already and are left out: "
                    "the optimiser was orthogonalised after ov.watch; do that before",
                    stacklevel=4,
                )
                self._announced = {layer.name for layer in self.layers}
        closure = kwargs.get("closure", next(filter(callable, args), None))
        if closure is None:
            self._see_gradients()
            return None
        self._evaluated = False

        def watched() -> Any:
            loss = closure()
            self._evaluate(loss)
            return loss

        def swap(argument: Any) -> Any:
            return watched if argument is closure else argument

        return tuple(map(swap, args)), {key: swap(value) for key, value in kwargs.items()}

    @_guarded
    def _evaluate(self, loss: Any) -> None:
        """A closure has computed a loss and gradients; the first time in a step counts."""
        if not self._evaluated:
            self._see_gradients()
            if isinstance(loss, float) or (isinstance(loss, Tensor) and loss.numel() == 1):
                self.log(loss=loss)
        self._evaluated = True

    @_guarded
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """After a step: measure, if it is time."""
        for layer in self._moved(*self.rest):
            seen = self._matrices.get(layer.name, {})
            # Whatever was shown: ov.orthogonalise has the buffer only after the step, torch's SGD shows none
            buffer = self._state(layer).get("momentum_buffer")
            if buffer is not None and self._due():
                self._see(layer, "momentum", buffer)
            if "weight" not in seen:
                continue
            seen["change"] = layer.matrix(layer.parameter) - seen["weight"]
            if layer.parameter.grad is not None:
                seen["applied"] = seen["change"]
                if layer.name in self._changes:
                    seen["previous"] = self._changes[layer.name]
            if layer.layout is not None and self._due():
                self._left[layer.name] = layer.matrix(layer.parameter).clone(), length(seen["change"])
        if "previous" in self._needed:
            self._changes = {name: s["applied"] for name, s in self._matrices.items() if "applied" in s}
        if self._due():
            if "loss_change" in self.wanted:
                moved = [s for s in self._matrices.values() if {"raw", "applied"} <= s.keys()]
                products = [(s["raw"].double() * s["applied"].double()).sum() for s in moved]
                change = torch.stack(products).sum() if products else torch.zeros(())
                self.recorder.predicted = self.step, change
            self._measure()
        self._forget()
        self.step += 1
        self._listen()

    def _see_gradients(self) -> None:
        """The gradients, unscaled, of layers whose optimiser has not shown them."""
        if not self._due() and self.optimizer is not None:
            return
        scale = getattr(self.optimizer, "grad_scale", None)  # of a fused optimiser under GradScaler
        for layer in self._moved(*self.rest):
            gradient = layer.parameter.grad
            if gradient is not None and not gradient.is_sparse and layer.name not in self._announced:
                self._see(layer, "raw", gradient if scale is None else gradient / scale.to(gradient.device))

    def _see(self, layer: Layer, stage: str, tensor: Tensor) -> None:
        if stage in self._needed:
            self._matrices.setdefault(layer.name, {})[stage] = layer.matrix(tensor).clone()

    # Measuring

    def _measure(self) -> None:
        """Turn what was seen into one record: on the device, then one copy."""
        found: list[Value] = []
        for layer in self._moved():
            if layer.name in self._sized:
                continue
            *_, m, n = layer.matrix(layer.parameter).shape
            sizes = layer.parameter.new_tensor([m, n], dtype=torch.float32)
            found += [(layer.name, "weight", "rows", sizes[0]), (layer.name, "weight", "columns", sizes[1])]
            self._sized.add(layer.name)
        groups = {} if self.optimizer is None else self.optimizer.param_groups
        group_of = {p: group for group in groups for p in group["params"]}
        for layer in self._moved(*self.rest):
            name, seen = layer.name, self._matrices.get(layer.name, {})
            spectra: dict[str, tuple[Tensor, Tensor]] = {}
            if "raw" in seen:
                seen.setdefault("input", seen["raw"])  # ov.orthogonalise makes its factors from that
            if layer.layout is not None:
                found += [(name, *value) for value in measured(seen, self.wanted, spectra)]
            if "change" in seen:
                group = group_of[layer.parameter] if not self._evaluated else {}  # it may move several times
                before = self._moments.get(name)
                facts = facts_of(seen, spectra, group, self._state(layer), before, layer.layout)
                self.recorder.noted += [(self.step, name, *fact) for fact in facts]
        found += self._active
        if self._collected == self.step:  # of these it has this step's already
            found = [one for one in found if one[1] not in ("weight", "activation")]
        self.recorder.waiting.insert(0, (self.step, self.epoch, found))
        self.recorder.fetch()
        self.recorder.write()

    def _activations(self) -> list[Value]:
        """The wanted quantities of the activations on the probe."""
        wanted = [name for name, stages in self.wanted.items() if "activation" in stages]
        if self.probe is None or not wanted:
            return []
        modules = {layer.module: layer.name for layer in reversed(self._moved())}
        quantities = {name: QUANTITIES[name] for name in wanted}
        if not self._sized.issuperset(modules.values()):
            quantities["positions"] = _POSITIONS
        found = activations(self.model, self.probe, modules, quantities)
        return [(layer, "activation", name, value) for (layer, name), value in found.items()]

    # What was seen

    def frame(self) -> "pd.DataFrame":
        """All values so far, one a row, with the columns of :data:`COLUMNS`."""
        return self.recorder.frame()

    def report(self) -> Report:
        """What is wrong with this run: a list of faults, a line each when printed, empty for a healthy run.

        It looks at the measured steps, whatever the quantities are, between each and the next, and at every
        ``monitor.log(loss=...)`` and loss of a closure. See :mod:`orthoviz.monitor.report`.
        """
        self.recorder.fetch()
        return report(self)

    def to_tensorboard(self, folder: str | Path) -> None:
        """Write the frame for TensorBoard: single numbers as scalars, several as histograms."""
        write_tensorboard(self.frame(), folder)
