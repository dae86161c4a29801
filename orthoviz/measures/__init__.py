"""From tensors to numbers: what a matrix of filters, a gradient, a step or an activation looks like."""

from orthoviz.measures.factors import alignment, direction_gain, orthogonality_residual
from orthoviz.measures.similarity import (
    cosine_matrix,
    feature_cosine,
    linear_cka,
    mean_abs_cosine,
    minibatch_cka,
    random_cosine,
    random_pairs,
    rms_cosine,
    welch_floor,
)
from orthoviz.measures.spectra import (
    condition_number,
    effective_rank,
    nuclear_rank,
    participation_ratio,
    rank_me,
    singular_values,
    stable_rank,
)
from orthoviz.measures.steps import (
    effective_rate,
    predicted_change,
    step_cosine,
    step_inflation,
    update_ratio,
)
from orthoviz.measures.units import dead_parameters, dead_units, dormant_units

__all__ = [
    "alignment", "condition_number", "cosine_matrix", "dead_parameters", "dead_units", "direction_gain",
    "dormant_units", "effective_rank", "effective_rate", "feature_cosine", "linear_cka", "mean_abs_cosine",
    "minibatch_cka", "nuclear_rank", "orthogonality_residual", "participation_ratio", "predicted_change",
    "random_cosine", "random_pairs", "rank_me", "rms_cosine", "singular_values", "stable_rank", "step_cosine",
    "step_inflation", "update_ratio", "welch_floor",
]  # fmt: skip
