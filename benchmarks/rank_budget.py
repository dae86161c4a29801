"""How many directions a mini-batch's gradients have: a narrow ResNet-18 on CIFAR-10, by batch size.

    python -m benchmarks.rank_budget "CIFAR-10, official archive"

The argument says which copy of the images is in the store. ResNet-18 as torchvision builds it, with an eighth
of its channels (8 to 64) and ten classes: 554 directions in all its matrices. At its initial weights; the
mean over twenty batches. A direction counts as ``ov.polar_factor`` counts it.
"""

import sys

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.resnet import BasicBlock

import orthoviz as ov
from benchmarks.common import keep, provenance, store
from orthoviz.matrices import as_matrix
from orthoviz.polar import counts, default_tol

BATCH_SIZES = (2, 4, 16, 64, 256)
BATCHES = 20


def narrow_resnet18() -> nn.Sequential:
    """The network, from torchvision's blocks."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 8
    for width in (8, 16, 32, 64):
        shortcut = None
        if width != channels:
            shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width))
        layers += [BasicBlock(channels, width, width // channels, shortcut), BasicBlock(width, width)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def main(copy: str) -> None:
    about = provenance(
        what="directions in the gradients of a ResNet-18 an eighth as wide, by batch size, at its start",
        data=copy,
        command="python -m benchmarks.rank_budget",
    )
    data = ov.datasets.load("cifar10")
    rows = []
    for batch_size in BATCH_SIZES:
        torch.manual_seed(0)
        model = narrow_resnet18()
        batches = ov.datasets.batches(data, batch_size, seed=0, epoch=1)
        for _, (images, labels) in zip(range(BATCHES), batches, strict=False):
            model.zero_grad()
            cross_entropy(model(images), labels).backward()
            rows.append([batch_size, *_directions(model)])
    table = pd.DataFrame(rows, columns=["batch_size", "possible", "supported"])
    table = table.groupby("batch_size", as_index=False).mean().round(1)
    print(table.to_string(index=False))
    keep(table, store("rank_budget", about))


def _directions(model: nn.Module) -> tuple[int, int]:
    """Those that all matrices could have, and those that their gradients have."""
    possible = supported = 0
    for group in ov.param_groups(model):
        for _, p in group["params"]:
            if group["layout"] is not None and p.grad is not None:
                s = torch.linalg.svdvals(as_matrix(p.grad, group["layout"]).double())
                possible += s.shape[-1]
                supported += int(counts(s, default_tol(p.dtype)).sum())
    return possible, supported


if __name__ == "__main__":
    main(sys.argv[1])
