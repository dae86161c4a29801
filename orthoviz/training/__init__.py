"""Train a network on a data set and keep what happened."""

from orthoviz.training.fit import Run, check_fits, evaluate, fit, steps
from orthoviz.training.results import results

__all__ = ["Run", "check_fits", "evaluate", "fit", "results", "steps"]
