"""Where a run is: what it has done, whether it has diverged, and how it goes on from a checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from orthoviz.monitor import Monitor
from orthoviz.training import checkpoints
from orthoviz.training.processes import rank_and_size, say
from orthoviz.training.records import Folder


@dataclass(frozen=True)
class Stop:
    """Why and where a run ended before its last epoch; printed, it is a sentence.

    Attributes:
        kind: ``"interrupted"`` (Ctrl-C), ``"terminated"`` (SIGTERM) or ``"diverged"``.
        step: steps done in that epoch; of a run that diverged, the step whose loss was not finite.
    """

    kind: str
    epoch: int
    step: int
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        per_epoch: steps in an epoch.
        parts: what has a state: model, optimiser, scheduler and scaler, or None, by name.
        monitor: is told how many epochs are done, and the steps of a run that goes on.
        epoch: the epoch that is being worked on.
        step: steps done in it.
        losses: of these steps.
        seconds: of training in it.
        rows: of the history.
        saved: when the last checkpoint was written.
    """

    per_epoch: int
    parts: dict[str, Any]
    monitor: Monitor | None = None
    epoch: int = 1
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.perf_counter)

    @property
    def steps(self) -> int:
        """Done in all."""
        return (self.epoch - 1) * self.per_epoch + self.step

    def end_epoch(self, scores: dict[str, float], *, within: bool) -> None:
        """Give the epoch its row of the history, and begin the next, unless the run ends within it."""
        done: float = self.steps / self.per_epoch if within else self.epoch
        row = {"epoch": done, "step": self.steps, "train_loss": self._means().mean().item()}
        before = next(row["seconds"] for row in reversed(self.rows) if row["epoch"] <= self.epoch - 1)
        self.rows.append({**row, **scores, "seconds": before + self.seconds})
        if not within:
            self.epoch, self.step, self.losses, self.seconds = self.epoch + 1, 0, [], 0.0
        self._tell_epochs()

    def _tell_epochs(self) -> None:
        if self.monitor is not None:
            self.monitor.epoch = self.epoch - 1

    def find_divergence(self) -> Stop | None:
        """At which step of the epoch the loss was no longer finite."""
        losses = self._means().cpu()
        bad = (~losses.isfinite()).nonzero()
        if not len(bad):
            return None
        step = int(bad[0, 0])
        in_all = (self.epoch - 1) * self.per_epoch + step + 1
        sentence = (
            f"the training loss became {losses[step].item()} at step {in_all} (epoch {self.epoch}): "
            "try a smaller learning rate"
        )
        return Stop("diverged", self.epoch, step + 1, sentence)

    def save(self, folder: Folder) -> None:
        """Write what :meth:`begin` needs; the first process does, the others tell it their random state."""
        rank, ranks = rank_and_size()
        randoms: list[Any] = [checkpoints.random_state()]
        if ranks > 1:
            gathered: list[Any] | None = [None] * ranks if rank == 0 else None
            dist.gather_object(randoms[0], gathered)
            randoms = gathered or []
        state = {name: part.state_dict() for name, part in self.parts.items() if part is not None}
        losses = self._means() if self.losses else torch.zeros(0)
        where = {key: getattr(self, key) for key in ("epoch", "step", "seconds", "rows")} | {"losses": losses}
        folder.save(self.steps, {**state, "random": randoms, "at": where})
        self.saved = time.perf_counter()

    def begin(
        self, folder: Folder, device: torch.device, last: int, evaluation: Callable[[], dict[str, float]]
    ) -> None:
        """Go on from the newest checkpoint in a folder; without one, make the history's first row."""
        if state := folder.newest():
            self._restore(state, device)
            if self.steps < last:
                say(f"Going on after epoch {self.epoch - 1}, step {self.step} of {self.per_epoch}.")
        else:
            self.rows.append({"epoch": 0, "step": 0, "train_loss": math.nan, **evaluation(), "seconds": 0})
        self._tell_epochs()

    def _restore(self, state: dict[str, Any], device: torch.device) -> None:
        for name, part in self.parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        for key in ("epoch", "step", "seconds", "rows"):
            setattr(self, key, state["at"][key])
        self.losses = list(state["at"]["losses"].to(device))
        rank = rank_and_size()[0]
        if rank < len(state["random"]):
            checkpoints.restore_random_state(state["random"][rank])
        if self.monitor is not None:
            self.monitor.step = self.steps

    def _means(self) -> Tensor:
        """The losses as one tensor, each a mean over all processes."""
        stacked, ranks = torch.stack(self.losses), rank_and_size()[1]
        if ranks > 1:
            dist.all_reduce(stacked)
        return stacked / ranks
