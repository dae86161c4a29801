"""From tensors to numbers: what a matrix of filters, a gradient or a step looks like."""

from orthoviz.measures.factors import alignment, direction_gain, orthogonality_residual
from orthoviz.measures.similarity import cosine_matrix
from orthoviz.measures.spectra import singular_values
from orthoviz.measures.steps import step_inflation, update_ratio

__all__ = [
    "alignment",
    "cosine_matrix",
    "direction_gain",
    "orthogonality_residual",
    "singular_values",
    "step_inflation",
    "update_ratio",
]
