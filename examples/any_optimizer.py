"""Any torch optimiser, here AdamW: one line more."""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ov.orthogonalise(optimizer, model)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
