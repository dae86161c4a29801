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
# # 01 · The polar factor: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 01.polar


# %% tags=["solution", "01.polar"]
def polar(gradient):
    U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return U @ Vh


ov.course.check("01.polar", polar)

# %% [markdown]
# ## Exercise 2, 01.distance
#
# $G - O = U (S - I) V^\top$, and $U$ and $V$ do not change lengths.


# %% tags=["solution", "01.distance"]
def distance(gradient):
    return (torch.linalg.svdvals(gradient) - 1).norm()


ov.course.check("01.distance", distance)

# %% [markdown]
# ## Exercise 3, 01.null


# %% tags=["solution", "01.null"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    keep = (s > tol * s[0]).to(s.dtype)
    return (U * keep) @ Vh


ov.course.check("01.null", polar_of_what_is_there)
