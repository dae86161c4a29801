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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# The standard deviation:


# %% tags=["wrong", "04.chance", "is the standard deviation of the cosine"]
def chance(n):
    return n**-0.5


ov.course.check("04.chance", chance)

# %% [markdown]
# The number of entries outside of the root:


# %% tags=["wrong", "04.chance", "put n under the root"]
def chance(n):
    import math

    return math.sqrt(2 / math.pi) / n


ov.course.check("04.chance", chance)

# %% [markdown]
# The factor upside down:


# %% tags=["wrong", "04.chance", "upside down"]
def chance(n):
    import math

    return math.sqrt(math.pi / (2 * n))


ov.course.check("04.chance", chance)

# %% [markdown]
# The mean with its sign:


# %% tags=["wrong", "04.chance", "0 is the mean of the cosine itself"]
def chance(n):
    return 0.0


ov.course.check("04.chance", chance)

# %% [markdown]
# ## Exercise 2, 04.two_steps


# %% tags=["solution", "04.two_steps"]
def two_steps():
    return torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# Not orthonormal:


# %% tags=["wrong", "04.two_steps", "the second matrix has no orthonormal rows"]
def two_steps():
    return torch.eye(2), torch.ones(2, 2)


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# The same step twice:


# %% tags=["wrong", "04.two_steps", "two times the same step"]
def two_steps():
    return torch.eye(2), torch.eye(2)


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# Steps that cancel:


# %% tags=["wrong", "04.two_steps", "a row of the sum is zero"]
def two_steps():
    return torch.eye(2), -torch.eye(2)


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# A turn by a right angle:


# %% tags=["wrong", "04.two_steps", "have a cosine of"]
def two_steps():
    return torch.eye(2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# ## Exercise 3, 04.maps


# %% tags=["solution", "04.maps"]
def map_cosine(maps):
    return ov.measures.mean_abs_cosine(maps.flatten(2)).mean()


ov.course.check("04.maps", map_cosine)

# %% [markdown]
# With the diagonal:


# %% tags=["wrong", "04.maps", "the diagonal counts too"]
def map_cosine(maps):
    return ov.measures.cosine_matrix(maps.flatten(2)).abs().mean()


ov.course.check("04.maps", map_cosine)

# %% [markdown]
# All inputs as one:


# %% tags=["wrong", "04.maps", "compare within an input first"]
def map_cosine(maps):
    return ov.measures.mean_abs_cosine(maps.transpose(0, 1).flatten(1))


ov.course.check("04.maps", map_cosine)

# %% [markdown]
# Inputs instead of channels:


# %% tags=["wrong", "04.maps", "this compares inputs with one another"]
def map_cosine(maps):
    return ov.measures.mean_abs_cosine(maps.flatten(1))


ov.course.check("04.maps", map_cosine)

# %% [markdown]
# Centred:


# %% tags=["wrong", "04.maps", "these maps are centred"]
def map_cosine(maps):
    return ov.measures.feature_cosine(maps, centred=True)


ov.course.check("04.maps", map_cosine)

# %% [markdown]
# With signs:


# %% tags=["wrong", "04.maps", "signs cancel"]
def map_cosine(maps):
    cosine = ov.measures.cosine_matrix(maps.flatten(2))
    count = len(maps) * maps.shape[1]
    return (cosine.sum() - count) / (count * (maps.shape[1] - 1))


ov.course.check("04.maps", map_cosine)
