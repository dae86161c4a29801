"""Records of numbers as one tidy frame, in memory and in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("run", "optimizer", "seed", "step", "epoch", "layer", "stage", "quantity", "index", "value")
"""Of the frame: one value a row. ``step`` counts the steps done before; quantities with several values
number them by ``index``, pairs by ``i * m + j``, and several matrices of one parameter go on counting."""

_TEXT = ("run", "optimizer", "layer", "stage", "quantity")

Entry = tuple[str, str, str, int]
"""Layer, stage, quantity, and how many values there are of it."""


class Record(NamedTuple):
    """The values of one collection, one after another, and what they are."""

    step: int
    epoch: int | None
    entries: tuple[Entry, ...]
    values: NDArray[np.float64]


class Labels(NamedTuple):
    """What tells a run from others."""

    run: str
    optimizer: str
    seed: int | None


def frame_of(records: Sequence[Record], labels: Labels) -> "pd.DataFrame":
    """All values of the records in the order of their steps, with :data:`COLUMNS`."""
    import pandas as pd

    records = sorted(records, key=lambda record: record.step)
    rows = [(record.step, record.epoch, *entry) for record in records for entry in record.entries]
    entries = pd.DataFrame(rows, columns=["step", "epoch", "layer", "stage", "quantity", "count"])
    entries = entries.assign(**labels._asdict())[[*COLUMNS[:-2], "count"]]
    for key in _TEXT:
        entries[key] = pd.Categorical(entries[key], categories=entries[key].unique())
    entries = entries.astype({"seed": "Int64", "step": "int64", "epoch": "Int64", "count": "int64"})
    counts = entries.pop("count").to_numpy()
    frame = entries.take(np.repeat(np.arange(len(entries)), counts))
    frame.index = pd.RangeIndex(len(frame))  # without a copy
    frame["index"] = np.arange(len(frame)) - np.repeat(counts.cumsum() - counts, counts)
    frame["value"] = np.concatenate([np.empty(0), *(record.values for record in records)])
    return frame


def read(folder: str | Path) -> "pd.DataFrame":
    """What a monitor has streamed to a folder so far, as its frame.

    Raises:
        FileNotFoundError: there is nothing in the folder.
    """
    import pandas as pd

    parts = sorted(Path(folder).glob("part-*.parquet"))
    if not parts:
        raise FileNotFoundError(f"{folder} holds no part of a run yet")
    return join(*map(pd.read_parquet, parts))


def join(*frames: "pd.DataFrame") -> "pd.DataFrame":
    """Frames below one another, with their labels; text columns stay categories."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    joined = pd.concat(frames, ignore_index=True)
    for key in _TEXT:
        joined[key] = union_categoricals([frame[key].astype("category") for frame in frames])
    return joined
