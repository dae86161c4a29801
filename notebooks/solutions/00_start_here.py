# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 00.polar
#
# $U$ and $V^\top$ only turn. Without $S$ nothing is stretched.


# %% tags=["solution", "00.polar"]
def polar(G):
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    return U @ Vh


ov.course.check("00.polar", polar)

# %% [markdown]
# ## Exercise 2, 00.step
#
# `p -= ...` changes the parameter that the network holds; `p = p - ...` would make a new tensor, of which the
# network knows nothing. Under `no_grad` torch does not record the change as a part of the computation.


# %% tags=["solution", "00.step"]
def step(model, lr):
    with torch.no_grad():
        for p in model.parameters():
            direction = polar(p.grad) if p.ndim == 2 else p.grad
            p -= lr * direction


ov.course.check("00.step", step)

# %% [markdown]
# ## Exercise 3, 00.train
#
# `backward` adds to the gradients that are there. So the old ones go first.


# %% tags=["solution", "00.train"]
def train(model, step, lr, batch_size=128):
    data = ov.datasets.load("digits")
    history = [ov.training.evaluate(model, data)["test_accuracy"]]
    for epoch in range(1, 6):
        model.train()
        for images, labels in data.batches(batch_size, seed=0, epoch=epoch):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            step(model, lr)
        history.append(ov.training.evaluate(model, data)["test_accuracy"])
    return history


ov.course.check("00.train", train)

# %% [markdown]
# ## The open question: the batch size
#
# In five epochs small batches mean many steps, and large ones few. SGD at 0.02 is slow: it gains most from
# more steps. So the lead shrinks with small batches. With large ones both run out of steps.


# %%
def descent(model, lr):
    torch.optim.SGD(model.parameters(), lr).step()


for batch_size in (8, 32, 128, 512):
    ends = [
        train(ov.models.digits_mlp(seed=0), rule, lr=0.02, batch_size=batch_size)[-1]
        for rule in (step, descent)
    ]
    print(f"batches of {batch_size:3}: yours {ends[0]:.3f}, SGD {ends[1]:.3f}, lead {ends[0] - ends[1]:+.3f}")
