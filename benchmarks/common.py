"""What every benchmark needs: a clock, turns, and where a stored number comes from."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch

from orthoviz.training.records import provenance
from orthoviz.training.stored import check_table

__all__ = [
    "DEVICE", "RESULTS", "compare", "interleave", "keep", "markdown", "medians", "play", "provenance",
    "seconds", "store",
]  # fmt: skip

RESULTS = Path(__file__).parents[1] / "results"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def play(lesson: str, *names: str) -> dict[str, Any]:
    """What a lesson's cells define in quick mode, run from the top until all of these names are there."""
    import jupytext  # not needed for anything else here

    space: dict[str, Any] = {}
    digits = {"ORTHOVIZ_MODE": "quick", "ORTHOVIZ_DATA": os.devnull}  # no CIFAR-10, should there be one
    with patch.dict(os.environ, digits):
        for cell in jupytext.read(RESULTS.parent / "notebooks" / f"{lesson}.py").cells:
            if cell.cell_type == "code":
                exec(cell.source, space)
                if space.keys() >= set(names):
                    return space
    raise ValueError(f"{lesson} does not define {', '.join(set(names) - space.keys())}")


def seconds(work: Callable[[], Any]) -> float:
    """Time of one call: by the GPU's own events where there is one, else by the clock."""
    if DEVICE == "cuda":
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        began.record()
        work()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1e3
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleave(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, patience: float = 10.0
) -> dict[str, list[float]]:
    """Seconds of each contender, all of them in turn, round after round, after one round that is not counted.

    One that takes longer than ``patience`` seconds in the first round is not run again: its one time counts.
    """
    first = {name: seconds(work) for name, work in contenders.items()}
    times: dict[str, list[float]] = {name: [t] if t > patience else [] for name, t in first.items()}
    for _ in range(rounds):
        for name, work in contenders.items():
            if first[name] <= patience:
                times[name].append(seconds(work))
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def compare(
    works: Mapping[str, Callable[[], Any]], against: Mapping[str, str], rounds: int
) -> dict[str, tuple[float, list[float]]]:
    """Of each its median seconds, and its ratios to another one in the same round, in order; all take turns
    after one call of each that is not counted."""
    for work in works.values():
        work()
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds)]
    return {
        name: (statistics.median(t[name] for t in times), sorted(t[name] / t[against[name]] for t in times))
        for name in works
    }


def markdown(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table."""
    first, *more = ("| " + " | ".join(map(str, row)) + " |" for row in (head, *rows))
    return "\n".join([first, "|---" * (first.count(" | ") + 1) + "|", *more])


def store(folder: str, about: Mapping[str, str]) -> Path:
    """The folder of a result, with its provenance written."""
    path = RESULTS / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "provenance.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def keep(table: pd.DataFrame, folder: Path, digits: str | None = None) -> None:
    """Write the table of a result, and check afterwards: what took an hour to measure is not lost.

    Raises:
        ValueError: the ledger of claims cannot trust it, see ``orthoviz.training.stored.check_table``.
    """
    table.to_csv(folder / "table.csv", index=False, float_format=digits)
    check_table(table)
