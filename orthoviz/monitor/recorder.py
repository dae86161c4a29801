"""What a monitor has measured: on its device at first, then in memory, at last in the files of its stream."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from orthoviz.files import replace_file
from orthoviz.measures.quantities import QUANTITIES
from orthoviz.monitor.frames import Labels, Record, frame_of, read

if TYPE_CHECKING:
    import pandas as pd

# Layer, stage, quantity, and what was measured.
Value = tuple[str, str, str, Tensor]


@dataclass(eq=False)
class Recorder:
    """Keeps values as records for the frame, and facts for the report.

    Attributes:
        labels, stream: as :func:`orthoviz.watch` takes them.
        waiting: values that are still on their device.
        parts: files written to the stream.
        facts: by layer and name: step, value, step, value, ...
        noted: facts that are still on their device.
        loss: the last one, and its step.
        predicted: the same of the change of the loss.
    """

    labels: Labels
    stream: Path | None
    waiting: list[tuple[int, int | None, list[Value]]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    parts: int = 0
    facts: dict[tuple[str, str], "array[float]"] = field(default_factory=dict)
    noted: list[tuple[int, str, str, Tensor]] = field(default_factory=list)
    loss: tuple[int, Tensor] | None = None
    predicted: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """How many values are in memory."""
        return sum(len(record.values) for record in self.records) + len(self.waiting)

    def open_stream(self) -> None:
        """Make the folder of the stream.

        Raises:
            ValueError: it holds something already.
        """
        if self.stream is not None and not self.parts:
            self.stream.mkdir(parents=True, exist_ok=True)
            if any(self.stream.iterdir()):
                raise ValueError(f"{self.stream} is not empty: stream into a new folder")

    def note_loss(self, step: int, epoch: int | None, loss: Tensor) -> None:
        """Note a loss for the report, and what the step before changed of it."""
        self.noted.append((step, "", "loss", loss))
        if self.loss and self.predicted and self.loss[0] == self.predicted[0] == step - 1:
            ratio = QUANTITIES["loss_change"].measure(loss - self.loss[1], self.predicted[1])
            self.waiting.append((step - 1, epoch, [("", "", "loss_change", ratio)]))
        self.loss = step, loss

    def fetch(self) -> None:
        """Make records and facts of what waits on the device, with one copy."""
        waiting, self.waiting = self.waiting, []
        noted, self.noted = self.noted, []
        tensors = [value for *_, values in waiting for *_, value in values] + [value for *_, value in noted]
        if not tensors:
            return
        device = tensors[0].device
        exact = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        flat = torch.cat([tensor.reshape(-1).to(device, exact) for tensor in tensors]).cpu().double().numpy()
        for step, epoch, values in waiting:
            entries = tuple((layer, stage, name, value.numel()) for layer, stage, name, value in values)
            own, flat = np.split(flat, [sum(count for *_, count in entries)])
            self.records.append(Record(step, epoch, entries, own))
        for (step, layer, fact, _), number in zip(noted, flat, strict=True):
            self.facts.setdefault((layer, fact), array("d")).extend((step, number))

    def write(self) -> None:
        """Move what is in memory to the next Parquet file of the stream, if there is one."""
        if self.stream is None:
            return
        frame = frame_of(self.records, self.labels)
        if len(frame):
            part = self.stream / f"part-{self.parts:06d}.parquet"
            replace_file(part, lambda beside: frame.to_parquet(beside, index=False))
            self.parts += 1
        self.records = []

    def frame(self) -> "pd.DataFrame":
        """All values so far."""
        self.fetch()
        if self.stream is None or not self.parts:
            return frame_of(self.records, self.labels)
        self.write()
        return read(self.stream)
