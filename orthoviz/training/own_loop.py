"""A fair comparison for whoever has a training loop of their own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from orthoviz.optim.named import Make
from orthoviz.training.comparison import Comparison, Rates, conclude, plan
from orthoviz.training.equal import at_rate
from orthoviz.training.outcomes import best_rates, in_columns

# Trains once, from an optimiser's make(groups, lr), a learning rate and a seed; returns the score at the
# end, or a curve of scores: numbers, arrays or tensors.
Train = Callable[[Make, float, int], Any]


def compare_own(
    train: Train,
    optimizers: Mapping[str, Make],
    *,
    lrs: Rates = (0.003, 0.01, 0.03, 0.1),
    seeds: int | Iterable[int] = 5,
    score: str = "loss",
    higher: bool = False,
    progress: bool = True,
) -> Comparison:
    """Run a training loop with several optimisers, each at its best learning rate, and say which is better.

    A rate is chosen by the same scores that are compared: choose it on data that you do not report, and score
    the others at these rates, where that matters.

    Args:
        train: must start all optimisers of a seed from the same weights, and give them the same batches.
        optimizers: name to ``make(groups, lr)``, such as those of ``ov.optim.OPTIMIZERS``.
        lrs: rates to try: one, several for all, or equally many for each by name; or pairs, see
            :func:`compare`.
        seeds: so many, or which.
        score: what the numbers are.
        higher: whether higher is better.

    Returns:
        A :class:`Comparison`; a row of its frame is a point of a curve, ``epoch`` its place from 1 on, and
        the column ``test_`` with the score's name the number.

    Raises:
        ValueError: the grids differ in length; a seed or a label is there twice; a curve has no point.
    """
    numbers, grid = plan(optimizers, lrs, seeds)
    runs = [(name, rate, seed) for seed in numbers for name in optimizers for rate in grid[name]]
    column, rows = f"test_{score}", []
    for name, rate, seed in tqdm(runs, unit=" runs", disable=None if progress else True, leave=False):
        curve = torch.as_tensor(train(*at_rate(optimizers[name], rate), seed)).flatten().tolist()
        if not curve:
            raise ValueError("train must return a number or a curve of numbers, got none")
        run = {"optimizer": name, **in_columns(rate), "seed": seed}
        rows += [{**run, "epoch": i, column: value} for i, value in enumerate(curve, 1)]
    frame = pd.DataFrame(rows)
    best = best_rates(frame, column, higher=higher)
    return conclude(frame, best, "both_tuned", score=score, higher=higher)
