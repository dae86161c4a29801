"""What makes a comparison fair: the same start, steps as long, seconds as many."""

import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from orthoviz.datasets import Data
from orthoviz.files import write_json
from orthoviz.matrices import ParamGroups, param_groups
from orthoviz.optim.named import Make, label_of
from orthoviz.optim.wrap import following
from orthoviz.training.loop import steps, to_device
from orthoviz.training.outcomes import Rate
from orthoviz.training.records import describe

_TIMED = 10  # steps of each optimiser in a round of timing, at most
_PATIENCE = 3.0  # seconds that they may take
_ROUNDS = 3
_CLOSE, _LEAST_CLOSE, _SEARCHES = 0.01, 0.1, 5  # how nearly steps are made equal

# What makes a scheduler from an optimiser and the number of steps of its run.
Schedule = Callable[[Optimizer, int], LRScheduler]

# What makes a network at its start and its optimiser, from an optimiser's name, its rate and a seed.
Start = Callable[[str, Rate, int], tuple[nn.Module, Optimizer]]


def starter(
    make_model: Callable[[int], nn.Module],
    optimizers: Mapping[str, Make],
    groups: Callable[[nn.Module], ParamGroups] = param_groups,
) -> Start:
    """What begins the runs of a comparison; those of the same seed start from the same weights."""

    def start(name: str, rate: Rate, seed: int) -> tuple[nn.Module, Optimizer]:
        network = make_model(seed)
        make, lr = at_rate(optimizers[name], rate)
        return network, make(groups(network), lr)

    return start


def at_rate(make: Make, rate: Rate) -> tuple[Make, float]:
    """What makes an optimiser, and with which learning rate; of two rates the second is given to the groups
    of the rest.

    Raises:
        ValueError: when it makes one of groups that do not tell the rest.
    """
    if not isinstance(rate, tuple):
        return make, rate
    lr, rest_lr = rate

    def with_rest(groups: ParamGroups, lr: float) -> Optimizer:
        rest = [isinstance(group, dict) and group.get("layout", "not told") is None for group in groups]
        if not any(rest):
            raise ValueError(
                "rest_lr needs a group with layout None, as ov.param_groups(model) has; got none"
            )
        # torch's optimisers take a group's own rate before theirs
        both = zip(groups, rest, strict=True)
        return make(ParamGroups(group | {"lr": rest_lr} if own else group for group, own in both), lr)

    return with_rest, lr


def step_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of :func:`orthoviz.training.fit`'s options that a step has too."""
    return {key: options[key] for key in ("loss", "precision", "accumulate", "device") if key in options}


def _begin(
    network: nn.Module, optimizer: Optimizer, data: Data, how: Mapping[str, Any], epochs: float = 1,
    schedule: Schedule | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Train for some epochs as :func:`fit` does, without looking; yields every step's loss."""
    options = {key: value for key, value in how.items() if key != "device"}
    to_device(network, how.get("device"))
    count = round(epochs * data.steps(how["batch_size"]))
    options["scheduler"] = None if schedule is None else schedule(optimizer, count)
    with following(optimizer, how.get("precision")):
        parts = (
            steps(network, optimizer, data, seed=0, epoch=epoch, **options) for epoch in itertools.count(1)
        )
        yield from itertools.islice(itertools.chain.from_iterable(parts), count)


def milliseconds(start: Start, names: Iterable[str], data: Data, how: Mapping[str, Any]) -> dict[str, float]:
    """Of a training step with each optimiser: medians over rounds in which they take turns.

    Args:
        how: batch size and other options of :func:`orthoviz.training.steps`.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in list(times) * _ROUNDS:
        run = _begin(*start(name, 1e-3, 0), data, how)
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
    start: Start, names: Iterable[str], data: Data, how: Mapping[str, Any],
    epochs: float | None, minutes: float | None, *, equal_seconds: bool,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """The epochs of each optimiser's runs; and the milliseconds of its steps, where time was asked for."""
    per_epoch = data.steps(how["batch_size"])
    if minutes is None and not equal_seconds:
        return dict.fromkeys(names, round((epochs or 0) * per_epoch) / per_epoch), {}
    ms = milliseconds(start, names, data, how)
    budget = 60_000 * minutes if minutes is not None else (epochs or 0) * per_epoch * min(ms.values())
    longest = max(ms.values())
    counts = {name: budget / (each if equal_seconds else longest) for name, each in ms.items()}
    return {name: max(1, round(count)) / per_epoch for name, count in counts.items()}, ms


def known_steps(done: pd.DataFrame | None, lr: float, batch_size: int) -> dict[str, tuple[float, float]]:
    """The rates and lengths that finished runs tell, if their first optimiser had this rate."""
    if done is None or "step_length" not in done:
        return {}
    rows = done[done["batch_size"] == batch_size]
    told = rows[["optimizer", "lr", "step_length"]].itertuples(index=False)
    known = {str(name): (rate, length) for name, rate, length in told}
    return known if lr in {rate for rate, _ in known.values()} else {}


def equal_steps(
    start: Start, lr: float, data: Data, epochs: Mapping[str, float], schedule: Schedule | None,
    how: Mapping[str, Any], file: Path | None, known: Mapping[str, tuple[float, float]],
) -> tuple[dict[str, list[float]], dict[str, float]]:  # fmt: skip
    """The rate at which each optimiser's steps are as long as the first's at ``lr``; and how long they are.

    Args:
        epochs: of each optimiser's runs.
        how: batch size and other options of a step.
        file: keeps what was found, for a comparison that goes on.
        known: what is known of runs that are finished.

    Raises:
        ValueError: there is no such rate.
    """
    asked = {
        "lr": lr,
        "epochs": dict(epochs),
        "batch_size": how["batch_size"],
        "schedule": describe(schedule),
    }
    found: dict[str, Any] = dict(known)
    if file is not None and file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        found = stored["found"] if stored["asked"] == asked else found

    def length(name: str, rate: float) -> float:
        return _step_length(*start(name, rate, 0), data, epochs[name], schedule, how)

    first, *others = epochs
    if first not in found:
        found[first] = lr, length(first, lr)
    right = found[first][1]
    for name in others:
        if name in found:
            continue
        rate, now = lr, length(name, lr)
        for _ in range(_SEARCHES):  # a step's length is nearly, not quite, proportional to the rate
            if abs(now / right - 1) < _CLOSE or not now:
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
        write_json(file, {"asked": asked, "found": found})
    return {name: [found[name][0]] for name in epochs}, {name: found[name][1] for name in epochs}


def _step_length(
    network: nn.Module, optimizer: Optimizer, data: Data, epochs: float, schedule: Schedule | None,
    how: Mapping[str, Any],
) -> float:  # fmt: skip
    """The mean length of a step, all parameters together, over a whole run."""
    lengths = []
    to_device(network, how.get("device"))
    before = [p.detach().clone() for p in network.parameters()]
    for _ in _begin(network, optimizer, data, how, epochs, schedule):
        after = [p.detach().clone() for p in network.parameters()]
        pieces = [(a - b).norm() for a, b in zip(after, before, strict=True)]
        lengths.append(float(torch.stack(pieces).norm()))
        before = after
    return statistics.mean(lengths)
