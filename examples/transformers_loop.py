"""A loop as in Hugging Face's transformers: batches are dicts, and the model returns its own loss."""

import torch

import orthoviz as ov


def train(model, batches):
    optimizer = torch.optim.AdamW(ov.param_groups(model), lr=0.003)
    ov.orthogonalise(optimizer, scale="sqrt_max")
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, total_iters=len(batches))
    losses = []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
