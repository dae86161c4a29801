"""A training run as a process: python -m tests.a_run FOLDER EPOCHS [every step | slowly | file limit BYTES].

Under torchrun's environment variables it is one of several. Prints "training" before it starts.
"""

import os
import resource
import sys
import time

import torch
from torch import nn

import orthoviz as ov
from orthoviz.training import loop


def network():
    """With dropout, whose random numbers must go on, and no batch-norm, which would see parts of a batch."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Flatten(), nn.Linear(8 * 16, 10)),
    )


def start(out, epochs, *, dropout=True, resume=True, **options):
    data = ov.datasets.load("digits")
    data = ov.datasets.Dataset(**{**vars(data), "augment": True}).hold_out(97)
    model = network()
    if not dropout:
        model[3].p = 0.0
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    group = torch.distributed.group.WORLD if ranks > 1 else None
    optimizer = ov.OrthogonalSGD(
        ov.param_groups(model), lr=0.02, momentum=0.9, weight_decay=5e-4, process_group=group
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=400)
    return ov.training.fit(
        model, optimizer, data, epochs=epochs, batch_size=64, scheduler=scheduler, out=out, resume=resume,
        progress=False, **options,
    )  # fmt: skip


def main(out, epochs, *how):
    if "every" in how:
        loop._SAVE = 0.0
    if "slowly" in how:
        batches = ov.datasets.Dataset.batches

        def slow(*args, **options):
            for batch in batches(*args, **options):
                time.sleep(0.2)
                yield batch

        ov.datasets.Dataset.batches = slow
    if "limit" in how:
        size = int(how[-1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    print("training", flush=True)
    run = start(out, int(epochs), dropout="RANK" not in os.environ)
    print(run.stopped, flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
