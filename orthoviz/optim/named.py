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
    return {name: make for name, (_, make) in _table(momentum, weight_decay, process_group).items()}


def _table(
    momentum: float, weight_decay: float, process_group: ProcessGroup | None
) -> dict[str, tuple[str, Make]]:
    """By name, what a reader sees of an optimiser, and what makes it."""
    papers: dict[str, Any] = dict(momentum=momentum, weight_decay=weight_decay)
    ours = partial(OrthogonalSGD, **papers, process_group=process_group)
    muons = partial(ours, order="after_momentum")
    # As people use it: Nesterov, decoupled decay, and the rest by AdamW at a rate of its own
    muon: dict[str, Any] = dict(momentum=0.95, nesterov=True, scale="sqrt_max", method="newton_schulz")
    muon |= dict(decoupled=True, weight_decay=0.01, rest="adamw", rest_lr=0.003)
    lars = partial(LARS, **papers, trust_coefficient=0.1)

    def orthogonal(kind: Make, groups: ParamGroups, lr: float) -> torch.optim.Optimizer:
        optimizer = kind(groups, lr)
        orthogonalise(optimizer, process_group=process_group)
        return optimizer

    return {
        "sgd": ("SGD", partial(torch.optim.SGD, **papers)),
        "orthogonal_sgd": ("orthogonal SGD", ours),
        "orthogonal_sgd_keep": ("orthogonal SGD, null kept", partial(ours, null="keep")),
        "muon_order": ("Muon's order", muons),
        "muon_order_keep": ("Muon's order, null kept", partial(muons, null="keep")),
        "matched": ("norm-matched", partial(ours, scale="match")),
        "per_tensor": ("per tensor", partial(ours, method="per_tensor")),
        "per_filter": ("per filter", partial(ours, method="per_filter")),
        "adamw": ("AdamW", torch.optim.AdamW),
        "orthogonal_adamw": ("orthogonal AdamW", partial(orthogonal, torch.optim.AdamW)),
        "lars": ("LARS", lars),
        "orthogonal_lars": ("orthogonal LARS", partial(orthogonal, lars)),
        # The stochastic non-Euclidean trust region of Kovalev 2025 (arXiv 2503.12645), whose buffer is a mean
        "trust_region": ("trust region", partial(muons, dampening=momentum, decoupled=True)),
        "swan": ("SWAN", SWAN),
        "muon_order_rms": ("Muon's order, AdamW's scale", partial(muons, scale="rms")),
        "muon": ("Muon", partial(muons, **muon)),
        "random_spectrum": ("random spectrum", partial(ours, method="random_spectrum")),
        "half": ("square-root spectrum", partial(ours, method="half")),
        "inverted": ("inverted spectrum", partial(ours, method=("power", -0.25))),
        # SWAN without its rows: the polar factor of the gradient itself, the rest by AdamW
        "no_momentum": (
            "no momentum",
            partial(ours, momentum=0.0, weight_decay=0.0, scale="rms", rest="adamw"),
        ),
    }


# With the settings of the paper's Table 1.
OPTIMIZERS = optimizers()

# What a reader sees, by name.
LABELS = {name: label for name, (label, _) in _table(0.9, 5e-4, None).items()}


def label_of(name: object) -> str:
    """What a reader sees of an optimiser; a name that is not in the table is its own label."""
    return LABELS.get(str(name), str(name))
