# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Barlow Twins: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 07.correlation


# %% tags=["solution", "07.correlation"]
def correlation(first, second):
    first, second = ((z - z.mean(0)) / z.std(0, correction=0) for z in (first, second))
    return first.T @ second / len(first)


ov.course.check("07.correlation", correlation)

# %% [markdown]
# ## Exercise 2, 07.loss


# %% tags=["solution", "07.loss"]
def loss(C, lam):
    diagonal = C.diagonal()
    off = C.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + lam * off


ov.course.check("07.loss", loss)

# %% [markdown]
# ## Exercise 3, 07.collapse


# %% tags=["solution", "07.collapse"]
def collapsed(count, size):
    return torch.randn(count, 1).repeat(1, size)


ov.course.check("07.collapse", collapsed)
