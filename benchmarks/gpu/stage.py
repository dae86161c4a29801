"""A stage's process: a list of tasks, each of which gives rows of the stage's table."""

import os
import pkgutil
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from benchmarks.common import DEVICE, seconds
from orthoviz.files import replace_file

Rows = list[dict[str, Any]]
TASKS = {
    "polar": "polar:tasks",
    "steps": "steps:tasks",
    "table1": "runs:table_tasks",
    "speedrun": "runs:speed_tasks",
}
"""Module of this folder, and its function of (in miniature or not, folder to work in)."""
LIMITS = {"polar": 30, "steps": 30}  # seconds that a task may take
ROUNDS, ENOUGH = 20, 1.0  # at most so many, and no more than so many seconds of them


class Task(NamedTuple):
    """A row, or some, by name."""

    job: str
    contender: str
    rows: Callable[[], Rows]


def main() -> None:
    name, folder, work, archive = sys.argv[1:5]
    dry, table = "--dry" in sys.argv, Path(folder, f"{name}.csv")
    os.environ["ORTHOVIZ_DATA"] = f"{work}/data"
    if dry:
        torch.set_num_threads(1)  # what is small waits for its threads on a busy machine
    if name == "images":
        return pkgutil.resolve_name("benchmarks.gpu.images:unpack")(archive, Path(work), dry)
    if name == "tests":
        return tests(table)
    known = pd.read_csv(table) if table.exists() else pd.DataFrame({"job": [], "contender": []})
    done = set(zip(known["job"], known["contender"], strict=True))
    found = pkgutil.resolve_name(f"benchmarks.gpu.{TASKS[name]}")(dry, work)
    tasks = [task for task in found if task[:2] not in done]
    together = side_by_side(tasks) if name == "table1" else (attempt(t, LIMITS.get(name, 0)) for t in tasks)
    for rows in together:
        append(table, rows)
        if DEVICE == "cuda":
            torch.cuda.synchronize()  # raises where a kernel has left the GPU unusable for this process


def attempt(task: Task, limit: int = 0) -> Rows:
    """A task's rows, or one that says why there are none."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {limit} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        rows = task.rows()
    except Exception as error:
        rows = [{"reason": f"{type(error).__name__}: {error}"[:300]}]
    finally:
        signal.alarm(0)
    return [{"job": task.job, "contender": task.contender, **row} for row in rows]


def side_by_side(tasks: list[Task]) -> Iterator[Rows]:
    """The tasks' rows as they come, of several processes on the one GPU."""
    count = max(2, min(8, (os.cpu_count() or 1) // 2))
    with ProcessPoolExecutor(count, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for future in as_completed([pool.submit(attempt, task) for task in tasks]):
            yield future.result()


def append(table: Path, rows: Rows) -> None:
    """Add rows; the file is whole at any time."""
    parts = [pd.read_csv(table)] if table.exists() else []
    whole = pd.concat([*parts, pd.DataFrame(rows)])
    replace_file(table, lambda beside: whole.to_csv(beside, index=False, float_format="%.6g"))


def tests(table: Path) -> None:
    """Run the tests and leave the process with pytest's exit code."""
    import pytest

    table.unlink(missing_ok=True)
    sys.exit(pytest.main(["-q", "-m", "cuda", "tests/test_cuda.py"], plugins=[Told(table)]))


class Told:
    """Of pytest: keeps how each test ended."""

    def __init__(self, table: Path) -> None:
        self.table = table

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:
            reason = "\n".join(report.longreprtext.splitlines()[-5:])
            row = {"contender": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
            append(self.table, [{"job": "tests", **row, "reason": reason}])


def timed(work: Callable[[], object], dry: bool) -> dict[str, Any]:
    """The median of some calls after one that compiles, captures or takes memory, and the peak of memory."""
    work()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [seconds(work)]
    while len(times) < (1 if dry else ROUNDS) and sum(times) < ENOUGH:
        times.append(seconds(work))
    peak = torch.cuda.max_memory_allocated() / 1e6 if DEVICE == "cuda" else None
    return {"milliseconds": 1e3 * statistics.median(times), "rounds": len(times), "peak_mb": peak}
