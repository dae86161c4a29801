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
# # 08 · ImageNet, a field guide: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 08.hours


# %% tags=["solution", "08.hours"]
def hours(images, epochs, rate):
    return images * epochs / rate / 3600


ov.course.check("08.hours", hours)

# %% [markdown]
# ## Exercise 2, 08.mean


# %% tags=["solution", "08.mean"]
def accuracy(right, images):
    return right.sum() / images.sum()


ov.course.check("08.mean", accuracy)

# %% [markdown]
# ## Exercise 3, 08.louder


# %% tags=["solution", "08.louder"]
def louder(logits):
    return 10 * logits


ov.course.check("08.louder", louder)
