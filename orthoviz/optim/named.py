"""The optimisers and controls of the course by name: what a race, a comparison or a command offers.

Code, recipes and tables have the names; pictures and sentences have the labels.
"""

from collections.abc import Callable
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
}
"""What a reader sees, by name."""


def label_of(name: object) -> str:
    """What a reader sees of an optimiser; a name that is not in the table is its own label."""
    return LABELS.get(str(name), str(name))


Make = Callable[[ParamGroups, float], torch.optim.Optimizer]


def _maker(
    kind: Callable[..., torch.optim.Optimizer], *, wrapped: dict[str, Any] | None = None, **options: Any
) -> Make:
    def make(groups: ParamGroups, lr: float) -> torch.optim.Optimizer:
        optimizer = kind(groups, lr=lr, **options)
        if wrapped is not None:
            orthogonalise(optimizer, **wrapped)
        return optimizer

    return make


def optimizers(
    *, momentum: float = 0.9, weight_decay: float = 5e-4, process_group: ProcessGroup | None = None
) -> dict[str, Make]:
    """The optimisers and controls of the course: by name, ``make(ov.param_groups(model), lr)``.

    Args:
        momentum, weight_decay: where there are such; the defaults are those of the paper's Table 1. LARS has
            a trust coefficient of 0.1, so that its learning rates are of the others' order.
        process_group: ranks that share the work of the polar factors.
    """
    papers: dict[str, Any] = dict(momentum=momentum, weight_decay=weight_decay)
    shared: dict[str, Any] = {"process_group": process_group}
    ours = papers | shared
    return {
        "sgd": _maker(torch.optim.SGD, **papers),
        "orthogonal_sgd": _maker(OrthogonalSGD, **ours),
        "orthogonal_sgd_keep": _maker(OrthogonalSGD, **ours, null="keep"),
        "muon_order": _maker(OrthogonalSGD, **ours, order="after_momentum"),
        "muon_order_keep": _maker(OrthogonalSGD, **ours, order="after_momentum", null="keep"),
        "matched": _maker(OrthogonalSGD, **ours, scale="match"),
        "per_tensor": _maker(OrthogonalSGD, **ours, method="per_tensor"),
        "per_filter": _maker(OrthogonalSGD, **ours, method="per_filter"),
        "adamw": _maker(torch.optim.AdamW),
        "orthogonal_adamw": _maker(torch.optim.AdamW, wrapped=shared),
        "lars": _maker(LARS, **papers, trust_coefficient=0.1),
        "orthogonal_lars": _maker(LARS, wrapped=shared, **papers, trust_coefficient=0.1),
        # The stochastic non-Euclidean trust region of Kovalev 2025 (arXiv 2503.12645), whose buffer is a mean
        "trust_region": _maker(
            OrthogonalSGD, **ours, order="after_momentum", dampening=momentum, decoupled=True
        ),
        "swan": _maker(SWAN),
        "muon_order_rms": _maker(OrthogonalSGD, **ours, order="after_momentum", scale="rms"),
    }


OPTIMIZERS = optimizers()
"""With the settings of the paper's Table 1."""
