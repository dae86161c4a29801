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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 08.hours


# %% tags=["solution", "08.hours"]
def hours(images, epochs, rate):
    return images * epochs / rate / 3600


ov.course.check("08.hours", hours)

# %% [markdown]
# Seconds:


# %% tags=["wrong", "08.hours", "these are seconds"]
def hours(images, epochs, rate):
    return images * epochs / rate


ov.course.check("08.hours", hours)

# %% [markdown]
# One epoch:


# %% tags=["wrong", "08.hours", "this is one epoch"]
def hours(images, epochs, rate):
    return images / rate / 3600


ov.course.check("08.hours", hours)

# %% [markdown]
# Upside down:


# %% tags=["wrong", "08.hours", "upside down"]
def hours(images, epochs, rate):
    return rate * 3600 / images / epochs


ov.course.check("08.hours", hours)

# %% [markdown]
# ## Exercise 2, 08.mean


# %% tags=["solution", "08.mean"]
def accuracy(right, images):
    return right.sum() / images.sum()


ov.course.check("08.mean", accuracy)

# %% [markdown]
# The mean of means:


# %% tags=["wrong", "08.mean", "the mean of means"]
def accuracy(right, images):
    return (right / images).mean()


ov.course.check("08.mean", accuracy)

# %% [markdown]
# A count:


# %% tags=["wrong", "08.mean", "divide by the number of images"]
def accuracy(right, images):
    return right.sum()


ov.course.check("08.mean", accuracy)

# %% [markdown]
# Over processes:


# %% tags=["wrong", "08.mean", "not by the number of processes"]
def accuracy(right, images):
    return right.mean()


ov.course.check("08.mean", accuracy)

# %% [markdown]
# ## Exercise 3, 08.louder


# %% tags=["solution", "08.louder"]
def louder(logits):
    return 10 * logits


ov.course.check("08.louder", louder)

# %% [markdown]
# A constant:


# %% tags=["wrong", "08.louder", "the loss is the same"]
def louder(logits):
    return logits + 10


ov.course.check("08.louder", louder)

# %% [markdown]
# Another answer:


# %% tags=["wrong", "08.louder", "some answers are others now"]
def louder(logits):
    return -logits


ov.course.check("08.louder", louder)

# %% [markdown]
# Smaller instead of larger:


# %% tags=["wrong", "08.louder", "the loss fell"]
def louder(logits):
    return logits / 2


ov.course.check("08.louder", louder)

# %% [markdown]
# Too large for floating point:


# %% tags=["wrong", "08.louder", "too large for floating point"]
def louder(logits):
    return logits * 1e320


ov.course.check("08.louder", louder)
