"""The paper's experiments and the fair ones, read from the table ``recipes.toml`` beside this file: what is
run, and what the paper found."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from orthoviz.training import barlow


@dataclass(frozen=True)
class Recipe:
    """One experiment: a comparison's arguments, and where they come from."""

    what: str
    """In one sentence."""
    paper: str = ""
    """What the paper found, where it has a figure."""
    model: str = "basic_cnn"
    data: str = "cifar10"
    optimizers: Sequence[str] = ("sgd", "orthogonal_sgd")
    protocol: str = "equal_lr"
    lrs: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.01
    epochs: int = 100
    batch_sizes: Sequence[int] = (1024,)
    seeds: int = 5
    grow: bool = False
    """Whether a grid grows until its best rate is inside."""
    weight_decay: float = 5e-4
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None
    held_out: int = 0
    """Training images to choose by, and not to train on."""
    images: int | None = None
    """Training images, where not all."""
    convolutions_only: bool = False
    watched: Sequence[str] = ()
    """Quantities that are measured every five epochs, activations on 512 test images."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More of :func:`orthoviz.training.fit`."""
    twins: bool = False
    """Whether it is Barlow Twins: two views, a projector, probes, and dense layers left alone."""


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


_WATCHED = (
    *("weight.mean_abs_cosine", "raw.singular_values", "applied.singular_values", "step_inflation"),
    *("update_ratio", "feature_cosine", "centred_feature_cosine", "dead_units", "dormant_units"),
    *("dead_parameters", "zero_rows"),
)
_PARTS: dict[str, dict[str, Any]] = {
    "schedule": {"step_down": _step_down, "linear": _linear, "triangle": _triangle},
    "options": {
        "barlow": {"loss": barlow.BarlowLoss(), "evaluation": barlow.probe},
        "smoothed": {"loss": nn.CrossEntropyLoss(label_smoothing=0.2)},
    },
}
"""What the table's words stand for."""

_TABLE = tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))

PAPER_TABLE1: dict[str, tuple[str, ...]] = {model: tuple(row) for model, row in _TABLE["table1"].items()}
"""Table 1: accuracy in % of SGD and of orthogonal SGD, and their losses, five runs."""

PAPER_TABLE3: dict[str, str] = _TABLE["table3"]
"""Table 3: orthogonal SGD of convolutions only."""


def _table1(model: str) -> Recipe:
    sgd, ours, sgd_loss, our_loss = PAPER_TABLE1[model]
    return Recipe(
        f"Table 1, {model}: CIFAR-10 at batch 1024, learning rate 0.01 for both, constant",
        paper=f"SGD {sgd} % (loss {sgd_loss}), orthogonal SGD {ours} % (loss {our_loss})",
        model=model,
        held_out=5_000,
        watched=_WATCHED if model == "basic_cnn" else (),
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


RECIPES: dict[str, Recipe] = {
    **{f"table1/{model}": _table1(model) for model in PAPER_TABLE1},
    "table2": _recipe("table2"),
    **{f"table3/{model}": _table3(model) for model in PAPER_TABLE3},
    **{name: _recipe(name) for name in _TABLE["recipes"]},
}
"""By the name that ``orthoviz train`` takes."""
