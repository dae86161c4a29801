"""Two models, or lists of tensors: are their weights the same, or near?"""

import torch
from torch import nn


def tensors(given):
    return list(given.parameters() if isinstance(given, nn.Module) else given)


def same(one, other):
    """All their weights are the same, bit for bit."""
    return all(torch.equal(p, q) for p, q in zip(tensors(one), tensors(other), strict=True))


def near(one, other, **bounds):
    torch.testing.assert_close(tensors(one), tensors(other), **bounds)
