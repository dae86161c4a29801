"""The store of data sets: one file each, written beside and put in place in one step."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from orthoviz.datasets import official, pixels
from orthoviz.datasets.dataset import DataError, Dataset, Split, digits
from orthoviz.datasets.folders import Folders, find_splits, folders
from orthoviz.datasets.images import Files, describe, read_image
from orthoviz.datasets.words import words
from orthoviz.files import checkout, replace_file

_SUFFIX = ".safetensors"
_SHA256_OF_DIGITS = "3616d13d9b8a0a7a70107bddfd1b1572ec4785e7884f0571b848e039b01e1a3f"
_BUILT_IN: dict[str, Callable[[], Dataset]] = {"digits": digits, "words": words}
_MOST_BYTES = 4 * 10**9


def location() -> Path:
    """The folder of the data sets: ``ORTHOVIZ_DATA``, the checkout's ``data``, or the user's own.

    Raises:
        DataError: it would be the user's own, and platformdirs, which finds it, is not installed.
    """
    if chosen := os.environ.get("ORTHOVIZ_DATA"):
        return Path(chosen).expanduser()
    if here := checkout():
        return here / "data"
    try:
        import platformdirs
    except ImportError:
        todo = "set ORTHOVIZ_DATA to one, or 'pip install platformdirs'"
        raise DataError(f"There is no folder for data sets: {todo}.") from None
    return platformdirs.user_data_path("orthoviz", appauthor=False) / "data"


def available() -> list[str]:
    """Names of the data sets that :func:`load` knows here: built in, then added, by name."""
    return [*_BUILT_IN, *sorted(path.stem for path in location().glob(f"[!.]*{_SUFFIX}"))]


def load(name: str, *, size: int | None = None) -> Any:
    """A data set by name: one that is always there (``"digits"``, ``"words"``), was fetched, or was added.

    The images are memory-mapped: only what is used is read. The path of a folder that holds ``train``, and
    ``test`` or ``val``, is read in place: see :func:`orthoviz.datasets.folders`.

    Args:
        size: of a folder's images, as the network sees them; default: 224.

    Raises:
        DataError: there is no such data set, its file is damaged, or its images cannot take a ``size``.
    """
    if name not in available() and Path(name).exists():
        return folders(*find_splits(Path(name)), size=size or 224)
    if size is not None:
        raise DataError(f"size is for a folder of images, {name}'s have their own: give it when you add them")
    return _BUILT_IN[name]() if name in _BUILT_IN else _read_file(name)[0]


def verify(name: str) -> Dataset:
    """The data set, if its images and labels are those that were added, to the last bit.

    Raises:
        DataError: they are not, or there is no such data set.
    """
    if name == "words":
        return words()
    if name == "digits":
        data, expected, todo = digits(), _SHA256_OF_DIGITS, "Install the scikit-learn that orthoviz asks for."
    else:
        (data, expected), todo = _read_file(name), _add_again(name)
    found = data.checksum(hashlib.sha256())
    if found != expected:
        raise DataError(f"{name} is damaged: its SHA-256 is {found}, expected {expected}. {todo}")
    return data


def add(
    name: str, path: str | Path, *, size: int | None = None, replace: bool = False, augment: bool = True
) -> str:
    """Check a folder of images or the official CIFAR-10 archive, and keep its images under ``name``.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        path: the official CIFAR-10 archive (python version), or a folder laid out as
            ``<split>/<class>/<image>`` with the splits ``train``, and ``test`` or ``val``.
        size: resize and centre-crop every image to ``size`` x ``size`` pixels. Without it images
            of different sizes are refused.
        replace: put it in the place of the data set that has this name.
        augment: whether training crops images at random and mirrors them. Not for digits and
            letters: a mirrored 2 is not a 2.

    Returns:
        What was found, in a few lines.

    Raises:
        DataError: something is wrong; the message says what, and nothing was added.
    """
    try:
        check_free(name, replace)
        if size is not None and not 1 <= size <= 4096:
            raise DataError(f"size must be from 1 to 4096 pixels, got {size}.")
        data, notes = _read(Path(path).expanduser(), size)
        data = dataclasses.replace(data, augment=augment)
        with writing(".lock", "another process that adds a data set"):
            target = check_free(name, replace)  # another process may have added it meanwhile
            for old in target.parent.glob(".*-*.safetensors"):  # of a process that was killed
                old.unlink()
            replace_file(target, lambda beside: _write_file(data, beside))
    except DataError as error:
        raise DataError(f"{error}\n    Nothing was added.") from None
    return "\n".join([_report(data), *notes])


def _read(path: Path, size: int | None) -> tuple[Dataset, list[str]]:
    """The data set at a path, and notes for the user."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if path.is_dir() and path.resolve().name != official.FOLDER:
        train, test = find_splits(path)
        return _decode(path, folders(train, test), size)
    try:
        return official.read(path), ["checksum: the official one"]
    except DataError as error:
        raise DataError(f"{error} If it is an archive of images, unpack it, and add its folder.") from None


