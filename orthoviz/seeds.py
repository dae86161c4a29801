"""Chance from a seed, which may be any integer."""

import torch

_MOST = 2**63  # torch takes no larger ones


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers on the CPU."""
    return torch.Generator().manual_seed(small(seed))


def small(seed: int) -> int:
    """The seed itself, or one that torch takes for it."""
    return seed % _MOST
