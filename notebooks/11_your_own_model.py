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
# # 11 · Your own model
#
# After this lesson you will be able to
#
# - write down a rule and a budget *before* an experiment, and keep to them after it;
# - look at your own network before you change it, and time what the change would cost;
# - decide at equal wall-clock time: adopt, stay, or "cannot tell".
#
# Time: 40 minutes with your own network, a minute to run as it is.

# %%
import torch
from torch import nn

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## The network
#
# Here is a network that this course has not met: dense layers, GELU, layer norm, trained by AdamW, as many
# are. **Put yours in its place**: `mine(seed)` makes it and sets the seed, so that both optimisers start from
# the same weights; it takes images of the shape that is printed and gives a number for each class. `data` is
# a data set of this package (`orthoviz data add` takes any folder of images). What the text says of results
# is about the network that stands here.


# %%
def mine(seed):
    """A fresh network from a seed."""
    torch.manual_seed(seed)
    first = (nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128))
    return nn.Sequential(*first, nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))


data = ov.datasets.load("digits")
print(data)

# %% [markdown]
# First question: which of your parameters are matrices that should be orthogonalised? Biases and norms are no
# matrices, and of an embedding only the rows of a batch's tokens have a gradient. They follow a plain rule.

# %%
ov.param_groups(mine(0)).table()

# %% [markdown]
# ## The rule, before anything runs
#
# After a race everyone finds a reason. So write these down **now**, in the next cell, and do not touch them
# again (if you try anew, with another rule, say in your lab book how often):
#
# - what it must be **worth**: orthogonal steps are one more dependency and one more thing to explain. How
#   many points of accuracy make you change?
# - what it may **cost**: seconds for each run, how many seeds, which rates (equally many for both).
#
# "Cannot tell" is a result. So is "no", and for this lesson it is a full-mark answer.

# %%
WORTH = 0.01  # accuracy: one point
MINUTES, SEEDS = 0.015, 5  # a run; all take about optimisers x rates x seeds x minutes
RATES = {"adamw": (0.001, 0.003, 0.01), "orthogonal_sgd": (0.001, 0.003, 0.01)}

# %% [markdown]
# ### Exercise 1: the decision
#
# Runs with the same seed start from the same weights and see the same batches, so compare them pair by pair:
# most of the luck is in both, and drops out. Of $n$ leads with mean $m$ and standard deviation $s$ (`stdev`),
# the true lead lies within $m \pm T_n\, s / \sqrt n$ in 95 of 100 experiments like yours (Student, 1908).
#
# If all of that interval is **above** `worth`, adopt. If none of it is, stay. Otherwise you cannot tell; nor
# can you from a single pair.


# %% tags=["exercise"]

T = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of pairs


def decide(ours, theirs, worth):
    """ "adopt", "stay" or "cannot tell", from two lists of final accuracies in the order of their seeds."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.decide", decide)

# %% [markdown]
# ### Exercise 2: how easily chance decides
#
# A quicker rule: ours is better where it is ahead in every pair. Suppose the two optimisers are exactly
# equal, and what is left is luck. How probable is it that ours is ahead in all pairs of `seeds` seeds?


# %% tags=["exercise"]
def by_chance(seeds):
    """Probability of being ahead in each of `seeds` pairs, if both are equally good."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.chance", by_chance)

# %% [markdown]
# ### Exercise 3: equal seconds
#
# A step of ours takes `ours` milliseconds, theirs `theirs`. They trained for `epochs`. For how many **whole**
# epochs may ours train, so that it takes no longer?


