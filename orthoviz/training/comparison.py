"""Fair comparisons: the same start, the same batches, the same grid, several seeds."""

import copy
import itertools
import math
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from orthoviz.datasets import Dataset
from orthoviz.matrices import ParamGroups, param_groups
from orthoviz.monitor import watch
from orthoviz.optim.named import Make, label_of
from orthoviz.training.loop import fit, steps
from orthoviz.training.records import finished_epochs, segment
from orthoviz.verdicts import verdict

PROTOCOLS = ("equal_lr", "equal_step", "both_tuned", "equal_seconds")
_TIMED = 10  # steps of each optimiser in a round of timing, at most
_PATIENCE = 3.0  # seconds that they may take
_ROUNDS = 3


@dataclass(frozen=True)
class Comparison:
    """What a comparison found."""

    frame: pd.DataFrame
    """A row a run and epoch: ``optimizer``, ``lr``, ``seed`` and the columns of a run's history;
    where time was compared, ``seconds`` are steps times ``ms_per_step``, which was measured of each optimiser
    alone, in turns; ``chosen`` says whether the rate is the one that the verdict speaks of."""
    verdict: str
    """One sentence, with "better" only where no seed of one is as good as any of the other."""
    protocol: str
    rates: Mapping[str, float] = field(default_factory=dict)
    """The learning rate of each optimiser that the verdict speaks of."""


