"""The paper's experiments and the fair ones, from the table ``recipes.toml``; how they run, and the cost."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR
from torch.utils.flop_counter import FlopCounterMode

from orthoviz import models
from orthoviz.datasets import in_order, load
from orthoviz.files import replace_file
from orthoviz.matrices import param_groups
from orthoviz.optim import optimizers
from orthoviz.training import barlow
from orthoviz.training.comparison import compare, rates
from orthoviz.training.equal import milliseconds, starter, step_options
from orthoviz.training.processes import rank_and_size


@dataclass(frozen=True)
class Recipe:
    """One experiment: a comparison's arguments, and where they come from.

    Attributes:
        what: in one sentence.
        paper: what the paper found, where it has a figure.
        grow: whether a grid grows until its best rate is inside.
        held_out: training images to choose by, and not to train on.
        images: training images, where not all.
        watched: quantities that are measured every five epochs, activations on 512 test images.
        options: more of :func:`orthoviz.training.fit`.
        twins: whether it is Barlow Twins: two views, a projector, probes, and dense layers left alone.
    """

    what: str
    paper: str = ""
    model: str = "basic_cnn"
    data: str = "cifar10"
    optimizers: Sequence[str] = ("sgd", "orthogonal_sgd")
    protocol: str = "equal_lr"
    lrs: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.01
    epochs: int = 100
    batch_sizes: Sequence[int] = (1024,)
    seeds: int = 5
    grow: bool = False
    weight_decay: float = 5e-4
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None
    held_out: int = 0
    images: int | None = None
    convolutions_only: bool = False
    watched: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    twins: bool = False


def _step_down(optimizer: Optimizer, steps: int) -> LRScheduler:
    """A tenth at a half and at three quarters of the run, as He and others."""
    return MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], 0.1)


def _linear(optimizer: Optimizer, steps: int) -> LRScheduler:
    """In equal parts down to nothing."""
    return LambdaLR(optimizer, lambda i: max(0.0, 1 - i / steps))


def _triangle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up over the first fifth, then down to nothing."""
    top = max(1, steps // 5)
    return LambdaLR(optimizer, lambda i: min((i + 1) / top, max(0.0, (steps - i) / (steps - top + 1))))


# What the table's words stand for.
_PARTS: dict[str, dict[str, Any]] = {
    "schedule": {"step_down": _step_down, "linear": _linear, "triangle": _triangle},
    "options": {
        "barlow": {"loss": barlow.BarlowLoss(), "evaluation": barlow.probe},
        "smoothed": {"loss": nn.CrossEntropyLoss(label_smoothing=0.2)},
    },
}

_TABLE = tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))

# Table 1: accuracy in % of SGD and of orthogonal SGD, and their losses, five runs.
PAPER_TABLE1: dict[str, tuple[str, ...]] = {model: tuple(row) for model, row in _TABLE["table1"].items()}

# Table 3: orthogonal SGD of convolutions only.
PAPER_TABLE3: dict[str, str] = _TABLE["table3"]


def _table1(model: str) -> Recipe:
    sgd, ours, sgd_loss, our_loss = PAPER_TABLE1[model]
    return Recipe(
        f"Table 1, {model}: CIFAR-10 at batch 1024, learning rate 0.01 for both, constant",
        paper=f"SGD {sgd} % (loss {sgd_loss}), orthogonal SGD {ours} % (loss {our_loss})",
        model=model,
        held_out=5_000,
        watched=_TABLE["watched"] if model == "basic_cnn" else (),
    )


def _table3(model: str) -> Recipe:
    return replace(
        _table1(model),
        what=f"Table 3, {model}: as Table 1, with the head left alone",
        paper=f"orthogonal SGD {PAPER_TABLE3[model]}",
        optimizers=("orthogonal_sgd",),
        convolutions_only=True,
    )


def _fields(name: str) -> dict[str, Any]:
    """The fields of a recipe in the table, and of what it is like."""
    row = dict(_TABLE["recipes"][name])
    return _fields(row.pop("like")) | row if "like" in row else row


def _recipe(name: str) -> Recipe:
    fields = _fields(name)
    fields |= {key: words[fields[key]] for key, words in _PARTS.items() if key in fields}
    if fields.get("lrs") == "own":
        fields["lrs"] = {optimizer: _TABLE["rates"][optimizer] for optimizer in fields["optimizers"]}
    return Recipe(**fields)


# By the name that orthoviz train takes.
RECIPES: dict[str, Recipe] = {
    **{f"table1/{model}": _table1(model) for model in PAPER_TABLE1},
    "table2": _recipe("table2"),
    **{f"table3/{model}": _table3(model) for model in PAPER_TABLE3},
    **{name: _recipe(name) for name in _TABLE["recipes"]},
}


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: there is none; the message gives the nearest names.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3) or list(RECIPES)[:3]
        raise ValueError(f"there is no recipe {name!r}; near it: {', '.join(near)} (orthoviz train --list)")
    return RECIPES[name]


# What tells the rows of a table of runs apart.
ROW = ["optimizer", "lr", "batch_size", "seed", "epoch"]


