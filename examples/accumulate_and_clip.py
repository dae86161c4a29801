"""Gradient accumulation and clipping.

Accumulate first, step after: the polar factor is not linear, so orthogonalising each part and adding up
would be another method. Clipping by the norm before the step changes nothing for the matrices, whose length
is forgotten; it still protects the rest, and momentum in Muon's order.
"""

from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

import orthoviz as ov


def train(model, batches, accumulate=2):
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    losses = []
    for i, (images, labels) in enumerate(batches, 1):
        loss = cross_entropy(model(images), labels)
        (loss / accumulate).backward()
        if i % accumulate == 0:
            clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses
