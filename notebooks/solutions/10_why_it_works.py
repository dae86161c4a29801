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
# # 10 · Why it works: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 10.rows
#
# $\langle O, G\rangle$ is a sum over rows, and each row has a length of 1 to spend: by Cauchy and Schwarz
# best along its own gradient. (`normalize` leaves a row of zeros zero.)


# %% tags=["solution", "10.rows"]
def steepest_rows(gradient):
    return torch.nn.functional.normalize(gradient, dim=1)


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# ## Exercise 2, 10.test


# %% tags=["solution", "10.test"]
def favours_orthogonal(gradient, inputs):
    return ov.measures.nuclear_rank(gradient) > ov.measures.stable_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# From the norms themselves:


# %% tags=["solution", "10.test"]
def favours_orthogonal(gradient, inputs):
    s, t = torch.linalg.svdvals(gradient), torch.linalg.svdvals(inputs)
    return (s.sum() ** 2 / (s**2).sum()).item() > ((t**2).sum() / t[0] ** 2).item()


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# ## Exercise 3, 10.scale
#
# All singular values are 1, so the squares of the $mn$ entries add up to $\min(m, n)$. Their mean is
# $\min(m, n) / (mn) = 1/\max(m, n)$.


# %% tags=["solution", "10.scale"]
def moonlight(m, n):
    return 0.2 * max(m, n) ** 0.5


ov.course.check("10.scale", moonlight)
