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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 02.law


# %% tags=["solution", "02.law"]
def steps_to_learn(s, lr):
    return (0.9 * s) ** (1 / 3) / lr


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# Learnt in full:


# %% tags=["wrong", "02.law", "at nine tenths of s it counts"]
def steps_to_learn(s, lr):
    return s ** (1 / 3) / lr


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# Nine tenths of the time:


# %% tags=["wrong", "02.law", "0.9 belongs under the root"]
def steps_to_learn(s, lr):
    return 0.9 * s ** (1 / 3) / lr


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# As if there were one layer:


# %% tags=["wrong", "02.law", "each needs the cube root"]
def steps_to_learn(s, lr):
    return 0.9 * s / lr


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# The rate under the root:


# %% tags=["wrong", "02.law", "lr stands outside of the root"]
def steps_to_learn(s, lr):
    return (0.9 * s / lr) ** (1 / 3)


ov.course.check("02.law", steps_to_learn)

# %% [markdown]
# ## Exercise 2, 02.descent


# %% tags=["solution", "02.descent"]
def steps_of_descent(curvature, lr):
    import math

    return math.log(0.1) / math.log(abs(1 - lr * curvature))


ov.course.check("02.descent", steps_of_descent)

# %% [markdown]
# As if each step were equally long:


# %% tags=["wrong", "02.descent", "geometric"]
def steps_of_descent(curvature, lr):
    return 0.9 / (lr * curvature)


ov.course.check("02.descent", steps_of_descent)

# %% [markdown]
# Nine tenths left instead of one:


# %% tags=["wrong", "02.descent", "a tenth is left"]
def steps_of_descent(curvature, lr):
    import math

    return math.log(0.9) / math.log(abs(1 - lr * curvature))


ov.course.check("02.descent", steps_of_descent)

# %% [markdown]
# Good for flat directions alone:


# %% tags=["wrong", "02.descent", "only for small x"]
def steps_of_descent(curvature, lr):
    import math

    return math.log(10) / (lr * curvature)


ov.course.check("02.descent", steps_of_descent)

# %% [markdown]
# ## Exercise 3, 02.rate


# %% tags=["solution", "02.rate"]
def rate(step, steps, lr):
    return lr * (1 - step / steps)


ov.course.check("02.rate", rate)

# %% [markdown]
# A last step of length zero:


# %% tags=["wrong", "02.rate", "is wasted"]
def rate(step, steps, lr):
    return lr * (1 - step / (steps - 1))


ov.course.check("02.rate", rate)

# %% [markdown]
# Counted from 1:


# %% tags=["wrong", "02.rate", "still have the whole rate"]
def rate(step, steps, lr):
    return lr * (1 - (step + 1) / steps)


ov.course.check("02.rate", rate)

# %% [markdown]
# The line turned round:


# %% tags=["wrong", "02.rate", "the whole rate"]
def rate(step, steps, lr):
    return lr * step / steps


ov.course.check("02.rate", rate)
