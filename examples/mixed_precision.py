"""Mixed precision with a GradScaler, as for any optimiser. Unscale before looking at gradients.

``tol`` says in which precision the gradients are computed, so that no step goes along their rounding.
"""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    device = next(model.parameters()).device.type
    scaler = torch.amp.GradScaler(device)
    precision, dtype = ("fp16", torch.float16) if device == "cuda" else ("bf16", torch.bfloat16)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9, tol=precision)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype):
            loss = cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses
