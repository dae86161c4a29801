"""Train a network on a data set and keep what happened."""

from orthoviz.training.fit import Run, evaluate, fit, steps
from orthoviz.training.results import results

__all__ = ["Run", "evaluate", "fit", "results", "steps"]
