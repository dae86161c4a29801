"""Small networks for the lessons; each is a plain ``nn.Sequential`` that can be read at a glance."""

from orthoviz.models.cnn import basic_cnn, digits_cnn

__all__ = ["basic_cnn", "digits_cnn"]
