"""Stored runs: small tables that a command of this repository made, and how runs become one."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orthoviz.files import checkout, replace_file, write_json
from orthoviz.optim.named import LABELS
from orthoviz.training import recipes
from orthoviz.training.comparison import folder_names
from orthoviz.training.records import read_watched
from orthoviz.verdicts import last_rows

_PACKAGE = Path(__file__).resolve().parents[1]
_COLUMNS = (
    *("optimizer", "lr", "batch_size", "seed", "epoch", "step", "seconds", "train_loss"),
    *("valid_loss", "valid_accuracy", "test_loss", "test_accuracy", "linear_accuracy", "rank_me", "chosen"),
    *("centred_rank", "step_length", "date", "commit"),
)
# Where a run comes from: of all runs in a table's provenance.
ORIGIN = ("date", "commit", "torch", "python", "device")


def root() -> Path:
    """Where stored tables lie: in the repository, or in the installed package."""
    here = checkout()
    return _PACKAGE / "_results" if here is None else here / "results"


def names() -> list[str]:
    """Of all stored tables."""
    return sorted(path.parent.name for path in root().glob("*/table.csv"))


def folder(name: str) -> Path:
    """Where a stored table and what else its command made lie.

    Raises:
        ValueError: there is no such table.
    """
    if name not in names():
        raise ValueError(f"there is no stored table {name!r}; there is: {', '.join(names())}")
    return root() / name


def table_file(name: str) -> Path:
    """The file of a stored table, ``"name"`` or, for another table of the same command, ``"name/part"``."""
    stored, _, part = name.partition("/")
    return root() / stored / f"{part or 'table'}.csv"


def unfinished(recipe: str) -> Path:
    """The file with the rows of a recipe's runs while some are missing."""
    return root() / "unfinished" / f"{recipe.replace('/', '-')}.csv"


def is_complete(recipe: str) -> bool:
    """Whether all runs of a recipe are stored, as the queue makes them."""
    name = recipe.replace("/", "-")
    return name in names() and bool(provenance_of(name).get("complete"))


def read_runs(path: Path) -> pd.DataFrame:
    """A table, with today's names of optimisers where the first edition wrote their labels."""
    table = pd.read_csv(path)
    if "optimizer" in table:
        table["optimizer"] = table["optimizer"].replace({label: name for name, label in LABELS.items()})
    return table


def provenance_of(name: str) -> dict[str, Any]:
    """What is known of a stored table's runs.

    Raises:
        ValueError: there is no such table, or its provenance cannot be read.
    """
    path = folder(name) / "provenance.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): restore it, or store the runs again") from error


def results(name: str) -> pd.DataFrame:
    """A stored table, such as ``"lr_sweep"``; what a monitor saw is ``"table1-basic_cnn/watched"``.

    Returns:
        The table. ``.attrs["name"]`` is that of its folder, ``.attrs["provenance"]`` says how it was made.

    Raises:
        ValueError: there is no such table.
    """
    path = folder(name.partition("/")[0])
    table = read_runs(table_file(name))
    provenance = (path / "provenance.json").read_text(encoding="utf-8")
    table.attrs.update(name=path.name, provenance=provenance)
    return table


_MEASURED = {
    *("lr", "batch_size", "batch", "seed", "epoch", "step", "seconds", "train_loss", "test_loss"),
    *("test_accuracy", "value", "to_sgd", "to_svd", "possible", "supported"),
}


