"""Stages 4 and 5: runs of the recipes on CIFAR-10."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orthoviz as ov
from benchmarks.gpu.stage import Rows, Task

TABLES = (("table1/basic_cnn", "table1/resnet20"), ("table2", "table1/resnet18"))
DRY: dict[str, Any] = {"epochs": 1, "batch_sizes": (8,), "held_out": 4}


def table_tasks(dry: bool, work: str) -> Iterator[Task]:
    for recipes in TABLES:
        for seed in range(1 if dry else 5):
            for recipe in recipes[:1] if dry else recipes:
                for optimizer in ov.training.recipes.recipe(recipe).optimizers:
                    run = partial(a_run, recipe, work, optimizer, seed, **(DRY if dry else {}))
                    yield Task(f"{recipe}, seed {seed}", optimizer, run)


def speed_tasks(dry: bool, work: str) -> Iterator[Task]:
    """The middle of the grids first, then the rates around it, then more seeds."""
    grids = ov.training.recipes.recipe("speedrun").lrs
    assert isinstance(grids, dict)
    for seed in range(1 if dry else 3):
        for place in (1,) if dry else (1, 2, 0, 3):
            for optimizer in ("sgd", "orthogonal_sgd", "muon_order"):
                lr = grids[optimizer][place]
                how = {"lrs": {optimizer: [lr]}, "protocol": "equal_lr", **(DRY if dry else {})}
                run = partial(a_run, "speedrun", work, optimizer, seed, **how)
                yield Task(f"speedrun, lr {lr:g}, seed {seed}", optimizer, run)


def a_run(recipe: str, work: str, optimizer: str, seed: int, **changes: Any) -> Rows:
    """One run of a recipe, by the recipe's own code: a row an epoch. Until it ends its folder stays."""
    data = ov.datasets.load("cifar10")
    folder = Path(work, "runs", f"{optimizer} {seed}")
    try:
        table = ov.training.recipes.run(
            recipe, folder, data=data, optimizers=(optimizer,), seeds=[seed], watched=(), **changes
        )
    except KeyboardInterrupt:  # it has saved where it is; the pool would begin the next one
        os._exit(1)
    shutil.rmtree(folder / recipe)
    return table.drop(columns="optimizer").to_dict("records")
