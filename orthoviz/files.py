"""Where the repository is, and files that are whole or as they were."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path


def checkout() -> Path | None:
    """The repository's folder, or None for a package that was installed without it."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside, wait for the disk, then rename.

    Whoever looks, and whenever the power goes, finds the file whole or as it was.
    """
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        _settle(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, see :func:`replace_file`."""
    text = json.dumps(content, indent=1) + "\n"
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def _settle(folder: Path) -> None:
    """Wait until a rename in this folder is on the disk; Windows opens no folders and needs no waiting."""
    if os.name != "posix":
        return
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
