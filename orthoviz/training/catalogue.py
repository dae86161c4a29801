"""The paper's experiments and the fair ones, as a table: what is run, and what the paper found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    optimizers: tuple[str, ...] = ("sgd", "orthogonal_sgd")
    protocol: str = "equal_lr"
    lrs: float | Sequence[float] | Mapping[str, Sequence[float]] = 0.01
    epochs: int = 100
    batch_sizes: tuple[int, ...] = (1024,)
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


PAPER_TABLE1 = {
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
    sgd, ours, sgd_loss, our_loss = PAPER_TABLE1[model]
    return Recipe(
        f"Table 1, {model}: CIFAR-10 at batch 1024, learning rate 0.01 for both, constant",
        paper=f"SGD {sgd} % (loss {sgd_loss}), orthogonal SGD {ours} % (loss {our_loss})",
        model=model,
        held_out=5_000,
        watched=_WATCHED if model == "basic_cnn" else (),
    )


PAPER_TABLE3 = {
    "basic_cnn": "76.80 ± .18 % (loss .6732)",
    "resnet34": "85.68 ± .21 % (loss .6268)",
    "resnet20": "87.70 ± .40 % (loss .4824)",
}
"""Table 3: orthogonal SGD of convolutions only."""


def _table3(model: str) -> Recipe:
    return replace(
        _table1(model),
        what=f"Table 3, {model}: as Table 1, with the head left alone",
        paper=f"orthogonal SGD {PAPER_TABLE3[model]}",
        optimizers=("orthogonal_sgd",),
        convolutions_only=True,
    )


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


_SGD_RATES, _OUR_RATES = (0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03, 0.1)
_RATES = {
    "sgd": _SGD_RATES,
    "orthogonal_sgd": _OUR_RATES,
    "muon_order": _SGD_RATES,
    "matched": _SGD_RATES,
    "per_tensor": _OUR_RATES,
    "per_filter": _OUR_RATES,
    "random_spectrum": _OUR_RATES,
    "half": _OUR_RATES,
    "inverted": _OUR_RATES,
    "muon": _OUR_RATES,
    "adamw": (0.0003, 0.001, 0.003, 0.01),
}
"""Grids of four, around each one's best on BasicCNN."""


def _rates(*names: str, **other: Sequence[float]) -> dict[str, Any]:
    """Optimisers with their grids, or other ones."""
    return {"optimizers": names, "lrs": {name: (_RATES | other)[name] for name in names}}


_BATCHES = Recipe(
    "Batch sizes 4 to 1024 on 8,000 images, one epoch: null directions kept and dropped, both orders",
    paper="resnet18: at 4 orthogonal SGD collapses, from 16 on it wins",
    optimizers=("sgd", "orthogonal_sgd", "orthogonal_sgd_keep", "muon_order", "muon_order_keep"),
    protocol="both_tuned",
    lrs=(0.003, 0.01, 0.03),
    epochs=1,
    batch_sizes=(4, 16, 64, 256, 1024),
    images=8_000,
    held_out=1_000,
    seeds=3,
)
_CONTROLS = Recipe(
    "Length or shape: optimisers and their controls, each over four learning rates or more, three epochs",
    **_rates(
        *("sgd", "orthogonal_sgd", "matched", "per_tensor", "per_filter", "random_spectrum", "half"),
        *("muon_order", "muon"),
    ),
    protocol="both_tuned",
    grow=True,
    epochs=3,
    held_out=5_000,
)
_FAIR = Recipe("", epochs=10, seeds=3, held_out=5_000)
_IMAGENET = Recipe("", data="imagenet", epochs=100, seeds=1)

