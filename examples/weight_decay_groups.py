"""Parameter groups as Hugging Face's Trainer makes them: no weight decay for biases and norms.

``ov.param_groups`` returns plain dicts: set in each what you like, then build the optimiser.
"""

from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    groups = ov.param_groups(model)
    for group in groups:
        group["weight_decay"] = 0.0 if group["layout"] is None else 0.1
    optimizer = ov.OrthogonalSGD(groups, lr=0.01, momentum=0.9, decoupled=True)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
