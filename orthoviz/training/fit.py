"""The training loop, read from top to bottom."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from tqdm.auto import tqdm

from orthoviz.datasets import Dataset, batches, whole
from orthoviz.monitor import Monitor


@dataclass
class Run:
    """What a training run leaves."""

    history: pd.DataFrame
    """A row an epoch, the first before training: ``epoch`` and ``step`` done, ``train_loss`` and
    ``test_loss`` (cross-entropy in nats), ``test_accuracy`` (0 to 1), ``seconds`` of training."""
    model: nn.Module
    seconds: float
    """Time spent training, without evaluation."""
    stopped: str | None
    """Why the run ended before its last epoch, or None."""


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int = 256,
    monitor: Monitor | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Run:
    """Train ``model`` in place with cross-entropy, and evaluate it on the test images after every epoch.

    Ctrl-C ends the run and keeps what was done: the history of the finished epochs, and the model
    as it is. So does a training loss that is no longer finite.

    Args:
        model: takes ``(N, C, H, W)`` float images to logits ``(N, classes)``.
        optimizer: any torch optimiser over (some of) the model's parameters.
        data: see :func:`orthoviz.datasets.load`.
        epochs: passes over the training images.
        batch_size: images a step; an epoch's last batch may be smaller.
        monitor: what :func:`orthoviz.watch` made; it gets every step's loss, and how many epochs are done.
            A ``with`` block around this call starts and stops it.
        device: where to train. None: CUDA where there is one, else the CPU.
        seed: of the batches (their order, crops and flips).
        progress: show a bar.

    Raises:
        ValueError: the optimiser holds parameters that are not the model's; the model does not take
            the data set's images; ``epochs`` or ``batch_size`` is below 1.
    """
    check_fits(model, optimizer, data, epochs=epochs, batch_size=batch_size)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    data = data.to(device)
    rows = [{"epoch": 0, "step": 0, "train_loss": math.nan, **evaluate(model, data), "seconds": 0.0}]
    stopped = None
    per_epoch = math.ceil(len(data.train.labels) / batch_size)
    bar = tqdm(
        total=epochs * per_epoch, unit="step", leave=False, delay=1, disable=None if progress else True
    )
    if monitor is not None:
        monitor.epoch = 0
    try:
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            losses = []
            run = steps(
                model, optimizer, data, batch_size=batch_size, seed=seed, epoch=epoch, monitor=monitor
            )
            for loss in run:
                losses.append(loss)
                bar.update()
            train_loss = torch.stack(losses).mean().item()
            seconds = rows[-1]["seconds"] + time.perf_counter() - started
            if monitor is not None:
                monitor.epoch = epoch
            row = {"epoch": epoch, "step": epoch * per_epoch, "train_loss": train_loss}
            rows.append({**row, **evaluate(model, data), "seconds": seconds})
            bar.set_postfix(test_accuracy=f"{rows[-1]['test_accuracy']:.3f}")
            if not math.isfinite(train_loss):
                stopped = f"the training loss is {train_loss} in epoch {epoch}: try a smaller learning rate"
                break
    except KeyboardInterrupt:
        stopped = f"interrupted in epoch {len(rows)}"
    bar.close()
    if stopped:
        print(f"Stopped: {stopped}.")
    return Run(pd.DataFrame(rows), model, rows[-1]["seconds"], stopped)


def steps(
    model: nn.Module,
    optimizer: Optimizer,
    data: Dataset,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    monitor: Monitor | None = None,
) -> Iterator[Tensor]:
    """Train for one epoch on the data's device, yielding every step's loss (a scalar on that device)."""
    device = data.train.images.device
    for images, labels in batches(data, batch_size, seed=seed, epoch=epoch, device=device):
        model.train()
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        if monitor is not None:
            monitor.log(loss=loss)
        optimizer.step()
        yield loss.detach()


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) on the test images; the model ends in eval mode."""
    model.eval()
    loss = correct = torch.zeros((), device=data.test.images.device)
    for images, labels in whole(data, data.test, device=data.test.images.device):
        logits = model(images)
        loss = loss + cross_entropy(logits, labels, reduction="sum")
        correct = correct + (logits.argmax(1) == labels).sum()
    count = len(data.test.labels)
    return {"test_loss": loss.item() / count, "test_accuracy": correct.item() / count}


def check_fits(
    model: nn.Module, optimizer: Optimizer, data: Dataset, *, epochs: int, batch_size: int
) -> None:
    """Raise ValueError where these cannot be trained together, before anything has changed."""
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
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
    if logits.shape != (1, len(data.classes)):
        raise ValueError(
            f"the model turns an image into {tuple(logits.shape[1:])} numbers, "
            f"{data.name} has {len(data.classes)} classes"
        )
