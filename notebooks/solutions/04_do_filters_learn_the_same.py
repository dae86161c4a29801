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
# # 04 · Do filters learn the same?: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 04.chance


# %% tags=["solution", "04.chance"]
def chance(n):
    import math

    return math.sqrt(2 / (math.pi * n))


ov.course.check("04.chance", chance)

# %% [markdown]
# ## Exercise 2, 04.two_steps


# %% tags=["solution", "04.two_steps"]
def two_steps():
    return torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# ## Exercise 3, 04.maps


# %% tags=["solution", "04.maps"]
def map_cosine(maps):
    return ov.measures.mean_abs_cosine(maps.flatten(2)).mean()


ov.course.check("04.maps", map_cosine)
