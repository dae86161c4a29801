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
# # 02 · Toy problems: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 02.law


# %% tags=["solution", "02.law"]
def steps_to_learn(s, lr):
    return (0.9 * s) ** (1 / 3) / lr


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# ## Exercise 2, 02.descent


# %% tags=["solution", "02.descent"]
def steps_of_descent(curvature, lr):
    import math

    return math.log(0.1) / math.log(abs(1 - lr * curvature))


ov.course.check("02.descent", steps_of_descent)

# %% [markdown]
# ## Exercise 3, 02.rate


# %% tags=["solution", "02.rate"]
def rate(step, steps, lr):
    return lr * (1 - step / steps)


ov.course.check("02.rate", rate)
