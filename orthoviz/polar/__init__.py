"""From a matrix to its polar factor: G = U S V^T becomes U V^T.

:func:`polar_factor` is for one matrix or a batch, :func:`polar_factors` for a model's. What computes it is a
*method*: a name of :data:`METHODS`, or an object with settings of its own. Start reading at
:mod:`~orthoviz.polar.factor` (arguments, scale), then :mod:`~orthoviz.polar.decompositions` (exact) and
:mod:`~orthoviz.polar.iterations` and :mod:`~orthoviz.polar.rational` (fast).
"""

from orthoviz.polar.decompositions import SVD, Eigh, counts, default_tol
from orthoviz.polar.factor import explain, polar_factor, polar_factors
from orthoviz.polar.iterations import GramNewtonSchulz, NewtonSchulz
from orthoviz.polar.methods import METHODS, Exact, Fast, Method
from orthoviz.polar.polynomials import (
    CUBIC,
    DEGREE_NINE,
    GRAM,
    JORDAN,
    MODULA,
    POLAR_EXPRESS,
    YOU,
    coefficients,
    gain,
)
from orthoviz.polar.rational import Rational, Zolotarev, zolotarev

__all__ = [
    "CUBIC", "DEGREE_NINE", "GRAM", "JORDAN", "METHODS", "MODULA", "POLAR_EXPRESS", "SVD", "YOU", "Eigh",
    "Exact", "Fast", "GramNewtonSchulz", "Method", "NewtonSchulz", "Rational", "Zolotarev", "coefficients",
    "counts", "default_tol", "explain", "gain", "polar_factor", "polar_factors", "zolotarev",
]  # fmt: skip
