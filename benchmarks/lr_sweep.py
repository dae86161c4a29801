"""SGD and orthogonal SGD over learning rates: BasicCNN on CIFAR-10, five epochs, three seeds.

    python -m benchmarks.lr_sweep "CIFAR-10, official archive"

The argument says which copy of the images is in the store. Writes results/lr_sweep.
"""

import sys

import pandas as pd
import torch

import orthoviz as ov
from benchmarks.common import keep, provenance, store

EPOCHS, BATCH_SIZE, SEEDS = 5, 1024, 3
GRID = {
    "sgd": (torch.optim.SGD, (0.01, 0.03, 0.1, 0.3)),
    "orthogonal_sgd": (ov.OrthogonalSGD, (0.003, 0.01, 0.03, 0.1)),
}


def main(copy: str) -> None:
    """Run the grid and store one row an epoch."""
    data = ov.datasets.load("cifar10")
    tables = []
    for seed in range(SEEDS):
        for name, (make, rates) in GRID.items():
            for lr in rates:
                model = ov.models.basic_cnn(seed=seed)
                optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9, weight_decay=5e-4)
                run = ov.training.fit(
                    model, optimizer, data, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=seed, progress=False
                )
                tables.append(run.history.assign(optimizer=name, lr=lr, seed=seed).drop(columns="seconds"))
                print(f"{name} lr {lr:g} seed {seed}: {run.history.test_accuracy.iloc[-1]:.4f}", flush=True)
    table = pd.concat(tables)[
        ["optimizer", "lr", "seed", "epoch", "step", "train_loss", "test_loss", "test_accuracy"]
    ]
    about = provenance(
        what="BasicCNN, batch 1024, momentum 0.9, weight decay 5e-4, crop with padding 4 and flip",
        data=copy,
        command=f'python -m benchmarks.lr_sweep "{copy}"',
    )
    keep(table, store("lr_sweep", about), "%.6g")


if __name__ == "__main__":
    main(*sys.argv[1:])
