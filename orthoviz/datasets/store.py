"""Where data sets are kept: one file each, written beside and put in place in one step."""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from orthoviz.datasets import official, pictures
from orthoviz.datasets.dataset import DataError, Dataset, Split, channel_statistics, digits
from orthoviz.datasets.folders import folders

_SUFFIX = ".safetensors"
_BUILT_IN = {"digits": digits}
_BUILT_IN_SHA256 = {"digits": "3616d13d9b8a0a7a70107bddfd1b1572ec4785e7884f0571b848e039b01e1a3f"}
_HELP = {
    "cifar10": "Run 'orthoviz data fetch cifar10', or 'orthoviz data add cifar10 PATH' with its archive."
}


def location() -> Path:
    """The folder of the data sets: ``ORTHOVIZ_DATA``, the checkout's ``data``, or the user's own.

    Raises:
        DataError: it would be the user's own, and platformdirs, which knows where that is, is not installed.
    """
    if chosen := os.environ.get("ORTHOVIZ_DATA"):
        return Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "notebooks").is_dir():
        return checkout / "data"
    try:
        import platformdirs
    except ImportError:
        raise DataError(
            "There is no folder for data sets: set ORTHOVIZ_DATA to one, or 'pip install platformdirs'."
        ) from None
    return platformdirs.user_data_path("orthoviz", appauthor=False) / "data"


def available() -> list[str]:
    """Names of the data sets that :func:`load` knows here: built in, then added, by name."""
    return [*_BUILT_IN, *sorted(p.stem for p in location().glob(f"[!.]*{_SUFFIX}"))]


