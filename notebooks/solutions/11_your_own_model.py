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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# Means, which always decide:


# %% tags=["wrong", "11.decide", "cannot tell"]
def decide(ours, theirs, worth):
    lead = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    return "adopt" if lead > worth else "stay"


ov.course.check("11.decide", decide)

# %% [markdown]
# Without asking what it is worth:


# %% tags=["wrong", "11.decide", "0.93 by more"]
def decide(ours, theirs, worth):
    if min(ours) > max(theirs):
        return "adopt"
    return "stay" if max(ours) < min(theirs) else "cannot tell"


ov.course.check("11.decide", decide)

# %% [markdown]
# Run against run, in the order in which they stand:


# %% tags=["wrong", "11.decide", "do not pair"]
def decide(ours, theirs, worth):
    leads = [x - y for x, y in zip(ours, theirs, strict=True)]
    if min(leads) > worth:
        return "adopt"
    return "stay" if max(leads) <= worth else "cannot tell"


ov.course.check("11.decide", decide)

# %% [markdown]
# "At least" for "more than":


# %% tags=["wrong", "11.decide", "not MORE"]
def decide(ours, theirs, worth):
    if min(ours) - max(theirs) >= worth:
        return "adopt"
    return "stay" if max(ours) - min(theirs) < worth else "cannot tell"


ov.course.check("11.decide", decide)

# %% [markdown]
# A single run believed:


# %% tags=["wrong", "11.decide", "a single run"]
def decide(ours, theirs, worth):
    if min(ours) - max(theirs) > worth:
        return "adopt"
    return "stay" if max(ours) - min(theirs) <= worth else "cannot tell"


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
# Either one:


# %% tags=["wrong", "11.chance", "ours alone"]
def by_chance(seeds):
    import math

    return 2 / math.comb(2 * seeds, seeds)


ov.course.check("11.chance", by_chance)

# %% [markdown]
# Coins, one for each seed:


# %% tags=["wrong", "11.chance", "every run must beat every other"]
def by_chance(seeds):
    return 0.5**seeds


ov.course.check("11.chance", by_chance)

# %% [markdown]
# Coins, one for each pair:


# %% tags=["wrong", "11.chance", "not independent"]
def by_chance(seeds):
    return 0.5 ** (seeds * seeds)


ov.course.check("11.chance", by_chance)

# %% [markdown]
# One order of all runs:


# %% tags=["wrong", "11.chance", "ONE order"]
def by_chance(seeds):
    import math

    return 1 / math.factorial(2 * seeds)


ov.course.check("11.chance", by_chance)

# %% [markdown]
# ## Exercise 3, 11.seconds


# %% tags=["solution", "11.seconds"]
def epochs_for(epochs, ours, theirs):
    return int(epochs * theirs // ours)


ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# Not whole:


# %% tags=["wrong", "11.seconds", "math.floor"]
def epochs_for(epochs, ours, theirs):
    return epochs * theirs / ours


ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# Rounded up:


# %% tags=["wrong", "11.seconds", "round down"]
def epochs_for(epochs, ours, theirs):
    import math

    return math.ceil(epochs * theirs / ours)


ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# Upside down:


# %% tags=["wrong", "11.seconds", "FEWER"]
def epochs_for(epochs, ours, theirs):
    return epochs * ours // theirs


ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# Equal epochs:


# %% tags=["wrong", "11.seconds", "not equal seconds"]
def epochs_for(epochs, ours, theirs):
    return epochs


ov.course.check("11.seconds", epochs_for)