def _decode(path: Path, found: Folders, size: int | None) -> tuple[Dataset, list[str]]:
    """The images of a folder as one array a split."""
    modes: Counter[str] = Counter()
    shapes: Counter[str] = Counter()

    def decode(split: Files) -> Split:
        images, total = [], 0
        for file in tqdm(split.paths, desc="reading", unit=" files", disable=None):
            image, mode = read_image(file)
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
            images.append(np.asarray(image))
            modes[mode] += 1
            shapes[f"{image.width} x {image.height}"] += 1
            total += images[-1].nbytes
            if total > _MOST_BYTES:
                raise DataError(
                    f"The images in {path} take more than {_MOST_BYTES:,} bytes once decoded. Make them "
                    f"smaller with --size, or read them in place: orthoviz train --data {path}."
                )
        if len(shapes) > 1:
            common = ", ".join(f"{shape} ({count:,})" for shape, count in shapes.most_common(5))
            raise DataError(
                f"The images in {path} have {len(shapes)} sizes: {common}{', ...' * (len(shapes) > 5)}. "
                "Resize and centre-crop them all with, for example, --size 64."
            )
        return Split(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), split.labels)

    train, test = decode(found.train), decode(found.test)
    mean, std = pixels.channel_statistics(train.images)
    notes = ["modes: " + describe(modes) + ("" if set(modes) == {"colour"} else "; all turned into RGB")]
    if found.passed_over:
        notes.append(f"passed over: {describe(found.passed_over)}")
    return Dataset(path.name, found.classes, train, test, mean, std, True, f"images of {path.name}"), notes


def _read_file(name: str) -> tuple[Dataset, str]:
    """A stored data set, and the SHA-256 of what was added."""
    _check_there(name)
    try:
        with safe_open(_path(name), framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        train, test = (
            Split(tensors[f"{part}_images"].permute(0, 3, 1, 2), tensors[f"{part}_labels"])
            for part in ("train", "test")
        )
        classes, mean, std = (tuple(about[key]) for key in ("classes", "mean", "std"))
        data = Dataset(name, classes, train, test, mean, std, about["augment"], about["source"])
        return data, about["sha256"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{_path(name)} is damaged ({error}). {_add_again(name)}") from error


def _write_file(data: Dataset, path: Path) -> None:
    path.touch()
    permissions = path.stat().st_mode  # the umask's; safetensors makes files that only the owner can read
    about = {key: getattr(data, key) for key in ("classes", "mean", "std", "augment", "source")}
    about |= {"sha256": data.checksum(hashlib.sha256()), "added": time.strftime("%Y-%m-%d")}
    tensors = {}
    for part, split in (("train", data.train), ("test", data.test)):
        tensors[f"{part}_images"] = pixels.channels_last(split.images, "cpu")
        tensors[f"{part}_labels"] = split.labels
    save_file(tensors, path, {"about": json.dumps(about)})
    path.chmod(permissions)


def _report(data: Dataset) -> str:
    """Classes, images and their size, in a few lines."""
    channels, height, width = data.shape
    more = f" and {len(data.classes) - 10:,} more" if len(data.classes) > 10 else ""
    lines = [f"{len(data.classes)} classes: {', '.join(data.classes[:10])}{more}"]
    for name, split in (("training", data.train), ("test", data.test)):
        counts = torch.bincount(split.labels)
        low, high = int(counts.min()), int(counts.max())
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        lines.append(f"{len(split.labels):,} {name} images, {each} a class")
    return "\n".join([*lines, f"{height} x {width} pixels, {channels} channels"])


def remove(name: str) -> str:
    """Delete a data set that was fetched or added; say so."""
    if name in _BUILT_IN:
        raise DataError(f"{name!r} is built in and cannot be removed.")
    _check_there(name)
    _path(name).unlink()
    return f"Removed {name}."


def _path(name: str) -> Path:
    return location() / f"{name}{_SUFFIX}"


def _add_again(name: str) -> str:
    return f"Run 'orthoviz data remove {name}' and add it again."


def _check_there(name: str) -> None:
    if name not in (there := available()):
        todo = f"Run 'orthoviz data add {name} PATH' to add a folder of images."
        if name == "cifar10":
            todo = "Run 'orthoviz data fetch cifar10', or 'orthoviz data add cifar10 PATH' with its archive."
        raise DataError(
            f"There is no data set {name!r} in {location()}. There is: {', '.join(there)}. {todo}"
        )


def check_free(name: str, replace: bool) -> Path:
    """Where a new data set of this name would be kept, if it may be."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        wrong = f"A data set's name has letters, digits, '.', '_' and '-', got {name!r}."
    elif name in _BUILT_IN:
        wrong = f"{name!r} is built in. Choose another name."
    elif _path(name).exists() and not replace:
        todo = "Use --replace (replace=True) to put this one in its place, or choose another name."
        wrong = f"There is a data set {name!r} already. {todo}"
    else:
        return _path(name)
    raise DataError(wrong)


@contextmanager
def writing(lock: str, other: str) -> Iterator[Path]:
    """The folder of the data sets, made if need be, while no other process holds this lock in it.

    Args:
        lock: name of its file.
        other: what the other process does; printed once if this one has to wait.

    Raises:
        DataError: it cannot be written to.
    """
    folder = location()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _acquire(folder / lock, other):
            yield folder
    except (SafetensorError, OSError) as error:
        there = next(p for p in (folder, *folder.parents) if p.is_dir())
        free = f"{shutil.disk_usage(there).free / 1e6:,.0f} MB are free there"
        todo = "Make room, or set ORTHOVIZ_DATA to another folder."
        raise DataError(f"{folder} could not be written to ({error}; {free}).\n    {todo}") from error


def _acquire(path: Path, other: str) -> AbstractContextManager[object]:
    """The lock, which is let go when a block of ``with`` ends."""
    lock = FileLock(path, mode=0o666)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for {other}", file=sys.stderr, flush=True)
        return lock.acquire()
