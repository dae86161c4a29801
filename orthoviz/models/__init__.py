"""The networks of lessons and experiments; each is a plain ``nn.Sequential`` that can be read at a glance."""

from orthoviz.models.cnn import basic_cnn, digits_cnn
from orthoviz.models.resnet import resnet20, resnet44

__all__ = ["basic_cnn", "digits_cnn", "resnet20", "resnet44"]
