"""Stored runs: small tables that a command of this repository made."""

from pathlib import Path

import pandas as pd

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Where a stored table and what else its command made lie, in the repository or in the installed package.

    Raises:
        ValueError: there is no such table.
    """
    root = _PACKAGE.parent / "results"
    if not (root.parent / "pyproject.toml").is_file():
        root = _PACKAGE / "_results"
    names = sorted(path.parent.name for path in root.glob("*/table.csv"))
    if name not in names:
        raise ValueError(f"there is no stored table {name!r}; there is: {', '.join(names)}")
    return root / name


def results(name: str) -> pd.DataFrame:
    """A stored table, such as ``"lr_sweep"``; how it was made stands in ``.attrs["provenance"]``.

    Raises:
        ValueError: there is no such table.
    """
    path = folder(name)
    table = pd.read_csv(path / "table.csv")
    table.attrs["provenance"] = (path / "provenance.json").read_text(encoding="utf-8")
    return table
