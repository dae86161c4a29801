# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · The polar factor: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 01.root
#
# With $G = U S V^\top$ is $G G^\top = U S^2 U^\top$, so its power $-1/2$ is $U S^{-1} U^\top$, and $U S^{-1}
# U^\top U S V^\top = U V^\top$.


# %% tags=["solution", "01.root"]
def root(G):
    squares, U = torch.linalg.eigh(G @ G.T)
    return U @ torch.diag(squares**-0.5) @ U.T @ G


ov.course.check("01.root", root)

# %% [markdown]
# ## Exercise 2, 01.distance
#
# $G - O = U (S - I) V^\top$, and $U$ and $V$ do not change lengths.


# %% tags=["solution", "01.distance"]
def distance(gradient):
    return (torch.linalg.svdvals(gradient) - 1).norm()


ov.course.check("01.distance", distance)

# %% [markdown]
# ## Exercise 3, 01.share
#
# The rows' common direction is one of the factor's directions, with singular value 1: the vector of the $k$
# cosines has length 1. No row is special, so each is $1 / \sqrt k$.


# %% tags=["solution", "01.share"]
def share(k):
    return k**-0.5


ov.course.check("01.share", share)

# %% [markdown]
# ## The open question
#
# A turn $R$ of $G$ turns the factor: $R G = (R U) S V^\top$, and $R U V^\top$ is $R$ times the factor. That
# is the proof in a line; a swap of the rows is such an $R$. A positive number changes $S$ only.

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)
R = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # swaps the rows
O = ov.polar_factor(G)
print(torch.allclose(ov.polar_factor(R @ G), R @ O), torch.allclose(ov.polar_factor(1e-20 * G), O))
