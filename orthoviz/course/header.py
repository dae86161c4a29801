"""The first lines of every lesson: what runs here."""

import os
import platform
from importlib import metadata

import torch


def mode() -> str:
    """``"quick"`` (the default: offline, seconds a cell) or ``"full"``, from ``ORTHOVIZ_MODE``.

    Raises:
        ValueError: the variable holds something else.
    """
    chosen = os.environ.get("ORTHOVIZ_MODE", "quick")
    if chosen not in ("quick", "full"):
        raise ValueError(f"ORTHOVIZ_MODE must be 'quick' or 'full', got {chosen!r}")
    return chosen


def header() -> None:
    """Print versions, device and mode."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        device = f"CPU, {threads} thread{'s' * (threads > 1)}"
    print(
        f"orthoviz {metadata.version('orthoviz')} · torch {torch.__version__} · "
        f"Python {platform.python_version()} · {device} · {mode()} mode"
    )
