"""Checkpoints: everything that a run needs to go on as if nothing had happened."""

import io
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orthoviz.files import replace_file

_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``step-N.pt`` beside, rename it, and remove all but the last two.

    Raises:
        OSError: the disk is full, for example. Then the earlier ones are as they were.
    """
    buffer = io.BytesIO()  # torch, writing to a file, would turn a full disk into a RuntimeError
    torch.save(state, buffer)
    path = folder / f"step-{step:09d}.pt"
    try:
        replace_file(path, lambda beside: beside.write_bytes(buffer.getbuffer()))
    except OSError as error:
        left = find(folder)
        last = f"the last one is {left[0].name}" if left else "there is none yet"
        raise OSError(f"checkpoint {path} could not be written ({error.strerror}); {last}") from error
    for old in find(folder)[_KEPT:]:
        old.unlink(missing_ok=True)


def find(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob(f"step-{'[0-9]' * 9}.pt"), reverse=True)


def step_of(path: Path) -> int:
    """The steps done at a checkpoint, from its name."""
    return int(path.stem.removeprefix("step-"))


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where there is none at all.

    One that is damaged is named in a warning, and the one before is taken. torch checks no checksums when it
    reads, so they are compared first.

    Raises:
        ValueError: all that there are are damaged.
    """
    paths = find(folder)
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except Exception as error:
            warnings.warn(f"{path} is damaged ({error}): the one before is taken", stacklevel=2)
    if paths:
        raise ValueError(f"every checkpoint in {folder} is damaged: move them away and start anew")
    return None


def random_state() -> dict[str, Any]:
    """The state of every random generator that training may use, in types that ``weights_only`` reads."""
    kind, keys, *rest = np.random.get_state()  # a user's augmentation may use it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """The inverse of :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
