"""Frames and tensors in, a Figure out: pictures that say what they show, beside what chance would give."""

from orthoviz.plots.matrices import (
    cka_matrix,
    cosine_matrix,
    filters,
    gain_per_direction,
    spectra,
    stage_spectra,
)
from orthoviz.plots.paper import paper_figure
from orthoviz.plots.steps import (
    compare,
    dead_units,
    feature_cosine,
    filter_cosine,
    lr_flatness,
    over_steps,
    rank,
    training_curves,
    update_ratio,
)
from orthoviz.plots.style import (
    COLOURS,
    DASHES,
    INK,
    MODES,
    ORTHOGONAL,
    PALE,
    RANDOM,
    SGD,
    STAGES,
    look,
    new_figure,
)

__all__ = [
    "COLOURS", "DASHES", "INK", "MODES", "ORTHOGONAL", "PALE", "RANDOM", "SGD", "STAGES", "cka_matrix",
    "compare", "cosine_matrix", "dead_units", "feature_cosine", "filter_cosine", "filters",
    "gain_per_direction", "look", "lr_flatness", "new_figure", "over_steps", "paper_figure", "rank",
    "spectra", "stage_spectra", "training_curves", "update_ratio",
]  # fmt: skip
