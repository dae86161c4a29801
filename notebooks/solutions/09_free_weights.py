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
# # 09 · Free weights: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 09.two_steps
#
# $x$ and $Rx$ are two sides of a rhombus, of length 1, and $x + Rx$ is its diagonal: $2 \cos(\alpha/2)$ for
# every $x$, so both singular values are that.


# %% tags=["solution", "09.two_steps"]
def two_steps(angle):
    import math

    return 2 * abs(math.cos(math.radians(angle) / 2))


ov.course.check("09.two_steps", two_steps)

# %% [markdown]
# By computing it, which is as good:


# %% tags=["solution", "09.two_steps"]
def two_steps(angle):
    a = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    R = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
    return torch.linalg.svdvals(torch.eye(2, dtype=torch.float64) + R)[0]


ov.course.check("09.two_steps", two_steps)

# %% [markdown]
# ## Exercise 2, 09.floor
#
# Where both have the same singular vectors, $Q - T$ has the singular values $1 - s$, and no other $Q$ is
# nearer: $Q$ is the polar factor of $T$, filled up where $T$ is zero.


# %% tags=["solution", "09.floor"]
def floor(modes, size):
    return (sum((s - 1) ** 2 for s in modes) + size - len(modes)) / 2


ov.course.check("09.floor", floor)

# %% [markdown]
# ## Exercise 3, 09.wall
#
# At the wall a step takes away as much as it adds: $\eta \lambda w = \eta$.


# %% tags=["solution", "09.wall"]
def wall(lr, decay):
    return 1 / decay


ov.course.check("09.wall", wall)
