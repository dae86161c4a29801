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
# # 00 · Start here: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 00.longer
#
# The polar factor of a matrix of rank $r$ has $r$ singular values 1, so its Frobenius norm is $\sqrt r$.


# %% tags=["solution", "00.longer"]
def times_longer(rank, norm):
    return rank**0.5 / norm


ov.course.check("00.longer", times_longer)

# %% [markdown]
# ## Exercise 2, 00.matched


# %% tags=["solution", "00.matched"]
def matched(gradient):
    factor = ov.polar_factor(gradient)
    return factor * gradient.norm() / factor.norm()


ov.course.check("00.matched", matched)
