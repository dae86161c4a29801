"""The optimisers and controls of the course by name: what a race, a comparison or a command offers."""

from collections.abc import Callable
from typing import Any

import torch

from orthoviz.matrices import ParamGroups
from orthoviz.optim.lars import LARS
from orthoviz.optim.ranks import ProcessGroup
from orthoviz.optim.sgd import OrthogonalSGD
from orthoviz.optim.swan import SWAN
from orthoviz.optim.wrap import orthogonalise

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
    """The optimisers and controls of the course, name to ``make(ov.param_groups(model), lr)``.

    Args:
        momentum, weight_decay: where there are such; the defaults are those of the paper's Table 1. LARS has
            a trust coefficient of 0.1, so that its learning rates are of the others' order.
        process_group: ranks that share the work of the polar factors.
    """
    papers: dict[str, Any] = dict(momentum=momentum, weight_decay=weight_decay)
    shared: dict[str, Any] = {"process_group": process_group}
    ours = papers | shared
    return {
        "SGD": _maker(torch.optim.SGD, **papers),
        "orthogonal SGD": _maker(OrthogonalSGD, **ours),
        "orthogonal SGD, null kept": _maker(OrthogonalSGD, **ours, null="keep"),
        "Muon's order": _maker(OrthogonalSGD, **ours, order="after_momentum"),
        "Muon's order, null kept": _maker(OrthogonalSGD, **ours, order="after_momentum", null="keep"),
        "norm-matched": _maker(OrthogonalSGD, **ours, scale="match"),
        "per tensor": _maker(OrthogonalSGD, **ours, method="per_tensor"),
        "per filter": _maker(OrthogonalSGD, **ours, method="per_filter"),
        "AdamW": _maker(torch.optim.AdamW),
        "orthogonal AdamW": _maker(torch.optim.AdamW, wrapped=shared),
        "LARS": _maker(LARS, **papers, trust_coefficient=0.1),
        "orthogonal LARS": _maker(LARS, wrapped=shared, **papers, trust_coefficient=0.1),
        # The stochastic non-Euclidean trust region of Kovalev 2025 (arXiv 2503.12645), whose buffer is a mean
        "trust region": _maker(
            OrthogonalSGD, **ours, order="after_momentum", dampening=momentum, decoupled=True
        ),
        "SWAN": _maker(SWAN),
        "Muon's order, AdamW's scale": _maker(OrthogonalSGD, **ours, order="after_momentum", scale="rms"),
    }


OPTIMIZERS = optimizers()
"""With the settings of the paper's Table 1."""
