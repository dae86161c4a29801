"""The optimisers and controls of the course by name: what a race, a comparison or a command offers."""

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
    """The optimisers and controls of the course, name to ``make(ov.param_groups(model), lr)``.

    Args:
        momentum, weight_decay: of the optimisers that have them; the defaults are the paper's (Table 1). LARS
            has a trust coefficient of 0.1, so that its learning rates are of the others' order.
        process_group: ranks that share the work of the polar factors.
    """
    papers: dict[str, Any] = dict(momentum=momentum, weight_decay=weight_decay)
    ours = papers | {"process_group": process_group}
    muons = ours | {"order": "after_momentum"}

    def orthogonal(kind: Make, groups: ParamGroups, lr: float) -> torch.optim.Optimizer:
        optimizer = kind(groups, lr)
        orthogonalise(optimizer, process_group=process_group)
        return optimizer

    lars = partial(LARS, **papers, trust_coefficient=0.1)
    return {
        "SGD": partial(torch.optim.SGD, **papers),
        "orthogonal SGD": partial(OrthogonalSGD, **ours),
        "orthogonal SGD, null kept": partial(OrthogonalSGD, **ours, null="keep"),
        "Muon's order": partial(OrthogonalSGD, **muons),
        "Muon's order, null kept": partial(OrthogonalSGD, **muons, null="keep"),
        "norm-matched": partial(OrthogonalSGD, **ours, scale="match"),
        "per tensor": partial(OrthogonalSGD, **ours, method="per_tensor"),
        "per filter": partial(OrthogonalSGD, **ours, method="per_filter"),
        "AdamW": torch.optim.AdamW,
        "orthogonal AdamW": partial(orthogonal, torch.optim.AdamW),
        "LARS": lars,
        "orthogonal LARS": partial(orthogonal, lars),
        # The stochastic non-Euclidean trust region of Kovalev 2025 (arXiv 2503.12645), whose buffer is a mean
        "trust region": partial(OrthogonalSGD, **muons, dampening=momentum, decoupled=True),
        "SWAN": SWAN,
        "Muon's order, AdamW's scale": partial(OrthogonalSGD, **muons, scale="rms"),
    }


OPTIMIZERS = optimizers()
"""With the settings of the paper's Table 1."""
