"""The optimisers and controls of the course by name: what a race, a comparison or a command offers."""

from collections.abc import Callable
from typing import Any

import torch

from orthoviz.matrices import ParamGroups
from orthoviz.optim.lars import LARS
from orthoviz.optim.sgd import OrthogonalSGD
from orthoviz.optim.swan import SWAN
from orthoviz.optim.trust_region import TrustRegion
from orthoviz.optim.wrap import orthogonalise

Make = Callable[[ParamGroups, float], torch.optim.Optimizer]

_PAPERS: dict[str, Any] = dict(momentum=0.9, weight_decay=5e-4)
"""Of the paper's Table 1."""


def _maker(kind: Callable[..., torch.optim.Optimizer], *, orthogonal: bool = False, **options: Any) -> Make:
    def make(groups: ParamGroups, lr: float) -> torch.optim.Optimizer:
        optimizer = kind(groups, lr=lr, **options)
        if orthogonal:
            orthogonalise(optimizer)
        return optimizer

    return make


OPTIMIZERS: dict[str, Make] = {
    "SGD": _maker(torch.optim.SGD, **_PAPERS),
    "orthogonal SGD": _maker(OrthogonalSGD, **_PAPERS),
    "orthogonal SGD, null kept": _maker(OrthogonalSGD, **_PAPERS, null="keep"),
    "Muon's order": _maker(OrthogonalSGD, **_PAPERS, order="after_momentum"),
    "Muon's order, null kept": _maker(OrthogonalSGD, **_PAPERS, order="after_momentum", null="keep"),
    "norm-matched": _maker(OrthogonalSGD, **_PAPERS, lr_scale="match_norm"),
    "per tensor": _maker(OrthogonalSGD, **_PAPERS, method="per_tensor"),
    "per filter": _maker(OrthogonalSGD, **_PAPERS, method="per_filter"),
    "AdamW": _maker(torch.optim.AdamW),
    "orthogonal AdamW": _maker(torch.optim.AdamW, orthogonal=True),
    "LARS": _maker(LARS, **_PAPERS, trust_coefficient=0.1),
    "orthogonal LARS": _maker(LARS, orthogonal=True, **_PAPERS, trust_coefficient=0.1),
    "trust region": _maker(TrustRegion, **_PAPERS),
    "SWAN": _maker(SWAN),
}
"""Name to ``make(ov.param_groups(model), lr)``. Momentum 0.9 and weight decay 5e-4 where there are such, as
in the paper's Table 1; LARS with a trust coefficient of 0.1, so that its learning rates are of the others'
order."""
