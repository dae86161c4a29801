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
# # 03 · Without the SVD: solutions
#
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 03.step


# %% tags=["solution", "03.step"]
def step(X):
    return 1.5 * X - 0.5 * X @ X.T @ X


ov.course.check("03.step", step)

# %% [markdown]
# Cubing every entry instead of the matrix:


# %% tags=["wrong", "03.step", "cubes every entry"]
def step(X):
    return 1.5 * X - 0.5 * X**3


ov.course.check("03.step", step)

# %% [markdown]
# No transpose, which a square matrix lets through:


# %% tags=["wrong", "03.step", "the shapes do not fit"]
def step(X):
    return 1.5 * X - 0.5 * X @ X @ X


ov.course.check("03.step", step)

# %% [markdown]
# A factor lost:


# %% tags=["wrong", "03.step", "needs its factor 0.5"]
def step(X):
    return 1.5 * X - X @ X.T @ X


ov.course.check("03.step", step)

# %% [markdown]
# The sign:


# %% tags=["wrong", "03.step", "subtracted"]
def step(X):
    return 1.5 * X + 0.5 * X @ X.T @ X


ov.course.check("03.step", step)

# %% [markdown]
# ## Exercise 2, 03.gain


# %% tags=["solution", "03.gain"]
def gain_after(table, x):
    for p in table:
        x = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# Returning inside the loop:


# %% tags=["wrong", "03.gain", "only the first step"]
def gain_after(table, x):
    for p in table:
        return sum(c * x ** (2 * i + 1) for i, c in enumerate(p))


ov.course.check("03.gain", gain_after)

# %% [markdown]
# Starting every step from the first value:


# %% tags=["wrong", "03.gain", "each step starts from the first x"]
def gain_after(table, x):
    for p in table:
        y = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
    return y


ov.course.check("03.gain", gain_after)

# %% [markdown]
# All powers, not the odd ones:


# %% tags=["wrong", "03.gain", "the powers are odd"]
def gain_after(table, x):
    for p in table:
        x = sum(c * x ** (i + 1) for i, c in enumerate(p))
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# Adding the steps up:


# %% tags=["wrong", "03.gain", "not added"]
def gain_after(table, x):
    return sum(c * x ** (2 * i + 1) for p in table for i, c in enumerate(p))


ov.course.check("03.gain", gain_after)

# %% [markdown]
# Three coefficients taken for granted:


# %% tags=["wrong", "03.gain", "two coefficients"]
def gain_after(table, x):
    for a, b, c, *_ in ((*p, 0.0) for p in table):
        x = a * x + b * x**3 + c * x**5
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# From the last step to the first:


# %% tags=["wrong", "03.gain", "the steps run backwards"]
def gain_after(table, x):
    for p in reversed(table):
        x = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# Three coefficients and no others:


# %% tags=["wrong", "03.gain", "may have two coefficients"]
def gain_after(table, x):
    for a, b, c in table:
        x = a * x + b * x**3 + c * x**5
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# ## Exercise 3, 03.gains


# %% tags=["solution", "03.gains"]
def gains(O, G):
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O @ Vh.T).diagonal()


ov.course.check("03.gains", gains)

# %% [markdown]
# The singular values of the factor, which know nothing of G:


# %% tags=["wrong", "03.gains", "ask nothing about G"]
def gains(O, G):
    return torch.linalg.svdvals(O)


ov.course.check("03.gains", gains)

# %% [markdown]
# All pairs instead of the matching ones:


# %% tags=["wrong", "03.gains", "the gains are its diagonal"]
def gains(O, G):
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return U.T @ O @ Vh.T


ov.course.check("03.gains", gains)

# %% [markdown]
# Without the sign, a turned direction looks right:


# %% tags=["wrong", "03.gains", "without the absolute value"]
def gains(O, G):
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O @ Vh.T).diagonal().abs()


ov.course.check("03.gains", gains)

# %% [markdown]
# Half of the way, from one side only:


# %% tags=["wrong", "03.gains", "the length of u_i^T O"]
def gains(O, G):
    U, _, _ = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O).norm(dim=1)


ov.course.check("03.gains", gains)

# %% [markdown]
# Transposed twice:


# %% tags=["wrong", "03.gains", "V transposed already"]
def gains(O, G):
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O @ V).diagonal()


ov.course.check("03.gains", gains)

# %% [markdown]
# Comparing sizes:


# %% tags=["wrong", "03.gains", "compares sizes"]
def gains(O, G):
    return torch.linalg.svdvals(O) / torch.linalg.svdvals(G)


ov.course.check("03.gains", gains)
