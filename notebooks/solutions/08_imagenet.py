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

# %% [markdown]
# ## The open question: does the test loss begin to rise?
#
# In none of the four runs. The smallest test loss comes in the last five of 100 epochs, so nothing has turned
# yet. To see it coming, watch the gap between training and test loss: a network that grows surer of the
# images that it has seen than of others opens it. Here it is small to the end.

# %%
table = ov.training.results("table1-basic_cnn")
for (name, seed), run in table.groupby(["optimizer", "seed"]):
    run = run.set_index("epoch")
    lowest, end = run.test_loss.idxmin(), run.loc[100]
    print(
        f"{ov.optim.LABELS[name]}, seed {seed}: smallest test loss after epoch {lowest}; at the end", end=" "
    )
    print(f"{end.test_loss:.3f}, training loss {end.train_loss:.3f}")
