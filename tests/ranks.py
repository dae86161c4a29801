"""What one of several processes runs: python -m tests.ranks FOLDER CASE ..., with torchrun's variables."""

import gc
import os
import sys
import weakref

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: its default arguments would keep that alive for ever
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import orthoviz as ov


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 7))
    model[1].eval()  # the statistics of a part of the batch would differ
    return model


def batch(step, rank, ranks):
    """This rank's part of a step's batch."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(18, 2, 5, 5, generator=generator)
    labels = torch.randint(7, (18,), generator=generator)
    return images[rank::ranks], labels[rank::ranks]


def train(model, optimizer, rank, ranks, steps=4):
    for step in range(steps):
        images, labels = batch(step, rank, ranks)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def agree(model):
    """Every rank has the first one's bits."""
    for p in model.parameters():
        first = p.detach().clone()
        dist.broadcast(first, 0)
        assert torch.equal(first, p), "ranks differ"


class Counts:
    """How many matrices this rank's own process works on."""

    def __init__(self, monkey):
        self.count = 0
        inner = monkey.polar_factors

        def counted(matrices, *args, **kwargs):
            self.count += len(matrices)
            return inner(matrices, *args, **kwargs)

        monkey.polar_factors = counted


def train_shared(model, optimizer, rank, ranks):
    """Train; check that all ranks have the same weights, and store the first's."""
    train(model, optimizer, rank, ranks)
    agree(model)
    if rank == 0:
        torch.save([p.detach() for p in model.parameters()], os.environ["RESULT"])


def shared(rank, ranks, order="before_momentum"):
    from orthoviz.optim import directions

    counts, model = Counts(directions), DistributedDataParallel(network())
    options = dict(lr=0.02, momentum=0.9, order=order, process_group=dist.group.WORLD)
    train_shared(model, ov.OrthogonalSGD(ov.param_groups(model), **options), rank, ranks)
    work = [None] * ranks
    dist.all_gather_object(work, counts.count)
    assert sum(work) == 2 * 4, f"two matrices, four steps, in all once: {work}"
    assert max(work) == 4 or ranks == 1, f"shared: {work}"


def after(rank, ranks):
    shared(rank, ranks, "after_momentum")


def wrapped(rank, ranks):
    model = DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    ov.orthogonalise(optimizer, model, process_group=dist.group.WORLD)
    train_shared(model, optimizer, rank, ranks)


def watched(rank, ranks):
    """Rank 0 watches alone; the gradients seen are those of the whole batch."""
    model = DistributedDataParallel(network())
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9)
    with ov.watch(model, optimizer, quantities="research", probe=batch(9, 0, 1)[0]) as monitor:
        train(model, optimizer, rank, ranks, steps=2)
    agree(model)
    frame = monitor.frame()
    assert frame.empty == (rank > 0)
    assert not any(name.startswith("module.") for name in frame.layer.unique())
    if rank == 0:
        torch.save(frame.value.tolist(), os.environ["RESULT"])


def none(rank, ranks):
    """A layer without a gradient hangs nobody and stays None."""
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, process_group=dist.group.WORLD)
    model[0](batch(0, 0, 1)[0]).sum().backward()
    optimizer.step()
    assert model[4].weight.grad is None
    agree(model)


def strangers(rank, ranks):
    """Ranks with other parameters are refused, on every rank."""
    model = nn.Linear(3, 2 + rank)
    try:
        ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, process_group=dist.group.WORLD)
    except ValueError as error:
        if "rank 1 holds" in str(error):
            return
        raise
    raise AssertionError("not refused")


def sharded(rank, ranks):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network()
    mesh = init_device_mesh("cpu", (ranks,))
    fully_shard(model, mesh=mesh)
    optimizer = ov.OrthogonalSGD(
        ov.param_groups(model), lr=0.02, momentum=0.9, weight_decay=1e-3, scale="rms"
    )
    train(model, optimizer, rank, ranks)
    full = [p.full_tensor().detach() for p in model.parameters()]
    if rank == 0:
        torch.save(full, os.environ["RESULT"])


def barlow(rank, ranks):
    """The loss of a batch that is shared, and its gradient as DistributedDataParallel would average it."""
    from orthoviz.training.barlow import barlow_loss
    from tests.test_barlow import embeddings

    torch.manual_seed(0)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    first, second = (view[rank::ranks] for view in embeddings(count=12, size=5))
    loss = barlow_loss(first @ weight, second @ weight, lam=0.1)
    loss.backward()
    dist.all_reduce(weight.grad)
    if rank == 0:
        torch.save((loss.item(), weight.grad / ranks), os.environ["RESULT"])


if __name__ == "__main__":
    dist.init_process_group("gloo")
    alive = weakref.ref(dist.group.WORLD)
    folder, *cases = sys.argv[1:]
    for case in cases:
        os.environ["RESULT"] = f"{folder}/{case}.pt"
        globals()[case](dist.get_rank(), dist.get_world_size())
        dist.barrier()
    dist.destroy_process_group()
    gc.collect()  # wrapped modules keep the group in cycles
    if "sharded" in cases:  # torch's mesh keeps the group, whose threads can abort an ordinary exit
        os._exit(0)
    assert alive() is None, "a process group that outlives its end can abort the interpreter's"
