"""Train a network on a data set and keep what happened."""

from orthoviz.training import recipes
from orthoviz.training.comparison import Comparison, compare
from orthoviz.training.evaluation import check_fits, evaluate
from orthoviz.training.loop import Run, Stop, fit, steps
from orthoviz.training.stored import results

__all__ = [
    "Comparison",
    "Run",
    "Stop",
    "check_fits",
    "compare",
    "evaluate",
    "fit",
    "recipes",
    "results",
    "steps",
]
