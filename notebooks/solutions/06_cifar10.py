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
