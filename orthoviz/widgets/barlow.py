"""barlow: two views of an image, and what their features share, while they are learnt."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist

from orthoviz import measures, training
from orthoviz.datasets import Dataset, load, whole
from orthoviz.matrices import param_groups
from orthoviz.optim import OPTIMIZERS
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD, new_figure
from orthoviz.training.barlow import BarlowLoss, TwoViews, cross_correlation, twins
from orthoviz.widgets.core import LiveView, State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

_LAMBDAS = (0.0, 0.005, 0.05, 0.2, 1.0)
_NAMES = ("LARS", "orthogonal LARS")
_WIDTH = 32  # features
_LR = 0.1
_DEFAULTS = {"lam": 0.05, "optimizer": "LARS", "epochs": 15, "batch_size": 256, "seed": 0}


@dataclass
class _Trace:
    """One run."""

    lam: float
    optimizer: str
    steps: list[int] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    correlation: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((_WIDTH, _WIDTH)))


def barlow(
    data: str | Dataset = "digits",
    *,
    lam: float = 0.05,
    optimizer: str = "LARS",
    epochs: int = 15,
    batch_size: int = 256,
    seed: int = 0,
) -> View:
    """*Barlow Twins orthogonalises the outputs, the paper the gradients.*

    A small network learns features of two random views of each image, without labels. Left, the
    cross-correlation of the two views' features; right, how many dimensions the features of test images span
    (RankMe), earlier runs pale.

    Args:
        data: the name of a data set, or one; 8 x 8 digits train ``digits_cnn``, others ``basic_cnn``.
        lam: weight of the second term of the loss: 0, .005, .05, .2 or 1. The paper has .005 at 8,192
            features; with 32, as here, it takes about ten times as much.
        optimizer: "LARS", or "orthogonal LARS", which leaves dense layers alone.
        epochs, batch_size: of a run.
        seed: of the initial weights and of the batches.

    On 8 x 8 images a run is made before the view opens. It works in a thread of its own, as
    :func:`orthoviz.widgets.race` does.
    """
    one_of("lam", lam, _LAMBDAS)
    one_of("optimizer", optimizer, _NAMES)
    return _Barlow(load(data) if isinstance(data, str) else data, lam, optimizer, epochs, batch_size, seed)


class _Barlow(LiveView):
    def __init__(
        self, data: Dataset, lam: float, optimizer: str, epochs: int, batch_size: int, seed: int
    ) -> None:
        self._data = data.subset(test=min(360, len(data.test.labels)))
        self._epochs, self._batch_size, self._seed = epochs, batch_size, seed
        total = epochs * -(-len(data.train.labels) // batch_size)

        fixed = {"epochs": epochs, "batch_size": batch_size, "seed": seed}

        def given(state: State) -> list[str]:
            names = [] if data.name == "digits" else [repr(data.name)]
            return names + changed(state | fixed, _DEFAULTS)

        super().__init__(
            "barlow",
            partial(_draw, _Scene(total)),
            {
                "lam": control(w.SelectionSlider, "λ, weight of the second term", lam, options=_LAMBDAS),
                "optimizer": control(w.ToggleButtons, "", optimizer, options=_NAMES),
            },
            presets={
                "no second term": {"lam": 0.0},
                "both terms": {"lam": 0.05},
                "too much of it": {"lam": 1.0},
            },
            lose={"lam": 0.0, "optimizer": "orthogonal LARS"},
            state={"traces": []},
            given=given,
        )
        if data.shape == (1, 8, 8) and total <= 100:
            self.run()

    def work(self) -> Iterator[None]:
        """Train from the start, and look after every step."""
        state = self.state
        trace = _Trace(state["lam"], state["optimizer"])
        self.set(traces=[*state["traces"], trace])
        encoder = "digits_cnn" if self._data.shape == (1, 8, 8) else "basic_cnn"
        model = twins(encoder, width=_WIDTH, seed=self._seed)
        optimizer = OPTIMIZERS[trace.optimizer](param_groups(model, convolutions_only=True), _LR)
        views: Any = TwoViews(self._data)
        seen: list[torch.Tensor] = []
        handle = model.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
        try:
            self._look(model, trace)
            for epoch in range(1, self._epochs + 1):
                for _ in training.steps(
                    model, optimizer, views, loss=BarlowLoss(trace.lam), batch_size=self._batch_size,
                    seed=self._seed, epoch=epoch,
                ):  # fmt: skip
                    trace.correlation = cross_correlation(*seen[-1].chunk(2)).numpy()
                    seen.clear()
                    self._look(model, trace)
                    seen.clear()
                    yield
        finally:
            handle.remove()

    def _look(self, model: torch.nn.Module, trace: _Trace) -> None:
        """A point of the curve: RankMe of the test images' embeddings.

        Batch-norm takes its statistics from these images, in a copy: its running ones lag behind at first.
        """
        twin = copy.deepcopy(model).train()
        with torch.no_grad():
            found = [twin(images) for images, _ in whole(self._data, self._data.test)]
        trace.ranks.append(measures.rank_me(torch.cat(found)).item())
        trace.steps.append(len(trace.steps))

    def ended(self, stopped: bool) -> None:
        """Say that it was stopped."""
        self.set(status="Stopped. " if stopped else "")


class _Scene:
    """The axes, drawn once."""

    def __init__(self, total: int) -> None:
        figure, (self.map, self.curves) = new_figure(9, 4.2, (1, 1.2))
        self.stage = Stage(figure)
        self.image = self.map.imshow(
            np.zeros((_WIDTH, _WIDTH)), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", animated=True
        )
        self.map.set(xlabel="feature of view 2", ylabel="feature of view 1", title="cross-correlation")
        figure.colorbar(self.image, ax=self.map, label="correlation", shrink=0.85)
        self.curves.axhline(_WIDTH, color=RANDOM, lw=1, ls=":")
        self.curves.text(total, _WIDTH, f"{_WIDTH} features", color="#666666", ha="right", va="bottom")
        self.curves.set(xlim=(0, total), ylim=(0.9, 1.6 * _WIDTH), yscale="log")
        self.curves.set(xlabel="step", ylabel="RankMe (dimensions)", title="dimensions, earlier runs pale")
        for name, colour, style in (("LARS", SGD, "--"), ("orthogonal LARS", ORTHOGONAL, "-")):
            self.curves.plot([], [], color=colour, ls=style, lw=2.4, label=name)
        self.curves.legend(loc="lower left", frameon=False, fontsize=9)
        ticks = (1, 2, 4, 8, 16, 32)
        self.curves.set_yticks(ticks, [str(t) for t in ticks])
        self.curves.minorticks_off()


def _draw(scene: _Scene, state: State) -> Picture:
    """The last run strong, earlier ones pale."""
    traces: list[_Trace] = state["traces"]
    moving: list[Artist] = []
    lines: list[Artist] = []
    for trace in traces:
        last = trace is traces[-1]
        plain = trace.optimizer == "LARS"
        count = min(len(trace.steps), len(trace.ranks))  # it goes on while this draws
        if not count:
            continue
        style: dict[str, Any] = dict(color=SGD if plain else ORTHOGONAL, alpha=1.0 if last else 0.3)
        line: dict[str, Any] = dict(lw=2.4 if last else 1.0, ls="--" if plain else "-", animated=True)
        lines += scene.curves.plot(trace.steps[:count], trace.ranks[:count], **style, **line)
        end = trace.steps[count - 1], trace.ranks[count - 1], f"λ {trace.lam:g}"
        lines.append(scene.curves.text(*end, **style, ha="right", va="bottom", animated=True))
    nexts = f"next: λ {state['lam']:g}, {state['optimizer']}"
    where: dict[str, Any] = dict(transform=scene.curves.transAxes, color="#666666", fontsize=9, ha="right")
    lines.append(scene.curves.text(0.99, 0.03, nexts, animated=True, **where))
    if traces:
        scene.image.set_data(traces[-1].correlation)
        moving.append(scene.image)
    title = "Barlow Twins orthogonalises the outputs, the paper the gradients"
    return Picture(scene.stage, moving, title, state["status"] + _message(traces), passing=lines)


def _message(traces: list[_Trace]) -> str:
    """The last run in numbers."""
    if not traces or not traces[-1].ranks:
        return "Press start."
    trace = traces[-1]
    C = trace.correlation
    off = C[~np.eye(len(C), dtype=bool)]
    return (
        f"λ = {trace.lam:g}, {trace.optimizer}, step {trace.steps[-1]}: diagonal {C.diagonal().mean():.2f} "
        f"on average, off the diagonal {np.sqrt((off**2).mean()):.2f} (rms); the features of test images "
        f"span {trace.ranks[-1]:.1f} of {_WIDTH} dimensions, {trace.ranks[0]:.1f} before training."
    )
