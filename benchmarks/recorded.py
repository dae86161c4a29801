"""What the live cells of the 90-minute class find, for when a kernel dies or a machine is slow.

    python -m benchmarks.recorded

Runs the lessons' own cells, in quick mode on scikit-learn's digits, and keeps the tables that they make, so
nothing is downloaded. `notebooks/lecturer/recorded` draws them again. A folder of results each:

results/recorded-first       lesson 00: its five trainings
results/recorded-race        lesson 00: SGD and orthogonal SGD, four epochs, at the rates of the view race
results/recorded-modes       lesson 02: the learnt part of each mode, of three methods
results/recorded-PROTOCOL    lesson 06: its three comparisons
results/recorded-rank_one    lesson 10: the error that each leaves on the noisy layer, at its best rate
"""

from collections.abc import Callable

import pandas as pd
import torch

import orthoviz as ov
from benchmarks.common import play, provenance, store

RATES = (0.003, 0.01, 0.03, 0.1)


def train(make: Callable[..., torch.optim.Optimizer], lr: float) -> pd.DataFrame:
    """What the view `race` trains: four epochs of `digits_cnn`, with the paper's momentum and decay."""
    model = ov.models.digits_cnn(seed=0)
    optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9, weight_decay=5e-4)
    return ov.training.fit(model, optimizer, ov.datasets.load("digits"), epochs=4, seed=0).history


def first() -> dict[str, pd.DataFrame]:
    """Lesson 00's trainings, and the view's at every rate that it offers for both."""
    names = ["yours", "sgd", "faster", "normed", "sgd_normed"]
    lesson = play("00_start_here", *names)
    ends = pd.DataFrame({name: lesson[name] for name in names}).rename_axis("epoch").reset_index()
    makes = {"sgd": torch.optim.SGD, "orthogonal_sgd": ov.OrthogonalSGD}
    runs = [train(make, lr).assign(optimizer=name, lr=lr) for name, make in makes.items() for lr in RATES]
    race = pd.concat(runs)[["optimizer", "lr", "epoch", "step", "test_accuracy"]]
    return {"first": ends, "race": race}


def toys() -> dict[str, pd.DataFrame]:
    """Lesson 02's runs."""
    lesson = play("02_toy_problems", "descent", "orthogonal", "shape")
    walks = {"gradient descent": "descent", "only the shape": "shape", "orthogonal": "orthogonal"}
    modes = pd.concat([lesson[walk].assign(method=name) for name, walk in walks.items()])
    return {"modes": modes[["method", "step", *ov.toys.MODES]]}


def protocols() -> dict[str, pd.DataFrame]:
    """Lesson 06's three comparisons."""
    columns = ["optimizer", "lr", "batch_size", "seed", "epoch", "step", "test_accuracy", "chosen"]
    return {name: one.frame[columns] for name, one in play("06_cifar10", "found")["found"].items()}


def rank_one() -> dict[str, pd.DataFrame]:
    """Lesson 10's race."""
    errors = play("10_why_it_works", "errors")["errors"]
    rows = [(batch, name, error) for (batch, name), error in errors.items()]
    return {"rank_one": pd.DataFrame(rows, columns=["batch", "optimizer", "error"])}


PARTS = {
    "00_start_here": first,
    "02_toy_problems": toys,
    "06_cifar10": protocols,
    "10_why_it_works": rank_one,
}


def main() -> None:
    for lesson, part in PARTS.items():
        for name, table in part().items():
            about = provenance(
                what=f"what the cells of {lesson} find in quick mode",
                data="scikit-learn digits, or a toy problem",
                command="python -m benchmarks.recorded",
            )
            path = store(f"recorded-{name}", about)
            table.to_csv(path / "table.csv", index=False, float_format="%.4g")
            print(f"{path.name}: {len(table)} rows")


if __name__ == "__main__":
    main()
