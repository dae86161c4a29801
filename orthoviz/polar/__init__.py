"""From a matrix to its polar factor: G = U S V^T becomes U V^T."""

from orthoviz.polar.factor import METHODS, polar_factor

__all__ = ["METHODS", "polar_factor"]
