"""What a model scores, and whether it can be trained on a data set at all."""

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from orthoviz.datasets import Dataset, in_order
from orthoviz.training.processes import rank_and_size


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) on the test images, and on those held out.

    The model ends in eval mode. On several processes each looks at its share, and the means are exact.
    """
    model.eval()
    rank, ranks = rank_and_size()
    device = next(model.parameters()).device
    found: dict[str, float] = {}
    for name, split in (("valid", data.valid), ("test", data.test)):
        if split is None:
            continue
        sums = torch.zeros(2, dtype=torch.float64 if device.type != "mps" else torch.float32)
        sums = sums.to(device)
        for images, labels in in_order(data, split, device=device, rank=rank, ranks=ranks):
            logits = model(images)
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack((cross_entropy(logits, labels, reduction="sum"), right))
        if ranks > 1:
            dist.all_reduce(sums)
        total, correct = sums.tolist()
        count = len(split.labels)
        found |= {f"{name}_loss": total / count, f"{name}_accuracy": correct / count}
    return found


def check_fits(
    model: nn.Module,
    optimizer: Optimizer,
    data: Dataset,
    *,
    epochs: float,
    batch_size: int,
    accumulate: int = 1,
) -> None:
    """Raise ValueError where these cannot be trained together, before anything has changed."""
    for name, value in (("batch_size", batch_size), ("accumulate", accumulate)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    count = len(data.train.labels)
    if not epochs * count > 0 or round(epochs * math.ceil(count / batch_size)) < 1:
        raise ValueError(f"epochs must be at least a step of batch_size {batch_size:,}, got {epochs}")
    if batch_size > count:
        raise ValueError(f"batch_size {batch_size:,} is larger than {data.name}'s {count:,} training images")
    ranks = rank_and_size()[1]
    if 0 < count % batch_size < ranks:
        raise ValueError(
            f"the last batch of an epoch has {count % batch_size} images, too few for {ranks} processes: "
            "change batch_size"
        )
    own = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strangers = sum(id(p) not in own for p in held)
    if strangers:
        raise ValueError(
            f"{strangers} of the optimiser's {len(held)} parameters are not the model's: make the "
            "optimiser from this model's parameters"
        )
    was_training = model.training
    model.eval()
    weight = next(model.parameters())
    example = torch.zeros(1, *data.shape, device=weight.device, dtype=weight.dtype)
    shape = " x ".join(map(str, data.shape))
    try:
        with torch.no_grad():
            logits = model(example)
    except RuntimeError as error:
        raise ValueError(f"the model does not take {data.name}'s images of {shape}: {error}") from error
    finally:
        model.train(was_training)
    if logits.ndim != 2 or logits.shape[1] < len(data.classes):  # more are allowed: ImageNet's 1,000 for ten
        raise ValueError(
            f"the model turns an image into {tuple(logits.shape[1:])} numbers, "
            f"{data.name} has {len(data.classes)} classes"
        )
