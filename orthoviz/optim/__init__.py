"""Optimisers that step along the polar factor of a layer's gradient."""

from orthoviz.optim.sgd import OrthogonalSGD

__all__ = ["OrthogonalSGD"]
