"""The paper's BasicCNN, and a smaller one for 8 x 8 digits."""

import torch
from torch import nn


def basic_cnn(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """The paper's BasicCNN, for ``(N, 3, 32, 32)`` images: 24,714 parameters with ten classes.

    Three 3 x 3 convolutions with bias (32 channels, stride 2, padding 1), each followed by
    batch-norm and ReLU, then one dense layer 512 -> classes. Returns logits ``(N, classes)``.

    Args:
        num_classes: size of the last layer.
        seed: of the initial weights; the global random state is left as it was. None: torch's own.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), and its published code.
    """
    return _cnn(3, (32, 32, 32), (2, 2, 2), 512, num_classes, seed)


def digits_cnn(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """BasicCNN's small sister, for ``(N, 1, 8, 8)`` images: 15,498 parameters with ten classes.

    Three 3 x 3 convolutions (16, 32, 32 channels, strides 1, 2, 2, padding 1), each followed by
    batch-norm and ReLU, then one dense layer 128 -> classes. Returns logits ``(N, classes)``.

    Args:
        num_classes: size of the last layer.
        seed: of the initial weights; the global random state is left as it was. None: torch's own.
    """
    return _cnn(1, (16, 32, 32), (1, 2, 2), 128, num_classes, seed)


def _cnn(
    channels: int,
    widths: tuple[int, ...],
    strides: tuple[int, ...],
    features: int,
    num_classes: int,
    seed: int | None,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        for width, stride in zip(widths, strides, strict=True):
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, num_classes))