def load(name: str) -> Dataset:
    """A data set by name: ``"digits"``, which is always there, or one that was fetched or added.

    The images are memory-mapped: only what is used is read. The path of a folder that holds ``train``, and
    ``val`` or ``test``, is read in place: see :func:`orthoviz.datasets.folders`.

    Raises:
        DataError: there is no such data set, or its file is damaged.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    place = Path(name)
    tests = [place / part for part in ("val", "test") if (place / part).is_dir()]
    if not _path(name).is_file() and (place / "train").is_dir() and tests:
        return folders(place / "train", tests[0])  # type: ignore[return-value]  # it stands for one
    if not _is_name(name) or (Path(name).exists() and not _path(name).is_file()):
        raise DataError(
            f"{name!r} is not the name of a data set. If it is a folder or archive of images, run "
            f"'orthoviz data add NAME {name}' once, then load it by that name."
        )
    path = _path(name)
    if not path.is_file():
        raise DataError(
            f"There is no data set {name!r} in {location()}. There is: {', '.join(available())}. "
            + _HELP.get(name, f"Run 'orthoviz data add {name} PATH' to add a folder or an archive.")
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({error}). Run 'orthoviz data remove {name}' and add it again."
        ) from error
    return Dataset(
        name=name,
        classes=tuple(about["classes"]),
        train=Split(tensors["train_images"].permute(0, 3, 1, 2), tensors["train_labels"]),
        test=Split(tensors["test_images"].permute(0, 3, 1, 2), tensors["test_labels"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        augment=about["augment"],
        source=about["source"],
    )


def verify(name: str) -> Dataset:
    """The data set, if its images and labels are those that were added, to the last bit.

    Raises:
        DataError: they are not, or there is no such data set.
    """
    data = load(name)
    found, expected = _checksum(data), _BUILT_IN_SHA256.get(name)
    if expected is None:
        with safe_open(_path(name), framework="pt") as file:
            expected = json.loads(file.metadata()["about"])["sha256"]
    if found != expected:
        way = "Install the scikit-learn that orthoviz asks for."
        if name not in _BUILT_IN:
            way = f"Run 'orthoviz data remove {name}' and add it again."
        raise DataError(f"{name} is damaged: its SHA-256 is {found}, expected {expected}. {way}")
    return data


def add(
    name: str,
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    max_bytes: int | None = None,
    replace: bool = False,
    augment: bool = True,
) -> str:
    """Check a folder, archive or the official CIFAR-10 archive, and keep its images under ``name``.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        path: the official CIFAR-10 archive (python version), or a folder, tar or zip laid out as
            ``<split>/<class>/<image>`` with the splits ``train``, and ``test`` or ``val``.
        size: resize and centre-crop every image to ``size`` x ``size`` pixels. Without it images
            of different sizes are refused.
        max_bytes: how much an archive may unpack to, instead of 4 GB and 100 times its packed size.
        replace: put it in the place of the data set that has this name.
        augment: whether training images are to be cropped at random and mirrored. Not for digits and
            letters: a mirrored 2 is no 2.

    Returns:
        What was found, in a few lines.

    Raises:
        DataError: something is wrong; the message says what, and nothing was added.
    """
    target = check_free(name, replace)
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist. Nothing was added.")
    if size is not None and not 1 <= size <= 4096:
        raise DataError(f"size must be from 1 to 4096 pixels, got {size}. Nothing was added.")
    found = official.read(path, max_bytes) or pictures.read(path, max_bytes, size)
    mean, std = channel_statistics(found.train.images)
    about = {
        "classes": found.classes,
        "mean": mean,
        "std": std,
        "augment": augment,
        "source": found.source,
        "sha256": _checksum(found),
        "added": time.strftime("%Y-%m-%d"),
    }
    tensors = {
        "train_images": _channels_last(found.train.images),
        "train_labels": found.train.labels,
        "test_images": _channels_last(found.test.images),
        "test_labels": found.test.labels,
    }
    partial = target.with_name(f".{name}.{os.getpid()}.partial")
    with writing_to(target.parent):
        try:
            save_file(tensors, partial, {"about": json.dumps(about)})
            partial.chmod(0o644)  # safetensors lets nobody else read it
            _put_in_place(partial, target, replace)
        finally:
            partial.unlink(missing_ok=True)
    return found.report()


def remove(name: str) -> None:
    """Delete a data set that was fetched or added."""
    if name in _BUILT_IN:
        raise DataError(f"{name!r} is built in and cannot be removed.")
    if not _is_name(name) or not _path(name).is_file():
        raise DataError(f"There is no data set {name!r} in {location()}. There is: {', '.join(available())}.")
    _path(name).unlink()


def _path(name: str) -> Path:
    return location() / f"{name}{_SUFFIX}"


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name))


def check_free(name: str, replace: bool) -> Path:
    """Where a new data set of this name would be kept, if it may be."""
    if not _is_name(name):
        raise DataError(
            f"A data set's name has letters, digits, '.', '_' and '-', got {name!r}. Nothing was added."
        )
    if name in _BUILT_IN:
        raise DataError(f"{name!r} is built in. Choose another name. Nothing was added.")
    if _path(name).exists() and not replace:
        raise _taken(name)
    return _path(name)


def _taken(name: str) -> DataError:
    return DataError(
        f"There is a data set {name!r} already. Use --replace (replace=True) to put this one in its "
        "place, or choose another name. Nothing was added."
    )


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C): the order in which batches are made."""
    return images.permute(0, 2, 3, 1).contiguous()


def _checksum(found: pictures.Found | Dataset) -> str:
    """SHA-256 of all pixels and labels."""
    digest = hashlib.sha256()
    for split in (found.train, found.test):
        digest.update(_channels_last(split.images).numpy().data)
        digest.update(split.labels.numpy().data)
    return digest.hexdigest()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make the folder, and say why where writing to it fails; an empty one that it made is removed."""
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(".*.partial"):  # of a process that was killed
            with suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - old.stat().st_mtime > 3600:
                    old.unlink()
        yield
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{folder} could not be written to ({error}; {_free_megabytes(folder)} MB are free there). "
            "Nothing was added.\n    Make room, or set ORTHOVIZ_DATA to another folder."
        ) from error
    finally:
        for empty in made:
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def _free_megabytes(folder: Path) -> str:
    there = next(p for p in (folder, *folder.parents) if p.is_dir())
    return f"{shutil.disk_usage(there).free / 1e6:,.0f}"


def _put_in_place(partial: Path, target: Path, replace: bool) -> None:
    """Rename in one step; without ``replace`` a name that was taken meanwhile stays as it is."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    if replace:
        os.replace(partial, target)
        return
    try:
        if sys.platform == "win32":
            os.rename(partial, target)  # there it fails where the target exists
        else:
            os.link(partial, target)
    except FileExistsError:
        raise _taken(target.stem) from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise _taken(target.stem) from None
        os.rename(partial, target)
