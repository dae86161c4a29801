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

# %% [markdown]
# # 00 · Start here: solutions
#
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 00.longer
#
# The polar factor of a matrix of rank $r$ has $r$ singular values 1, so its Frobenius norm is $\sqrt r$.


# %% tags=["solution", "00.longer"]
def times_longer(rank, norm):
    return rank**0.5 / norm


ov.course.check("00.longer", times_longer)

# %% [markdown]
# Comparing the wrong way round:


# %% tags=["wrong", "00.longer", "upside down"]
def times_longer(rank, norm):
    return norm / rank**0.5


ov.course.check("00.longer", times_longer)

# %% [markdown]
# Adding singular values instead of their squares:


# %% tags=["wrong", "00.longer", "not rank"]
def times_longer(rank, norm):
    return rank / norm


ov.course.check("00.longer", times_longer)

# %% [markdown]
# Stopping at the length of the orthogonal step:


# %% tags=["wrong", "00.longer", "compare it with the gradient's"]
def times_longer(rank, norm):
    return rank**0.5


ov.course.check("00.longer", times_longer)

# %% [markdown]
# ## Exercise 2, 00.matched


# %% tags=["solution", "00.matched"]
def matched(gradient):
    factor = ov.polar_factor(gradient)
    return factor * gradient.norm() / factor.norm()


ov.course.check("00.matched", matched)

# %% [markdown]
# The polar factor as it is:


# %% tags=["wrong", "00.matched", "length sqrt(rank)"]
def matched(gradient):
    return ov.polar_factor(gradient)


ov.course.check("00.matched", matched)

# %% [markdown]
# Forgetting that the polar factor has a length of its own:


# %% tags=["wrong", "00.matched", "too long"]
def matched(gradient):
    return ov.polar_factor(gradient) * gradient.norm()


ov.course.check("00.matched", matched)

# %% [markdown]
# The wrong norm:


# %% tags=["wrong", "00.matched", "largest singular value"]
def matched(gradient):
    return ov.polar_factor(gradient) * torch.linalg.matrix_norm(gradient, 2)


ov.course.check("00.matched", matched)

# %% [markdown]
# Scaling the gradient to its own length, which gives the gradient:


# %% tags=["wrong", "00.matched", "orthogonalise it first"]
def matched(gradient):
    return gradient / gradient.norm() * gradient.norm()


ov.course.check("00.matched", matched)

# %% [markdown]
# Counting rows instead of directions:


# %% tags=["wrong", "00.matched", "rank can be less"]
def matched(gradient):
    return ov.polar_factor(gradient) * gradient.norm() / min(gradient.shape) ** 0.5


ov.course.check("00.matched", matched)

# %% [markdown]
# Every row at its own length:


# %% tags=["wrong", "00.matched", "the direction is not"]
def matched(gradient):
    factor = torch.nn.functional.normalize(ov.polar_factor(gradient), dim=1)
    return factor * gradient.norm(dim=1, keepdim=True)


ov.course.check("00.matched", matched)
