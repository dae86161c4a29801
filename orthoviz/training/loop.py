"""The training loop, read from top to bottom."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from orthoviz.datasets import Data, as_data
from orthoviz.monitor import Monitor
from orthoviz.optim.wrap import following
from orthoviz.training.evaluation import Loss, Metric, check_fits, cross_entropy, judgement
from orthoviz.training.processes import rank_and_size, requests, say
from orthoviz.training.progress import Progress, Stop
from orthoviz.training.records import Folder, describe, describe_schedule, open_folder, run_config

_PRECISIONS = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
_LOOK = 50  # steps between two looks at the losses: each waits for the device
_SAVE = 300.0  # seconds between two checkpoints within an epoch


@dataclass
class Run:
    """What a training run leaves.

    Attributes:
        history: a row an epoch, the first before training: ``epoch`` and ``step`` done, ``train_loss`` and
            ``test_loss`` (``test_loss``: cross-entropy in nats), ``test_accuracy`` (0 to 1), the same two
            with ``valid_`` where images are held out, ``seconds`` of training.
        seconds: time spent training, without evaluation and checkpoints.
        stopped: why the run ended before its last epoch, or None.
    """

    history: pd.DataFrame
    model: nn.Module
    seconds: float
    stopped: Stop | None


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    data: Any,
    *,
    epochs: float,
    batch_size: int = 256,
    loss: Loss | None = None,
    metric: Metric | None = None,
    evaluation: Callable[[nn.Module, Data], dict[str, float]] | None = None,
    scheduler: LRScheduler | None = None,
    monitor: Monitor | None = None,
    precision: str | None = None,
    compile: bool = False,
    accumulate: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Run:
    """Train ``model`` in place, and evaluate it on the test images after every epoch.

    Ctrl-C and SIGTERM end the run after the step it is in and keep what was done; so does a training loss
    that is no longer finite. With ``out`` a run that was stopped or killed goes on with ``resume=True``, on a
    CPU bit for bit as if nothing had happened: checkpoints are written after every epoch, every five minutes
    and when it is stopped.

    Under ``torchrun`` (an initialised ``torch.distributed``) every process works on its part of each batch,
    and the result is that of one process up to rounding; only batch-norm takes its statistics from a
    process's own part.

    Args:
        model: takes ``(N, C, H, W)`` float images to logits ``(N, classes)``, or other inputs to outputs.
        optimizer: any torch optimiser over (some of) the model's parameters.
        data: a data set of :func:`orthoviz.datasets.load`, or one's own, as tensors or DataLoaders: see
            :func:`orthoviz.datasets.as_data`.
        epochs: passes over what there is to train on; 2.5 ends half-way through the third.
        batch_size: examples a step, over all processes; an epoch's last batch may be smaller. DataLoaders
            have their own.
        loss: of outputs and targets, a mean over the batch. None: cross-entropy, where targets are labels.
        metric: what is judged beside the loss. None: accuracy, where targets are labels.
        evaluation: of the model and the data, after every epoch. Default: :func:`evaluate`. Of labels its
            loss is cross-entropy whatever ``loss`` is, so that runs with other losses can be compared.
        scheduler: of torch; stepped after every step, so its milestones are steps.
        monitor: what :func:`orthoviz.watch` made; it gets every step's loss, and how many epochs are done.
            A ``with`` block around this call starts and stops it.
        precision: ``"bf16"`` or ``"fp16"`` autocast, the latter with a GradScaler. Optimisers that
            orthogonalise have it as ``tol`` meanwhile, where none was chosen. None: float32.
        compile: train through ``torch.compile``.
        accumulate: parts that a batch is worked on in, one after the other, with less memory.
        out: folder of the run, for ``config.json``, ``history.csv``, ``provenance.json`` and the last two
            checkpoints.
        resume: go on with the run in ``out``, if there is one.
        device: where to train. None: CUDA where there is one, else the CPU.
        seed: of the batches (their order, crops and flips).
        progress: show a bar.

    Raises:
        ValueError: the optimiser holds parameters that are not the model's; the model does not take
            the data set's images; a number is below 1; the batch is larger than the data; ``out`` holds
            another run, or this one is going on there.
        RuntimeError: out of memory; the message says what to reduce.
        OSError: a checkpoint could not be written. The last one is as it was.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be None, 'bf16' or 'fp16', got {precision!r}")
    data = as_data(data)
    loss, judge = judgement(data, loss, metric)
    batch_size = data.batch_size or batch_size
    check_fits(model, optimizer, data, epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    device = to_device(model, device)
    data, evaluation = data.to(device), evaluation or judge
    scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
    options: Any = dict(batch_size=batch_size, accumulate=accumulate, precision=precision, seed=seed)
    how = dict(loss=loss, scheduler=scheduler, scaler=scaler, monitor=monitor, **options)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    at, stopped = Progress(data.steps(batch_size), parts, monitor), None
    in_all = round(epochs * at.per_epoch)
    config = options | {"loss": describe(loss), "schedule": describe_schedule(scheduler, in_all)}
    opened = open_folder(out, partial(run_config, model, optimizer, data, config), data.source, resume=resume)
    with following(optimizer, precision), opened as folder, requests() as asked:
        at.begin(folder, device, in_all, partial(evaluation, model, data))
        network, started = _network(model, compile), at.steps
        with _bar(epochs, at, data, batch_size, shown=progress) as bar, _memory(options):
            while at.steps < in_all and not stopped:
                losses = steps(network, optimizer, data, epoch=at.epoch, start=at.step, **how)
                losses = itertools.islice(losses, in_all - at.steps)
                stopped = _train_epoch(losses, at, asked, folder, lambda: bar.update(batch_size))
                diverged = stopped is not None and stopped.kind == "diverged"
                if at.step == at.per_epoch or at.steps == in_all or diverged:
                    within = at.step < at.per_epoch and not diverged
                    at.end_epoch(scores := evaluation(model, data), within=within)
                    bar.set_postfix({key: f"{value:.3f}" for key, value in scores.items()})
                    folder.write_history(at.rows)
                    if not stopped and (word := asked()) and at.steps < in_all:
                        stopped = Stop(word, at.epoch - 1, at.per_epoch, f"{word} after epoch {at.epoch - 1}")
                if folder and not diverged:
                    at.save(folder)
        if at.steps > started or stopped:
            folder.close(at.rows, str(stopped) if stopped else None)
    if stopped:
        say(f"Stopped: {stopped}." + (" To go on: resume=True, or --resume." if out else ""))
    return Run(pd.DataFrame(at.rows), model, at.rows[-1]["seconds"], stopped)


def _train_epoch(
    losses: Iterator[Tensor], at: Progress, asked: Callable[..., str | None], folder: Folder,
    update: Callable[[], Any],
) -> Stop | None:  # fmt: skip
    """Take the steps of an epoch, until it ends, somebody asks the run to end, or its loss is not finite."""
    began = time.perf_counter()
    stopped = None
    for value in losses:
        at.losses.append(value)
        at.step += 1
        update()
        if at.step % _LOOK == 0 and at.find_divergence():
            break
        word = asked(due=bool(folder) and time.perf_counter() - at.saved > _SAVE)
        if word == "due" and not at.find_divergence():
            at.seconds += time.perf_counter() - began
            at.save(folder)
            began = time.perf_counter()
        elif word and word != "due" and at.step < at.per_epoch:
            where = f"{word} in epoch {at.epoch}, at step {at.step} of {at.per_epoch}"
            stopped = Stop(word, at.epoch, at.step, where)
            break
    at.seconds += time.perf_counter() - began
    return at.find_divergence() or stopped


def steps(
    model: nn.Module,
    optimizer: Optimizer,
    data: Data,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    loss: Loss = cross_entropy,
    scheduler: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    precision: str | None = None,
    accumulate: int = 1,
    monitor: Monitor | None = None,
) -> Iterator[Tensor]:
    """Train for one epoch on the model's device, yielding every step's loss (a scalar on that device).

    Args as for :func:`fit`; ``start`` steps of the epoch are taken as done.
    """
    device = next(model.parameters()).device
    rank, ranks = rank_and_size()
    left = data.count - start * batch_size
    for inputs, targets in data.batches(
        batch_size, seed=seed, epoch=epoch, device=device, start=start, rank=rank, ranks=ranks
    ):
        model.train()
        optimizer.zero_grad()
        chunks = list(zip(inputs.chunk(accumulate), targets.chunk(accumulate), strict=True))
        whole = min(batch_size, left) if ranks > 1 else len(targets)
        total = torch.zeros((), device=device)
        for i, (some, answers) in enumerate(chunks):
            # A mean over the whole batch: of parts with different sizes, on several processes
            weight = len(answers) * ranks / whole
            last = i == len(chunks) - 1
            with nullcontext() if last or ranks == 1 else model.no_sync():  # type: ignore[operator]
                with torch.autocast(device.type, _PRECISIONS[precision], enabled=precision is not None):
                    part = loss(model(some), answers)
                part = part if weight == 1 else part * weight
                (part if scaler is None else scaler.scale(part)).backward()
            total += part.detach()
        left -= batch_size
        if monitor is not None:
            monitor.log(loss=total)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        if scheduler is not None:
            scheduler.step()
        yield total


def to_device(model: nn.Module, device: torch.device | str | None) -> torch.device:
    """Bring the model to the device, and say which that is."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return device


def _network(model: nn.Module, compiled: bool) -> nn.Module:
    """The model as it is trained; its weights stay the model's own."""
    network: nn.Module = DistributedDataParallel(model) if rank_and_size()[1] > 1 else model
    return torch.compile(network) if compiled else network  # type: ignore[return-value]


@contextmanager
def _memory(options: dict[str, Any]) -> Iterator[None]:
    """Out of memory, said with what to do."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise RuntimeError(
            f"out of memory at batch size {options['batch_size']}, in {options['accumulate']} part(s). The "
            f"same steps need less with accumulate={2 * options['accumulate']} (--accumulate), or with "
            "precision='bf16' (--precision); a smaller batch size is another run"
        ) from error


def _bar(epochs: float, at: Progress, data: Data, batch_size: int, *, shown: bool) -> Any:
    """Examples a second, and the time left."""
    count = data.count
    return tqdm(
        total=round(epochs * count), initial=(at.epoch - 1) * count + at.step * batch_size, unit=" examples",
        unit_scale=True, leave=False, delay=3, disable=None if shown and rank_and_size()[0] == 0 else True,
    )  # fmt: skip
