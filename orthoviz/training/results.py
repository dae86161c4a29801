"""Stored runs: small tables that a command of this repository made."""

from pathlib import Path

import pandas as pd

_PACKAGE = Path(__file__).resolve().parents[1]


def results(name: str) -> pd.DataFrame:
    """A stored table, such as ``"lr_sweep"``; how it was made stands in ``.attrs["provenance"]``.

    Raises:
        ValueError: there is no such table.
    """
    folder = _PACKAGE.parent / "results"
    if not (folder.parent / "pyproject.toml").is_file():
        folder = _PACKAGE / "_results"
    names = sorted(path.parent.name for path in folder.glob("*/table.csv"))
    if name not in names:
        raise ValueError(f"there is no stored table {name!r}; there is: {', '.join(names)}")
    table = pd.read_csv(folder / name / "table.csv")
    table.attrs["provenance"] = (folder / name / "provenance.json").read_text(encoding="utf-8")
    return table
