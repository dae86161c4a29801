"""What the training loop and the loader cost over the bare passes, and `import orthoviz` over torch.

    make bench-loop

An epoch of BasicCNN on 50,000 random 32 x 32 images at batch 1024: bare forward, backward and update on
batches that lie ready, the loop of the package, and its loader alone, in turn in one process. The figures
are the medians of the ratios of neighbours, so they hold on a noisy machine.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov
from benchmarks.common import DEVICE, compare, seconds

ROUNDS, BATCH_SIZE = 5, 1024
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "orthogonal SGD": ov.OrthogonalSGD,
}


def random_images(count: int) -> ov.datasets.Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)  # as the store keeps them
    return ov.datasets.Split(images, torch.randint(10, (count,), generator=generator))


def random_data(train: int = 50_000, test: int = 10_000) -> ov.datasets.Dataset:
    splits, classes = [random_images(count) for count in (train, test)], tuple("0123456789")
    data = ov.datasets.Dataset("random", classes, *splits, (0.5,) * 3, (0.25,) * 3, True, "random")
    return data.to(DEVICE)


def epochs(optimizer: str, data: ov.datasets.Dataset) -> dict[str, Callable[[], None]]:
    """An epoch of bare passes, and of what is compared with them, by name."""
    model = ov.models.basic_cnn(seed=0).to(DEVICE)
    moved = OPTIMIZERS[optimizer](ov.param_groups(model), lr=0.01, momentum=0.9)
    how: dict[str, Any] = dict(batch_size=min(BATCH_SIZE, len(data.train.labels)), seed=0, epoch=1)
    ready = list(ov.datasets.batches(data, **how, device=DEVICE))

    def bare() -> None:
        model.train()
        for images, labels in ready:
            moved.zero_grad()
            cross_entropy(model(images), labels).backward()
            moved.step()

    def loop() -> None:
        for _ in ov.training.steps(model, moved, data, **how):
            pass

    def loader() -> None:
        for _ in ov.datasets.batches(data, **how, device=DEVICE):
            pass

    def evaluation() -> None:
        ov.training.evaluate(model, data)

    return {"bare": bare, "loop": loop, "loader": loader, "evaluation": evaluation}


def main() -> None:
    data = random_data()
    for name in OPTIMIZERS:
        works = epochs(name, data)
        found = compare(works, dict.fromkeys(works, "bare"), ROUNDS)
        base = found.pop("bare")[0]
        steps = -(-len(data.train.labels) // BATCH_SIZE)
        print(f"{name}: bare epoch {base:.2f} s ({1000 * base / steps:.0f} ms a step)")
        for what, (_, ratios) in found.items():
            median = statistics.median(ratios)
            print(f"  {what + ' / bare':18} {median:.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})")

    def start(module: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))

    took = [(start("torch"), start("orthoviz")) for _ in range(ROUNDS)]
    more = statistics.median(ours - theirs for theirs, ours in took)
    print(f"import torch {statistics.median(t for t, _ in took):.2f} s, import orthoviz {more:+.2f} s")


if __name__ == "__main__":
    main()
