"""Several processes share the polar factors of a step.

Every rank holds the same matrices. Each works on some of them, chosen by cost, and sends its factors to the
others as one message: so all ranks hold the same bits. The bytes received are those
of the gradients once, the work is that of one rank divided by the number of ranks, until one matrix alone
takes longest.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

ProcessGroup = Any  # torch.distributed's; not there in a build without it


def owners(costs: Sequence[float], ranks: int) -> list[int]:
    """Which rank works on which matrix: the costliest first, each to the rank with the least to do."""
    load = [0.0] * ranks
    owner = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owner[i] = load.index(min(load))
        load[owner[i]] += costs[i]
    return owner


def shared(
    work: Callable[[list[Tensor]], list[Tensor]],
    matrices: list[Tensor],
    costs: Sequence[float],
    group: ProcessGroup | None,
) -> list[Tensor]:
    """``work(matrices)``, each matrix on one rank of ``group`` only, the results on all."""
    ranks = dist.get_world_size(group) if group is not None else 1
    if ranks == 1:
        return work(matrices)
    owner = owners(costs, ranks)
    parts = [[i for i, rank in enumerate(owner) if rank == r] for r in range(ranks)]
    me = dist.get_rank(group)
    mine = dict(zip(parts[me], work([matrices[i] for i in parts[me]]), strict=True))
    messages: dict[int, Tensor] = {}
    waits: list[Any] = []
    for r, part in enumerate(parts):
        if part:  # a rank with nothing to do sends nothing
            pieces = [mine[i] if r == me else torch.empty_like(matrices[i]) for i in part]
            messages[r] = torch.cat([piece.flatten().view(torch.uint8) for piece in pieces])
            waits.append(dist.broadcast(messages[r], group=group, group_src=r, async_op=True))
    for wait in waits:
        wait.wait()
    results: dict[int, Tensor] = {}
    for r, message in messages.items():
        sizes = [matrices[i].numel() * matrices[i].element_size() for i in parts[r]]
        for i, piece in zip(parts[r], message.split(sizes), strict=True):
            results[i] = piece.clone().view(matrices[i].dtype).view(matrices[i].shape)
    return [results[i] for i in range(len(matrices))]


def check_agreement(shapes: list[tuple[int, ...]], group: ProcessGroup) -> None:
    """Raise ValueError on every rank when not all ranks of ``group`` hold parameters of the same shapes."""
    everyones: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyones, shapes, group=group)
    for rank, theirs in enumerate(everyones):
        if theirs != everyones[0]:
            raise ValueError(
                "the ranks of process_group must hold the same parameters, as under DistributedDataParallel; "
                f"rank {rank} holds {len(theirs)} that differ from rank 0's {len(everyones[0])}: "
                "leave process_group out"
            )


def mesh_group(tensor: Tensor) -> ProcessGroup | None:
    """The ranks over which a DTensor is spread, if along one dimension; None for a plain tensor."""
    mesh = getattr(tensor, "device_mesh", None)
    return mesh.get_group() if mesh is not None and mesh.ndim == 1 else None


def gathered(tensor: Tensor) -> Tensor:
    """A DTensor gathered from its ranks; a plain tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[no-any-return]


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`gathered`: this rank's part of what every rank holds."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
