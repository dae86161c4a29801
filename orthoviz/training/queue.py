"""The queue of runs that the ledger of claims waits for: one after the other, at low priority.

A run's rows are written to ``results/unfinished`` as it ends, with where they come from, and a run that has
its rows there is not run again, on whatever machine the queue goes on.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from orthoviz.files import replace_file
from orthoviz.training import recipes, stored
from orthoviz.training.processes import say
from orthoviz.training.records import provenance

# Recipes, in the order in which they are run.
QUEUE = (
    *("controls", "fair/schedule", "successors", "fair/both_tuned", "fair/equal_step", "fair/equal_lr"),
    *("batch_size/basic_cnn", "resnet8"),
)

_THREADS = 2  # other numbers give other bits


def work(out: str | Path = "runs") -> None:
    """Run what is left of the queue; Ctrl-C ends it, and the same command goes on.

    Args:
        out: folder for the runs, each of which resumes within itself.
    """
    torch.set_num_threads(_THREADS)
    if hasattr(os, "nice"):
        os.nice(19)
    for name in QUEUE:
        file = stored.unfinished(name)
        if stored.is_complete(name):
            continue
        done = stored.read_runs(file) if file.exists() else None
        say(f"{name}: {recipes.recipe(name).what}")
        found = recipes.run(name, out, done=done, keep=partial(_keep, file, provenance()))
        table = stored.read_runs(file).merge(found[[*recipes.ROW, "chosen"]], on=recipes.ROW)
        replace_file(file, partial(table.to_csv, index=False))
        say("\n".join(found.attrs["verdicts"]))
        say(f"When nothing else runs: orthoviz results store {name} {out} COPY")


def _keep(file: Path, about: dict[str, Any], table: pd.DataFrame) -> None:
    """Write the rows of all runs so far, each with where it came from when it was first written."""
    table = table.drop(columns=["chosen", *stored.ORIGIN], errors="ignore")  # chosen: when all are done
    if file.exists():
        origins = stored.read_runs(file)[[*recipes.ROW, *stored.ORIGIN]]
        table = table.merge(origins, on=recipes.ROW, how="left")
    for key in stored.ORIGIN:
        table[key] = table[key].fillna(about[key]) if key in table else about[key]
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, partial(table.to_csv, index=False))
