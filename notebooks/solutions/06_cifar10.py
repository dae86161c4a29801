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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 06.separated


# %% tags=["solution", "06.separated"]
def separated(first, second):
    return min(first) > max(second)


ov.course.check("06.separated", separated)

# %% [markdown]
# Means:


# %% tags=["wrong", "06.separated", "a better mean is not enough"]
def separated(first, second):
    return sum(first) / len(first) > sum(second) / len(second)


ov.course.check("06.separated", separated)

# %% [markdown]
# Separated, whoever wins:


# %% tags=["wrong", "06.separated", "is the FIRST better"]
def separated(first, second):
    return min(first) > max(second) or min(second) > max(first)


ov.course.check("06.separated", separated)

# %% [markdown]
# Equality counts:


# %% tags=["wrong", "06.separated", "as good as is not worse"]
def separated(first, second):
    return min(first) >= max(second)


ov.course.check("06.separated", separated)

# %% [markdown]
# Runs in pairs:


# %% tags=["wrong", "06.separated", "do not pair"]
def separated(first, second):
    return all(x > y for x, y in zip(first, second, strict=True))


ov.course.check("06.separated", separated)

# %% [markdown]
# ## Exercise 2, 06.equal_step


# %% tags=["solution", "06.equal_step"]
def equal_step(rate, ours, theirs):
    return rate * theirs / ours


ov.course.check("06.equal_step", equal_step)

# %% [markdown]
# Upside down:


# %% tags=["wrong", "06.equal_step", "upside down"]
def equal_step(rate, ours, theirs):
    return rate * ours / theirs


ov.course.check("06.equal_step", equal_step)

# %% [markdown]
# The ratio:


# %% tags=["wrong", "06.equal_step", "multiply by the other's rate"]
def equal_step(rate, ours, theirs):
    return theirs / ours


ov.course.check("06.equal_step", equal_step)

# %% [markdown]
# The same rate:


# %% tags=["wrong", "06.equal_step", "not an equal step"]
def equal_step(rate, ours, theirs):
    return rate


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
# Upside down:


# %% tags=["wrong", "06.speedup", "upside down"]
def speedup(first, second, target):
    def epochs(accuracies):
        return next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)

    return epochs(second) / epochs(first)


ov.course.check("06.speedup", speedup)

# %% [markdown]
# One epoch too many:


# %% tags=["wrong", "06.speedup", "add nothing"]
def speedup(first, second, target):
    def epochs(accuracies):
        return next(i for i, accuracy in enumerate(accuracies, 1) if accuracy >= target)

    return epochs(first) / epochs(second)


ov.course.check("06.speedup", speedup)

# %% [markdown]
# Accuracies:


# %% tags=["wrong", "06.speedup", "a ratio of accuracies"]
def speedup(first, second, target):
    def reached(accuracies):
        return next(accuracy for accuracy in accuracies if accuracy >= target)

    return reached(second) / reached(first)


ov.course.check("06.speedup", speedup)

# %% [markdown]
# A difference:


# %% tags=["wrong", "06.speedup", "a difference of epochs"]
def speedup(first, second, target):
    def epochs(accuracies):
        return next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)

    return epochs(first) - epochs(second)


ov.course.check("06.speedup", speedup)

# %% [markdown]
# The last time that the target is crossed:


# %% tags=["wrong", "06.speedup", "first reached"]
def speedup(first, second, target):
    def epochs(accuracies):
        return 1 + max(i for i, accuracy in enumerate(accuracies) if accuracy < target)

    return epochs(first) / epochs(second)


ov.course.check("06.speedup", speedup)
