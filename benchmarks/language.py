"""Four optimisers on language: a small GPT on Python's own documentation, by characters.

    python -m benchmarks.language

836,096 parameters, two epochs of 3,270 pieces of 128 characters, batch 32, rates that fall in equal parts
to zero, two threads. Each optimiser has two rates, of its matrices and of the rest (embeddings, norms,
biases). Seed 0 tries every pair of a grid; the pair with the least test loss, ``chosen``, is run with two
other seeds too. ``table.csv`` has a row an epoch: the loss in nats a character on the last tenth of the text,
the same over words that occur under five times in the training text, and over all other words.

A run that has its rows in ``results/unfinished/language.csv`` is not run again: Ctrl-C ends the work, and the
same command goes on.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

import orthoviz as ov
from benchmarks.common import RESULTS, keep, provenance, store
from orthoviz.datasets import Dataset

EPOCHS, BATCH, SEEDS, RARE = 2, 32, 3, 5
PAPERS = partial(ov.OrthogonalSGD, momentum=0.9, rest="adamw")
OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "muon": ov.optim.OPTIMIZERS["muon"],
    "orthogonal_sgd": PAPERS,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
RATES = {
    "adamw": ((0.003, 0.01, 0.03), (0.003, 0.01, 0.03)),
    "muon": ((0.03, 0.1, 0.3), (0.001, 0.003, 0.01)),
    "orthogonal_sgd": ((0.01, 0.03, 0.1), (0.001, 0.003, 0.01)),
    "sgd": ((0.03, 0.1, 0.3), (0.1, 0.3, 1.0)),
}
"""Of the matrices, and of the rest."""
KEYS = ["optimizer", "lr", "rest_lr", "seed"]
Run = tuple[str, float, float, int]
ROWS = RESULTS / "unfinished" / "language.csv"


def kinds(data: Dataset) -> Tensor:
    """For each target to test on: 1 in a rare word, 2 in another word, 0 in no word."""
    texts = (split.labels.flatten() for split in (data.train, data.test))
    train, test = ("".join(data.classes[i] for i in text) for text in texts)
    known = Counter(re.findall(r"\w+", train))
    found = torch.zeros(len(test), dtype=torch.int64)
    for word in re.finditer(r"\w+", test):
        found[word.start() : word.end()] = 1 if known[word.group()] < RARE else 2
    return found.view_as(data.test.labels)


@torch.no_grad()
def evaluate(kind: Tensor, model: nn.Module, data: Dataset) -> dict[str, float]:
    """The loss in nats a character: over all, in rare words, in other words."""
    model.eval()
    parts = data.in_order(data.test, device="cpu")
    losses = torch.cat([cross_entropy(model(x).mT, y, reduction="none") for x, y in parts])
    rare, frequent = (losses[kind == k].mean().item() for k in (1, 2))
    return {"test_loss": losses.mean().item(), "rare_loss": rare, "frequent_loss": frequent}


def train(
    name: str,
    lr: float,
    rest_lr: float,
    seed: int,
    data: Dataset,
    evaluation: Callable[..., dict[str, float]],
) -> pd.DataFrame:
    """The history of one run."""
    model = ov.models.gpt(seed=seed)
    optimizer = OPTIMIZERS[name](ov.param_groups(model), lr=lr)
    for group in optimizer.param_groups:
        group["lr"] = lr if group["layout"] else rest_lr
    steps = EPOCHS * data.steps(BATCH)
    falling = LambdaLR(optimizer, lambda step: 1 - step / steps)
    how = dict(epochs=EPOCHS, batch_size=BATCH, seed=seed, scheduler=falling, progress=False)
    history = ov.training.fit(model, optimizer, data, evaluation=evaluation, **how).history
    return history.assign(optimizer=name, lr=lr, rest_lr=rest_lr, seed=seed)


def complete(
    table: pd.DataFrame, runs: list[Run], data: Dataset, evaluation: Callable[..., dict[str, float]]
) -> pd.DataFrame:
    """The table with all these runs, each written when it ends."""
    done = set(table[KEYS].itertuples(index=False, name=None))
    for run in runs:
        if run not in done:
            table = pd.concat([table, train(*run, data, evaluation)], ignore_index=True)
            table.to_csv(ROWS, index=False, float_format="%.5g")
            print(*run, table.iloc[-1][["train_loss", "test_loss", "rare_loss"]].to_dict(), flush=True)
    return table


def chosen(table: pd.DataFrame, name: str) -> tuple[str, float, float]:
    """An optimiser's rates with the least test loss at the end of seed 0."""
    ends = table[(table.optimizer == name) & (table.seed == 0) & (table.epoch == EPOCHS)]
    best = ends.loc[ends.test_loss.idxmin()]
    return name, float(best.lr), float(best.rest_lr)


def main() -> None:
    torch.set_num_threads(2)
    os.nice(19)
    data = ov.datasets.load("words")
    evaluation = partial(evaluate, kinds(data))
    table = pd.read_csv(ROWS) if ROWS.exists() else pd.DataFrame(columns=KEYS)
    grid = [(name, *pair, 0) for name, rates in RATES.items() for pair in itertools.product(*rates)]
    table = complete(table, grid, data, evaluation)
    best = [(*chosen(table, name), seed) for name in RATES for seed in range(SEEDS)]
    table = complete(table, best, data, evaluation)
    table["chosen"] = [run in best for run in table[KEYS].itertuples(index=False, name=None)]
    what = f"GPT of 836,096 parameters, {EPOCHS} epochs, batch {BATCH}, rates that fall to zero"
    about = provenance(what=what, data=data.source, command="python -m benchmarks.language")
    keep(table, store("language", about), digits="%.5g")
    ROWS.unlink()


if __name__ == "__main__":
    main()
