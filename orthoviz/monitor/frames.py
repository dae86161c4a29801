"""Records of numbers as one tidy frame, in memory and in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

# Of the frame: one value a row. step counts the steps done before; quantities with several values number
# them by index, pairs by i * m + j, and several matrices of one parameter go on counting.
COLUMNS = ("run", "optimizer", "seed", "step", "epoch", "layer", "stage", "quantity", "index", "value")

# Layer, stage, quantity, and how many values there are of it.
Entry = tuple[str, str, str, int]


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
    values = np.concatenate([np.empty(0), *(record.values for record in records)])
    lengths = [len(record.values) for record in records]
    entries = np.array([entry for record in records for entry in record.entries], object).reshape(-1, 4)
    counts = entries[:, 3].astype(np.int64)
    starts = counts.cumsum() - counts
    columns: dict[str, Any] = {
        "run": pd.Categorical([labels.run]).repeat(len(values)),
        "optimizer": pd.Categorical([labels.optimizer]).repeat(len(values)),
        "seed": pd.array([labels.seed], "Int64").repeat(len(values)),
        "step": np.repeat(np.array([record.step for record in records], np.int64), lengths),
        "epoch": pd.array([record.epoch for record in records], "Int64").repeat(lengths),
    }
    for key, names in zip(("layer", "stage", "quantity"), entries.T, strict=False):
        codes, categories = pd.factorize(names)
        columns[key] = pd.Categorical.from_codes(codes, pd.Index(categories)).repeat(counts)
    columns |= {"index": np.arange(len(values)) - starts.repeat(counts), "value": values}
    return pd.DataFrame(columns, copy=False)


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
    for key in ("run", "optimizer", "layer", "stage", "quantity"):
        joined[key] = union_categoricals([frame[key].astype("category") for frame in frames])
    return joined


def write_tensorboard(frame: "pd.DataFrame", folder: str | Path) -> None:
    """Write a frame for TensorBoard: single numbers as scalars, several as histograms."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]
        groups = frame.groupby(["quantity", "stage", "layer", "step"], observed=True, sort=False).value
        for (*names, step), values in groups:
            tag = "/".join(str(name) for name in names if name)
            finite = values[np.isfinite(values)].to_numpy()
            if len(values) == 1:
                writer.add_scalar(tag, values.iloc[0], step)  # type: ignore[no-untyped-call]
            elif len(finite):
                writer.add_histogram(tag, finite, step)  # type: ignore[no-untyped-call]
