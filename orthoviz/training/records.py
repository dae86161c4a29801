"""The folder of a run: what was asked for, what came out, and where the numbers come from."""

import json
import math
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
from orthoviz.files import checkout, replace_file
from orthoviz.optim.base import with_new_names
from orthoviz.training import checkpoints
from orthoviz.training.processes import rank_and_size


class Folder:
    """A run's folder. Without a path it keeps nothing; of several processes the first writes."""

    def __init__(self, path: Path | None, config: Mapping[str, Any], source: str) -> None:
        self.path = path
        self._config, self._source = config, source
        self._writes = path is not None and rank_and_size()[0] == 0
        self._began = time.time()

    def __bool__(self) -> bool:
        return self.path is not None

    @classmethod
    @contextmanager
    def open(
        cls,
        path: str | Path | None,
        model: nn.Module,
        optimizer: Optimizer,
        data: Dataset,
        options: Mapping[str, Any],
        *,
        resume: bool,
    ) -> Iterator["Folder"]:
        """Take a folder for a run, so that no other does.

        Raises:
            ValueError: it holds a run and is not to be resumed, or one with another configuration, or one
                that is going on.
        """
        if path is None:
            yield cls(None, {}, "")
            return
        path = Path(path)
        config = _config(model, optimizer, data, options)
        folder = cls(path, config, data.source)
        if rank_and_size()[0] != 0:
            yield folder
            return
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"another run is going on in {path}: choose another folder") from error
        try:  # the system lets go of the lock too if this process is killed
            folder._check(resume)
            folder._write("config.json", config)
            yield folder
        finally:
            lock.release()

    def _check(self, resume: bool) -> None:
        assert self.path is not None
        stored = self.path / "config.json"
        if not stored.exists():
            return
        if not resume:
            raise ValueError(
                f"{self.path} holds a run: go on with it (resume=True, --resume) or choose another folder"
            )
        old = json.loads(stored.read_text(encoding="utf-8"))
        old["optimizer_options"] = with_new_names(old.get("optimizer_options", {}))
        differ = [
            f"{key} {old.get(key)!r}, not {value!r}"
            for key, value in self._config.items()
            if old.get(key) != value
        ]
        if differ:
            raise ValueError(f"the run in {self.path} has {'; '.join(differ)}: it cannot go on otherwise")

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint."""
        state = checkpoints.newest(self.path) if self.path is not None else None
        if state is not None:
            groups = state["optimizer"]["param_groups"]
            state["optimizer"]["param_groups"] = [with_new_names(group) for group in groups]
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint."""
        if self._writes and self.path is not None:
            checkpoints.save(self.path, step, state)

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write the finished epochs as CSV."""
        if self._writes and self.path is not None:
            table = pd.DataFrame(rows)
            replace_file(self.path / "history.csv", lambda beside: table.to_csv(beside, index=False))

    def close(self, rows: list[dict[str, float]], stopped: str | None) -> None:
        """Write how it ended, and where it ran."""
        self.write_history(rows)
        if not self._writes:
            return
        about = {"command": command(sys.argv), "data": self._source}
        more = {"stopped": stopped, "hours": round((time.time() - self._began) / 3600, 3)}
        self._write("provenance.json", provenance(**about) | more)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        if self.path is not None:
            text = json.dumps(content, indent=1) + "\n"
            replace_file(self.path / name, lambda beside: beside.write_text(text, encoding="utf-8"))


def finished_epochs(path: Path) -> int:
    """How many epochs a run's folder tells of."""
    history = path / "history.csv"
    return int(pd.read_csv(history)["epoch"].iloc[-1]) if history.exists() else 0


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
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor()
    )


def command(arguments: Sequence[str]) -> str:
    """A command line without the paths of the machine it ran on."""
    return " ".join(
        Path(word).name if Path(word).is_absolute() or Path(word).exists() else word for word in arguments
    )
