"""He et al.'s small residual networks for 32 x 32 images."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from orthoviz.models.cnn import initialise
from orthoviz.seeds import seeded


def resnet8(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """:func:`resnet20` with one block a stage instead of three: minutes an epoch become seconds; 75,290
    parameters with ten classes."""
    return _resnet(1, num_classes, seed)


def resnet20(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """ResNet-20 for ``(N, 3, 32, 32)`` images, as in the paper: 269,722 parameters with ten classes.

    Args:
        num_classes: size of the last layer.
        seed: of the initial weights; the global random state is not used. None: torch's own.

    Source: He, Zhang, Ren & Sun 2016 (arXiv 1512.03385), section 4.2, with parameter-free shortcuts
    (option A); torch's default initial weights.
    """
    return _resnet(3, num_classes, seed)


def resnet44(num_classes: int = 10, *, seed: int | None = None) -> nn.Sequential:
    """ResNet-44: :func:`resnet20` with seven blocks a stage instead of three; 658,586 parameters."""
    return _resnet(7, num_classes, seed)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; where the shape changes, the shortcut drops every other pixel
    and pads the channels with zeros."""

    def __init__(self, inputs: int, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.stride = width // inputs
        self.conv1 = _convolution(inputs, width, generator, self.stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, generator)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        extra = (y.shape[1] - x.shape[1]) // 2
        shortcut = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, extra, extra))
        return relu(y + shortcut)


def _resnet(blocks: int, num_classes: int, seed: int | None) -> nn.Sequential:
    generator = None if seed is None else seeded(seed)
    layers: list[nn.Module] = [_convolution(3, 16, generator), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            layers.append(Block(inputs, width, generator))
            inputs = width
    head = initialise(nn.utils.skip_init(nn.Linear, 64, num_classes), generator)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def _convolution(inputs: int, width: int, generator: torch.Generator | None, stride: int = 1) -> nn.Module:
    options = {"kernel_size": 3, "stride": stride, "padding": 1, "bias": False}
    return initialise(nn.utils.skip_init(nn.Conv2d, inputs, width, **options), generator)
