"""How far sharing the polar factors goes: measured on a few processes, modelled for many GPUs.

    make bench-ranks

Measured: resnet18's matrices through ``orthoviz.optim.ranks.shared`` over gloo, processes of one thread each.
A machine with fewer cores than processes gains nothing more.

Modelled, not measured: a step's compute on a rank is the operations of the matrices that fall to it
(:func:`orthoviz.optim.ranks.owners`) at RATE; its messages are all factors once in float32, received at
BANDWIDTH, and a LATENCY for each rank that sends. The rates are round numbers for a current data-centre GPU
and its network, to be replaced by your own.
"""

import argparse
import os
import statistics
import subprocess
import sys

import pandas as pd
import torch
import torch.distributed as dist

import orthoviz as ov
from benchmarks.common import markdown, provenance, seconds, store
from benchmarks.polar import model_shapes
from orthoviz.optim.ranks import owners, shared
from orthoviz.polar.methods import METHODS, choose

RATE = 150e12  # operations a second, float16 products
BANDWIDTH = 50e9  # bytes a second into one GPU
LATENCY = 20e-6  # seconds a message
MODELS = ("resnet18", "resnet50", "vit_b_16", "gpt2", "transformer of width 4096")
WIDE = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]  # a block, of 32
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MEASURED = (1, 2, 4)
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rank", action="store_true", help="be one of the measured processes")
    if parser.parse_args().rank:
        return rank()
    measured = pd.DataFrame([{"processes": n, "milliseconds": round(launch(n), 1)} for n in MEASURED])
    modelled = pd.DataFrame([row for model in MODELS for row in model_rows(model)])
    about = provenance(
        what="sharing polar factors: measured over gloo, modelled for GPUs",
        data="Gaussian matrices of the models' shapes",
        command="python -m benchmarks.ranks",
    )
    path = store("ranks", about)
    measured.to_csv(path / "measured.csv", index=False)
    modelled.to_csv(path / "modelled.csv", index=False)
    (path / "table.md").write_text(summary(measured, modelled, about), encoding="utf-8")
    print(summary(measured, modelled, about))


def costs(shapes: list[tuple[int, ...]], device: str = "cpu") -> list[float]:
    """Operations of "fast" for each matrix."""
    found = []
    for *batch, m, n in shapes:
        matrix = torch.empty(*batch, m, n, device="meta")
        solver = choose(METHODS["fast"], matrix)[0]
        found.append(matrix.shape[:-2].numel() * solver.cost(min(m, n), max(m, n)).operations)
    return found


def launch(count: int) -> float:
    """Median milliseconds of a step's polar factors on so many processes, the slowest of them."""
    environment = {**os.environ, "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + count)}
    command = [sys.executable, "-m", "benchmarks.ranks", "--rank"]
    processes = [
        subprocess.Popen(command, env={**environment, "RANK": str(r)}, stdout=subprocess.PIPE, text=True)
        for r in range(count)
    ]
    return max(float(process.communicate()[0].split()[-1]) for process in processes)


def rank() -> None:
    """One of the measured processes."""
    dist.init_process_group("gloo")
    shapes = model_shapes("resnet18")
    draw = torch.Generator().manual_seed(0)
    matrices = [torch.randn(*shape, generator=draw) for shape in shapes]

    def work(some: list[torch.Tensor]) -> list[torch.Tensor]:
        return ov.polar.polar_factors(some, "fast")

    times = []
    for _ in range(ROUNDS + 1):
        dist.barrier()
        times.append(seconds(lambda: shared(work, matrices, costs(shapes), dist.group.WORLD)))
    print(1000 * statistics.median(times[1:]))
    dist.barrier()
    dist.destroy_process_group()


def model_rows(model: str) -> list[dict[str, object]]:
    """The model of a step for each number of ranks."""
    shapes = WIDE * 32 if "4096" in model else model_shapes(model)
    cost = costs(shapes)
    factors = sum(4 * torch.Size(shape).numel() for shape in shapes)
    rows = []
    for ranks in RANKS:
        owner = owners(cost, ranks)
        load = [sum(c for c, o in zip(cost, owner, strict=True) if o == r) for r in range(ranks)]
        senders = sum(part > 0 for part in load) if ranks > 1 else 0
        received = factors * (ranks - 1) / ranks
        rows.append(
            {
                "model": model,
                "ranks": ranks,
                "megabytes": round(received / 1e6, 1),
                "compute_ms": round(1000 * max(load) / RATE, 3),
                "messages_ms": round(1000 * (received / BANDWIDTH + senders * LATENCY), 3),
            }
        )
    return rows


def summary(measured: pd.DataFrame, modelled: pd.DataFrame, about: dict[str, str]) -> str:
    first, models = measured.milliseconds[0], []
    rows = [
        (r.processes, f"{r.milliseconds:.0f}", f"{first / r.milliseconds:.2f}") for r in measured.itertuples()
    ]
    for name, part in modelled.groupby("model", sort=False):
        cells = [f"{r.compute_ms:.2f} + {r.messages_ms:.2f}" for r in part.itertuples()]
        best = part.ranks[(part.compute_ms + part.messages_ms).idxmin()]
        models.append((name, f"{part.megabytes.max():.0f}", *cells, best))
    rates = f"{RATE / 1e12:.0f} TFLOP/s, {BANDWIDTH / 1e9:.0f} GB/s a GPU, {LATENCY * 1e6:.0f} us a message"
    return f"""# Sharing the polar factors between ranks

{about["device"]}, torch {about["torch"]}, {about["date"]}. Made by `{about["command"]}`.

## Measured: resnet18's factors over gloo, one thread a process, {os.cpu_count()} cores

{markdown(("processes", "ms", "times faster"), rows)}

## Modelled, not measured: {rates}

Milliseconds of compute on the busiest rank + of messages, a step.

{markdown(("model", "MB a step", *RANKS, "best"), models)}

The messages do not shrink with the number of ranks. Where one rank computes all factors faster
than it can receive them, sharing costs time: leave `process_group` out. Work per byte grows with
the width, so it pays for wide models, for `exact`, and within a machine, whose links are faster.
"""


if __name__ == "__main__":
    main()
