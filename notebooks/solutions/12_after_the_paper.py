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
# # 12 · After the paper: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 12.sum
#
# The polar factor of a diagonal matrix has its signs on the diagonal. Where they differ they add up to zero,
# so the sum of $a$ and $d$ stays as it is.


# %% tags=["solution", "12.sum"]
def change_of_sum(g1, g2):
    import math

    return -math.copysign(1, g1) - math.copysign(1, g2)


ov.course.check("12.sum", change_of_sum)

# %% [markdown]
# ## Exercise 2, 12.longest
#
# A step adds $\eta$, the decay takes $\eta\lambda$ times the length. Equal: $\eta\lambda s = \eta$.


# %% tags=["solution", "12.longest"]
def longest(decay, lr):
    return 1 / decay


ov.course.check("12.longest", longest)

# %% [markdown]
# ## Exercise 3, 12.side


# %% tags=["solution", "12.side"]
def side(setting):
    return {"rare words": "helps", "mostly noise": "hurts"}.get(setting, "neither")


ov.course.check("12.side", side)
