"""The paper's BasicCNN, and smaller networks for 8 x 8 digits."""

import torch
from torch import Tensor, nn

from orthoviz.seeds import seeded

# What figures call BasicCNN's matrices.
BASIC_CNN_LAYERS = {"0.weight": "conv 1", "3.weight": "conv 2", "6.weight": "conv 3", "10.weight": "head"}


def basic_cnn(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """The paper's BasicCNN, for ``(N, 3, 32, 32)`` images: 24,714 parameters with ten classes.

    Three 3 x 3 convolutions with bias (32 channels, stride 2, padding 1), each followed by
    batch-norm and ReLU, then one dense layer 512 -> classes. Returns logits ``(N, classes)``.

    Args:
        num_classes: size of the last layer.
        seed: of the initial weights; the global random state is not used. None: torch's own.

    Source: Tuddenham, Prügel-Bennett & Hare 2022 (arXiv 2202.07052), and its published code.
    """
    return _cnn(3, (32, 32, 32), (2, 2, 2), 512, num_classes, seed)


def digits_cnn(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """BasicCNN's small sister, for ``(N, 1, 8, 8)`` images: 15,498 parameters with ten classes.

    Three 3 x 3 convolutions (16, 32, 32 channels, strides 1, 2, 2, padding 1), each followed by
    batch-norm and ReLU, then one dense layer 128 -> classes. Returns logits ``(N, classes)``.

    Args:
        num_classes: size of the last layer.
        seed: of the initial weights; the global random state is not used. None: torch's own.
    """
    return _cnn(1, (16, 32, 32), (1, 2, 2), 128, num_classes, seed)


def digits_mlp(*, norm: bool = False, seed: int | None = None) -> nn.Sequential:
    """The network of lesson 00, for ``(N, 1, 8, 8)`` images: 64-64-64-10 units, ReLU between layers.

    Returns logits ``(N, 10)``.

    Args:
        norm: whether batch-norm stands before each ReLU.
        seed: of the initial weights; the global random state is not used. None: torch's own.
    """
    generator = None if seed is None else seeded(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(2):
        layers.append(initialise(nn.utils.skip_init(nn.Linear, 64, 64), generator))
        layers += [nn.BatchNorm1d(64), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, initialise(nn.utils.skip_init(nn.Linear, 64, 10), generator))


def _cnn(
    channels: int,
    widths: tuple[int, ...],
    strides: tuple[int, ...],
    features: int,
    num_classes: int,
    seed: int | None,
) -> nn.Sequential:
    # A generator of their own: seeding the global one would disturb other threads
    generator = None if seed is None else seeded(seed)
    layers: list[nn.Module] = []
    for width, stride in zip(widths, strides, strict=True):
        options = {"kernel_size": 3, "stride": stride, "padding": 1}
        convolution = nn.utils.skip_init(nn.Conv2d, channels, width, **options)
        layers += [initialise(convolution, generator), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    head = nn.utils.skip_init(nn.Linear, features, num_classes)
    return nn.Sequential(*layers, nn.Flatten(), initialise(head, generator))


def initialise(layer: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """Torch's default weights, uniform within 1 / sqrt(inputs of a unit), drawn from ``generator``."""
    assert isinstance(layer.weight, Tensor)
    bound = layer.weight[0].numel() ** -0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
