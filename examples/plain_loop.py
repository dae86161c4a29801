"""A plain PyTorch loop."""

from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
