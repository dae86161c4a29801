"""The optimisers and controls of the course by name: what a race, a comparison or a command offers.

Code, recipes and tables have the names; pictures and sentences have the labels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from orthoviz.matrices import ParamGroups
from orthoviz.optim.lars import LARS
from orthoviz.optim.ranks import ProcessGroup
from orthoviz.optim.sgd import OrthogonalSGD
from orthoviz.optim.swan import SWAN
from orthoviz.optim.wrap import orthogonalise

LABELS = {
    "sgd": "SGD",
    "orthogonal_sgd": "orthogonal SGD",
    "orthogonal_sgd_keep": "orthogonal SGD, null kept",
    "muon_order": "Muon's order",
    "muon_order_keep": "Muon's order, null kept",
    "matched": "norm-matched",
    "per_tensor": "per tensor",
    "per_filter": "per filter",
    "adamw": "AdamW",
    "orthogonal_adamw": "orthogonal AdamW",
    "lars": "LARS",
    "orthogonal_lars": "orthogonal LARS",
    "trust_region": "trust region",
    "swan": "SWAN",
    "muon_order_rms": "Muon's order, AdamW's scale",
    "muon": "Muon",
    "random_spectrum": "random spectrum",
    "half": "square-root spectrum",
    "inverted": "inverted spectrum",
    "no_momentum": "no momentum",
}
"""What a reader sees, by name."""


def label_of(name: object) -> str:
    """What a reader sees of an optimiser; a name that is not in the table is its own label."""
    return LABELS.get(str(name), str(name))


Make = Callable[[ParamGroups, float], torch.optim.Optimizer]


def optimizers(
    *, momentum: float = 0.9, weight_decay: float = 5e-4, process_group: ProcessGroup | None = None
) -> dict[str, Make]:
    """The optimisers and controls of the course: by name, ``make(ov.param_groups(model), lr)``.

    Args:
        momentum, weight_decay: of the optimisers that have them; the defaults are the paper's (Table 1). LARS
            has a trust coefficient of 0.1, so that its learning rates are of the others' order. Muon has its
            own.
        process_group: ranks that share the work of the polar factors.
    """
    papers: dict[str, Any] = dict(momentum=momentum, weight_decay=weight_decay)
    ours = papers | {"process_group": process_group}
    muons = ours | {"order": "after_momentum"}

    # As people use it: Nesterov, decoupled decay, and the rest by AdamW at a rate of its own
    muon: dict[str, Any] = dict(order="after_momentum", momentum=0.95, nesterov=True, scale="sqrt_max")
    muon |= dict(method="newton_schulz", decoupled=True, weight_decay=0.01, rest="adamw", rest_lr=0.003)

    def orthogonal(kind: Make, groups: ParamGroups, lr: float) -> torch.optim.Optimizer:
        optimizer = kind(groups, lr)
        orthogonalise(optimizer, process_group=process_group)
        return optimizer

    lars = partial(LARS, **papers, trust_coefficient=0.1)
    return {
        "sgd": partial(torch.optim.SGD, **papers),
        "orthogonal_sgd": partial(OrthogonalSGD, **ours),
        "orthogonal_sgd_keep": partial(OrthogonalSGD, **ours, null="keep"),
        "muon_order": partial(OrthogonalSGD, **muons),
        "muon_order_keep": partial(OrthogonalSGD, **muons, null="keep"),
        "matched": partial(OrthogonalSGD, **ours, scale="match"),
        "per_tensor": partial(OrthogonalSGD, **ours, method="per_tensor"),
        "per_filter": partial(OrthogonalSGD, **ours, method="per_filter"),
        "adamw": torch.optim.AdamW,
        "orthogonal_adamw": partial(orthogonal, torch.optim.AdamW),
        "lars": lars,
        "orthogonal_lars": partial(orthogonal, lars),
        # The stochastic non-Euclidean trust region of Kovalev 2025 (arXiv 2503.12645), whose buffer is a mean
        "trust_region": partial(OrthogonalSGD, **muons, dampening=momentum, decoupled=True),
        "swan": SWAN,
        "muon_order_rms": partial(OrthogonalSGD, **muons, scale="rms"),
        "muon": partial(OrthogonalSGD, **muon, process_group=process_group),
        "random_spectrum": partial(OrthogonalSGD, **ours, method="random_spectrum"),
        "half": partial(OrthogonalSGD, **ours, method="half"),
        "inverted": partial(OrthogonalSGD, **ours, method=("power", -0.25)),
        # SWAN without its rows: the polar factor of the gradient itself, the rest by AdamW
        "no_momentum": partial(OrthogonalSGD, scale="rms", rest="adamw", process_group=process_group),
    }


OPTIMIZERS = optimizers()
"""With the settings of the paper's Table 1."""
