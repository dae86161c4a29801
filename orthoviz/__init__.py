"""Orthogonalise a layer's gradient before the optimiser's step, and watch what happens.

The way of a gradient through this package: ``loss.backward()``, :mod:`~orthoviz.matrices`
(parameter to matrix), :mod:`~orthoviz.polar` (matrix to its polar factor),
:mod:`~orthoviz.optim` (factor to step). :mod:`~orthoviz.monitor` taps the same tensors,
:mod:`~orthoviz.measures` turns them into numbers, and :mod:`~orthoviz.plots` the numbers into figures.
Everything is imported on first use, so that a command starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orthoviz import (
        claims,
        course,
        datasets,
        matrices,
        measures,
        models,
        monitor,
        optim,
        plots,
        polar,
        toys,
        training,
        widgets,
    )
    from orthoviz.matrices import param_groups
    from orthoviz.monitor import watch
    from orthoviz.optim import LARS, SWAN, OrthogonalSGD, orthogonalise
    from orthoviz.polar import polar_factor

__version__ = "0.2.0"

__all__ = [
    "LARS", "SWAN", "OrthogonalSGD", "claims", "course", "datasets", "matrices", "measures", "models",
    "monitor", "optim", "orthogonalise", "param_groups", "plots", "polar", "polar_factor", "toys", "training",
    "watch", "widgets",
]  # fmt: skip

_FROM = {
    **dict.fromkeys(["LARS", "SWAN", "OrthogonalSGD", "orthogonalise"], "optim"),
    "param_groups": "matrices",
    "polar_factor": "polar",
    "watch": "monitor",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'orthoviz' has no attribute {name!r}")
    module = importlib.import_module(f"orthoviz.{_FROM.get(name, name)}")
    return getattr(module, name) if name in _FROM else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
