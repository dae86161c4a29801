"""Hugging Face Accelerate. With ``ov.orthogonalise``, wrap the optimiser before ``prepare``."""

from accelerate import Accelerator
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    accelerator = Accelerator(cpu=True)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses
