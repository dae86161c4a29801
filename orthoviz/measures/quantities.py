"""Every quantity that a monitor can measure, once: its label, its stages, its function, what chance gives.

The monitor measures the rows of :data:`QUANTITIES`, the probe reads there which activations a quantity takes,
and the plots read labels and grey lines. A new quantity is one row.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from orthoviz import measures
from orthoviz.measures.spectra import FORMULAS, of_values, values64

# What becomes of a gradient: itself, its polar factor, the momentum buffer, the change of the weight; and the
# weight before the step, and the layer's activations on the probe.
MATRICES = ("raw", "orthogonal", "momentum", "applied", "weight")
STAGES = (*MATRICES, "activation")


class Sizes(NamedTuple):
    """How large a layer's matrix is, and its feature maps; a monitor records each once. 0: not known."""

    rows: int = 0
    columns: int = 0
    positions: int = 0


class Level(NamedTuple):
    """A value to compare a quantity with, and its name: a grey line in a plot.

    Attributes:
        deviation: of chance; the band of 95 % is two deviations wide to either side.
        is_bound: no matrix gets below it.
    """

    text: str
    value: float
    deviation: float = 0.0
    is_bound: bool = False


class Quantity(NamedTuple):
    """What can be measured at which stages, how, and what a plot says of it.

    Attributes:
        label: of an axis, with the unit where there is one.
        stages: at which it can be measured, of :data:`STAGES`; "" for what is
            of a whole step.
        measure: takes the matrices of a stage, ``(..., m, n)``, or activations, ``(samples, channels, ...)``.
        chance: what random matrices, or no change at all, would give, by a layer's sizes.
        needs: stages whose matrices the measure takes after its own; "input" is what the factor was made
            from, "previous" the step before.
        takes: of the activations "units" of any kind, "maps" of several positions each, or the "input" of
            the layer.
        is_share: it is a share, so its axis starts at 0.
    """

    label: str
    stages: tuple[str, ...]
    measure: Callable[..., Tensor]
    chance: Callable[[Sizes], list[Level]] = lambda sizes: []
    needs: tuple[str, ...] = ()
    takes: str = "units"
    is_share: bool = False


def _always(text: str, value: float) -> Callable[[Sizes], list[Level]]:
    return lambda sizes: [Level(text, value)]


_ONE, _ZERO = _always("1", 1), _always("0", 0)


def _random_rows(sizes: Sizes) -> list[Level]:
    return [Level("random", *measures.random_cosine(*sizes[:2]))] if sizes.rows > 1 else []


def _random_rms(sizes: Sizes) -> list[Level]:
    if not sizes.columns:
        return []
    floor = measures.welch_floor(sizes.rows, sizes.columns)
    bound = [Level("Welch's floor", floor, is_bound=True)] if floor else []
    return [Level("random", sizes.columns**-0.5), *bound]


def _random_maps(sizes: Sizes) -> list[Level]:
    if sizes.rows < 2 or sizes.positions < 2:
        return []
    dimensions = sizes.positions - 1  # centring takes one
    return [Level("unrelated", measures.random_cosine(sizes.rows, dimensions).mean)]


def _rank(label: str, measure: Callable[[Tensor], Tensor]) -> Quantity:
    """A number of directions; chance is that of one Gaussian matrix, always the same one."""

    def chance(sizes: Sizes) -> list[Level]:
        gaussian = torch.randn(sizes[:2], generator=torch.Generator().manual_seed(0))
        return [Level("random", measure(gaussian).item())] if sizes.rows else []

    return Quantity(f"{label} (directions)", MATRICES, measure, chance)


_FACTOR, _STEP, _GRADIENT, _ACTIVATION = ("orthogonal",), ("applied",), ("raw",), ("activation",)

