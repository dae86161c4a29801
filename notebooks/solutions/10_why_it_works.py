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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# Columns:


# %% tags=["wrong", "10.rows", "those are the columns"]
def steepest_rows(gradient):
    return torch.nn.functional.normalize(gradient, dim=0)


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# The whole:


# %% tags=["wrong", "10.rows", "that is the whole"]
def steepest_rows(gradient):
    return gradient / gradient.norm()


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# The polar factor, whose rows do have length 1, and are orthogonal besides, which costs gain:


# %% tags=["wrong", "10.rows", "need not be orthogonal"]
def steepest_rows(gradient):
    return ov.polar_factor(gradient)


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# Downhill:


# %% tags=["wrong", "10.rows", "the minus comes with the step"]
def steepest_rows(gradient):
    return -torch.nn.functional.normalize(gradient, dim=1)


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# A dead filter divides by zero:


# %% tags=["wrong", "10.rows", "becomes NaN"]
def steepest_rows(gradient):
    return gradient / gradient.norm(dim=1, keepdim=True)


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
# The wrong way round:


# %% tags=["wrong", "10.test", "the wrong way round"]
def favours_orthogonal(gradient, inputs):
    return ov.measures.nuclear_rank(gradient) < ov.measures.stable_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# The stable rank on both sides:


# %% tags=["wrong", "10.test", "the nuclear norm is asked for"]
def favours_orthogonal(gradient, inputs):
    return ov.measures.stable_rank(gradient) > ov.measures.stable_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# Norms without their squares:


# %% tags=["wrong", "10.test", "square the ratio of the gradient"]
def favours_orthogonal(gradient, inputs):
    s = torch.linalg.svdvals(gradient)
    return s.sum() / gradient.norm() > ov.measures.stable_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# Ranks that count everything:


# %% tags=["wrong", "10.test", "however weak"]
def favours_orthogonal(gradient, inputs):
    return torch.linalg.matrix_rank(gradient) > torch.linalg.matrix_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# Gradient and inputs exchanged:


# %% tags=["wrong", "10.test", "changed places"]
def favours_orthogonal(gradient, inputs):
    return ov.measures.nuclear_rank(inputs) > ov.measures.stable_rank(gradient)


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

# %% [markdown]
# The other side:


# %% tags=["wrong", "10.scale", "which of the two is left"]
def moonlight(m, n):
    return 0.2 * min(m, n) ** 0.5


ov.course.check("10.scale", moonlight)

# %% [markdown]
# Upside down:


# %% tags=["wrong", "10.scale", "upside down"]
def moonlight(m, n):
    return 0.2 / max(m, n) ** 0.5


ov.course.check("10.scale", moonlight)

# %% [markdown]
# As if the whole had length 1:


# %% tags=["wrong", "10.scale", "already"]
def moonlight(m, n):
    return 0.2 * (m * n) ** 0.5


ov.course.check("10.scale", moonlight)

# %% [markdown]
# Only right for wide matrices:


# %% tags=["wrong", "10.scale", "taller than wide"]
def moonlight(m, n):
    return 0.2 * n**0.5


ov.course.check("10.scale", moonlight)
