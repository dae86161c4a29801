"""torchvision's networks, as they are, with weights from a seed."""

from collections.abc import Callable

import torch
from torch import nn

from orthoviz.models.cnn import basic_cnn, digits_cnn
from orthoviz.models.gpt import gpt
from orthoviz.models.resnet import resnet8, resnet20, resnet44
from orthoviz.seeds import small

OURS: dict[str, Callable[..., nn.Module]] = {"basic_cnn": basic_cnn, "digits_cnn": digits_cnn}
OURS |= {"resnet8": resnet8, "resnet20": resnet20, "resnet44": resnet44, "gpt": gpt}

# Those of the paper's Table 1; ResNet-34 is that of its ImageNet experiment too.
TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "densenet121", "densenet161", "resnext50_32x4d"),
    "wide_resnet50_2",
)


def build(name: str, num_classes: int | None = None, *, seed: int | None = None) -> nn.Module:
    """A network by name: this package's own, or one of torchvision's.

    Args:
        num_classes: size of the last layer. None: ten, and for torchvision's networks 1,000, which is how the
            paper trained them on CIFAR-10 too.
        seed: of the initial weights; the global random state is left as it is. None: torch's own.

    Raises:
        ValueError: there is no such network; the message gives the nearest names.
    """
    if name in OURS:
        return OURS[name](num_classes or 10, seed=seed)
    if name not in TORCHVISION:
        raise ValueError(f"there is no model {name!r}; there is: {', '.join([*OURS, *TORCHVISION])}")
    import torchvision  # type: ignore[import-untyped]

    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(small(seed))
        model: nn.Module = torchvision.models.get_model(name, num_classes=num_classes or 1000)
    return model
