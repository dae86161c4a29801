"""The hooks: what is copied when, and when it is measured."""

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from orthoviz.files import replace_file
from orthoviz.matrices import Layout, as_matrix, param_groups
from orthoviz.measures.spectra import FORMULAS, of_values, values64
from orthoviz.monitor.frames import Labels, Record, frame_of, read
from orthoviz.monitor.probe import activations
from orthoviz.monitor.quantities import QUANTITIES, wanted_quantities

if TYPE_CHECKING:
    import pandas as pd


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


class _Layer(NamedTuple):
    name: str
    parameter: nn.Parameter
    layout: Layout
    module: nn.Module


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    every: int = 1,
    quantities: str | Iterable[str] = "lecture",
    layers: Iterable[str] | str | None = None,
    probe: Any = None,
    run: str = "",
    seed: int | None = None,
    stream: str | Path | None = None,
    all_ranks: bool = False,
) -> "Monitor":
    """Watch a model's weight matrices while an optimiser moves them, without a change to the loop.

    Use it as ``with ov.watch(model, optimizer) as monitor:``, or call ``start`` and ``stop``. Training is the
    same to the last bit: weights, optimiser state, random numbers, batch-norm statistics. If a measurement
    fails, the monitor warns, stops watching, and keeps what it has.

    Args:
        model: any module; compiled and DistributedDataParallel models are looked into. Layers are named by
            their weights, and which matrix a weight is, is read as :func:`orthoviz.param_groups` does.
        optimizer: any ``torch.optim.Optimizer`` over the model's parameters. This package's own, and those
            under ``ov.orthogonalise``, also show the stage "orthogonal"; "momentum" is there where they have
            a ``momentum_buffer``. None: nothing is measured but when ``monitor.collect()`` is called.
        every: measure at steps 0, every, 2 * every, ...
        quantities: ``"lecture"`` (filter cosine, spectra of gradient and step, step inflation, update ratio),
            ``"research"`` (also spectra of factor and momentum, ranks, direction gain and alignment of the
            factor with what it was made from, ``scale`` included, dead units and feature cosine),
            ``"everything"``, or names from ``ov.monitor.QUANTITIES``, each at all of its stages or at one:
            ``"weight.stable_rank"``.
        layers: patterns of names to watch (``"layer1.*"``), of weights or modules. Default: all matrices.
        probe: what the model is called with to look at activations, in eval mode: a batch of inputs, or a
            tuple of arguments, or a dict of keyword arguments. The activation of a layer is the first
            activation function after it, if that has as many channels; one that runs several times gets the
            mean.
        run, seed: labels of this run in the frame.
        stream: a new folder that gets a Parquet file at every collection, so that a killed run keeps what it
            had; ``ov.monitor.read`` reads it. What is written does not stay in memory.
        all_ranks: under torch.distributed only rank 0 watches; with this every one does, as a run of its own.

    Returns:
        A :class:`Monitor`; ``.frame()`` is what it saw.

    Raises:
        ValueError: an argument has a value that does not exist; the model has no matrix; the optimiser holds
            none of the model's parameters; the model does not take the probe; the folder is not empty.
        TypeError: parameters are sharded (DTensor), which is not supported.
    """
    model = _inner(model)
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):  # as Accelerate wraps it
        optimizer = optimizer.optimizer  # type: ignore[union-attr]
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    wanted = wanted_quantities(quantities)
    if probe is None and any("activation" in stages for stages in wanted.values()):
        lost = [name for name, stages in wanted.items() if "activation" in stages]
        warnings.warn(
            f"without a probe there is no {', '.join(lost)}: pass probe=images, a fixed batch", stacklevel=2
        )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    if all_ranks and rank:
        run = f"{run} rank {rank}".strip()
        stream = None if stream is None else Path(f"{stream}-rank{rank}")
    return Monitor(
        model,
        optimizer,
        every=every,
        wanted=wanted,
        layers=_layers(model, optimizer, layers),
        probe=probe,
        labels=Labels(run, _label(optimizer), seed),
        stream=None if stream is None else Path(stream),
        silent=rank > 0 and not all_ranks,
    )


