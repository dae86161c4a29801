"""DistributedDataParallel: ``process_group`` lets the ranks share the polar factors. Start with torchrun."""

import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import orthoviz as ov


def train(model, batches):
    model = DistributedDataParallel(model)  # after dist.init_process_group(...)
    groups = ov.param_groups(model)
    optimizer = ov.OrthogonalSGD(groups, lr=0.01, momentum=0.9, process_group=dist.group.WORLD)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
