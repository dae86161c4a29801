"""barlow: two views of an image, and what their features share, while they are learnt."""

import copy
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orthoviz import measures, training
from orthoviz.datasets import Dataset, in_order, load
from orthoviz.matrices import param_groups
from orthoviz.optim import LABELS, OPTIMIZERS
from orthoviz.plots import ORTHOGONAL, RANDOM, SGD
from orthoviz.training.barlow import TwoViews, barlow_loss, cross_correlation, twins
from orthoviz.widgets.view import Canvas, Scene, buttons, slider, view

_LOOKS = {"lars": (SGD, "--"), "orthogonal_lars": (ORTHOGONAL, "-")}
_WIDTH = 32  # features


@view(
    lam=slider("λ, weight of the second term", (0.0, 0.005, 0.05, 0.2, 1.0)),
    optimizer=buttons("", {name: LABELS[name] for name in _LOOKS}),
    presets={"no second term": {"lam": 0.0}, "both terms": {"lam": 0.05}, "too much of it": {"lam": 1.0}},
    lose={"lam": 0.0, "optimizer": "orthogonal_lars"},
)
def barlow(
    canvas: Canvas, data: str | Dataset = "digits", *, lam: float = 0.05, optimizer: str = "lars",
    epochs: int = 15, batch_size: int = 256, seed: int = 0,
) -> Scene:  # fmt: skip
    """*Barlow Twins orthogonalises the outputs, the paper the gradients.*

    A small network learns features of two random views of each image, without labels. Left, the
    cross-correlation of the two views' features; right, how many dimensions the features of test images span
    (RankMe), earlier runs pale.

    Args:
        data: the name of a data set, or one; 8 x 8 digits train ``digits_cnn``, others ``basic_cnn``.
        lam: weight of the second term of the loss: 0, .005, .05, .2 or 1. The paper has .005 at 8,192
            features; with 32, as here, it takes about ten times as much.
        optimizer: "lars", or "orthogonal_lars", which leaves dense layers alone.
        epochs, batch_size: of a run.
        seed: of the initial weights and of the batches.

    On 8 x 8 images a run of at most 100 steps is made before the view opens. It works in a thread of its own,
    as :func:`orthoviz.widgets.race` does.
    """
    images = load(data) if isinstance(data, str) else data
    images = images.subset(test=min(360, len(images.test.labels)))
    small, total = images.shape == (1, 8, 8), epochs * -(-len(images.train.labels) // batch_size)
    both, curves = canvas.axes(9, 4.2, (1, 1.2))
    correlation = np.zeros((_WIDTH, _WIDTH), np.float32)
    picture = canvas.moves(both.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"))
    both.set(xlabel="feature of view 2", ylabel="feature of view 1", title="cross-correlation")
    canvas.figure.colorbar(picture, ax=both, label="correlation", shrink=0.85)
    _draw_axes(curves, total)
    runs: list[tuple[float, str, list[float]]] = []
    status = ""

    def show(lam: float, optimizer: str) -> tuple[str, str]:
        seen = [(weight, name, [*ranks]) for weight, name, ranks in runs]  # the last goes on meanwhile
        for place, (weight, name, ranks) in enumerate(seen, start=1):
            last, end = place == len(seen), (len(ranks) - 1, ranks[-1])
            look: dict[str, Any] = dict(color=_LOOKS[name][0], alpha=1.0 if last else 0.3)
            canvas.now(*curves.plot(ranks, ls=_LOOKS[name][1], lw=2.4 if last else 1.0, **look))
            canvas.now(curves.text(*end, f"λ {weight:g}", ha="right", va="bottom", **look))
        picture.set(data=correlation, visible=bool(seen))
        where: dict[str, Any] = dict(transform=curves.transAxes, ha="right", color="#666666", fontsize=9)
        canvas.now(curves.text(0.99, 0.03, f"next: λ {lam:g}, {LABELS[optimizer]}", **where))
        text = "Press start."
        if seen:
            numbers = _numbers(correlation, ranks)
            text = f"{status}λ = {weight:g}, {LABELS[name]}, step {len(ranks) - 1}: {numbers}"
        return "Barlow Twins orthogonalises the outputs, the paper the gradients", text

    def work(lam: float, optimizer: str) -> Generator[None]:
        """Train from the start, and look after every step."""
        nonlocal status
        status = ""
        model = twins("digits_cnn" if small else "basic_cnn", width=_WIDTH, seed=seed)
        rule = OPTIMIZERS[optimizer](param_groups(model, convolutions_only=True), 0.1)
        ranks = [_dimensions(model, images)]
        correlation.fill(0)
        runs.append((lam, optimizer, ranks))

        def loss(embeddings: Tensor, labels: Tensor) -> Tensor:
            correlation[:] = cross_correlation(*embeddings.detach().chunk(2))
            return barlow_loss(*embeddings.chunk(2), lam=lam)

        how: Any = dict(data=TwoViews(images), loss=loss, batch_size=batch_size, seed=seed)
        try:
            for epoch in range(1, epochs + 1):
                for _ in training.steps(model, rule, epoch=epoch, **how):
                    ranks.append(_dimensions(model, images))
                    yield
        except GeneratorExit:
            status = "Stopped. "
            raise

    return Scene(show, work, opens=small and total <= 100)


def _draw_axes(curves: Any, total: int) -> None:
    """What stays of the dimensions."""
    curves.axhline(_WIDTH, color=RANDOM, lw=1, ls=":")
    curves.text(total, _WIDTH, f"{_WIDTH} features", color="#666666", ha="right", va="bottom")
    curves.set(xlim=(0, total), ylim=(0.9, 1.6 * _WIDTH), yscale="log")
    curves.set(xlabel="step", ylabel="RankMe (dimensions)", title="dimensions, earlier runs pale")
    for name, (colour, dashes) in _LOOKS.items():
        curves.plot([], [], color=colour, ls=dashes, lw=2.4, label=LABELS[name])
    curves.legend(loc="lower left", frameon=False, fontsize=9)
    curves.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    curves.minorticks_off()


@torch.no_grad()
def _dimensions(model: nn.Module, images: Dataset) -> float:
    """RankMe of the test images' embeddings.

    Batch-norm takes its statistics from these images, in a copy: its running ones lag behind at first.
    """
    twin = copy.deepcopy(model).train()
    return measures.rank_me(torch.cat([twin(some) for some, _ in in_order(images, images.test)])).item()


def _numbers(C: Any, ranks: list[float]) -> str:
    """A run in words: what the features share, and how many dimensions they span."""
    off = C[~np.eye(_WIDTH, dtype=bool)]
    return (
        f"diagonal {C.diagonal().mean():.2f} on average, off the diagonal {np.sqrt((off**2).mean()):.2f} "
        f"(rms); the features of test images span {ranks[-1]:.1f} of {_WIDTH} dimensions, {ranks[0]:.1f} "
        "before training."
    )
