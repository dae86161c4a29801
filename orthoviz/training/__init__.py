"""Train a network on a data set and keep what happened."""

from orthoviz.training import recipes
from orthoviz.training.compare import Comparison, compare
from orthoviz.training.fit import Run, check_fits, evaluate, fit, steps
from orthoviz.training.results import results

__all__ = [
    "Comparison",
    "Run",
    "check_fits",
    "compare",
    "evaluate",
    "fit",
    "recipes",
    "results",
    "steps",
]
