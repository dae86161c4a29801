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
# For each exercise a worked solution, and what the check says of it.

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
# ## Exercise 2, 03.gain


# %% tags=["solution", "03.gain"]
def gain_after(table, x):
    for p in table:
        x = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# ## Exercise 3, 03.gains


# %% tags=["solution", "03.gains"]
def gains(O, G):
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O @ Vh.T).diagonal()


ov.course.check("03.gains", gains)
