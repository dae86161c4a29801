"""Stage 3: whole steps, the training loop beside bare passes, and watching."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
import torchvision

import orthoviz as ov
from benchmarks import loop, monitor, optim
from benchmarks.common import DEVICE
from benchmarks.gpu.stage import Rows, Task, timed

STEPS = {
    "BasicCNN, batch 128": (optim.MODELS["BasicCNN"], 128, 32),
    "resnet18, batch 128": (optim.MODELS["resnet18"], 128, 32),
    "resnet18, batch 1024": (optim.MODELS["resnet18"], 1024, 32),
    "vit_b_16, batch 64": (torchvision.models.vit_b_16, 64, 224),
}


def tasks(dry: bool, _: str) -> Iterator[Task]:
    for job in list(STEPS)[:1] if dry else STEPS:
        for name, make in optim.optimizers().items():
            yield Task(job, name, partial(step_row, job, make, dry))
    for optimizer in loop.OPTIMIZERS:
        yield Task("an epoch of BasicCNN", optimizer, partial(loop_rows, optimizer, dry))
    for model in list(monitor.MODELS)[: 1 if dry else None]:
        make, batch, count, _ = monitor.MODELS[model]
        setting = (make, 16, 2, 1) if dry else (make, batch, count, 5)
        yield Task("watching", model, partial(monitor.costs, model, setting))


def step_row(job: str, make: Callable[[Any], object], dry: bool) -> Rows:
    torch.manual_seed(0)
    build, batch, size = STEPS[job]
    model = build().to(DEVICE, memory_format=torch.channels_last)
    return [timed(optim.training_step(model, make(model), 16 if dry else batch, size), dry)]


def loop_rows(optimizer: str, dry: bool) -> Rows:
    works = loop.epochs(optimizer, random_data(dry))
    return [{"part": part, **timed(work, dry)} for part, work in works.items()]


@cache
def random_data(dry: bool) -> ov.datasets.Dataset:
    return loop.random_data(*((64, 64) if dry else (50_000, 10_000)))
