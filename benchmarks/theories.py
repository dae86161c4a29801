"""What two theories of the orthogonal step foretell, and what comes: for the ledger of claims.

    python -m benchmarks.theories

Toy problems, five seeds each; nothing is downloaded. results/theories has a value a row: the theory, the
case, the seed, and the quantity.

momentum_first (Kovalev 2025): lesson 05's signal in noise, at three strengths. ``gain`` is the length of the
averaged step along the signal, ``cosine`` how much of the step is signal; ``_before`` averages factors,
``_after`` is the factor of the average.

nuclear_rank (Davis and Drusvyatskiy 2025): lesson 10's linear layer, at two batch sizes. ``nuclear_rank`` of
the first gradient, ``stable_rank`` of its inputs, and what an orthogonal and a gradient step bring:
``drop_spectral`` and ``drop_gradient``, of the first batch's loss in one step of the length that is sure to
lower it, or of the exact error in 200 steps at the best of four rates.
"""

from collections.abc import Iterator

import pandas as pd
import torch

import orthoviz as ov
from benchmarks.common import keep, play, provenance, store

SEEDS = 5
Row = tuple[str, int, str, float]


def momentum_first() -> Iterator[Row]:
    steps_of = play("05_gradient_spectra", "steps_of")["steps_of"]
    orders = {"before": "factor first", "after": "average first"}
    for signal in (0.3, 1.0, 4.0):
        for seed in range(SEEDS):
            u, v, steps = steps_of(signal, seed)
            for order, name in orders.items():
                gain = (u @ steps[name] @ v).item()
                yield f"signal {signal:g}", seed, f"gain_{order}", gain
                yield f"signal {signal:g}", seed, f"cosine_{order}", gain / steps[name].norm().item()


def nuclear_rank() -> Iterator[Row]:
    for batch in (64, 1024):
        for seed in range(SEEDS):
            x, y = ov.toys.RankOne(batch=batch, seed=seed).sample()
            gradient = -y.T @ x / batch
            ranks = {
                "nuclear_rank": ov.measures.nuclear_rank(gradient).item(),
                "stable_rank": ov.measures.stable_rank(x).item(),
            }
            for case, drops in (("one step", one_step(x, y, gradient)), ("200 steps", training(batch, seed))):
                for quantity, value in (ranks | drops).items():
                    yield f"batch {batch}, {case}", seed, quantity, value


def one_step(x: torch.Tensor, y: torch.Tensor, gradient: torch.Tensor) -> dict[str, float]:
    """What each step lowers this batch's loss by, at the length that its bound recommends."""
    factor = ov.polar_factor(gradient)
    steps = {
        "drop_spectral": factor * (gradient * factor).sum() * len(x) / x.square().sum(),
        "drop_gradient": gradient * len(x) / torch.linalg.matrix_norm(x, 2) ** 2,
    }
    start = y.square().sum()
    return {
        name: ((start - (x @ -step.T - y).square().sum()) / len(x) / 2).item() for name, step in steps.items()
    }


def training(batch: int, seed: int) -> dict[str, float]:
    """What 200 steps lower the exact error by, each at its best rate, chosen by that error."""
    drops = {}
    for name, make in {"drop_spectral": ov.OrthogonalSGD, "drop_gradient": torch.optim.SGD}.items():
        ends = []
        for lr in (0.005, 0.01, 0.02, 0.04):
            toy = ov.toys.RankOne(batch=batch, seed=seed)
            errors = ov.toys.descend(toy, make(ov.param_groups(toy), lr=lr), 200)["error"]
            ends.append(errors.iloc[0] - errors.iloc[-1])
        drops[name] = max(ends)
    return drops


def main() -> None:
    theories = {"momentum_first": momentum_first, "nuclear_rank": nuclear_rank}
    rows = [(name, *row) for name, found in theories.items() for row in found()]
    table = pd.DataFrame(rows, columns=["theory", "case", "seed", "quantity", "value"])
    about = provenance(
        what="two theories on toy problems: averaging before the factor, and the nuclear-rank test",
        data="none: toy problems",
        command="python -m benchmarks.theories",
    )
    keep(table, store("theories", about), "%.5g")
    print(table.groupby(["theory", "case", "quantity"], sort=False)["value"].mean().round(3).to_string())


if __name__ == "__main__":
    main()
