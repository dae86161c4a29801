"""What the training loop and the loader cost over the bare passes, and `import orthoviz` over torch.

    make bench-loop

An epoch of BasicCNN on 50,000 random 32 x 32 images at batch 1024: bare forward, backward and update on
batches that lie ready, the loop of the package, and its loader alone, in turn in one process. The figures
are the medians of the ratios of neighbours, so they hold on a noisy machine.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov

ROUNDS, BATCH_SIZE = 5, 1024


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def random_images(count: int) -> ov.datasets.Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)  # as the store keeps them
    return ov.datasets.Split(images, torch.randint(10, (count,), generator=generator))


def main() -> None:
    train, test = random_images(50_000), random_images(10_000)
    classes = tuple("0123456789")
    data = ov.datasets.Dataset("random", classes, train, test, (0.5,) * 3, (0.25,) * 3, True, "random")
    ready = list(ov.datasets.batches(data, BATCH_SIZE, seed=0, epoch=1))

    for name, make in (("SGD", torch.optim.SGD), ("orthogonal SGD", ov.OrthogonalSGD)):
        model = ov.models.basic_cnn(seed=0)
        optimizer = make(ov.param_groups(model), lr=0.01, momentum=0.9)

        def bare(model=model, optimizer=optimizer) -> None:  # type: ignore[no-untyped-def]
            model.train()
            for images, labels in ready:
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()

        def loop(model=model, optimizer=optimizer) -> None:  # type: ignore[no-untyped-def]
            for _ in ov.training.steps(model, optimizer, data, batch_size=BATCH_SIZE, seed=0, epoch=1):
                pass

        def loader() -> None:
            for _ in ov.datasets.batches(data, BATCH_SIZE, seed=0, epoch=1):
                pass

        def evaluation(model=model) -> None:  # type: ignore[no-untyped-def]
            ov.training.evaluate(model, data)

        bare()
        rounds = [[seconds(work) for work in (bare, loop, loader, evaluation)] for _ in range(ROUNDS)]
        base = statistics.median(row[0] for row in rounds)
        print(f"{name}: bare epoch {base:.2f} s ({1000 * base / len(ready):.0f} ms a step)")
        for index, what in ((1, "loop / bare"), (2, "loader / bare"), (3, "evaluation / bare")):
            ratios = sorted(row[index] / row[0] for row in rounds)
            median = statistics.median(ratios)
            print(f"  {what:18} {median:.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})")

    def start(module: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))

    took = [(start("torch"), start("orthoviz")) for _ in range(ROUNDS)]
    more = statistics.median(ours - theirs for theirs, ours in took)
    print(f"import torch {statistics.median(t for t, _ in took):.2f} s, import orthoviz {more:+.2f} s")


if __name__ == "__main__":
    main()
