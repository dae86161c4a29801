"""The folder of a run: what was asked for, what came out, and where the numbers come from."""

import json
import math
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.optim import Optimizer

from orthoviz import monitor
from orthoviz.datasets import Data
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
    path: str | Path | None, config: Callable[[], dict[str, Any]], source: str, *, resume: bool
) -> Iterator[Folder]:
    """Take a folder for a run, so that no other does.

    Args:
        config: makes what :func:`run_config` does; with another one it is another run.
        source: of the data.

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
        asked = config()
        if (path / "config.json").exists():
            _check(path, asked, resume)
        write_json(path / "config.json", asked)
        yield Folder(path, source)
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
    new: set[str] = set()
    config = dict(config)
    if "schedule" not in old:  # of version 0.1, which knew less
        new = {"loss", "schedule", "groups", "orthogonalised"}
        known = old["optimizer_options"]
        options = config["optimizer_options"].items()
        config["optimizer_options"] = {key: value for key, value in options if key in known}
        late = known.get("order") in ("after_momentum", "both") and not known.get("decoupled")
        if late and known.get("weight_decay"):
            raise ValueError(
                f"the run in {path} is of version 0.1, whose weight decay went into the polar factor: "
                "run it anew"
            )
    config = {key: value for key, value in config.items() if key not in new}
    differ = _differences({key: old.get(key) for key in config}, config)
    if differ:
        raise ValueError(f"the run in {path} has {'; '.join(differ)}: it cannot go on otherwise")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, by name: within parts that both have too."""
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += [f"{key}: {one}" for one in _differences(before, now)]
        elif before != now:
            found.append(f"{key} {before!r}, not {now!r}")
    return found


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


def run_config(
    model: nn.Module, optimizer: Optimizer, data: Data, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What two runs must share so that one can go on where the other stopped, in JSON's types."""
    own = getattr(optimizer, "orthogonal_settings", None)
    config = {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": type(optimizer).__name__,
        "optimizer_options": _plain(optimizer.defaults),
        "groups": {
            f"group {i}": {**_at_start(group), "parameters": len(group["params"])}
            for i, group in enumerate(optimizer.param_groups)
        },
        "orthogonalised": None if own is None else _plain(own),
        "data": data.name,
        "data_checksum": data.checksum(),
        "training_images": data.count,
        **options,
    }
    return json.loads(json.dumps(config))  # type: ignore[no-any-return]  # as it will be read


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of some options JSON can hold; a tensor of one number is that number."""
    kept = {key: value.item() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
    lists = ("params", "param_names", "positions")
    kinds = (str, int, float, bool, list, tuple, type(None))
    return {key: value for key, value in kept.items() if isinstance(value, kinds) and key not in lists}


def _at_start(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's options as they were before a scheduler changed them."""
    options = _plain(group)
    options["lr"] = options.pop("initial_lr", options.get("lr"))
    cycled = {"momentum", "betas"} if "max_momentum" in options or "base_momentum" in options else set()
    return {key: value for key, value in options.items() if key not in cycled}


def describe(part: Any) -> str:
    """A function or module in words that tell another one apart: its name, and its settings."""
    if part is None:
        return ""
    if isinstance(part, partial):
        settings = [*map(describe, part.args), *(f"{k}={describe(v)}" for k, v in part.keywords.items())]
        return f"{describe(part.func)}({', '.join(settings)})"
    if callable(part):
        name = getattr(part, "__qualname__", type(part).__qualname__)
        state = vars(part).items() if hasattr(part, "__dict__") and not hasattr(part, "__qualname__") else ()
        settings = [f"{key}={value!r}" for key, value in state if isinstance(value, str | int | float)]
        return f"{name}({', '.join(settings)})" if settings else name
    return repr(part)


def describe_schedule(scheduler: Any, steps: int) -> str:
    """A scheduler in words; with the number of steps where a function of its user's makes the rate."""
    if scheduler is None:
        return ""
    state = scheduler.state_dict()
    left_out = ("base_lrs", "last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs", "verbose")
    settings = [f"{k}={v!r}" for k, v in state.items() if k not in left_out and not k.startswith("_")]
    settings += [f"steps={steps}"] * any("lambda" in key for key in state)
    return f"{type(scheduler).__name__}({', '.join(settings)})"


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