def compare(
    model: nn.Module | Callable[[int], nn.Module],
    data: Dataset,
    optimizers: Mapping[str, Make],
    *,
    protocol: str = "both_tuned",
    lrs: float | Sequence[float] | Mapping[str, Sequence[float]] = (0.003, 0.01, 0.03, 0.1),
    epochs: int | None = None,
    minutes: float | None = None,
    seeds: int | Iterable[int] = 3,
    batch_size: int = 256,
    out: str | Path | None = None,
    groups: Callable[[nn.Module], ParamGroups] = param_groups,
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
    watched: Mapping[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Train the same network with several optimisers, and say which is better, if that can be said.

    Every optimiser gets the same initial weights, the same batches in the same order, the same number of
    learning rates, and the same seeds.

    ===============  ==============================================================================
    protocol         learning rates, and what is compared
    ===============  ==============================================================================
    "equal_lr"       the first of ``lrs``, for all, as the paper does
    "equal_step"     the first of ``lrs`` for the first optimiser; for each other one the rate at which its
                     steps are as long, on average over its first steps
    "both_tuned"     each optimiser's best of ``lrs``, by the accuracy on held-out images
    "equal_seconds"  the same, after equally much training time: slower optimisers get fewer epochs
    ===============  ==============================================================================

    Args:
        model: a network, copied for every run; or what makes one from a seed.
        data: see :func:`orthoviz.datasets.load`. Where rates are chosen and nothing is held out yet, a tenth
            of the training images is.
        optimizers: name to ``make(groups, lr)``; ``groups`` is ``ov.param_groups(model)``, and works for any
            torch optimiser too.
        lrs: rates to try: one, several for all, or equally many for each by name.
        epochs: passes over the training images (of the fastest optimiser, at "equal_seconds").
        minutes: instead of epochs: training time of one run of the slowest optimiser, or at "equal_seconds"
            of every one. It is turned into epochs once, at the start.
        seeds: so many, or which.
        out: folder that keeps every run, so that a comparison that was stopped goes on where it was.
        groups: what makes the optimisers' groups from a network.
        schedule: makes a scheduler from an optimiser and the number of steps of its run.
        watched: options for :func:`orthoviz.watch`; what it sees is kept in each run's folder in ``out``.
        options: for :func:`fit`.

    Returns:
        A :class:`Comparison`; ``ov.plots.compare(comparison.frame)`` draws it.

    Raises:
        ValueError: an unknown protocol; not exactly one of ``epochs`` and ``minutes``; the grids differ in
            length; what :func:`fit` refuses.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be {', '.join(map(repr, PROTOCOLS))}, got {protocol!r}")
    if (epochs is None) == (minutes is None):
        raise ValueError("give either epochs or minutes")
    numbers = range(seeds) if isinstance(seeds, int) else list(seeds)
    if not numbers or not optimizers:
        raise ValueError("a comparison needs at least one seed and one optimiser")
    if len(set(map(label_of, optimizers))) < len(optimizers):
        raise ValueError(f"two of the optimisers have the same label: {', '.join(map(label_of, optimizers))}")
    grid = rates(optimizers, lrs)
    tuned = protocol in ("both_tuned", "equal_seconds")
    if tuned and data.valid is None:
        data = data.hold_out(max(1, len(data.train.labels) // 10))
    make_model = model if not isinstance(model, nn.Module) else lambda seed: copy.deepcopy(model)
    start = starter(make_model, optimizers, groups)
    how = {"batch_size": batch_size, **step_options(options)}
    timed = protocol == "equal_seconds" or minutes is not None
    how_long = dict.fromkeys(optimizers, epochs or 0)
    if timed:
        ms = milliseconds(start, optimizers, data, how)
        steps_each = math.ceil(len(data.train.labels) / batch_size)
        seconds = {name: steps_each * value / 1000 for name, value in ms.items()}
        how_long = _epochs(seconds, epochs, minutes, equal_seconds=protocol == "equal_seconds")
    if protocol == "equal_lr":
        grid = {name: rates[:1] for name, rates in grid.items()}
    elif protocol == "equal_step":
        first, *others = optimizers
        grid = _equal_steps(start, first, grid[first][0], others, data, how)
    runs = [(name, lr, seed) for seed in numbers for name in optimizers for lr in grid[name]]
    tables = []
    for name, lr, seed in tqdm(runs, unit=" runs", disable=None if progress else True, leave=False):
        folder = None if out is None else _folder(Path(out), name, lr, seed)
        given = dict(epochs=how_long[name], batch_size=batch_size, seed=seed, progress=progress, **options)
        history = _run(*start(name, lr, seed), data, folder, schedule, watched, given)
        tables.append(history.assign(optimizer=name, lr=lr, seed=seed, batch_size=batch_size))
    frame = pd.concat(tables, ignore_index=True)
    if timed:
        frame["ms_per_step"] = frame["optimizer"].map(ms)
        frame["seconds"] = frame["step"] * frame["ms_per_step"] / 1000
    by = "valid_accuracy" if tuned else "test_accuracy"
    best = {name: best_rate(frame[frame["optimizer"] == name], by) for name in optimizers}
    frame["chosen"] = frame["lr"] == frame["optimizer"].map(best)
    words = summary(frame[frame["chosen"]], protocol.replace("_", " "), best)
    return Comparison(frame, words, protocol, best)


def _run(
    network: nn.Module,
    optimizer: Optimizer,
    data: Dataset,
    folder: Path | None,
    schedule: Callable[[Optimizer, int], LRScheduler] | None,
    watched: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> pd.DataFrame:
    """The history of one run, which is watched where it has a folder."""
    epochs, monitor = options["epochs"], None
    if watched is not None and folder is not None and finished_epochs(folder) < epochs:
        monitor = watch(
            network, optimizer, run=folder.name, seed=options["seed"], stream=segment(folder), **watched
        )
    steps_each = epochs * math.ceil(len(data.train.labels) / options["batch_size"])
    options["scheduler"] = None if schedule is None else schedule(optimizer, steps_each)
    with monitor or nullcontext():
        run = fit(network, optimizer, data, monitor=monitor, out=folder, resume=folder is not None, **options)
    if run.stopped and run.stopped.kind != "diverged":
        raise KeyboardInterrupt(str(run.stopped))
    return run.history


def folder_names(optimizer: str, lr: float, seed: int) -> list[str]:
    """What the folder of a run is called, and what the first edition called it, which had labels there."""
    plain = (re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_") for name in (optimizer, label_of(optimizer)))
    return [f"{name}-lr{lr:g}-seed{seed}" for name in plain]


def _folder(out: Path, *run: Any) -> Path:
    """The folder of a run: the first edition's where there is one, so that it goes on."""
    today, before = (out / name for name in folder_names(*run))
    return before if before.exists() else today


def summary(frame: pd.DataFrame, heading: str, rates: Mapping[str, float]) -> str:
    """The verdict on the final test accuracies, with their means and learning rates.

    Args:
        frame: of one learning rate for each optimiser.
    """
    values = last_values(frame)
    means = {name: statistics.mean(some) for name, some in values.items()}
    says = ", ".join(
        f"{label_of(name)} {100 * means[name]:.1f} % (lr {rates[name]:.3g})"
        for name in sorted(means, key=lambda n: -means[n])
    )
    runs = {label_of(name): some for name, some in values.items()}
    found = f"{verdict(runs)}: " if len(runs) > 1 else ""
    return f"{heading}: {found}{says}"


def last_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    keys = [key for key in ("optimizer", "lr", "batch_size", "seed") if key in runs]
    last: pd.DataFrame = runs[runs["epoch"] == runs.groupby(keys)["epoch"].transform("max")]
    return last


def last_values(frame: pd.DataFrame, column: str = "test_accuracy") -> dict[str, list[float]]:
    """Each optimiser's values at the end of its runs, which are of one learning rate each."""
    return {str(name): some.tolist() for name, some in last_epochs(frame).groupby("optimizer")[column]}


def best_rate(runs: pd.DataFrame, by: str) -> float:
    """The rate of one optimiser's runs with the best mean at the end, by this column."""
    return float(str(last_epochs(runs).groupby("lr")[by].mean().idxmax()))


def rates(
    optimizers: Iterable[str], lrs: float | Sequence[float] | Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """The learning rates of each optimiser, equally many.

    Raises:
        ValueError: they are not, or the names differ.
    """
    given: Mapping[str, Any] = lrs if isinstance(lrs, Mapping) else dict.fromkeys(optimizers, lrs)
    if differ := set(optimizers) ^ set(given):
        raise ValueError(
            f"lrs and optimizers must have the same names; {', '.join(sorted(differ))} is in one"
        )
    grid = {
        name: [given[name]] if isinstance(given[name], int | float) else list(given[name])
        for name in optimizers
    }
    lengths = {name: len(rates) for name, rates in grid.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ValueError(f"every optimiser must have the same number of learning rates, got {lengths}")
    return grid


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


def _epochs(
    seconds: Mapping[str, float], epochs: int | None, minutes: float | None, *, equal_seconds: bool
) -> dict[str, int]:
    """How many each optimiser gets, from the seconds that an epoch takes it."""
    budget = 60 * minutes if minutes is not None else (epochs or 0) * min(seconds.values())
    longest = max(seconds.values())
    spent = {name: each if equal_seconds else longest for name, each in seconds.items()}
    return {name: max(1, int(budget / each + 1e-9)) for name, each in spent.items()}


def _equal_steps(
    start: Start, first: str, lr: float, others: Sequence[str], data: Dataset, how: Mapping[str, Any]
) -> dict[str, list[float]]:
    """The rate of each at which its steps are as long as the first's at its own."""
    rates = dict.fromkeys([first, *others], lr)
    length = _step_length(*start(first, lr, 0), data, how)
    for name in others:
        for _ in range(3):  # a step's length is nearly, not quite, proportional to the rate
            rates[name] *= length / _step_length(*start(name, rates[name], 0), data, how)
    return {name: [rate] for name, rate in rates.items()}


def _step_length(network: nn.Module, optimizer: Optimizer, data: Dataset, how: Mapping[str, Any]) -> float:
    """The mean length of a step, all parameters together, over the first fifty steps."""
    before = [p.detach().clone() for p in network.parameters()]
    lengths = []
    epochs = (steps(network, optimizer, data, seed=0, epoch=epoch, **how) for epoch in itertools.count(1))
    for _ in itertools.islice(itertools.chain.from_iterable(epochs), 50):
        after = [p.detach().clone() for p in network.parameters()]
        pieces = [(a - b).norm() for a, b in zip(after, before, strict=True)]
        lengths.append(float(torch.stack(pieces).norm()))
        before = after
    return statistics.mean(lengths)
