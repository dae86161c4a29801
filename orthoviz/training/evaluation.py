"""What a model scores, and whether it can be trained on a data set at all."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from orthoviz.datasets import Data, Dataset
from orthoviz.training.processes import rank_and_size

# Of outputs and targets, a mean over the batch.
Loss = Callable[[Tensor, Tensor], Tensor]


class Metric(NamedTuple):
    """What is judged beside the loss.

    Attributes:
        of: of outputs and targets: a value an example, or their mean.
        higher: whether higher is better.
    """

    name: str
    of: Loss
    higher: bool = True


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of logits ``(N, ..., classes)`` and labels ``(N, ...)``: of images, or of the tokens of a text."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of each example, the share of its labels that are found."""
    right = (outputs.argmax(-1) == targets).float()
    return right.flatten(1).mean(1) if right.ndim > 1 else right


ACCURACY = Metric("accuracy", _right)


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, *, loss: Loss = cross_entropy, metric: Metric | None = ACCURACY
) -> dict[str, float]:
    """The mean loss and metric over what there is to test on, and over what is held out.

    The model ends in eval mode. On several processes each looks at its share, and the means are exact.
    """
    model.eval()
    rank, ranks = rank_and_size()
    device = next(model.parameters()).device
    measures = {"loss": loss} | ({metric.name: metric.of} if metric else {})
    found: dict[str, float] = {}
    for name, split in data.splits().items():
        if name == "train":
            continue
        sums = torch.zeros(1 + len(measures), dtype=torch.float64 if device.type != "mps" else torch.float32)
        sums = sums.to(device)
        for inputs, targets in data.in_order(split, device=device, rank=rank, ranks=ranks):
            outputs, count = model(inputs), len(targets)
            values = [of(outputs, targets) for of in measures.values()]
            totals = [value.sum() if value.ndim else value * count for value in values]
            sums += torch.stack([torch.tensor(float(count), device=device), *totals])
        if ranks > 1:
            dist.all_reduce(sums)
        seen, *means = sums.tolist()
        found |= {f"{name}_{key}": total / seen for key, total in zip(measures, means, strict=True)}
    return found


def judged_by(data: Data, metric: Metric | None) -> Metric | None:
    """What is judged beside the loss: a metric that is given; else accuracy, where targets are labels."""
    labels = not data.example()[1].is_floating_point()
    return metric or (ACCURACY if labels else None)


def judgement(
    data: Data, loss: Loss | None, metric: Metric | None
) -> tuple[Loss, Callable[[nn.Module, Data], dict[str, float]]]:
    """What to train by, and how to evaluate: by default cross-entropy and accuracy, where targets are labels.

    Raises:
        ValueError: they are not, and no loss is given.
    """
    if not data.example()[1].is_floating_point():
        return loss or cross_entropy, partial(evaluate, metric=judged_by(data, metric))
    if loss is None:
        raise ValueError(
            f"{data.name}'s targets are numbers, not labels: give a loss, such as "
            "loss=torch.nn.functional.mse_loss"
        )
    return loss, partial(evaluate, loss=loss, metric=metric)


def check_fits(
    model: nn.Module, optimizer: Optimizer, data: Data, *, epochs: float, batch_size: int, accumulate: int = 1
) -> None:
    """Raise ValueError where these cannot be trained together, before anything has changed."""
    for name, value in (("batch_size", batch_size), ("accumulate", accumulate)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    count = data.count
    if not epochs * count > 0 or round(epochs * data.steps(batch_size)) < 1:
        raise ValueError(f"epochs must be at least a step of batch_size {batch_size:,}, got {epochs}")
    if batch_size > count:
        raise ValueError(
            f"batch_size {batch_size:,} is larger than {data.name}'s {count:,} training examples"
        )
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
    example = data.example()[0].to(weight.device)
    example = example.to(weight.dtype) if example.is_floating_point() else example
    try:
        with torch.no_grad():
            logits = model(example)
    except RuntimeError as error:
        shape = " x ".join(map(str, example.shape[1:]))
        raise ValueError(f"the model does not take {data.name}'s inputs of {shape}: {error}") from error
    finally:
        model.train(was_training)
    # more classes are allowed: ImageNet's 1,000 for ten
    images = isinstance(data, Dataset) and data.mean
    if images and (logits.ndim != 2 or logits.shape[1] < len(data.classes)):
        raise ValueError(
            f"the model turns an image into {tuple(logits.shape[1:])} numbers, "
            f"{data.name} has {len(data.classes)} classes"
        )
