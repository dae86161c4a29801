"""Which parameters of a model are watched, under which names, as which matrices."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from orthoviz.matrices import Layout, as_matrix, param_groups


class Layer(NamedTuple):
    """A parameter and the module whose weight it is. Layout None: it is no matrix, or not one to watch."""

    name: str
    parameter: nn.Parameter
    layout: Layout | None
    module: nn.Module

    def matrix(self, tensor: Tensor) -> Tensor:
        """The parameter's matrix in a tensor of its shape, or the tensor itself where it has none."""
        return tensor.detach() if self.layout is None else as_matrix(tensor.detach(), self.layout)

    def fits(self, pattern: str) -> bool:
        """Whether a pattern is of its name, or of its module's."""
        return any(fnmatchcase(name, pattern) for name in (self.name, self.name.rpartition(".")[0]))


def find_layers(
    model: nn.Module, optimizer: Optimizer | None, patterns: Iterable[str] | str | None
) -> tuple[list[Layer], list[Layer]]:
    """The matrices to watch, read as the optimiser's groups say, else as the modules do; and all other
    parameters.

    Raises:
        ValueError: there is no matrix, or none that fits a pattern; the optimiser holds other parameters.
        TypeError: a parameter is sharded (DTensor).
    """
    own = dict(model.named_parameters())
    layouts = {}
    if optimizer is not None:
        held = [(p, group.get("layout")) for group in optimizer.param_groups for p in group["params"]]
        if {id(p) for p, _ in held}.isdisjoint(map(id, own.values())):
            raise ValueError(
                "the optimiser holds none of the model's parameters: watch the model that it moves"
            )
        layouts = {p: layout for p, layout in held if isinstance(layout, tuple | list)}
    layers: list[Layer] = []
    others: list[Layer] = []
    for decision in param_groups(model).decisions:
        parameter = own[decision.name]
        if hasattr(parameter, "full_tensor"):
            raise TypeError(f"{decision.name} is sharded (DTensor): a sharded model cannot be watched")
        layout = layouts.get(parameter, decision.layout)
        if parameter.is_floating_point():
            layout = None if layout is None else tuple(layout)
            one = Layer(decision.name, parameter, layout, _owner(model, decision.name))
            (others if layout is None else layers).append(one)
    if not layers:
        raise ValueError("the model has no weight matrix to watch")
    patterns = ["*"] if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(layer.fits(pattern) for layer in layers):
            names = [layer.name for layer in layers]
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0) or names[:3]
            raise ValueError(f"layers: {pattern!r} fits no matrix; there is, for example, {', '.join(near)}")
    wanted = [layer for layer in layers if any(layer.fits(pattern) for pattern in patterns)]
    return wanted, others + [layer._replace(layout=None) for layer in layers if layer not in wanted]


def _owner(model: nn.Module, name: str) -> nn.Module:
    """The module whose weight it is, also where that is under a parametrisation."""
    end = ".parametrizations." if ".parametrizations." in name else "."
    return model.get_submodule(f".{name}".rpartition(end)[0].removeprefix("."))
