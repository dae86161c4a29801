"""The networks of lessons and experiments; ours are plain ``nn.Sequential`` that can be read at a glance."""

from orthoviz.models.by_name import OURS, TORCHVISION, build
from orthoviz.models.cnn import BASIC_CNN_LAYERS, basic_cnn, digits_cnn, digits_mlp, initialise
from orthoviz.models.gpt import gpt
from orthoviz.models.resnet import resnet8, resnet20, resnet44
from orthoviz.models.speedrun import speedrun_cnn

__all__ = [
    "BASIC_CNN_LAYERS", "OURS", "TORCHVISION", "basic_cnn", "build", "digits_cnn", "digits_mlp", "gpt",
    "initialise", "resnet8", "resnet20", "resnet44", "speedrun_cnn",
]  # fmt: skip
