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
# # 06 · CIFAR-10, the fair fight: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 06.lead
#
# The luck of a seed is in both runs of a pair, and drops out of their difference.


# %% tags=["solution", "06.lead"]
def lead(first, second):
    import statistics

    leads = [a - b for a, b in zip(first, second, strict=True)]
    return statistics.mean(leads) / (statistics.stdev(leads) / len(leads) ** 0.5)


ov.course.check("06.lead", lead)

# %% [markdown]
# ## Exercise 2, 06.equal_step


# %% tags=["solution", "06.equal_step"]
def equal_step(rate, ours, theirs):
    return rate * theirs / ours


ov.course.check("06.equal_step", equal_step)

# %% [markdown]
# ## Exercise 3, 06.speedup


# %% tags=["solution", "06.speedup"]
def speedup(first, second, target):
    def epochs(accuracies):
        return next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)

    return epochs(first) / epochs(second)


ov.course.check("06.speedup", speedup)

# %% [markdown]
# ## The open question: small batches
#
# Four images a step, one epoch, two seeds: two seeds cannot tell the two from one another. On photographs
# (8,000 images, one epoch, two seeds) keeping ends lower at batch 4, and nobody collapses.

# %%
data, names = ov.datasets.load("digits"), ("orthogonal_sgd", "orthogonal_sgd_keep")
small = ov.training.compare(
    lambda seed: ov.models.digits_cnn(seed=seed), data, {name: ov.optim.OPTIMIZERS[name] for name in names},
    protocol="equal_lr", lrs=0.01, epochs=1, seeds=2, batch_size=4, progress=False,
)  # fmt: skip
print(small.verdict)
sizes = ov.training.results("batch_size-basic_cnn").query("epoch == 1")
100 * sizes.pivot_table(index="optimizer", columns="batch_size", values="test_accuracy").round(3)