# Everything that a monitor can measure, by name, in the order of "everything".
QUANTITIES = {
    "singular_values": Quantity("singular value", MATRICES, measures.singular_values),
    "condition_number": Quantity("condition number", MATRICES, measures.condition_number),
    "stable_rank": _rank("stable rank", measures.stable_rank),
    "effective_rank": _rank("effective rank", measures.effective_rank),
    "participation_ratio": _rank("participation ratio", measures.participation_ratio),
    "nuclear_rank": _rank("nuclear rank", measures.nuclear_rank),
    "mean_abs_cosine": Quantity("mean |cos| between rows", MATRICES, measures.mean_abs_cosine, _random_rows),
    "rms_cosine": Quantity("rms cos between rows", MATRICES, measures.rms_cosine, _random_rms),
    "cosine_matrix": Quantity("cosine matrix", MATRICES, measures.cosine_matrix),
    "step_inflation": Quantity("orthogonal step / gradient (length)", _FACTOR, measures.step_inflation, _ONE,
                               needs=("raw",)),
    "direction_gain": Quantity("gain of a direction", _FACTOR, measures.direction_gain, _ONE,
                               needs=("input",)),
    "alignment": Quantity("alignment", _FACTOR, measures.alignment, _ONE, needs=("input",)),
    "orthogonality_residual": Quantity("orthogonality residual", _FACTOR, measures.orthogonality_residual),
    "update_ratio": Quantity("step / weight (length)", _STEP, measures.update_ratio,
                             _always("a thousandth", 1e-3), needs=("weight",)),
    "step_cosine": Quantity("cos between steps in a row", _STEP, measures.step_cosine, _ZERO,
                            needs=("previous",)),
    "effective_rate": Quantity("rms change of a weight (per entry)", _STEP, measures.effective_rate),
    "predicted_change": Quantity("predicted change of the loss (first order)", _STEP,
                                 measures.predicted_change, _ZERO, needs=("raw",)),
    "loss_change": Quantity("actual / predicted change of the loss", ("",),
                            lambda actual, predicted: actual / predicted, _ONE),
    "dead_parameters": Quantity("share of |gradient| up to 1e-4", _GRADIENT,
                                lambda G: measures.dead_parameters(G).share, _ZERO, is_share=True),
    "zero_rows": Quantity("rows of zeros", _GRADIENT, lambda G: measures.dead_parameters(G).zero_rows, _ZERO),
    "dead_units": Quantity("share of dead units", _ACTIVATION, measures.dead_units, _ZERO, is_share=True),
    "dormant_units": Quantity("share of dormant units", _ACTIVATION, measures.dormant_units, _ZERO,
                              is_share=True),
    "feature_cosine": Quantity("mean |cos| between feature maps", _ACTIVATION, measures.feature_cosine,
                               _always("unrelated, 1/π", 0.3183), takes="maps"),
    "centred_feature_cosine": Quantity("mean |cos| between centred maps", _ACTIVATION,
                                       lambda maps: measures.feature_cosine(maps, centred=True),
                                       _random_maps, takes="maps"),
    "activation_participation_ratio": Quantity(
        "participation ratio (directions)", _ACTIVATION,
        lambda h: measures.participation_ratio(h.transpose(0, 1).flatten(1).mT, centred=True)),
    "incoming_stable_rank": Quantity("stable rank of the input (directions)", _ACTIVATION,
                                     measures.stable_rank, takes="input"),
}  # fmt: skip

# Selections that have a name: quantities, each at all its stages or at one, in the order of the rows.
PRESETS: dict[str, tuple[str, ...]] = {
    "lecture": (
        "weight.mean_abs_cosine", "raw.singular_values", "applied.singular_values", "step_inflation",
        "update_ratio",
    ),
    "research": (
        "weight.mean_abs_cosine", "raw.singular_values", "orthogonal.singular_values",
        "momentum.singular_values", "applied.singular_values", "step_inflation", "update_ratio",
        "raw.stable_rank", "weight.stable_rank", "raw.effective_rank", "weight.effective_rank",
        "raw.nuclear_rank", "direction_gain", "alignment", "dead_units", "feature_cosine",
    ),
    "everything": tuple(QUANTITIES),
}  # fmt: skip


def stages_of(quantities: str | Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each quantity of a selection, and at which stages.

    Args:
        quantities: a name of :data:`PRESETS`, or quantities: ``"stable_rank"``, ``"weight.stable_rank"``.

    Raises:
        ValueError: there is no such selection, or no such quantity.
    """
    if isinstance(quantities, str):
        if quantities not in PRESETS:
            raise ValueError(
                f"quantities must be {', '.join(map(repr, PRESETS))} or a list of names, got {quantities!r}"
            )
        quantities = PRESETS[quantities]
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


def measured(
    matrices: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[str, ...]],
    spectra: dict[str, tuple[Tensor, Tensor]],
) -> Iterator[tuple[str, str, Tensor]]:
    """Stage, name and value of each quantity whose matrices are there.

    Args:
        matrices: of one layer, ``(..., m, n)``, by stage; also "input" and "previous".
        wanted: quantities and their stages, as :func:`stages_of` gives them.
        spectra: gets the singular values of each stage that were needed, as ``values64`` gives them.
    """
    for name, stages in wanted.items():
        quantity = QUANTITIES[name]
        for stage in stages:
            if stage not in matrices or any(other not in matrices for other in quantity.needs):
                continue
            matrix = matrices[stage]
            if name == "singular_values" or name in FORMULAS:  # they share one decomposition
                if stage not in spectra:
                    spectra[stage] = values64(matrix)
                yield stage, name, of_values(name, *spectra[stage], matrix.dtype)
            else:
                more = (matrices[other] for other in quantity.needs)
                yield stage, name, quantity.measure(matrix, *more)
