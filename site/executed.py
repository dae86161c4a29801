"""Where notebooks are kept that were executed for the site."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Of all that decides what a notebook shows, besides the notebook: another package, another folder."""
    names = ("orthoviz/**/*.py", "results/**/*.*", "requirements.lock")
    files = sorted(path for name in names for path in ROOT.glob(name))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return ROOT / "site" / "_build" / "executed" / digest[:16]
