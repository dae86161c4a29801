"""CIFAR-10 as its authors publish it: pickles in a tar, read without trusting them.

Source: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*.
"""

import codecs
import hashlib
import io
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from orthoviz.datasets.archives import members
from orthoviz.datasets.dataset import DataError, Split
from orthoviz.datasets.pictures import Found

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))


def read(path: Path, max_bytes: int | None = None) -> Found | None:
    """The official archive, or the folder in it; None where ``path`` is something else."""
    if path.is_dir():
        if not (path / _TRAIN[0]).is_file():
            return None
    elif FOLDER not in _first_name(path, max_bytes):
        return None
    wanted = {*_TRAIN, "test_batch", "batches.meta"}
    contents = {}
    for name, data in members(path, max_bytes):
        base = PurePosixPath(name).name
        if data is not None and base in wanted:
            contents[base] = _unpickle(f"{name} in {path}", data)
    if missing := sorted(wanted - set(contents)):
        raise DataError(f"{path} lacks {', '.join(missing)}. Nothing was added.")

    meta = contents["batches.meta"]
    names = meta.get(b"label_names") if isinstance(meta, dict) else None
    if not (isinstance(names, list) and names and all(isinstance(name, bytes) for name in names)):
        raise DataError(f"batches.meta in {path} names no labels. Nothing was added.")
    classes = tuple(name.decode(errors="replace") for name in names)
    official = path.is_file() and checksum(path) == SHA256
    return Found(
        classes=classes,
        train=_split(path, [(name, contents[name]) for name in _TRAIN], len(classes)),
        test=_split(path, [("test_batch", contents["test_batch"])], len(classes)),
        source="CIFAR-10, official archive" if official else f"CIFAR-10 batches of {path.name}",
        notes=["checksum: " + ("the official one" if official else "not the official one")],
    )


def checksum(path: Path) -> str:
    """The file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_name(path: Path, max_bytes: int | None) -> tuple[str, ...]:
    first = next(members(path, max_bytes), None)
    return () if first is None else PurePosixPath(first.name).parts


_HARMLESS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("_codecs", "encode"): codecs.encode,
}


class _ArraysOnly(pickle.Unpickler):
    """A pickle can run any code that it names; this one runs what NumPy's arrays are made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(name: str, data: bytes) -> Any:
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{name} is damaged or unsafe ({error}). Nothing was added.") from error


def _split(path: Path, batches: list[tuple[str, Any]], classes: int) -> Split:
    images: list[torch.Tensor] = []
    labels: list[int] = []
    for name, batch in batches:
        batch = batch if isinstance(batch, dict) else {}
        pixels: Any = batch.get(b"data")
        truth: Any = batch.get(b"labels")
        right = (
            isinstance(pixels, np.ndarray)
            and pixels.dtype == np.uint8
            and pixels.ndim == 2
            and pixels.shape[1] == 3 * 32 * 32
            and isinstance(truth, list)
            and len(truth) == len(pixels) > 0
            and all(isinstance(label, int) and 0 <= label < classes for label in truth)
        )
        if not right:
            raise DataError(
                f"{name} in {path} does not hold 32 x 32 colour images and their labels. Nothing was added."
            )
        images.append(torch.from_numpy(pixels.reshape(-1, 3, 32, 32)))
        labels += truth
    return Split(torch.cat(images), torch.tensor(labels))
