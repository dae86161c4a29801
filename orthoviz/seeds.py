"""Chance from a seed, which may be any integer."""

import hashlib

import torch

_MOST = 2**32  # torch's generator on the CPU looks at 32 bits, whatever it is given


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers on the CPU."""
    return torch.Generator().manual_seed(small(seed))


def small(seed: int) -> int:
    """The seed itself, or 32 bits that stand for a larger or negative one."""
    if 0 <= seed < _MOST:
        return seed
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest())
