"""Two optimisers on one model: matrices by Muon, everything else by torch's AdamW."""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    groups = ov.param_groups(model)
    matrices, rest = ([g for g in groups if (g["layout"] is None) == left] for left in (False, True))
    muon = ov.OrthogonalSGD(matrices, lr=0.02, momentum=0.95, order="after_momentum", scale="sqrt_max")
    adamw = torch.optim.AdamW(rest, lr=0.003)
    losses = []
    for images, labels in batches:
        model.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        muon.step()
        adamw.step()
        losses.append(loss.item())
    return losses
