"""What makes a comparison fair: the same start, steps as long, seconds as many."""

import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from orthoviz.datasets import Dataset
from orthoviz.files import write_json
from orthoviz.matrices import ParamGroups, param_groups
from orthoviz.optim.named import Make, label_of
from orthoviz.training.loop import steps

_TIMED = 10  # steps of each optimiser in a round of timing, at most
_PATIENCE = 3.0  # seconds that they may take
_ROUNDS = 3
_CLOSE, _LEAST_CLOSE, _SEARCHES = 0.01, 0.1, 5  # how nearly steps are made equal

Schedule = Callable[[Optimizer, int], LRScheduler]
"""What makes a scheduler from an optimiser and the number of steps of its run."""

Start = Callable[[str, float, int], tuple[nn.Module, Optimizer]]
"""What makes a network at its start and its optimiser, from an optimiser's name, its rate and a seed."""


def starter(
    make_model: Callable[[int], nn.Module],
    optimizers: Mapping[str, Make],
    groups: Callable[[nn.Module], ParamGroups] = param_groups,
) -> Start:
    """What begins the runs of a comparison; those of the same seed start from the same weights."""

    def start(name: str, lr: float, seed: int) -> tuple[nn.Module, Optimizer]:
        network = make_model(seed)
        return network, optimizers[name](groups(network), lr)

    return start


def step_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of :func:`orthoviz.training.fit`'s options that a step has too."""
    return {key: options[key] for key in ("loss", "precision", "accumulate") if key in options}


def milliseconds(
    start: Start, names: Iterable[str], data: Dataset, how: Mapping[str, Any]
) -> dict[str, float]:
    """Of a training step with each optimiser: medians over rounds in which they take turns.

    Args:
        how: batch size and other options of :func:`orthoviz.training.steps`.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in list(times) * _ROUNDS:
        run = steps(*start(name, 1e-3, 0), data, seed=0, epoch=1, **how)
        began = time.perf_counter()
        float(next(run))  # the first step warms up, and says how many there is time for
        count = min(_TIMED, max(1, int(_PATIENCE / (time.perf_counter() - began))))
        began = time.perf_counter()
        losses = list(itertools.islice(run, count))
        if losses:
            float(losses[-1])  # waits for the device
            times[name].append((time.perf_counter() - began) / len(losses))
    return {name: 1000 * statistics.median(values) if values else math.nan for name, values in times.items()}


def how_long(
    start: Start, names: Iterable[str], data: Dataset, how: Mapping[str, Any],
    epochs: float | None, minutes: float | None, *, equal_seconds: bool,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """The epochs of each optimiser's runs; and the milliseconds of its steps, where time was asked for."""
    if minutes is None and not equal_seconds:
        return dict.fromkeys(names, epochs or 0), {}
    ms = milliseconds(start, names, data, {key: value for key, value in how.items() if key != "schedule"})
    per_epoch = math.ceil(len(data.train.labels) / how["batch_size"])
    budget = 60_000 * minutes if minutes is not None else (epochs or 0) * per_epoch * min(ms.values())
    longest = max(ms.values())
    counts = {name: budget / (each if equal_seconds else longest) for name, each in ms.items()}
    return {name: max(1, round(count)) / per_epoch for name, count in counts.items()}, ms


def equal_steps(
    start: Start, lr: float, data: Dataset, epochs: Mapping[str, float], how: Mapping[str, Any],
    file: Path | None, done: pd.DataFrame | None,
) -> tuple[dict[str, list[float]], dict[str, float]]:  # fmt: skip
    """The rate at which each optimiser's steps are as long as the first's at ``lr``; and how long they are.

    Args:
        epochs: of each optimiser's runs.
        how: batch size, schedule and other options of a step.
        file: keeps what was found, for a comparison that goes on.
        done: rows of runs that tell it.

    Raises:
        ValueError: there is no such rate.
    """
    found: dict[str, Any] = {}
    if done is not None and "step_length" in done:
        told = done[["optimizer", "lr", "step_length"]].itertuples(index=False)
        found = {str(name): (lr, length) for name, lr, length in told}
    if file is not None and file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))

    def length(name: str, rate: float) -> float:
        return _step_length(*start(name, rate, 0), data, epochs[name], how)

    first, *others = epochs
    if first not in found:
        found[first] = lr, length(first, lr)
    right = found[first][1]
    for name in others:
        if name in found:
            continue
        rate, now = lr, length(name, lr)
        for _ in range(_SEARCHES):  # a step's length is nearly, not quite, proportional to the rate
            if abs(now / right - 1) < _CLOSE:
                break
            rate *= right / now
            now = length(name, rate)
        if not abs(now / right - 1) < _LEAST_CLOSE:
            raise ValueError(
                f"no rate makes the steps of {label_of(name)} as long as those of {label_of(first)}: at "
                f"{rate:.3g} they are {now:.4g}, not {right:.4g}"
            )
        found[name] = rate, now
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found)
    rates = {name: [found[name][0]] for name in epochs}
    return rates, {name: found[name][1] for name in epochs}


def _step_length(
    network: nn.Module, optimizer: Optimizer, data: Dataset, epochs: float, how: Mapping[str, Any]
) -> float:
    """The mean length of a step, all parameters together, over a whole run."""
    count = round(epochs * math.ceil(len(data.train.labels) / how["batch_size"]))
    schedule, how = how["schedule"], {key: value for key, value in how.items() if key != "schedule"}
    scheduler = None if schedule is None else schedule(optimizer, count)
    before, lengths = [p.detach().clone() for p in network.parameters()], []
    parts = (
        steps(network, optimizer, data, seed=0, epoch=epoch, scheduler=scheduler, **how)
        for epoch in itertools.count(1)
    )
    for _ in itertools.islice(itertools.chain.from_iterable(parts), count):
        after = [p.detach().clone() for p in network.parameters()]
        pieces = [(a - b).norm() for a, b in zip(after, before, strict=True)]
        lengths.append(float(torch.stack(pieces).norm()))
        before = after
    return statistics.mean(lengths)
