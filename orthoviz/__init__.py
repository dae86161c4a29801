"""Orthogonalise a layer's gradient before the optimiser's step, and watch what happens.

The way of a gradient through this package: ``loss.backward()``, :mod:`~orthoviz.matrices`
(parameter to matrix), :mod:`~orthoviz.polar` (matrix to its polar factor),
:mod:`~orthoviz.optim` (factor to step). Everything that loads data, trains or draws
is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from orthoviz import matrices, optim, polar
from orthoviz.matrices import param_groups
from orthoviz.optim import OrthogonalSGD
from orthoviz.polar import polar_factor

if TYPE_CHECKING:
    from orthoviz import course, datasets, models, plots, training, widgets

__version__ = "0.1.0"

_ON_FIRST_USE = ("course", "datasets", "models", "plots", "training", "widgets")

__all__ = [
    "OrthogonalSGD",
    "course",
    "datasets",
    "matrices",
    "models",
    "optim",
    "param_groups",
    "plots",
    "polar",
    "polar_factor",
    "training",
    "widgets",
]


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"orthoviz.{name}")
    raise AttributeError(f"module 'orthoviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
