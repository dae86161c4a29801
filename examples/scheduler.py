"""A torch scheduler: it changes ``lr`` as always. ``rest_lr`` is the lr of its groups, so it follows too."""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    groups = ov.param_groups(model)
    optimizer = ov.OrthogonalSGD(groups, lr=0.02, momentum=0.9, rest="adamw", rest_lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(batches))
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses
