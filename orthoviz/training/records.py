"""The folder of a run: what was asked for, what came out, and where the numbers come from."""

import json
import math
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.optim import Optimizer

from orthoviz import monitor
from orthoviz.datasets import Dataset
from orthoviz.files import checkout, replace_file, write_json
from orthoviz.optim.base import with_new_names
from orthoviz.training import checkpoints
from orthoviz.training.processes import rank_and_size


class Folder:
    """A run's folder. Without a path it keeps nothing; of several processes the first writes."""

    def __init__(self, path: Path | None, source: str = "") -> None:
        self.path = path
        self._source = source
        self._mine = path if rank_and_size()[0] == 0 else None  # to write into
        self._began = time.time()

    def __bool__(self) -> bool:
        return self.path is not None

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint."""
        state = checkpoints.newest(self.path) if self.path else None
        if state is not None:
            groups = state["optimizer"]["param_groups"]
            state["optimizer"]["param_groups"] = [with_new_names(group) for group in groups]
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint."""
        if self._mine:
            checkpoints.save(self._mine, step, state)

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write the finished epochs as CSV."""
        if self._mine:
            table = pd.DataFrame(rows)
            replace_file(self._mine / "history.csv", lambda beside: table.to_csv(beside, index=False))

    def close(self, rows: list[dict[str, float]], stopped: str | None) -> None:
        """Write how it ended, and where it ran."""
        self.write_history(rows)
        if self._mine:
            about = provenance(command=_command(), data=self._source)
            about |= {"stopped": stopped, "hours": round((time.time() - self._began) / 3600, 3)}
            write_json(self._mine / "provenance.json", about)


@contextmanager
def open_folder(
    path: str | Path | None,
    model: nn.Module,
    optimizer: Optimizer,
    data: Dataset,
    options: Mapping[str, Any],
    *,
    resume: bool,
) -> Iterator[Folder]:
    """Take a folder for a run, so that no other does.

    Raises:
        ValueError: it holds a run and ``resume`` is not set, or a run with another configuration, or one
            that is going on.
    """
    if path is None or rank_and_size()[0] != 0:
        yield Folder(None if path is None else Path(path))
        return
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another run is going on in {path}: choose another folder") from error
    try:  # the system lets go of the lock too if this process is killed
        config = _config(model, optimizer, data, options)
        if (path / "config.json").exists():
            _check(path, config, resume)
        write_json(path / "config.json", config)
        yield Folder(path, data.source)
    finally:
        lock.release()


def _check(path: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise ValueError where a folder's run cannot go on with this configuration."""
    if not resume:
        raise ValueError(
            f"{path} holds a run: go on with it (resume=True, --resume) or choose another folder"
        )
    old = json.loads((path / "config.json").read_text(encoding="utf-8"))
    old["optimizer_options"] = with_new_names(old.get("optimizer_options", {}))
    differ = [
        f"{key} {old.get(key)!r}, not {value!r}" for key, value in config.items() if old.get(key) != value
    ]
    if differ:
        raise ValueError(f"the run in {path} has {'; '.join(differ)}: it cannot go on otherwise")


def finished_epochs(path: Path) -> float:
    """How many epochs a run's folder tells of."""
    history = path / "history.csv"
    return float(pd.read_csv(history)["epoch"].iloc[-1]) if history.exists() else 0.0


def segment(path: Path) -> Path:
    """Where a monitor streams to from the newest checkpoint on; what came after it is measured anew."""
    found = checkpoints.find(path)
    start = checkpoints.step_of(found[0]) if found else 0
    for old in (path / "watched").glob("*"):
        if int(old.name) >= start:
            shutil.rmtree(old)
    return path / "watched" / f"{start:09d}"


def read_watched(path: Path) -> pd.DataFrame:
    """What a monitor saw of a run, each step once, however often the run was resumed.

    Raises:
        FileNotFoundError: no monitor streamed to the folder.
    """
    folders = sorted((path / "watched").glob("*"))
    if not folders:
        raise FileNotFoundError(f"{path} holds nothing that a monitor saw")
    frames = [monitor.read(folder) for folder in folders if any(folder.glob("part-*.parquet"))]
    starts = [int(frame["step"].min()) for frame in frames[1:]]
    kept = [frame[frame["step"] < end] for frame, end in zip(frames, [*starts, math.inf], strict=True)]
    return monitor.join(*kept)


def _config(
    model: nn.Module, optimizer: Optimizer, data: Dataset, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What two runs must share so that one can go on where the other stopped, in JSON's types."""
    plain = {
        key: value
        for key, value in optimizer.defaults.items()
        if isinstance(value, str | int | float | bool | list | type(None))
    }
    config = {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": type(optimizer).__name__,
        "optimizer_options": plain,
        "data": data.name,
        "data_checksum": data.checksum(),
        "training_images": len(data.train.labels),
        **options,
    }
    return json.loads(json.dumps(config))  # type: ignore[no-any-return]  # as it will be read


def provenance(**about: Any) -> dict[str, Any]:
    """What is stored beside numbers: who made them, where, when, with what."""
    root, commit = checkout(), ""
    if root and shutil.which("git"):
        got = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=root, check=False
        )
        commit = got.stdout.strip()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU, {torch.get_num_threads()} threads, {_cpu()}"
    return about | {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")  # Linux alone has it
    found = re.search(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    return found[1] if found else platform.processor()


def _command() -> str:
    """This process's command line, without the paths of the machine."""
    return " ".join(
        Path(word).name if Path(word).is_absolute() or Path(word).exists() else word for word in sys.argv
    )
