"""The whole step under torch.compile. With a schedule make ``lr`` a tensor, or each rate compiles anew."""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    optimizer = ov.OrthogonalSGD(
        ov.param_groups(model), lr=torch.tensor(0.01), momentum=0.9, order="after_momentum", method="fast"
    )
    step = torch.compile(optimizer.step)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        step()
        losses.append(loss.item())
    return losses
