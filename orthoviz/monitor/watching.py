"""What to watch: which matrices of a model, under which names, and which of their quantities."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from orthoviz.measures.quantities import stages_of
from orthoviz.monitor.frames import Labels
from orthoviz.monitor.layers import find_layers
from orthoviz.monitor.monitor import Monitor
from orthoviz.monitor.recorder import Recorder


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    every: int = 1,
    quantities: str | Iterable[str] = "lecture",
    layers: Iterable[str] | str | None = None,
    probe: Any = None,
    run: str = "",
    seed: int | None = None,
    stream: str | Path | None = None,
) -> Monitor:
    """Watch a model's weight matrices while an optimiser moves them, without a change to the loop.

    Use it as ``with ov.watch(model, optimizer) as monitor:``, or call ``start`` and ``stop``. Training is the
    same to the last bit: weights, optimiser state, random numbers, batch-norm statistics. If a measurement
    fails, the monitor warns, stops watching, and keeps what it has. Under torch.distributed rank 0 watches
    alone.

    Args:
        model: any module; compiled and DistributedDataParallel models are looked into. Layers are named by
            their weights, and which matrix a weight is, is read as :func:`orthoviz.param_groups` does.
        optimizer: any ``torch.optim.Optimizer`` over the model's parameters. This package's own, and those
            under ``ov.orthogonalise``, also show the stage "orthogonal"; "momentum" is there where they have
            a ``momentum_buffer``. None: nothing is measured but when ``monitor.collect()`` is called.
        every: measure at steps 0, every, 2 * every, ...
        quantities: ``"lecture"`` (filter cosine, spectra of gradient and step, step inflation, update ratio),
            ``"research"`` (also spectra of factor and momentum, ranks, direction gain and alignment of the
            factor with what it was made from, ``scale`` included, dead units and feature cosine),
            ``"everything"``, or names from ``ov.monitor.QUANTITIES``, each at all of its stages or at one:
            ``"weight.stable_rank"``. ``"loss_change"`` compares the losses logged at a measured step and at
            the next: of one batch (all data, say) it tells how far the first order holds, of two batches
            mostly how they differ.
        layers: patterns of names to watch (``"layer1.*"``), of weights or modules. Default: all matrices.
        probe: what the model is called with to look at activations, in eval mode: a batch of inputs, or a
            tuple of arguments, or a dict of keyword arguments. The activation of a layer is the first
            activation function that its output reaches, if that has as many channels; one that runs several
            times gets the mean.
        run, seed: labels of this run in the frame.
        stream: a new folder that gets a Parquet file at every collection, so that a killed run keeps what it
            had; ``ov.monitor.read`` reads it. What is written does not stay in memory.

    Returns:
        A :class:`Monitor`; ``.frame()`` is what it saw.

    Raises:
        ValueError: an argument has a value that does not exist; the model has no matrix; the optimiser holds
            none of the model's parameters; the model does not take the probe; the folder is not empty.
        TypeError: parameters are sharded (DTensor), which is not supported.
    """
    model = _unwrap(model)
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):  # as Accelerate wraps it
        optimizer = optimizer.optimizer  # type: ignore[union-attr]
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    wanted = stages_of(quantities)
    without = [name for name, stages in wanted.items() if "activation" in stages and probe is None]
    if without:
        warnings.warn(
            f"without a probe there is no {', '.join(without)}: pass probe=images, a fixed batch",
            stacklevel=2,
        )
    return Monitor(
        model,
        optimizer,
        every,
        wanted,
        *find_layers(model, optimizer, layers),
        probe,
        Recorder(Labels(run, _label(optimizer), seed), None if stream is None else Path(stream)),
        silent=torch.distributed.is_initialized() and torch.distributed.get_rank() > 0,
    )


def _unwrap(model: nn.Module) -> nn.Module:
    """The model under torch.compile and data parallelism."""
    if isinstance(model, DistributedDataParallel | nn.DataParallel):
        return _unwrap(model.module)
    inner = getattr(model, "_orig_mod", None)
    return model if inner is None else _unwrap(inner)


def _label(optimizer: Optimizer | None) -> str:
    """An optimiser's name in legends: "SGD", "orthogonal SGD", "orthogonal AdamW"."""
    if optimizer is None:
        return ""
    name = type(optimizer).__name__
    if "register_stage_hook" in vars(optimizer):  # under ov.orthogonalise
        return f"orthogonal {name}"
    return name.replace("Orthogonal", "orthogonal ", 1)