class Monitor:
    """What :func:`watch` returns.

    Attributes:
        step: steps of the optimiser so far.
        epoch: set it to have an epoch in the frame; ``ov.training.fit`` does.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        *,
        every: int,
        wanted: dict[str, tuple[str, ...]],
        layers: list[_Layer],
        probe: Any,
        labels: Labels,
        stream: Path | None,
        silent: bool,
    ) -> None:
        self.step = 0
        self.epoch: int | None = None
        self._model, self._optimizer, self._every = model, optimizer, every
        self._wanted, self._layers, self._probe = wanted, layers, probe
        self._labels, self._stream, self._silent = labels, stream, silent
        self._needed: set[str] = {
            stage for name, stages in wanted.items() for stage in (*stages, *QUANTITIES[name].needs)
        }
        if "applied" in self._needed:
            self._needed.add("weight")
        if "input" in self._needed:
            self._needed.add("raw")
        self._of = {layer.parameter: layer for layer in layers}
        self._handles: list[RemovableHandle] = []
        self._stage_handle: RemovableHandle | None = None
        self._seen: dict[str, dict[str, Tensor]] = {}
        self._told: set[str] = set()  # layers of whose gradient the optimiser told
        self._evaluated = False  # whether a closure has been, in this step
        self._changes: dict[str, Tensor] = {}
        self._active: list[tuple[str, str, str, Tensor]] = []  # of the activations before the step
        self._failed = False
        self._sized = False  # whether the sizes of matrices and maps are recorded
        self._collected: int | None = None  # the last step that collect() measured
        self._records: list[Record] = []
        self._logged: list[tuple[int, int | None, str, Tensor]] = []  # still on their device
        self._parts = 0

    # Watching

    def start(self) -> Self:
        """Begin to watch.

        Raises:
            RuntimeError: it does already.
            ValueError: the model does not take the probe; the folder to stream to holds a run.
        """
        if self._handles:
            raise RuntimeError("this monitor is watching already: stop it first")
        if self._silent:
            return self
        self._collected = None  # who knows what happened to the weights in between
        if self._probe is not None:
            self._activations()  # finds out now whether the model takes it
        if self._stream is not None and not self._parts:
            self._stream.mkdir(parents=True, exist_ok=True)
            if any(self._stream.iterdir()):
                raise ValueError(f"{self._stream} is not empty: stream into a new folder")
        if self._optimizer is not None:
            before: Any = torch.compiler.disable(self._before)
            after: Any = torch.compiler.disable(self._after)
            self._handles = [
                self._optimizer.register_step_pre_hook(before),
                self._optimizer.register_step_post_hook(after),
            ]
            self._listen()
        return self

    def stop(self) -> None:
        """Stop watching and take all hooks away. What was seen stays; ``start`` goes on."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._changes = [], {}
        self._forget()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and self._optimizer is not None and self._handles:
                _guarded(Monitor.collect)(self)
        finally:
            self.stop()

    def __repr__(self) -> str:
        count = sum(len(record.values) for record in self._records) + len(self._logged)
        state = "watching" if self._handles else "not watching"
        return (
            f"Monitor of {len(self._layers)} matrices, {state}: step {self.step}, "
            f"every {self._every}, {count:,} values in memory"
        )

    def log(self, **values: float | Tensor) -> None:
        """Keep numbers of your own, such as ``monitor.log(loss=loss)``, at the step that comes next.

        Call it before ``optimizer.step()``; every call is kept, whatever ``every`` is. Tensors are not
        waited for.

        Raises:
            ValueError: a value is no single number, or its name is that of a measured quantity.
        """
        for name, value in values.items():
            tensor = (
                value.detach().clone()
                if isinstance(value, Tensor)
                else torch.tensor(value, dtype=torch.float64)
            )
            if tensor.numel() != 1:
                raise ValueError(f"{name} must be a single number, got shape {tuple(tensor.shape)}")
            if name in QUANTITIES:
                raise ValueError(f"{name} is measured by the monitor: log yours under another name")
            if not self._silent:
                self._logged.append((self.step, self.epoch, name, tensor.reshape(())))

    @torch.no_grad()
    def collect(self) -> None:
        """Measure weights and activations now; without an optimiser also the gradients, as they are.

        Leaving a ``with`` block without an error does it, so that the last step's weights are seen too.
        Without an optimiser nothing counts steps: set ``monitor.step`` before.

        Raises:
            ValueError: without an optimiser, at a step that was collected just before. With one, the weights
                are the same, and nothing is done.
        """
        if self._silent:
            return
        if self._collected == self.step:
            if self._optimizer is None:
                raise ValueError(f"step {self.step} is collected already: set monitor.step to the next one")
            return
        self._forget()
        for layer in self._layers:
            self._see(layer, "weight", layer.parameter)
        if self._optimizer is None:
            self._see_gradients()
        self._active = self._activations()
        self._measure()
        self._collected = self.step
        self._forget()
        self._listen()

    def _listen(self) -> None:
        """Hear of the next step's stages if it is to be measured. They cost a copy, so only then."""
        if self._handles and self._due() and hasattr(self._optimizer, "register_stage_hook"):
            self._stage_handle = self._optimizer.register_stage_hook(self._hear)  # type: ignore[union-attr]

    def _due(self, ahead: int = 0) -> bool:
        return (self.step + ahead) % self._every == 0

    def _forget(self) -> None:
        if self._stage_handle is not None:
            self._stage_handle.remove()
            self._stage_handle = None
        self._seen, self._told, self._evaluated, self._active = {}, set(), False, []

    @_guarded
    def _hear(self, parameter: Tensor, stage: str, matrix: Tensor) -> None:
        """A stage of an optimiser that tells them."""
        layer = self._of.get(parameter)  # type: ignore[call-overload]
        if layer is None or stage not in self._needed or stage == "applied":
            return
        seen = self._seen.setdefault(layer.name, {})
        if stage == "raw":
            self._told.add(layer.name)
        if not (self._evaluated and stage in seen):  # a closure may be evaluated again, at other weights
            seen[stage] = matrix.clone()

    @_guarded
    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a step: copy weights, and the gradients unless a closure has yet to compute them."""
        if self._due() or ("previous" in self._needed and self._due(ahead=1)):
            for layer in self._layers:
                self._see(layer, "weight", layer.parameter)
        if self._due():
            self._active = self._activations()
            if self._stage_handle is None and hasattr(optimizer, "register_stage_hook"):
                warnings.warn(
                    f"step {self.step}'s gradients were polar factors already and are left out: "
                    "the optimiser was orthogonalised after ov.watch; do that before",
                    stacklevel=4,
                )
                self._told = {layer.name for layer in self._layers}
        place = next((i for i, argument in enumerate(args) if callable(argument)), None)
        closure = kwargs.get("closure") if place is None else args[place]
        if closure is None:
            self._see_gradients()
            return None
        self._evaluated = False

        def watched() -> Any:
            loss = closure()
            self._evaluate(loss)
            return loss

        if place is None:
            return args, {**kwargs, "closure": watched}
        return (*args[:place], watched, *args[place + 1 :]), kwargs

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
        for layer in self._layers:
            seen = self._seen.get(layer.name, {})
            # Whatever was heard: ov.orthogonalise tells of it when the step is over, torch's SGD never
            buffer = optimizer.state.get(layer.parameter, {}).get("momentum_buffer")
            if buffer is not None and self._due():
                self._see(layer, "momentum", buffer)
            if "applied" in self._needed and "weight" in seen and layer.parameter.grad is not None:
                seen["applied"] = as_matrix(layer.parameter, layer.layout) - seen["weight"]
                if layer.name in self._changes:
                    seen["previous"] = self._changes[layer.name]
        if "previous" in self._needed:
            self._changes = {name: s["applied"] for name, s in self._seen.items() if "applied" in s}
        if self._due():
            self._measure()
        self._forget()
        self.step += 1
        self._listen()

    def _see_gradients(self) -> None:
        """The gradients, unscaled, of layers whose optimiser did not tell of them."""
        if not self._due() and self._optimizer is not None:
            return
        scale = getattr(self._optimizer, "grad_scale", None)  # of a fused optimiser under GradScaler
        for layer in self._layers:
            gradient = layer.parameter.grad
            if gradient is not None and not gradient.is_sparse and layer.name not in self._told:
                self._see(layer, "raw", gradient if scale is None else gradient / scale.to(gradient.device))

    def _see(self, layer: _Layer, stage: str, tensor: Tensor) -> None:
        if stage in self._needed:
            matrix = as_matrix(tensor.detach(), layer.layout).clone()
            self._seen.setdefault(layer.name, {})[stage] = matrix

    # Measuring

    def _measure(self) -> None:
        """Turn what was seen into one record: on the device, then one copy."""
        found: list[tuple[str, str, str, Tensor]] = []
        if not self._sized:
            found += self._sizes()
            self._sized = True
        for name, matrices in self._seen.items():
            found += [(name, *one) for one in self._of_matrices(matrices)]
        found += self._active
        if self._collected == self.step:  # of these it has this step's already
            found = [one for one in found if one[1] not in ("weight", "activation")]
        self._keep(found)
        if self._stream is not None:
            self._write(self._stream)

    def _sizes(self) -> list[tuple[str, str, str, Tensor]]:
        """Rows and columns of each matrix, for baselines."""
        return [
            (layer.name, "weight", name, torch.tensor(float(size), device=layer.parameter.device))
            for layer in self._layers
            for name, size in zip(
                ("rows", "columns"),
                as_matrix(layer.parameter.detach(), layer.layout).shape[-2:],
                strict=True,
            )
        ]

    def _of_matrices(self, matrices: dict[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
        """The wanted quantities of one layer."""
        spectra: dict[str, tuple[Tensor, Tensor]] = {}
        if "raw" in matrices:
            matrices.setdefault("input", matrices["raw"])  # ov.orthogonalise makes its factors from that
        for name, stages in self._wanted.items():
            quantity = QUANTITIES[name]
            for stage in stages:
                if stage not in matrices or any(other not in matrices for other in quantity.needs):
                    continue
                matrix = matrices[stage]
                if name == "singular_values" or name in FORMULAS:  # they share one decomposition
                    if stage not in spectra:
                        spectra[stage] = values64(matrix)
                    yield stage, name, of_values(name, *spectra[stage], matrix.dtype)
                else:
                    yield (
                        stage,
                        name,
                        quantity.measure(matrix, *(matrices[other] for other in quantity.needs)),
                    )

    def _activations(self) -> list[tuple[str, str, str, Tensor]]:
        """The wanted quantities of the activations on the probe."""
        wanted = [name for name, stages in self._wanted.items() if "activation" in stages]
        if self._probe is None or not wanted:
            return []
        modules = {layer.module: layer.name for layer in reversed(self._layers)}
        measures = {name: QUANTITIES[name].measure for name in wanted}
        if not self._sized:
            measures["positions"] = lambda maps: torch.tensor(float(maps[0, 0].numel()), device=maps.device)
        found = activations(self._model, self._probe, modules, measures)
        return [(layer, "activation", name, value) for (layer, name), value in found.items()]

    def _keep(self, found: list[tuple[str, str, str, Tensor]]) -> None:
        """Values of this step, and those that were logged, as records: one copy from the device."""
        logged, self._logged = self._logged, []
        tensors = [value for *_, value in (*found, *logged)]
        if not tensors:
            return
        device = tensors[0].device
        exact = torch.float32 if device.type == "mps" else torch.float64  # where there is no other
        flat = torch.cat([tensor.reshape(-1).to(device, exact) for tensor in tensors]).cpu().double().numpy()
        ours = flat[: len(flat) - len(logged)]
        if found:
            entries = tuple(
                (layer, stage, quantity, value.numel()) for layer, stage, quantity, value in found
            )
            self._records.append(Record(self.step, self.epoch, entries, ours))
        for (step, epoch, name, _), value in zip(logged, flat[len(ours) :, None], strict=True):
            self._records.append(Record(step, epoch, (("", "", name, 1),), value))

    # What was seen

    def frame(self) -> "pd.DataFrame":
        """All values so far, one a row, with the columns of :data:`COLUMNS`."""
        if self._stream is None or not self._parts:
            return self._in_memory()
        self._write(self._stream)
        return read(self._stream)

    def to_csv(self, path: str | Path) -> None:
        """Write the frame as CSV; ``ov.monitor.read`` gives it back without loss."""
        replace_file(Path(path), lambda beside: self.frame().to_csv(beside, index=False))

    def to_parquet(self, path: str | Path) -> None:
        """Write the frame as Parquet; ``ov.monitor.read`` gives it back without loss."""
        replace_file(Path(path), lambda beside: self.frame().to_parquet(beside, index=False))

    def to_tensorboard(self, folder: str | Path) -> None:
        """Write the frame for TensorBoard: single numbers as scalars, several as histograms.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard is not installed: pip install tensorboard") from error
        frame = self.frame()
        with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]
            groups = frame.groupby(["quantity", "stage", "layer", "step"], observed=True, sort=False).value
            for (*names, step), values in groups:
                tag = "/".join(str(name) for name in names if name)
                finite = values[np.isfinite(values)].to_numpy()
                if len(values) == 1:
                    writer.add_scalar(tag, values.iloc[0], step)  # type: ignore[no-untyped-call]
                elif len(finite):
                    writer.add_histogram(tag, finite, step)  # type: ignore[no-untyped-call]

    def _in_memory(self) -> "pd.DataFrame":
        self._keep([])
        return frame_of(self._records, self._labels)

    def _write(self, folder: Path) -> None:
        """Move what is in memory to the next Parquet file of the stream."""
        frame = self._in_memory()
        if len(frame):
            part = folder / f"part-{self._parts:06d}.parquet"
            replace_file(part, lambda beside: frame.to_parquet(beside, index=False))
            self._parts += 1
        self._records = []


