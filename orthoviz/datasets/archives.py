"""The files in a folder, tar or zip, one after the other. Nothing is ever unpacked to disk."""

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from orthoviz.datasets.dataset import DataError

MOST_BYTES = 4 * 10**9
MOST_TIMES_PACKED = 100

_DAMAGE = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
    NotImplementedError,  # a zip packed in a way that Python does not read
)


class Member(NamedTuple):
    name: str
    """Path inside the folder or archive, with ``/``."""
    data: bytes | None
    """The file's bytes; None for a folder."""


def members(path: Path, max_bytes: int | None = None) -> Iterator[Member]:
    """Yield every file and folder in ``path``, in its order; hidden files are passed over.

    Raises:
        DataError: not a folder, tar or zip; cut short or damaged; a link in an archive, a device, an
            encrypted member, or one whose path leads outside; more than ``max_bytes`` (default: 4 GB, and for
            an archive 100 times its packed size) in all.
    """
    if path.is_dir():
        found = _folder_members(path)
    elif zipfile.is_zipfile(path):
        found = _zip_members(path)
    elif path.is_file():
        found = _tar_members(path)
    else:
        raise DataError(f"{path} is neither a file nor a folder. Nothing was added.")

    limit = max_bytes
    if limit is None:
        limit = MOST_BYTES
        if path.is_file():
            limit = min(limit, MOST_TIMES_PACKED * path.stat().st_size)
    total = 0
    try:
        for name, size, read in found:
            parts = PurePosixPath(name.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:[\\/]", name):
                raise DataError(f"{name} in {path} leads outside the data set. Nothing was added.")
            total += size
            if total > limit:
                raise DataError(
                    f"{path} holds more than {limit:,} bytes ({path.stat().st_size:,} packed), as an "
                    "archive does that is made to fill a disk. Nothing was added.\n"
                    "If you trust it, say how much it may hold with --max-bytes."
                )
            if not any(part.startswith(".") or part == "__MACOSX" for part in parts.parts):
                yield Member(str(parts), None if read is None else read())
    except _DAMAGE as error:
        raise DataError(
            f"{path} is cut short or damaged ({error or type(error).__name__}). Nothing was added.\n"
            "    Get it again, or compare its checksum with the publisher's."
        ) from error


# Name, size in bytes, function that reads it (None for a folder).
_Entries = Iterator[tuple[str, int, Callable[[], bytes] | None]]


def _folder_members(path: Path, inside: str = "", depth: int = 0) -> _Entries:
    if depth > 5:
        raise DataError(f"{path} lies too deep for <split>/<class>/<image>. Nothing was added.")
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        name = f"{inside}{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield name, 0, None
            yield from _folder_members(Path(entry.path), f"{name}/", depth + 1)
        elif entry.is_file():
            yield name, entry.stat().st_size, Path(entry.path).read_bytes
        else:
            raise DataError(f"{entry.path} is no file: a broken link or a device. Nothing was added.")


def _zip_members(path: Path) -> _Entries:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise DataError(f"{info.filename} in {path} is a link. Nothing was added.")
            if info.flag_bits & 1:
                raise DataError(f"{info.filename} in {path} is encrypted. Nothing was added.")
            name = info.filename
            if info.is_dir():
                yield name, 0, None
            else:
                yield name, info.file_size, partial(archive.read, info)


def _tar_members(path: Path) -> _Entries:
    try:
        archive = tarfile.open(path)  # noqa: SIM115
    except tarfile.ReadError as error:
        raise DataError(f"{path} is no folder, tar or zip, or it is damaged. Nothing was added.") from error
    with archive:
        for info in archive:
            if info.issym() or info.islnk():
                raise DataError(f"{info.name} in {path} is a link. Nothing was added.")
            if info.isdir():
                yield info.name, 0, None
            elif info.isfile():
                file = archive.extractfile(info)
                assert file is not None  # it is a file
                yield info.name, info.size, file.read
            else:
                raise DataError(f"{info.name} in {path} is no file. Nothing was added.")
        end = archive.fileobj
        assert end is not None
        end.seek(archive.offset)
        if end.read(512) != bytes(512):  # every tar ends with zeros; tarfile does not look
            raise DataError(f"{path} is cut short: its end is missing. Nothing was added.")
        while rest := end.read(1 << 20):  # to the checksum that a compressed file ends with
            yield ".end", len(rest), None