def check_table(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table back that may be stored; the ledger of claims trusts what is stored.

    Runs at a rate that was not chosen may have diverged, which nothing reads.

    Raises:
        ValueError: it has no rows; a number that was measured or that tells runs apart is missing; or not
            all optimisers and rates have the same seeds.
    """
    rows = table[table["chosen"].astype(bool)] if "chosen" in table else table
    if rows.empty:
        raise ValueError("the table has no rows to store: run the experiment first")
    for column in sorted(_MEASURED & set(table)):
        numbers = pd.to_numeric(rows[column], errors="coerce")
        if column == "train_loss":
            numbers = numbers[rows["epoch"] > 0]  # before the first epoch there is none
        odd = rows[column].dtype == bool or not numbers.dropna().between(0, 1).all()
        if "accuracy" in column and odd:
            raise ValueError(f"{column} must hold numbers from 0 to 1: run these again, or leave them out")
        if bad := int((~np.isfinite(numbers)).sum()):
            todo = "run these again, or leave them out"
            raise ValueError(f"{column} is no number in {bad} of {len(rows)} rows to store: {todo}")
    _check_runs(rows)
    keys = [key for key in ("optimizer", "lr", "batch_size") if key in table]
    if keys and "seed" in table and table.groupby(keys)["seed"].agg(frozenset).nunique() > 1:
        raise ValueError("not all optimisers and rates have the same seeds: finish the runs, then store them")
    return table


def _check_runs(rows: pd.DataFrame) -> None:
    """Raise ValueError where rows are there twice, runs have other lengths or the same histories, or an
    optimiser has two rates that were chosen."""
    keys = [key for key in ("optimizer", "batch_size") if key in rows]
    if not {"optimizer", "lr", "seed", "epoch", "test_accuracy"} <= set(rows):
        return
    if rows.duplicated([*keys, "lr", "seed", "epoch"]).any():
        raise ValueError("rows are there twice: leave one of each out")
    if "chosen" in rows and (rows.groupby(keys)["lr"].nunique() > 1).any():
        raise ValueError("an optimiser has two rates that were chosen")
    ends = rows.groupby([*keys, "lr", "seed"])["epoch"].max()
    if "chosen" in rows and ends.groupby(keys[1:] or (lambda _: 0)).nunique().max() > 1:
        raise ValueError("the runs have different lengths: finish them, then store them")
    if "test_loss" in rows and len(rows) > 1:
        after = rows[rows["epoch"] > 0]
        same = after.groupby([*keys, "lr", "seed"])["test_loss"].agg(tuple)
        if same.groupby([*keys, "lr"]).apply(lambda some: some.duplicated().any()).any():
            raise ValueError("two seeds have the same history: one was copied")


def store(recipe: str, runs: str | Path, copy: str) -> Path:
    """Make a stored table of a recipe's runs, with seconds as steps times what a step takes alone.

    The steps are timed here and now: let nothing else run.

    Args:
        recipe: its name, which becomes the stored table's with "-" for "/".
        runs: the folder that the recipe ran into, which holds one with its name. Of the queue's runs the rows
            in ``results/unfinished`` are enough.
        copy: which copy of the data set it was.

    Returns:
        The folder. ``watched.csv`` holds what a monitor saw, units of a layer as their mean.

    Raises:
        ValueError: the runs are not whole, see :func:`check_table`.
    """
    runs = Path(runs) / recipe
    rows = unfinished(recipe)
    table = read_runs(rows if rows.exists() else runs / "table.csv")
    if rows.exists() and "chosen" not in table:
        raise ValueError(f"{rows.name}: runs are missing; the queue goes on with them (orthoviz train queue)")
    costs: Any = recipes.estimate(recipe).set_index(["optimizer", "batch_size"])["ms_per_step"]
    kinds = pd.MultiIndex.from_frame(table[["optimizer", "batch_size"]])
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(runs.rglob("provenance.json"))]
    if "commit" in table:  # of the queue, whose runs need no folders; hours are of training alone
        ends = table.groupby(["optimizer", "lr", "batch_size", "seed"]).tail(1)
        records = ends.assign(hours=ends["seconds"] / 3600).to_dict("records")
    table["seconds"] = table["step"] * costs[kinds].to_numpy() / 1000
    table = check_table(table[[column for column in _COLUMNS if column in table]])
    path = root() / recipe.replace("/", "-")
    path.mkdir(parents=True, exist_ok=True)
    replace_file(path / "table.csv", lambda b: table.to_csv(b, index=False, float_format="%.5g"))
    keys = table[["optimizer", "lr", "seed"]].itertuples(index=False)
    optimizer_of = {name: row[0] for row in keys for name in folder_names(*row)}
    seen = [_summary(run.parent, optimizer_of[run.parent.name]) for run in sorted(runs.rglob("watched"))]
    if seen:
        means = pd.concat(seen)
        replace_file(path / "watched.csv", lambda b: means.to_csv(b, index=False, float_format="%.4g"))
    about = {
        "what": recipes.recipe(recipe).what,
        "data": copy,
        "command": f"orthoviz train {recipe}",
        "runs": len(records),
        "hours": round(sum(one["hours"] for one in records), 2),
        "complete": True,
    }
    for key in ORIGIN:
        about[key] = ", ".join(sorted({str(one[key]) for one in records}))
    about["milliseconds_per_step"] = {
        f"{optimizer}, batch {size}": round(value, 2) for (optimizer, size), value in costs.items()
    }
    write_json(path / "provenance.json", about | {"timed": time.strftime("%Y-%m-%d")})
    rows.unlink(missing_ok=True)
    return path


def _summary(run: Path, optimizer: str) -> pd.DataFrame:
    frame = read_watched(run)
    frame = frame[frame["layer"] != ""]  # every step's loss is much, and the history has its means
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    keys = ["seed", "step", "layer", "stage", "quantity"]
    means = frame.groupby(keys, observed=True, sort=False)["value"].mean().reset_index()
    means.insert(0, "optimizer", optimizer)
    means.insert(1, "lr", config["optimizer_options"]["lr"])
    return means


def finals(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each optimiser, learning rate and batch size: means at the last epoch over seeds, with the
    standard error of the accuracy (NaN of one seed) and the number of runs."""
    keys = [key for key in ("optimizer", "lr", "batch_size") if key in table]
    groups = last_rows(table).groupby(keys, sort=False)
    columns = ("test_accuracy", "test_loss", "linear_accuracy", "rank_me")
    found = groups[[column for column in columns if column in table]].mean()
    return found.assign(error=groups["test_accuracy"].sem(), runs=groups.size()).reset_index()
