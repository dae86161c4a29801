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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# No mean is subtracted:


# %% tags=["wrong", "07.correlation", "subtract each feature's mean"]
def correlation(first, second):
    first, second = (z / z.norm(dim=0) for z in (first, second))
    return first.T @ second


ov.course.check("07.correlation", correlation)

# %% [markdown]
# The covariance:


# %% tags=["wrong", "07.correlation", "divide by both standard deviations"]
def correlation(first, second):
    return (first - first.mean(0)).T @ (second - second.mean(0)) / len(first)


ov.course.check("07.correlation", correlation)

# %% [markdown]
# The sum:


# %% tags=["wrong", "07.correlation", "divide by the number of images"]
def correlation(first, second):
    first, second = ((z - z.mean(0)) / z.std(0, correction=0) for z in (first, second))
    return first.T @ second


ov.course.check("07.correlation", correlation)

# %% [markdown]
# Views that changed places:


# %% tags=["wrong", "07.correlation", "changed places"]
def correlation(first, second):
    first, second = ((z - z.mean(0)) / z.std(0, correction=0) for z in (first, second))
    return second.T @ first / len(first)


ov.course.check("07.correlation", correlation)

# %% [markdown]
# Raw products:


# %% tags=["wrong", "07.correlation", "standardise each column first"]
def correlation(first, second):
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
# The diagonal counts twice:


# %% tags=["wrong", "07.loss", "leave i = j out"]
def loss(C, lam):
    return (1 - C.diagonal()).square().sum() + lam * C.square().sum()


ov.course.check("07.loss", loss)

# %% [markdown]
# Lambda at the other term:


# %% tags=["wrong", "07.loss", "lambda stands at the wrong term"]
def loss(C, lam):
    diagonal = C.diagonal()
    off = C.square().sum() - diagonal.square().sum()
    return lam * (1 - diagonal).square().sum() + off


ov.course.check("07.loss", loss)

# %% [markdown]
# The diagonal pulled to 0:


# %% tags=["wrong", "07.loss", "the diagonal should become 1"]
def loss(C, lam):
    diagonal = C.diagonal()
    return diagonal.square().sum() + lam * (C.square().sum() - diagonal.square().sum())


ov.course.check("07.loss", loss)

# %% [markdown]
# ## Exercise 3, 07.collapse


# %% tags=["solution", "07.collapse"]
def collapsed(count, size):
    return torch.randn(count, 1).repeat(1, size)


ov.course.check("07.collapse", collapsed)

# %% [markdown]
# The same number for every image:


# %% tags=["wrong", "07.collapse", "has correlation 0 with itself"]
def collapsed(count, size):
    return torch.ones(count, size)


ov.course.check("07.collapse", collapsed)

# %% [markdown]
# No collapse at all:


# %% tags=["wrong", "07.collapse", "more than one is left"]
def collapsed(count, size):
    return torch.randn(count, size)


ov.course.check("07.collapse", collapsed)

# %% [markdown]
# Two dimensions:


# %% tags=["wrong", "07.collapse", "more than one is left"]
def collapsed(count, size):
    return torch.randn(count, 2).repeat(1, size // 2)


ov.course.check("07.collapse", collapsed)
