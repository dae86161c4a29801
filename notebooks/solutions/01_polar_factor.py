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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# Transposing what is transposed already:


# %% tags=["wrong", "01.polar", "V transposed already"]
def polar(gradient):
    U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return U @ Vh.T


ov.course.check("01.polar", polar)

# %% [markdown]
# Multiplying everything back together:


# %% tags=["wrong", "01.polar", "Leave s out"]
def polar(gradient):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return U @ torch.diag(s) @ Vh


ov.course.check("01.polar", polar)

# %% [markdown]
# Making every row short instead of perpendicular:


# %% tags=["wrong", "01.polar", "leaves the angles"]
def polar(gradient):
    return gradient / gradient.norm(dim=1, keepdim=True)


ov.course.check("01.polar", polar)

# %% [markdown]
# The transpose:


# %% tags=["wrong", "01.polar", "rows and columns are swapped"]
def polar(gradient):
    U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return (U @ Vh).T


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
# The square of it:


# %% tags=["wrong", "01.distance", "take the root"]
def distance(gradient):
    return (torch.linalg.svdvals(gradient) - 1).square().sum()


ov.course.check("01.distance", distance)

# %% [markdown]
# Distance from zero:


# %% tags=["wrong", "01.distance", "distance from zero"]
def distance(gradient):
    return torch.linalg.svdvals(gradient).norm()


ov.course.check("01.distance", distance)

# %% [markdown]
# Adding without squares:


# %% tags=["wrong", "01.distance", "adds squares"]
def distance(gradient):
    return (torch.linalg.svdvals(gradient) - 1).abs().sum()


ov.course.check("01.distance", distance)

# %% [markdown]
# ## Exercise 3, 01.null


# %% tags=["solution", "01.null"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    keep = (s > tol * s[0]).to(s.dtype)
    return (U * keep) @ Vh


ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# An absolute tolerance forgets that scale must not matter:


# %% tags=["wrong", "01.null", "not with tol"]
def polar_of_what_is_there(gradient, tol=1e-6):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    keep = (s > tol).to(s.dtype)
    return (U * keep) @ Vh


ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# Making the gradient's length 1 first, when it can be zero:


# %% tags=["wrong", "01.null", "do not divide"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient / gradient.norm(), full_matrices=False)
    return (U * (s > tol).to(s.dtype)) @ Vh


ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# The function of exercise 1, which keeps everything:


# %% tags=["wrong", "01.null", "must go"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, _, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return U @ Vh


ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# The comparison with >=, which keeps everything of a zero matrix:


# %% tags=["wrong", "01.null", "full-size step"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    keep = (s >= tol * s[0]).to(s.dtype)
    return (U * keep) @ Vh


ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# Ignoring `tol`:


# %% tags=["wrong", "01.null", "tol is not used"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    return (U * (s > 1e-10 * s[0]).to(s.dtype)) @ Vh


ov.course.check("01.null", polar_of_what_is_there)
