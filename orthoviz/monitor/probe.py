"""Run a probe batch through a model and look at its activations, leaving no trace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from orthoviz.measures.quantities import Quantity

# At most so many positions of incoming activations are looked at, evenly spaced.
_ROWS = 8192

_NAMES = [
    "relu", "relu_", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "threshold", "tanh", "sigmoid",
]  # fmt: skip
# What counts as an activation function, whether a module calls it or the model itself.
_FUNCTIONS = {
    getattr(home, name) for home in (functional, torch, Tensor) for name in _NAMES if hasattr(home, name)
}


def activations(
    model: nn.Module, probe: Any, modules: Mapping[nn.Module, str], quantities: Mapping[str, Quantity]
) -> dict[tuple[str, str], Tensor]:
    """Quantities of the activations of each module that has any, by the module's name and the quantity's.

    A module's activation is the output of the first activation function that its own output reaches, if that
    has as many channels: through normalisation, sums and whatever else has no weight matrix. So it includes
    the norm and the sum of a residual block, and in ``down(silu(gate(x)) * up(x))`` silu's output is the
    activation of ``gate``; ``up`` has none.
    It is measured at once, as ``(samples, channels, ...)``, because it may be overwritten later.

    Raises:
        ValueError: the model does not take the probe.
    """
    watcher = _Watcher(modules, quantities)
    device = next(model.parameters()).device
    with _still(model), watcher:
        try:
            _call(model, probe, device)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"the model does not take the probe: {error}") from error
    return {key: torch.stack(values).mean(0) for key, values in watcher.values.items()}


class _Watcher(TorchFunctionMode):
    """Sees modules run, and what their outputs reach, through modules or plain calls.

    A run of a module is told by a number, which every tensor carries that is made from its output.
    """

    def __init__(self, modules: Mapping[nn.Module, str], quantities: Mapping[str, Quantity]) -> None:
        super().__init__()
        self.values: dict[tuple[str, str], list[Tensor]] = {}
        self._modules, self._quantities = modules, quantities
        self._waiting: dict[int, tuple[nn.Module, int]] = {}  # runs that have reached no activation function
        self._runs = 0
        self._carried: Any = WeakTensorKeyDictionary()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Any:
        self._handles = [module.register_forward_hook(self._ran) for module in self._modules]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*_tensors(args), *_tensors(kwargs)]
        runs = {run for tensor in given for run in self._carried.get(tensor, ())}
        result = func(*args, **(kwargs or {}))
        if func in _FUNCTIONS:
            self._fired(result, runs)
            runs = set()
        elif any(isinstance(tensor, nn.Parameter) and tensor.ndim > 1 for tensor in given):
            runs = set()  # another layer
        for tensor in _tensors(result):
            self._carried[tensor] = runs
        return result

    def _ran(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 1:
            self._runs += 1
            self._waiting[self._runs] = module, output.shape[_channels(module)]
            self._carried[output] = {self._runs}
        if any(quantity.takes == "input" for quantity in self._quantities.values()):
            rows = _incoming(module, inputs)
            if rows is not None:
                self._measure(module, rows, ("input",))

    def _fired(self, result: Tensor, runs: set[int]) -> None:
        for run in sorted(runs & self._waiting.keys()):
            module, channels = self._waiting.pop(run)
            where = _channels(module)
            if result.ndim > 1 and result.shape[where] == channels:
                maps = result.movedim(where, 1)
                is_map = maps[0, 0].numel() > 1  # a single number has no direction
                self._measure(module, maps, ("units", "maps") if is_map else ("units",))

    def _measure(self, module: nn.Module, tensor: Tensor, kinds: tuple[str, ...]) -> None:
        for name, quantity in self._quantities.items():
            if quantity.takes in kinds:
                value = quantity.measure(tensor).float()
                self.values.setdefault((self._modules[module], name), []).append(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(one)


def _channels(module: nn.Module) -> int:
    """The dimension of a module's output that counts its units."""
    return 1 if isinstance(module, nn.modules.conv._ConvNd) else -1


def _incoming(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor | None:
    """What a layer's weight is multiplied with, ``(positions, n)`` or ``(groups, positions, n)``."""
    (x, *_) = inputs or (None,)
    if isinstance(module, nn.Linear) and isinstance(x, Tensor):
        rows = x.flatten(0, -2)
    elif isinstance(module, nn.Conv2d) and isinstance(x, Tensor):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        size: Any = module.kernel_size, module.dilation, 0, module.stride
        first = functional.unfold(x[:1], *size)
        enough = -(-_ROWS // first.shape[-1])
        patches = functional.unfold(x[:: max(1, len(x) // enough)], *size)
        rows = patches.unflatten(1, (module.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
        rows = rows if module.groups > 1 else rows[0]
    else:
        return None
    return rows[..., :: -(-rows.shape[-2] // _ROWS), :]


def _call(model: nn.Module, probe: Any, device: torch.device) -> None:
    def there(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    if isinstance(probe, Mapping):
        model(**{key: there(value) for key, value in probe.items()})
    elif isinstance(probe, tuple | list):
        model(*map(there, probe))
    else:
        model(there(probe))


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, eager and without gradients; afterwards everything is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = {module: dict(module._buffers) for module in model.modules()}
    copies = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"), torch.no_grad():
        for module, _ in modes:
            module.training = False  # and not train(False), which some models override
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module, own in buffers.items():
                module._buffers.update(own)  # one that was assigned anew
            for buffer, version, old in copies:
                if buffer._version != version:
                    buffer.copy_(old)
