"""The paper's experiments and the fair ones, as a table: what is run, and what the paper found."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from orthoviz import models
from orthoviz.datasets import Dataset, load, whole
from orthoviz.matrices import ParamGroups, param_groups
from orthoviz.optim import OPTIMIZERS
from orthoviz.training.compare import Comparison, compare


@dataclass(frozen=True)
class Recipe:
    """One experiment: a comparison's arguments, and where they come from."""

    what: str
    """In one sentence."""
    paper: str = ""
    """What the paper found, where it has a figure."""
    model: str = "basic_cnn"
    data: str = "cifar10"
    optimizers: tuple[str, ...] = ("SGD", "orthogonal SGD")
    protocol: str = "equal_lr"
    lrs: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.01
    epochs: int = 100
    batch_sizes: tuple[int, ...] = (1024,)
    seeds: int = 5
    held_out: int = 0
    """Training images to choose by, and not to train on."""
    images: int | None = None
    """Training images, where not all."""
    convolutions_only: bool = False
    watched: Sequence[str] = ()
    """Quantities that are measured every five epochs, activations on 512 test images."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More of :func:`orthoviz.training.fit`."""


_PAPER_ACCURACY = {
    "basic_cnn": ("73.60 ± .19", "76.67 ± .10", ".7603", ".6808"),
    "resnet20": ("79.14 ± .62", "87.12 ± .12", ".6728", ".6766"),
    "resnet44": ("79.81 ± .37", "88.12 ± .20", ".7000", ".7600"),
    "resnet18": ("77.01 ± .21", "84.68 ± .12", ".9656", ".8427"),
    "resnet34": ("75.86 ± .26", "85.42 ± .33", "1.0468", ".7087"),
    "resnet50": ("67.99 ± .73", "86.51 ± .12", "1.2304", ".6797"),
    "densenet121": ("75.26 ± .30", "84.34 ± .15", "1.0027", ".8669"),
    "densenet161": ("75.81 ± .20", "85.51 ± .19", "1.1399", "1.1688"),
    "resnext50_32x4d": ("68.73 ± .30", "86.37 ± .24", "1.2470", ".6669"),
    "wide_resnet50_2": ("69.42 ± .33", "87.30 ± .12", "1.4141", ".7018"),
}
"""Table 1: accuracy in % and loss of SGD and of orthogonal SGD, five runs."""

_WATCHED = (
    *("weight.mean_abs_cosine", "raw.singular_values", "applied.singular_values", "step_inflation"),
    *("update_ratio", "feature_cosine", "centred_feature_cosine", "dead_units", "dormant_units"),
    *("dead_parameters", "zero_rows"),
)


def _table1(model: str) -> Recipe:
    sgd, ours, sgd_loss, our_loss = _PAPER_ACCURACY[model]
    return Recipe(
        f"Table 1, {model}: CIFAR-10 at batch 1024, learning rate 0.01 for both, constant",
        paper=f"SGD {sgd} % (loss {sgd_loss}), orthogonal SGD {ours} % (loss {our_loss})",
        model=model,
        held_out=5_000,
        watched=_WATCHED if model == "basic_cnn" else (),
    )


_PAPER_CONVOLUTIONS = {
    "basic_cnn": "76.80 ± .18 % (loss .6732)",
    "resnet34": "85.68 ± .21 % (loss .6268)",
    "resnet20": "87.70 ± .40 % (loss .4824)",
}
"""Table 3: orthogonal SGD of convolutions only."""


def _table3(model: str) -> Recipe:
    return replace(
        _table1(model),
        what=f"Table 3, {model}: as Table 1, with the head left alone",
        paper=f"orthogonal SGD {_PAPER_CONVOLUTIONS[model]}",
        optimizers=("orthogonal SGD",),
        convolutions_only=True,
    )


RECIPES: dict[str, Recipe] = {
    **{f"table1/{model}": _table1(model) for model in _PAPER_ACCURACY},
    **{f"table3/{model}": _table3(model) for model in _PAPER_CONVOLUTIONS},
}
"""By the name that ``orthoviz train`` takes."""


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: there is none; the message gives the nearest names.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3) or list(RECIPES)[:3]
        raise ValueError(f"there is no recipe {name!r}; near it: {', '.join(near)} (orthoviz train --list)")
    return RECIPES[name]


def run(name: str, out: str | Path, **changes: Any) -> Comparison:
    """Run a recipe into a folder; what was done there already is not done again.

    Args:
        out: gets a folder of the recipe's name, with a folder for every run.
        changes: other values of the recipe's fields, such as ``epochs`` or ``seeds``.
    """
    chosen = replace(recipe(name), **{key: value for key, value in changes.items() if value is not None})
    data = load(chosen.data)
    if chosen.images is not None:
        data = data.subset(train=chosen.images)
    if chosen.held_out:
        data = data.hold_out(chosen.held_out)
    (batch_size,) = chosen.batch_sizes
    groups: Callable[[nn.Module], ParamGroups] = partial(
        param_groups, convolutions_only=chosen.convolutions_only
    )
    return compare(
        lambda seed: models.named(chosen.model, seed=seed),
        data,
        {name: OPTIMIZERS[name] for name in chosen.optimizers},
        protocol=chosen.protocol,
        lrs=chosen.lrs,
        epochs=chosen.epochs,
        seeds=chosen.seeds,
        batch_size=batch_size,
        groups=groups,
        watched=_watch_options(chosen, data, batch_size),
        out=Path(out) / name,
        **chosen.options,
    )


def _watch_options(chosen: Recipe, data: Dataset, batch_size: int) -> dict[str, Any] | None:
    if not chosen.watched:
        return None
    probe: torch.Tensor = next(iter(whole(data, data.test, batch_size=512)))[0]
    per_epoch = -(-len(data.train.labels) // batch_size)
    return {"every": 5 * per_epoch, "quantities": list(chosen.watched), "probe": probe}