RECIPES: dict[str, Recipe] = {
    **{f"table1/{model}": _table1(model) for model in PAPER_TABLE1},
    "table2": Recipe(
        "Table 2: resnet20 with the recipe that He and others tuned for SGD",
        paper="SGD 91.17 ± .28 % (loss .4053), orthogonal SGD 90.18 ± .30 % (loss .4231)",
        model="resnet20",
        lrs=0.1,
        batch_sizes=(128,),
        weight_decay=1e-4,
        epochs=200,
        schedule=_step_down,
        held_out=5_000,
    ),
    **{f"table3/{model}": _table3(model) for model in PAPER_TABLE3},
    "batch_size/basic_cnn": _BATCHES,
    "batch_size/resnet18": replace(
        _BATCHES,
        what="Batch sizes 4 and 16 on 2,000 images: does keeping null directions make the collapse at 4?",
        model="resnet18",
        optimizers=("sgd", "orthogonal_sgd", "orthogonal_sgd_keep"),
        batch_sizes=(4, 16),
        images=2_000,
        protocol="equal_lr",
        lrs=0.01,
        held_out=0,
        seeds=1,
    ),
    "lr_sweep": replace(
        _CONTROLS,
        what="How much the learning rate matters: four rates each, five epochs",
        **_rates("sgd", "orthogonal_sgd"),
        grow=False,
        epochs=5,
        seeds=3,
    ),
    "controls": _CONTROLS,
    "spectra": replace(
        _CONTROLS,
        what="Digits: the gradient's directions with other spectra, all steps as long as the polar factor",
        model="digits_cnn",
        data="digits",
        **_rates("per_tensor", "half", "random_spectrum", "orthogonal_sgd", "inverted"),
        epochs=4,
        batch_sizes=(256,),
        held_out=0,
    ),
    "fair/equal_lr": replace(
        _FAIR, what="At the paper's learning rate, 0.01", paper="as Table 1, 100 epochs"
    ),
    "fair/equal_step": replace(
        _FAIR,
        what="SGD at its best rate, 0.1, and the others at the rate that makes their steps as long",
        optimizers=("sgd", "orthogonal_sgd", "matched"),
        protocol="equal_step",
        lrs=0.1,
    ),
    "fair/both_tuned": replace(
        _FAIR,
        what="Each at its best of four learning rates",
        **_rates("sgd", "orthogonal_sgd", "muon_order", muon_order=_OUR_RATES),
        protocol="both_tuned",
        grow=True,
    ),
    "fair/schedule": replace(
        _FAIR,
        what="Each at its best of four learning rates, which fall in equal parts to zero",
        **_rates("sgd", "orthogonal_sgd", "muon"),
        protocol="both_tuned",
        grow=True,
        schedule=_linear,
    ),
    "imagenet/resnet34": replace(
        _IMAGENET,
        what="ImageNet, ResNet-34, Table 1's settings",
        paper="SGD 61.9 % (loss 1.565), orthogonal SGD 67.5 % (loss 1.383)",
        model="resnet34",
    ),
    "imagenet/resnet50": replace(_IMAGENET, what="ImageNet, ResNet-50, Table 1's settings", model="resnet50"),
    "barlow_twins": Recipe(
        "Barlow Twins: LARS against orthogonal LARS, whose dense layers are left alone as in the paper",
        paper="on ImageNet at batch 1024 a lower loss with orthogonal LARS; no probe",
        optimizers=("lars", "orthogonal_lars"),
        lrs=0.3,
        epochs=10,
        batch_sizes=(500,),
        seeds=2,
        convolutions_only=True,
        options={"loss": barlow.BarlowLoss(), "evaluation": barlow.probe},
        twins=True,
    ),
    "successors": replace(
        _CONTROLS,
        what="AdamW, Muon, Muon's order with and without AdamW's scale, SWAN, and SWAN without its rows",
        optimizers=("adamw", "muon", "muon_order", "muon_order_rms", "swan", "no_momentum"),
        lrs=_RATES["adamw"],
    ),
    "resnet8": replace(
        _FAIR,
        what="A residual network of three blocks, rates that fall to zero, each at its best",
        model="resnet8",
        **_rates("sgd", "orthogonal_sgd", "muon"),
        protocol="both_tuned",
        grow=True,
        schedule=_linear,
        epochs=5,
    ),
    "speedrun": replace(
        _CONTROLS,
        what="A network made for speed, to 94 % in ten epochs; "
        "SGD, AdamW, and both orders, each over four rates",
        model="speedrun_cnn",
        **_rates("sgd", "adamw", "orthogonal_sgd", "muon_order", sgd=(0.03, 0.1, 0.3, 1.0)),
        grow=False,
        epochs=10,
        seeds=1,
        schedule=_triangle,
        options={"loss": nn.CrossEntropyLoss(label_smoothing=0.2)},
    ),
}
"""By the name that ``orthoviz train`` takes."""