def run(
    name: str, out: str | Path, *, data: Any = None, done: pd.DataFrame | None = None,
    keep: Callable[[pd.DataFrame], Any] | None = None, **changes: Any,
) -> pd.DataFrame:  # fmt: skip
    """Run a recipe into a folder; what was done there already is not done again.

    Args:
        out: gets a folder of the recipe's name, with a folder for every run, and ``table.csv`` with all of
            their histories.
        data: another data set than the recipe's.
        done, keep: as for :func:`compare`, over all batch sizes.
        changes: other values of the recipe's fields, such as ``epochs`` or ``seeds``; None is no change.

    Returns:
        The frames of its comparisons, one for each batch size; ``.attrs["verdicts"]`` has their sentences.
    """
    chosen, data = _prepare(name, data, changes)
    folder = Path(out) / name
    frames: list[pd.DataFrame] = []
    verdicts: list[str] = []
    group = torch.distributed.group.WORLD if rank_and_size()[1] > 1 else None
    made = optimizers(weight_decay=chosen.weight_decay, process_group=group)
    for batch_size in chosen.batch_sizes:
        found = compare(
            partial(network, chosen, data),
            data,
            {name: made[name] for name in chosen.optimizers},
            protocol=chosen.protocol,
            lrs=chosen.lrs,
            grow=chosen.grow,
            epochs=chosen.epochs,
            seeds=chosen.seeds,
            batch_size=batch_size,
            groups=partial(param_groups, convolutions_only=chosen.convolutions_only),
            schedule=chosen.schedule,
            watched=_watch_options(chosen, data, batch_size),
            out=folder / f"batch{batch_size}" if len(chosen.batch_sizes) > 1 else folder,
            done=done,
            keep=keep,
            **chosen.options,
        )
        frames.append(found.frame)
        done = pd.concat([found.frame, *([] if done is None else [done])]).drop_duplicates(ROW)
        verdicts.append(f"batch {batch_size}, {found.verdict}")
    table = pd.concat(frames, ignore_index=True)
    if rank_and_size()[0] == 0:
        replace_file(folder / "table.csv", lambda beside: table.to_csv(beside, index=False))
    table.attrs["verdicts"] = verdicts
    return table


def _prepare(name: str, data: Any, changes: Mapping[str, Any]) -> tuple[Recipe, Any]:
    """A recipe as it is to be run, and its data."""
    chosen = replace(recipe(name), **{key: value for key, value in changes.items() if value is not None})
    data = load(chosen.data) if data is None else data
    if chosen.images is not None:
        data = data.subset(train=chosen.images)
    if chosen.held_out:
        data = data.hold_out(chosen.held_out)
    return chosen, barlow.TwoViews(data) if chosen.twins else data


def estimate(name: str, *, data: Any = None, **changes: Any) -> pd.DataFrame:
    """What a recipe costs: a row an optimiser and batch size, with the time of a step measured here, now.

    ``pflop`` counts the network's forward and backward passes (multiply and add are two), not the optimiser.
    """
    chosen, data = _prepare(name, data, changes)
    images = len(data.train.labels)
    flop = flop_per_image(chosen.model, data.shape, chosen.twins)
    start = starter(partial(network, chosen, data), optimizers(weight_decay=chosen.weight_decay))
    rows = []
    for batch_size in chosen.batch_sizes:
        how = {"batch_size": batch_size, **step_options(chosen.options)}
        ms = milliseconds(start, chosen.optimizers, data, how)
        for optimizer, grid in rates(ms, chosen.lrs).items():
            runs = chosen.seeds * len(grid)
            steps = chosen.epochs * -(-images // batch_size)
            row = {"optimizer": optimizer, "batch_size": batch_size, "runs": runs, "steps": steps}
            row |= {"pflop": runs * chosen.epochs * images * flop / 1e15, "ms_per_step": ms[optimizer]}
            rows.append(row | {"hours": runs * steps * ms[optimizer] / 3.6e6})
    return pd.DataFrame(rows)


# Shape of an image, and how many there are to train on.
_SIZES = {
    "cifar10": ((3, 32, 32), 50_000),
    "imagenet": ((3, 224, 224), 1_281_167),
    "digits": ((1, 8, 8), 1_437),
}


def cost(recipe: Recipe) -> str:
    """Runs and PFLOP, in words."""
    shape, images = _SIZES[recipe.data]
    count = recipe.images or images - recipe.held_out
    grids = rates(recipe.optimizers, recipe.lrs)
    runs = sum(map(len, grids.values())) * recipe.seeds * len(recipe.batch_sizes)
    pflop = recipe.epochs * count * flop_per_image(recipe.model, shape, recipe.twins) / 1e15
    size = f"{pflop:,.0f}" if pflop >= 100 else f"{pflop:.2g}"
    return f"{runs} runs of {recipe.epochs} epochs, {size} PFLOP each"


@cache
def flop_per_image(model: str, shape: tuple[int, ...], twins: bool = False) -> float:
    """Forward and backward passes of one image, counted without computing them; as twins of its two views,
    with the projector."""
    with torch.device("meta"):
        if twins:
            made: nn.Module = barlow.twins(model)
        else:
            made = models.speedrun_cnn() if model == "speedrun_cnn" else models.build(model)
        made = made.to("meta")
        images = torch.zeros(2, *shape)
        with FlopCounterMode(display=False) as counter:
            made(images).sum().backward()
    return float(counter.get_total_flops()) / (1 if twins else 2)


def network(chosen: Recipe, data: Any, seed: int) -> nn.Module:
    """A recipe's network; the first layer of ``speedrun_cnn`` is made from training images."""
    if chosen.twins:
        return barlow.twins(chosen.model, seed=seed)
    if chosen.model != "speedrun_cnn":
        return models.build(chosen.model, seed=seed)
    images = next(iter(in_order(data, data.train, batch_size=5_000)))[0]
    return models.speedrun_cnn(images, len(data.classes), seed=seed)


def _watch_options(chosen: Recipe, data: Any, batch_size: int) -> dict[str, Any] | None:
    if not chosen.watched:
        return None
    probe: torch.Tensor = next(iter(in_order(data, data.test, batch_size=512)))[0]
    per_epoch = -(-len(data.train.labels) // batch_size)
    return {"every": 5 * per_epoch, "quantities": list(chosen.watched), "probe": probe}
