"""What every benchmark needs: a clock, turns, and where a stored number comes from."""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parents[1] / "results"


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def interleaved(
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


def provenance(**about: str) -> dict[str, str]:
    """What is stored beside a table: who made it, where, when, with what."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return about | {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads, {device}",
    }


def store(folder: str, about: Mapping[str, str]) -> Path:
    """The folder of a result, with its provenance written."""
    path = RESULTS / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "provenance.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path
