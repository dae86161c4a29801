"""Fair comparisons: the same start, the same batches, the same grid, several seeds."""

import copy
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from orthoviz.datasets import Data, as_data
from orthoviz.matrices import ParamGroups, param_groups
from orthoviz.monitor import watch
from orthoviz.optim.named import Make, label_of
from orthoviz.training.equal import Schedule, equal_steps, how_long, known_steps, starter, step_options
from orthoviz.training.evaluation import judged_by
from orthoviz.training.loop import fit
from orthoviz.training.outcomes import Rate, best_rates, in_columns, next_rate, rates_of, summary
from orthoviz.training.processes import rank_and_size
from orthoviz.training.records import finished_epochs, segment

# Learning rates to try: one, several, a grid of pairs, or each of these by the optimiser's name.
Rates = float | Sequence[float] | Mapping[str, Any]
PROTOCOLS = ("equal_lr", "equal_step", "both_tuned", "equal_seconds")


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        frame: a row a run and epoch: ``optimizer``, ``lr``, ``rest_lr`` where that was tuned too, ``seed``
            and the columns of a run's history; where time was compared, ``seconds`` are steps times
            ``ms_per_step``, which was measured of each optimiser alone, in turns; where steps were made
            equal, ``step_length`` is their mean length; ``chosen`` says whether the rate is the one that the
            verdict speaks of.
        verdict: one sentence, see :func:`summary`.
        rates: the learning rate of each optimiser that the verdict speaks of; ``(lr, rest_lr)`` where both
            were tuned.
    """

    frame: pd.DataFrame
    verdict: str
    protocol: str
    rates: Mapping[str, Rate] = field(default_factory=dict)


def compare(
    model: nn.Module | Callable[[int], nn.Module],
    data: Any,
    optimizers: Mapping[str, Make],
    *,
    protocol: str = "both_tuned",
    lrs: Rates = (0.003, 0.01, 0.03, 0.1),
    grow: bool = False,
    epochs: float | None = None,
    minutes: float | None = None,
    seeds: int | Iterable[int] = 5,
    batch_size: int = 256,
    out: str | Path | None = None,
    groups: Callable[[nn.Module], ParamGroups] = param_groups,
    schedule: Schedule | None = None,
    watched: Mapping[str, Any] | None = None,
    done: pd.DataFrame | None = None,
    keep: Callable[[pd.DataFrame], Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Train the same network with several optimisers, and say which is better, if that can be said.

    Every optimiser gets the same initial weights, the same batches in the same order, the same seeds, and the
    same number of learning rates to begin with.

    ===============  ==============================================================================
    protocol         learning rates, and what is compared
    ===============  ==============================================================================
    "equal_lr"       the first of ``lrs``, for all, as the paper does
    "equal_step"     the first of ``lrs`` for the first optimiser; for each other one the rate at which its
                     steps are as long, all parameters together, on average over the whole run of one seed
    "both_tuned"     each optimiser's best of ``lrs``, by the accuracy on held-out images; of targets that
                     are no labels, by ``metric`` or else by the loss
    "equal_seconds"  the same, after equally much training time: slower optimisers get fewer steps
    ===============  ==============================================================================

    Args:
        model: a network, copied for every run; or what makes one from a seed.
        data: as of :func:`fit`. Where rates are chosen and nothing is held out yet, a tenth of what there is
            to train on is.
        optimizers: name to ``make(groups, lr)``; ``groups`` is ``ov.param_groups(model)``, and works for any
            torch optimiser too.
        lrs: rates to try: one, several for all, or equally many for each by name. ``{"lr": [...], "rest_lr":
            [...]}``, for all or for each by name, tries every pair: ``rest_lr`` becomes the ``lr`` of the
            groups that are no matrices, as Muon and AdamW have two.
        grow: where an optimiser's best rate is the first or last of its grid, try the next, by half decades,
            until the best is inside. Without it such a comparison is unclear. Not for pairs.
        epochs: passes over the training images (of the fastest optimiser, at "equal_seconds").
        minutes: instead of epochs: training time of one run of the slowest optimiser, or at "equal_seconds"
            of every one. It is turned into steps once, at the start.
        seeds: so many, or which.
        out: folder that keeps every run, so that a comparison that was stopped goes on where it was.
        groups: what makes the optimisers' groups from a network.
        schedule: makes a scheduler from an optimiser and the number of steps of its run.
        watched: options for :func:`orthoviz.watch`; what it sees is kept in each run's folder in ``out``.
        done: rows of runs that are finished and not run again, such as ``keep`` got.
        keep: called after every run with the rows of all so far, and of those in ``done``.
        options: for :func:`fit`.

    Returns:
        A :class:`Comparison`; ``ov.plots.compare(comparison.frame)`` draws it.

    Raises:
        ValueError: an unknown protocol; not exactly one of ``epochs`` and ``minutes``; the grids differ in
            length; pairs of rates with "equal_step" or ``grow``; no rate makes steps as long within 10 %;
            what :func:`fit` refuses.
    """
    _check(protocol, epochs, minutes)
    numbers, grid = plan(optimizers, lrs, seeds)
    _check_pairs(isinstance(next(iter(grid.values()))[0], tuple), protocol, grow, done)
    tuned = protocol in ("both_tuned", "equal_seconds")
    data = as_data(data)
    metric = judged_by(data, options.get("metric"))
    score, higher = ("loss", False) if metric is None else (metric.name, metric.higher)
    batch_size = data.batch_size or batch_size
    if tuned and data.valid is None:
        data = data.hold_out(max(1, data.count // 10))
    make_model = model if not isinstance(model, nn.Module) else lambda seed: copy.deepcopy(model)
    start = starter(make_model, optimizers, groups)
    how = {"batch_size": batch_size, **step_options(options)}
    equal_seconds = protocol == "equal_seconds"
    long, ms = how_long(start, optimizers, data, how, epochs, minutes, equal_seconds=equal_seconds)
    out = None if out is None else Path(out)
    lengths: Mapping[str, float] = {}
    if protocol == "equal_lr":
        grid = {name: rates[:1] for name, rates in grid.items()}
    elif protocol == "equal_step":
        lr: Any = next(iter(grid.values()))[0]
        file, known = out and out / "equal_step.json", known_steps(done, lr, batch_size)
        grid, lengths = equal_steps(start, lr, data, long, schedule, how, file, known)

    def train(run: dict[str, Any], rate: Rate) -> pd.DataFrame:
        """The history of a run."""
        name, seed = run["optimizer"], run["seed"]
        folder = None if out is None else _folder(out, name, rate, seed)
        given = dict(epochs=long[name], batch_size=batch_size, seed=seed, progress=progress, **options)
        history = _run(*start(name, rate, seed), data, folder, schedule, watched, given).assign(**run)
        history = history[history["epoch"] <= long[name] + 1e-9]  # a folder may hold a longer run
        if ms:
            history = history.assign(ms_per_step=ms[name], seconds=history["step"] * ms[name] / 1000)
        return history.assign(step_length=lengths[name]) if lengths else history

    tables: list[pd.DataFrame] = []

    def add(name: str, rate: Rate, seed: int) -> None:
        """Add the rows of a run, which may be done already."""
        nonlocal done
        run = {"optimizer": name, **in_columns(rate), "seed": seed, "batch_size": batch_size}
        found, done = _take(done, run, long[name])
        tables.append(train(run, rate) if found.empty else found)
        if keep is not None and found.empty:
            keep(pd.concat([*tables, *([] if done is None else [done])], ignore_index=True))

    runs = [(name, rate, seed) for seed in numbers for name in optimizers for rate in grid[name]]
    while runs:
        for run in tqdm(runs, unit=" runs", disable=None if progress else True, leave=False):
            add(*run)
        frame = pd.concat(tables, ignore_index=True)
        best: dict[str, Any] = best_rates(frame, f"{'valid' if tuned else 'test'}_{score}", higher=higher)
        beyond = {name: next_rate(grid[name], best[name]) for name in optimizers} if grow and tuned else {}
        runs = [(name, rate, seed) for seed in numbers for name, rate in beyond.items() if rate]
        for name, after in beyond.items():
            grid[name] += [after] if after else []
    chance = 1 / len(data.classes) if data.classes and score == "accuracy" else 0.0
    return conclude(frame, best, protocol, chance=chance, score=score, higher=higher)


def conclude(frame: pd.DataFrame, best: Mapping[str, Rate], protocol: str, **how: Any) -> Comparison:
    """Mark the runs at the best rates as chosen, and say what they tell, see :func:`summary`."""
    frame["chosen"] = rates_of(frame) == frame["optimizer"].map(best)
    return Comparison(frame, summary(frame, protocol.replace("_", " "), **how), protocol, best)


def _check(protocol: str, epochs: float | None, minutes: float | None) -> None:
    """Raise ValueError for what is no protocol, or has no length."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be {', '.join(map(repr, PROTOCOLS))}, got {protocol!r}")
    if (epochs is None) == (minutes is None):
        raise ValueError("give either epochs or minutes")
    measured = protocol in ("equal_seconds", "equal_step") or minutes is not None
    if rank_and_size()[1] > 1 and measured:
        raise ValueError("several processes would measure differently: compare equal seconds or steps in one")


def _check_pairs(pairs: bool, protocol: str, grow: bool, done: pd.DataFrame | None) -> None:
    """Raise ValueError for what is not there for two rates, or what was done with another number of them."""
    if pairs and protocol == "equal_step":
        raise ValueError("protocol='equal_step' searches for one rate: give lrs without rest_lr")
    if pairs and grow:
        raise ValueError("grow=True extends a grid of one rate: give lrs without rest_lr, or wider grids")
    if done is not None and ("rest_lr" in done) != pairs:
        raise ValueError(
            f"done must have rest_lr where it is tuned, and only there; lrs has {pairs + 1} rates"
        )


def plan(
    optimizers: Iterable[str], lrs: Rates, seeds: int | Iterable[int]
) -> tuple[Sequence[int], dict[str, list[Any]]]:
    """The seeds, and the learning rates of each optimiser.

    Raises:
        ValueError: it would be no fair comparison.
    """
    numbers = range(seeds) if isinstance(seeds, int) else list(seeds)
    if not numbers or not [*optimizers]:
        raise ValueError("a comparison needs at least one seed and one optimiser")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"each seed counts once, got {list(numbers)}")
    labels = [label_of(name) for name in optimizers]
    if len(set(labels)) < len(labels):
        raise ValueError(f"two of the optimisers have the same label: {', '.join(labels)}")
    return numbers, rates(optimizers, lrs)


def _take(
    done: pd.DataFrame | None, run: Mapping[str, Any], epochs: float
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows of a run, none if it is not there or has another length, and the others."""
    if done is None:
        return pd.DataFrame(), None
    same = (done[list(run)] == pd.Series(run)).all(axis=1)
    found, others = done[same].drop(columns="chosen", errors="ignore"), done[~same]
    if not found.empty and abs(found["epoch"].max() - epochs) > 1e-6:
        diverged = not math.isfinite(found["train_loss"].iloc[-1])  # such a run ends early
        found = found if diverged else found[:0]
    return found, others


def _run(
    network: nn.Module,
    optimizer: Optimizer,
    data: Data,
    folder: Path | None,
    schedule: Schedule | None,
    watched: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> pd.DataFrame:
    """The history of one run, which is watched where it has a folder."""
    epochs, monitor = options["epochs"], None
    if watched is not None and folder is not None and finished_epochs(folder) < epochs:
        monitor = watch(
            network, optimizer, run=folder.name, seed=options["seed"], stream=segment(folder), **watched
        )
    count = round(epochs * data.steps(options["batch_size"]))
    options["scheduler"] = None if schedule is None else schedule(optimizer, count)
    with monitor or nullcontext():
        run = fit(network, optimizer, data, monitor=monitor, out=folder, resume=folder is not None, **options)
    if run.stopped and run.stopped.kind != "diverged":
        raise KeyboardInterrupt(str(run.stopped))
    return run.history


def folder_names(optimizer: str, rate: Rate, seed: int) -> list[str]:
    """What the folder of a run is called, and what the first edition called it, which had labels there."""
    both = dict.fromkeys((optimizer, label_of(optimizer)))
    names = [re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_") for name in both]  # which any disk takes
    if names[0] != optimizer:  # others may be the same where signs are left out
        names[0] += f"-{hashlib.blake2b(optimizer.encode(), digest_size=4).hexdigest()}"
    told = "-rest".join(f"{value:g}" for value in in_columns(rate).values())
    return [f"{name}-lr{told}-seed{seed}" for name in names]


def _folder(out: Path, *run: Any) -> Path:
    """The folder of a run: the first edition's where there is one, so that it goes on."""
    today, *before = (out / name for name in folder_names(*run))
    return next((folder for folder in before if folder.exists()), today)


def rates(optimizers: Iterable[str], lrs: Rates) -> dict[str, list[Any]]:
    """The learning rates of each optimiser, equally many; of ``lr`` and ``rest_lr`` every pair.

    Raises:
        ValueError: they are not, or the names differ.
    """
    by_name = isinstance(lrs, Mapping) and lrs.keys() != _TWO
    given: Mapping[str, Any] = lrs if by_name else dict.fromkeys(optimizers, lrs)  # type: ignore[assignment]
    if differ := set(optimizers) ^ set(given):
        raise ValueError(
            f"lrs and optimizers must have the same names; {', '.join(sorted(differ))} is in one"
        )
    grid = {name: _tried(given[name]) for name in optimizers}
    if doubled := [name for name, tried in grid.items() if len(set(tried)) < len(tried)]:
        raise ValueError(f"each learning rate counts once, got {grid[doubled[0]]} for {doubled[0]}")
    lengths = {name: len(rates) for name, rates in grid.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ValueError(f"every optimiser must have the same number of learning rates, got {lengths}")
    if len({isinstance(rate, tuple) for tried in grid.values() for rate in tried}) > 1:
        raise ValueError("lrs must have rest_lr for every optimiser or for none")
    return grid


_TWO = {"lr", "rest_lr"}


def _tried(lrs: float | Sequence[float] | Mapping[str, Any]) -> list[Any]:
    """One optimiser's rates, or pairs of them."""
    if not isinstance(lrs, Mapping):
        return [lrs] if isinstance(lrs, int | float) else list(lrs)
    if lrs.keys() != _TWO:
        raise ValueError(f"a grid of two rates has lr and rest_lr, got {', '.join(lrs)}")
    return [*itertools.product(_tried(lrs["lr"]), _tried(lrs["rest_lr"]))]