def _layers(
    model: nn.Module, optimizer: Optimizer | None, patterns: Iterable[str] | str | None
) -> list[_Layer]:
    """The matrices that are to be watched, as the optimiser's groups tell them, else as modules do."""
    own = dict(model.named_parameters())
    told = {}
    if optimizer is not None:
        held = [(p, group.get("layout")) for group in optimizer.param_groups for p in group["params"]]
        if {id(p) for p, _ in held}.isdisjoint(map(id, own.values())):
            raise ValueError(
                "the optimiser holds none of the model's parameters: watch the model that it moves"
            )
        told = {p: matrix for p, matrix in held if isinstance(matrix, tuple | list)}
    layers = []
    for decision in param_groups(model).decisions:
        parameter = own[decision.name]
        if hasattr(parameter, "full_tensor"):
            raise TypeError(f"{decision.name} is sharded (DTensor): a sharded model cannot be watched")
        layout = told.get(parameter, decision.layout)
        if layout is not None and parameter.is_floating_point():
            layers.append(_Layer(decision.name, parameter, tuple(layout), _owner(model, decision.name)))
    if not layers:
        raise ValueError("the model has no weight matrix to watch")
    if patterns is None:
        return layers
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(_fits(layer, pattern) for layer in layers):
            names = [layer.name for layer in layers]
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0) or names[:3]
            raise ValueError(f"layers: {pattern!r} fits no matrix; there is, for example, {', '.join(near)}")
    return [layer for layer in layers if any(_fits(layer, pattern) for pattern in patterns)]


def _owner(model: nn.Module, name: str) -> nn.Module:
    """The module whose weight it is, also where that is under a parametrisation."""
    end = ".parametrizations." if ".parametrizations." in name else "."
    return model.get_submodule(f".{name}".rpartition(end)[0].removeprefix("."))


def _fits(layer: _Layer, pattern: str) -> bool:
    return fnmatchcase(layer.name, pattern) or fnmatchcase(layer.name.rpartition(".")[0], pattern)


def _inner(model: nn.Module) -> nn.Module:
    """The model under torch.compile and data parallelism."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _label(optimizer: Optimizer | None) -> str:
    """An optimiser's name in legends: "SGD", "orthogonal SGD", "orthogonal AdamW"."""
    if optimizer is None:
        return ""
    name = type(optimizer).__name__
    if "register_stage_hook" in vars(optimizer):  # under ov.orthogonalise
        return f"orthogonal {name}"
    return name.replace("Orthogonal", "orthogonal ", 1)
