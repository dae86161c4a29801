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
# # 11 · Your own model: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 11.decide
#
# The least lucky pair is our worst run against their best; the luckiest our best against their worst.


# %% tags=["solution", "11.decide"]
def decide(ours, theirs, worth):
    if len(ours) < 2 or len(theirs) < 2:
        return "cannot tell"
    if min(ours) - max(theirs) > worth:
        return "adopt"
    if max(ours) - min(theirs) <= worth:
        return "stay"
    return "cannot tell"


ov.course.check("11.decide", decide)

# %% [markdown]
# ## Exercise 2, 11.chance
#
# If all are equally good, every choice of which $n$ of the $2n$ sorted runs are ours is equally likely, and
# one of $\binom{2n}{n}$ has ours in front. (That either beats the other is twice as likely, the one in three
# of lesson 06.)


# %% tags=["solution", "11.chance"]
def by_chance(seeds):
    import math

    return 1 / math.comb(2 * seeds, seeds)


ov.course.check("11.chance", by_chance)

# %% [markdown]
# ## Exercise 3, 11.seconds


# %% tags=["solution", "11.seconds"]
def epochs_for(epochs, ours, theirs):
    return int(epochs * theirs // ours)


ov.course.check("11.seconds", epochs_for)