# %% tags=["exercise"]
def epochs_for(epochs, ours, theirs):
    """Whole epochs of ours in the time of theirs."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("11.seconds", epochs_for)

# %% [markdown]
# ## Look at it first
#
# One short run with your **present** optimiser, watched. Lesson 10's test gives a promise for each layer:
# does the orthogonal step promise more for the next step, and how much more? For how many of your matrices,
# do you think?

# %%
images, _ = next(ov.datasets.batches(data, 256, seed=0, epoch=0))
watched = ["raw.nuclear_rank", "raw.singular_values", "incoming_stable_rank", "dead_units"]
model = mine(0)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
with ov.watch(model, optimizer, quantities=watched, probe=images) as monitor:
    ov.training.fit(model, optimizer, data, epochs=5, monitor=monitor, progress=False)
frame = monitor.frame()

# %%
seen = ("nuclear_rank", "incoming_stable_rank", "dead_units")
look = frame[frame.quantity.isin(seen)].pivot_table(
    index="layer", columns="quantity", values="value", observed=True
)
look = look.reindex(columns=seen)
look["ratio"] = look.nuclear_rank / look.incoming_stable_rank
look.round(2)

# %%
figure = ov.plots.spectra(frame, layer=look.index[0])
ov.course.picture(figure, figure.get_suptitle() + ". Dotted: a random matrix of the same shape.")

# %% [markdown]
# (NaN: not measured there; the inputs of recurrent and attention layers are not, and dead units only where
# they can be dead.) A ratio above 1 speaks for the orthogonal step, a flat spectrum close to the dotted line
# against it: then the gradient is as good as noise. Dead units would be worth a look at lesson 04. Now
# commit yourself: at equal wall-clock time, each at its best rate, how many points will orthogonal SGD be
# ahead? (Negative: behind.)

# %%
guess = ov.course.predict("lead at equal wall-clock time", low=-10, high=10, unit="points")
guess

# %% [markdown]
# ## The race
#
# `protocol="equal_seconds"`: a step of each optimiser is timed here, alone and in turns, and the slower one
# gets fewer epochs. Rates are chosen on held-out images.

# %%
racers = {name: ov.optim.OPTIMIZERS[name] for name in RATES}
found = ov.training.compare(
    mine, data, racers, protocol="equal_seconds",
    lrs=RATES, minutes=MINUTES, seeds=SEEDS, progress=False,
)  # fmt: skip
ran = found.frame[found.frame.chosen]
last = ran.sort_values("epoch").groupby(["optimizer", "seed"]).tail(1)  # one that diverged ended early
finals = last.groupby("optimizer").test_accuracy.agg(list)
means = last.groupby("optimizer").test_accuracy.mean()
guess.reveal(100 * (means["orthogonal_sgd"] - means["adamw"]))

# %%
spent = {"ms_per_step": ("ms_per_step", "first"), "epochs": ("epoch", "max"), "seconds": ("seconds", "max")}
ran.groupby(["optimizer", "lr"]).agg(**spent).rename(ov.optim.LABELS).round(2)

# %%
figure = ov.plots.compare(ran, x="seconds")
ov.course.picture(figure, f"{found.verdict}. {data.name}; bands: the range of {SEEDS} seeds.")

# %% [markdown]
# Before you decide, two looks that can make a decision void. **Have both curves become flat?** If not, the
# budget decides, and not the method. **Does a chosen rate stand at the end of its grid?** Then its best may
# lie beyond.

# %%
for name, rate in found.rates.items():
    edge = "at the END of its grid" if rate in (min(RATES[name]), max(RATES[name])) else "inside its grid"
    late = ran[(ran.optimizer == name) & (ran.seconds > 0.75 * ran.seconds.max())].groupby("epoch")
    gained = f"{100 * late.test_accuracy.mean().diff().sum():+.1f} points"
    label = ov.optim.LABELS.get(name, name)  # a name of your own is its own label
    print(f"{label}: rate {rate:g}, {edge}; {gained} in the last quarter of its time")

# %% [markdown]
# ## The decision
#
# By your rule, and by nothing else:

# %%
from orthoviz.verdicts import decision, lead

ours, theirs = finals["orthogonal_sgd"], finals["adamw"]
found_lead = lead(ours, theirs)
mean, low, high = (100 * value for value in found_lead[:3])
print(f"lead {mean:.1f} points, interval {low:.1f} to {high:.1f}; worth {100 * WORTH:g}")
print(f"decision: {decision(ours, theirs, WORTH)}")

# %% [markdown]
# With the network above and the digits both end within a point of one another, and the slower step has to do
# with fewer epochs. The look had said "orthogonal" for every layer. It says so of nearly every network, so it
# does not decide; it was a promise about one step, and a race is hundreds of them, paid in seconds.
#
# If your machine says "stay" or "cannot tell", that is no failure of the lesson: it is what you now know
# about this network on this data, at this budget. More seeds make the interval narrower, with the root of
# their number. A longer budget, harder data, a larger batch (the step's extra cost does not grow with it) are
# other questions. Change **one**, write the rule down anew, and run again.
#
# ## The same rule on what you have seen
#
# Is this rule ever satisfied? Apply it to stored runs of this course, with one point of worth. BasicCNN on
# CIFAR-10, ten epochs, both tuned; and one epoch in batches of four, both at rate 0.01. Say your two
# decisions before you run.

# %%
fair, tiny = ov.training.results("fair-both_tuned"), ov.training.results("batch_size-basic_cnn")
cases = {
    "CIFAR-10, ten epochs, both tuned": fair[fair.chosen & (fair.epoch == fair.epoch.max())],
    "CIFAR-10, batches of 4": tiny[(tiny.batch_size == 4) & (tiny.epoch == tiny.epoch.max())],
}
for name, runs in cases.items():
    ends = runs.sort_values("seed").groupby("optimizer").test_accuracy.agg(list)
    orthogonal, sgd = ends["orthogonal_sgd"], ends["sgd"]
    print(f"{name}: {decision(orthogonal, sgd, 0.01)}\n    {orthogonal} against {sgd}")

# %% [markdown]
# Two or three seeds leave a wide interval: with two, the mean must be nine standard deviations away. Both are
# at equal epochs: in the first a step costs hardly more than SGD's, in the second nearly twice as much
# (`results/` has the milliseconds).
#
# ## What goes into your lab book
#
# A decision without its circumstances is gossip. This is the least that belongs to it:

# %%
record = {
    "network": f"{sum(p.numel() for p in mine(0).parameters()):,} parameters",
    "data": str(data).splitlines()[0],
    "rule": f"worth {WORTH:g} in the whole 95 % interval of pairs, equal seconds, batch 256",
    "budget": f"{60 * MINUTES:g} s a run, {SEEDS} seeds, {len(next(iter(RATES.values())))} rates each",
    "found": found.verdict,
    "decision": decision(ours, theirs, WORTH),
    "with": f"orthoviz {ov.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads",
}
print("\n".join(f"{key}: {value}" for key, value in record.items()))

# %% [markdown]
# ## Where this fails
#
# - **Seconds are this machine's.** On a GPU both steps cost something else; `protocol="equal_seconds"`
#   measures there again.
# - **The budget decides too.** Early on the faster starter wins, at the end the better finisher. A large
#   network does two epochs in this lesson's budget, and whatever is decided then is about the first two
#   epochs.
# - **The interval is a model of chance**: leads like those of a bell curve. Five leads cannot tell you
#   whether they are.
# - **Three rates a side** are few, and AdamW has more to tune than a rate. Whoever tunes one for a year and
#   the other for a minute has measured that.
# - **Momentum, decay and schedule** are the course's defaults here, for both. Yours may be better: `racers`
#   is a dict of `make(groups, lr)`, and `ov.orthogonalise` makes any optimiser of yours orthogonal.
# - **Accuracy on one test set** is one number. Robustness, calibration, the loss itself may disagree.
#
# **Open question.** From which budget on does the decision for this network change? Double `MINUTES` until it
# does, or until you are sure that it will not; write down beforehand when you will stop.
#
# ## The end, and the beginning
#
# In lesson 00 orthogonal SGD ran ahead, and you asked what else was different. Since then: the length of the
# step, its shape, its rank; noise, batches, momentum; what each optimiser may complain about. The one idea,
# $G = USV^\top$ becomes $UV^\top$, has won some and lost some. Would you use it? Where, where not, and what
# would you measure first?
