"""What can be measured of a step, by name, and the selections that have a name."""

import difflib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from orthoviz import measures

STAGES = ("raw", "orthogonal", "momentum", "applied", "weight", "activation")
"""What becomes of a gradient: itself, its polar factor, the momentum buffer, the change of the weight; and
the weight before the step, and the layer's activations on the probe."""

MATRICES = STAGES[:-1]


class Quantity(NamedTuple):
    """What can be measured: at which stages, from which further ones, and how."""

    stages: tuple[str, ...]
    measure: Callable[..., Tensor]
    needs: tuple[str, ...] = ()
    """Stages whose matrices the measure takes after its own."""


QUANTITIES = {
    "singular_values": Quantity(MATRICES, measures.singular_values),
    "condition_number": Quantity(MATRICES, measures.condition_number),
    "stable_rank": Quantity(MATRICES, measures.stable_rank),
    "effective_rank": Quantity(MATRICES, measures.effective_rank),
    "participation_ratio": Quantity(MATRICES, measures.participation_ratio),
    "nuclear_rank": Quantity(MATRICES, measures.nuclear_rank),
    "mean_abs_cosine": Quantity(MATRICES, measures.mean_abs_cosine),
    "rms_cosine": Quantity(MATRICES, measures.rms_cosine),
    "cosine_matrix": Quantity(MATRICES, measures.cosine_matrix),
    "step_inflation": Quantity(("orthogonal",), measures.step_inflation, ("raw",)),
    "direction_gain": Quantity(("orthogonal",), measures.direction_gain, ("input",)),
    "alignment": Quantity(("orthogonal",), measures.alignment, ("input",)),
    "orthogonality_residual": Quantity(("orthogonal",), measures.orthogonality_residual),
    "update_ratio": Quantity(("applied",), measures.update_ratio, ("weight",)),
    "step_cosine": Quantity(("applied",), measures.step_cosine, ("previous",)),
    "dead_parameters": Quantity(("raw",), lambda G: measures.dead_parameters(G).share),
    "zero_rows": Quantity(("raw",), lambda G: measures.dead_parameters(G).zero_rows),
    "dead_units": Quantity(("activation",), measures.dead_units),
    "dormant_units": Quantity(("activation",), measures.dormant_units),
    "feature_cosine": Quantity(("activation",), measures.feature_cosine),
    "centred_feature_cosine": Quantity(
        ("activation",), lambda maps: measures.feature_cosine(maps, centred=True)
    ),
    "activation_participation_ratio": Quantity(
        ("activation",),
        lambda h: measures.participation_ratio(h.transpose(0, 1).flatten(1).mT, centred=True),
    ),
    "incoming_stable_rank": Quantity(("activation",), measures.stable_rank),
}
"""Everything that a monitor can measure, by name."""

_LECTURE = {
    "mean_abs_cosine": ("weight",),
    "singular_values": ("raw", "applied"),
    "step_inflation": ("orthogonal",),
    "update_ratio": ("applied",),
}
_RESEARCH = _LECTURE | {
    "singular_values": ("raw", "orthogonal", "momentum", "applied"),
    "stable_rank": ("raw", "weight"),
    "effective_rank": ("raw", "weight"),
    "nuclear_rank": ("raw",),
    "direction_gain": ("orthogonal",),
    "alignment": ("orthogonal",),
    "dead_units": ("activation",),
    "feature_cosine": ("activation",),
}
PRESETS = {
    "lecture": _LECTURE,
    "research": _RESEARCH,
    "everything": {name: quantity.stages for name, quantity in QUANTITIES.items()},
}
"""Quantities and the stages at which they are measured, by the name of the selection."""


def wanted_quantities(quantities: str | Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each quantity that was asked for, and at which stages."""
    if isinstance(quantities, str):
        if quantities not in PRESETS:
            raise ValueError(
                f"quantities must be {', '.join(map(repr, PRESETS))} or a list of names, got {quantities!r}"
            )
        return PRESETS[quantities]
    wanted: dict[str, tuple[str, ...]] = {}
    for wish in quantities:
        stage, _, name = wish.rpartition(".")
        if name not in QUANTITIES or (stage and stage not in QUANTITIES[name].stages):
            names = [*QUANTITIES, *(f"{s}.{q}" for q in QUANTITIES for s in QUANTITIES[q].stages)]
            near = difflib.get_close_matches(wish, names, n=3, cutoff=0.4) or list(QUANTITIES)
            raise ValueError(f"there is no quantity {wish!r}; there is: {', '.join(near)}")
        stages = (stage,) if stage else QUANTITIES[name].stages
        wanted[name] = tuple(dict.fromkeys((*wanted.get(name, ()), *stages)))
    return wanted
