"""The networks of lessons and experiments; ours are plain ``nn.Sequential`` that can be read at a glance."""

from orthoviz.models.cnn import BASIC_CNN_LAYERS, basic_cnn, digits_cnn, initialised
from orthoviz.models.named import OURS, TORCHVISION, named
from orthoviz.models.resnet import resnet20, resnet44
from orthoviz.models.speedrun import speedrun_cnn

__all__ = [
    "BASIC_CNN_LAYERS",
    "OURS",
    "TORCHVISION",
    "basic_cnn",
    "digits_cnn",
    "initialised",
    "named",
    "resnet20",
    "resnet44",
    "speedrun_cnn",
]
