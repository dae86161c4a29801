"""Train a network on a data set and keep what happened."""

from orthoviz.training import recipes
from orthoviz.training.comparison import Comparison, compare
from orthoviz.training.evaluation import Metric, check_fits, evaluate
from orthoviz.training.loop import Run, fit, steps
from orthoviz.training.own_loop import compare_own
from orthoviz.training.progress import Stop
from orthoviz.training.stored import results

__all__ = [
    "Comparison", "Metric", "Run", "Stop", "check_fits", "compare", "compare_own", "evaluate", "fit",
    "recipes", "results", "steps",
]  # fmt: skip
