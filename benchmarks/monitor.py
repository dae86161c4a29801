"""What watching costs: a watched training loop against the same loop unwatched, and beside Cockpit.

    make bench-monitor

BasicCNN at batch 256 and resnet18 at batch 128 (its ImageNet stem unchanged), 32 x 32 images, on a batch
that is ready in memory; twenty and ten steps a loop, measured every ten. Each figure is a median over
rounds of the ratio to the same loop unwatched in the same round; a round takes all contenders in turn.
Cockpit watches SGD with its economy preset; it is left out where it is not installed (pip install
cockpit-for-pytorch).

Also how long a frame of a million values takes, as a share of a second.
"""

import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from benchmarks.common import DEVICE, compare, markdown, provenance, seconds, store
from orthoviz.monitor.frames import Labels, Record, frame_of

Setting = tuple[Callable[[], nn.Module], int, int, int]
"""What makes a model, its batch size, steps a loop, and rounds."""
MODELS: dict[str, Setting] = {
    "BasicCNN": (lambda: ov.models.basic_cnn(seed=0), 256, 20, 25),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=10), 128, 10, 3),
}
OPTIONS: dict[str, float] = dict(lr=1e-3, momentum=0.9)


def loop(
    make: Callable[..., Any], steps: int, model: nn.Module, images: Tensor, labels: Tensor, **watched: Any
) -> None:
    """Some steps, watched where there is something to watch."""
    optimizer = make(ov.param_groups(model), **OPTIONS)
    monitor = ov.watch(model, optimizer, **watched).start() if watched else None
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        if monitor is not None:
            monitor.log(loss=loss)
        optimizer.step()
    if monitor is not None:
        monitor.stop()


def streamed(*arguments: Any, **watched: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loop(*arguments, **watched, stream=Path(folder) / "run")


def cockpit_loop(every: int, steps: int, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """The same steps of SGD under Cockpit's economy preset."""
    from backpack import extend
    from cockpit import Cockpit
    from cockpit.utils import schedules
    from cockpit.utils.configuration import configuration

    extended, mean = extend(model), extend(nn.CrossEntropyLoss())
    single = extend(nn.CrossEntropyLoss(reduction="none"))
    optimizer = torch.optim.SGD(model.parameters(), **OPTIONS)  # type: ignore[arg-type]
    schedule = schedules.linear(interval=every)
    cockpit = Cockpit(model.parameters(), quantities=configuration("economy", track_schedule=schedule))
    for step in range(steps):
        optimizer.zero_grad()
        outputs = extended(images)
        loss = mean(outputs, labels)
        info = {"batch_size": len(images), "individual_losses": single(outputs, labels)}
        with cockpit(step, info={**info, "loss": loss, "optimizer": optimizer}):
            loss.backward(create_graph=cockpit.create_graph(step))
        optimizer.step()


def contenders(name: str, setting: Setting) -> tuple[dict[str, Callable[[], None]], dict[str, str]]:
    """Loops by name, and with which unwatched loop each is compared."""
    make, batch, steps, _ = setting
    images = torch.randn(batch, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=DEVICE)
    loops: dict[str, Callable[[], None]] = {}
    against = {}
    for label, optimizer in (("SGD", torch.optim.SGD), ("OrthogonalSGD", ov.OrthogonalSGD)):
        start = partial(partial, loop, optimizer, steps)
        network = [make().to(DEVICE, memory_format=torch.channels_last) for _ in range(5)]
        loops[label] = start(network[0], images, labels)
        for preset, model in zip(("lecture", "research"), network[1:], strict=False):
            more = {"probe": images[:64]} if preset == "research" else {}
            loops[f"{label}, {preset}"] = start(model, images, labels, every=10, quantities=preset, **more)
        loops[f"{label}, lecture, streamed"] = partial(
            streamed, optimizer, steps, network[3], images, labels, every=10, quantities="lecture"
        )
        against |= {key: label for key in loops if key.startswith(label)}
    if name == "BasicCNN":
        if find_spec("cockpit") is None:
            print("Cockpit is not installed: left out")
        else:
            # It asks setuptools for its own version, in a way that setuptools no longer has
            sys.modules.setdefault("pkg_resources", MagicMock(DistributionNotFound=ImportError))
            for every in (5, 10):
                model = make().to(DEVICE, memory_format=torch.channels_last)
                loops[f"SGD, Cockpit economy every {every}"] = partial(
                    cockpit_loop, every, steps, model, images, labels
                )
                against[f"SGD, Cockpit economy every {every}"] = "SGD"
    return loops, against


def costs(name: str, setting: Setting) -> list[dict[str, object]]:
    """A row a contender."""
    torch.manual_seed(0)
    _, batch, steps, rounds = setting
    return [
        {
            "model": name,
            "batch": batch,
            "loop": key,
            "milliseconds_a_step": round(1000 * took / steps, 2),
            "to_unwatched": round(statistics.median(ratios), 4),
        }
        for key, (took, ratios) in compare(*contenders(name, setting), rounds).items()
    ]


def frame_seconds() -> float:
    """Time to make a frame of a million values: 500 collections of 40 quantities of 50."""
    entries = tuple((f"layer{i % 10}.weight", "raw", f"quantity{i // 10}", 50) for i in range(40))
    records = [Record(step, 0, entries, np.random.rand(2000)) for step in range(500)]
    return statistics.median(seconds(lambda: frame_of(records, Labels("run", "SGD", 0))) for _ in range(5))


def main() -> None:
    warnings.simplefilter("ignore")  # Cockpit's
    table = pd.DataFrame([row for name in MODELS for row in costs(name, MODELS[name])])
    about = provenance(
        what="training loops, 32 x 32 random images, measured every ten steps",
        data="random images and labels",
        command="python -m benchmarks.monitor",
        frame_of_a_million_values=f"{frame_seconds():.2f} s",
    )
    path = store("monitor", about)
    table.to_csv(path / "table.csv", index=False)
    (path / "table.md").write_text(summary(table, about), encoding="utf-8")
    print(summary(table, about))


def summary(table: pd.DataFrame, about: dict[str, str]) -> str:
    parts = [
        f"# What watching costs\n\n{about['what'].capitalize()}. {about['device']}, torch {about['torch']}, "
        f"{about['date']}.\nMade by `{about['command']}`. A frame of a million values: "
        f"{about['frame_of_a_million_values']}."
    ]
    for (name, batch), part in table.groupby(["model", "batch"], sort=False):
        rows = [(r.loop, f"{r.milliseconds_a_step:.1f}", f"{r.to_unwatched:.3f}") for r in part.itertuples()]
        told = markdown(("loop", "ms a step", "to the same unwatched"), rows)
        parts.append(f"## {name}, batch {batch}\n\n{told}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
