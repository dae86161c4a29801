"""Records of numbers as one tidy frame, in memory and in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    lengths = [len(record.values) for record in records]
    size = sum(lengths)
    names: list[dict[str, int]] = [{}, {}, {}]  # of layers, stages, quantities, in the order of appearance
    known: dict[tuple[Entry, ...], NDArray[np.int64]] = {}  # entries mostly repeat
    for record in records:
        if record.entries not in known:
            known[record.entries] = _coded(record.entries, names)
    codes = [known[record.entries] for record in records]
    coded = np.concatenate(codes, axis=1) if codes else np.empty((4, 0), np.int64)
    epochs = [np.nan if record.epoch is None else record.epoch for record in records]

    def constant(label: str) -> Any:
        return pd.Categorical([label]).repeat(size)

    frame = pd.DataFrame(
        {
            "run": constant(labels.run),
            "optimizer": constant(labels.optimizer),
            "seed": pd.array([labels.seed], dtype="Int64").repeat(size),
            "step": np.repeat(np.array([r.step for r in records], np.int64), lengths),
            "epoch": pd.array(np.repeat(np.array(epochs, float), lengths), dtype="Int64"),
            "index": coded[3],
            "value": np.concatenate([r.values for r in records]) if records else np.empty(0),
        }
    )
    for key, code, of in zip(("layer", "stage", "quantity"), coded, names, strict=False):
        frame[key] = pd.Categorical.from_codes(code, categories=list(of))  # type: ignore[call-overload]
    return frame[list(COLUMNS)]


def _coded(entries: tuple[Entry, ...], names: list[dict[str, int]]) -> NDArray[np.int64]:
    """Layer, stage and quantity as numbers, and the index: a row each."""
    lengths = [entry[3] for entry in entries]
    rows = [
        np.repeat([of.setdefault(str(entry[i]), len(of)) for entry in entries], lengths)
        for i, of in enumerate(names)
    ]
    return np.stack([*rows, np.concatenate([np.arange(length) for length in lengths])])


def read(*paths: str | Path) -> "pd.DataFrame":
    """Frames that monitors have written, as one.

    Args:
        paths: of CSV or Parquet files, or folders that were streamed to. Where there are several, a run
            without a label gets its file's name (and its folder's, where files have the same name).

    Raises:
        ValueError: no path; a file has other columns; two paths hold runs that no label tells apart.
        FileNotFoundError: there is no such file, or nothing in the folder.
    """
    if not paths:
        raise ValueError("read needs at least one path")
    places = [Path(path) for path in paths]
    names = [path.stem for path in places]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.stem}" for path in places]
    frames: list[pd.DataFrame] = []
    known: dict[tuple[Any, ...], Path] = {}
    for path, name in zip(places, names, strict=True):
        files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"{path} holds no part of a run yet")
        frame = join(*map(_read, files))
        if len(paths) > 1:
            frame["run"] = frame["run"].cat.rename_categories({"": name})
        labels = frame[["run", "optimizer", "seed"]].drop_duplicates().fillna({"seed": -1})
        for run in labels.itertuples(index=False, name=None):
            if run in known:
                raise ValueError(
                    f"{known[run]} and {path} both hold run {run[0]!r} of {run[1] or 'no optimiser'}, and no "
                    "label tells them apart: read them one by one and set frame['run'] before ov.monitor.join"
                )
            known[run] = path
        frames.append(frame)
    return join(*frames)


def join(*frames: "pd.DataFrame") -> "pd.DataFrame":
    """Frames below one another, with their labels; text columns stay categories.

    Raises:
        ValueError: none is given; one is no monitor's.
    """
    import pandas as pd
    from pandas.api.types import union_categoricals

    if not frames:
        raise ValueError("join needs at least one frame")
    for frame in frames:
        if tuple(frame.columns) != COLUMNS:
            found = ", ".join(map(str, frame.columns))
            raise ValueError(f"a monitor's frame has the columns {', '.join(COLUMNS)}; got {found}")
    frames = tuple(frame for frame in frames if len(frame)) or frames[:1]
    joined = pd.concat(frames, ignore_index=True)
    for key in _TEXT:
        joined[key] = union_categoricals([frame[key].astype("category") for frame in frames])
    return joined


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    kinds: Any = dict.fromkeys((*_TEXT, "value"), "str") | {"seed": "Int64", "epoch": "Int64"}
    missing: Any = {key: [""] for key in ("seed", "epoch")}
    frame = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=missing)
    if "value" in frame:  # read as text first: to the last bit in every version of pandas
        frame["value"] = frame["value"].replace("", "nan").astype(float)
    for key in set(_TEXT) & set(frame.columns):
        frame[key] = pd.Categorical(frame[key], categories=frame[key].unique())
    return frame
