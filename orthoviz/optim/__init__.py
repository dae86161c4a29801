"""Optimisers that step along the polar factor of a layer's gradient, and their controls.

:class:`OrthogonalSGD` is the paper's optimiser and, with ``order="after_momentum"``, Muon's rule;
:func:`orthogonalise` does the paper's to any torch optimiser. Start reading at
:mod:`~orthoviz.optim.directions` (gradients to directions), then :mod:`~orthoviz.optim.sgd`.
"""

from orthoviz.optim.directions import CONTROLS
from orthoviz.optim.lars import LARS
from orthoviz.optim.named import LABELS, OPTIMIZERS, optimizers
from orthoviz.optim.sgd import OrthogonalSGD
from orthoviz.optim.swan import SWAN
from orthoviz.optim.translate import translate
from orthoviz.optim.wrap import orthogonalise

__all__ = [
    "CONTROLS", "LABELS", "LARS", "OPTIMIZERS", "SWAN", "OrthogonalSGD", "optimizers", "orthogonalise",
    "translate",
]  # fmt: skip
