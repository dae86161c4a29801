"""Mixed precision with a GradScaler, as for any optimiser. Unscale before looking at gradients."""

import torch
from torch.nn.functional import cross_entropy

import orthoviz as ov


def train(model, batches):
    device = next(model.parameters()).device.type
    scaler = torch.amp.GradScaler(device)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16):
            loss = cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses
