# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · CIFAR-10: the fair fight
#
# After this lesson you will be able to
#
# - compare two optimisers so that the loser cannot complain;
# - tell length from shape with controls, and read a verdict that says when the seeds cannot tell;
# - put the paper's tables beside runs of your own, and say where they disagree.
#
# Time: 45 minutes to read and play, a minute to run. Long runs are read from `results/`.

# %%
import pandas as pd

import orthoviz as ov
from orthoviz import reports

ov.course.header()

# %% [markdown]
# ## What would the loser say?
#
# In lesson 00 your optimiser won at an equal learning rate, and most of the lead was the ruler. A fair
# comparison gives both the same network, start, batches and number of runs. Then it needs a rule for the
# rate:
#
# | protocol | rule | the loser says |
# |---|---|---|
# | equal learning rate | the same number for both, as in the paper | "my units are others!" |
# | equal step | rates that make the steps of a run equally long on average | "my best step is longer!" |
# | both tuned | each its best of a grid, chosen on held-out images | nothing |

# %% [markdown]
# ### Exercise 1: when is better better?
#
# Two optimisers, some seeds, final accuracies. Runs with the same seed start from the same weights and see
# the same batches, so they share most of their luck: compare them pair by pair. By how many standard errors
# is the first ahead? (The standard error of a mean of $n$ numbers is their standard deviation,
# `statistics.stdev`, over $\sqrt n$.)


# %% tags=["exercise"]
def lead(first, second):
    """The mean of the paired differences, in standard errors; two lists."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("06.lead", lead)

# %% [markdown]
# **How many seeds?** If nothing is different, chance alone reaches 2.8 standard errors with five pairs in one
# of twenty comparisons. With three pairs it reaches 4.3, with two 12.7. So two seeds show only what is far
# apart. Below, "better" means beyond that, and "not separated" means that the seeds cannot tell. It does not
# mean equal.

# %% [markdown]
# ### Exercise 2: an equal step
#
# At learning rate 1 the steps of one optimiser are `ours` long, the other's `theirs`. The other has rate
# `rate`. At which rate are ours as long as theirs?


# %% tags=["exercise"]
def equal_step(rate, ours, theirs):
    """Our learning rate."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("06.equal_step", equal_step)

# %% [markdown]
# ## Three protocols on this machine
#
# `ov.training.compare` plays all three, for any network and any optimisers. Here on digits, two epochs, three
# seeds. At an equal rate both have 0.01. For an equal step SGD has 0.1, about its best, and orthogonal SGD
# what is as long. At how many of the three is orthogonal SGD "better"?

# %%
why = {
    "all three": "At steps of equal length three seeds cannot tell.",
    "two": "",
    "one": "Where both are tuned it leads, too: SGD's best rate does not catch up in two epochs.",
}
guess = ov.course.predict('protocols with "orthogonal SGD better"', choices=why)
guess

# %%
data = ov.datasets.load("digits")
racers = {name: ov.optim.OPTIMIZERS[name] for name in ("sgd", "orthogonal_sgd")}  # yours: one more line
rates = {"equal_lr": 0.01, "equal_step": 0.1, "both_tuned": (0.01, 0.03, 0.1, 0.3)}
found = {}
for protocol, lrs in rates.items():
    options = {"protocol": protocol, "lrs": lrs, "epochs": 2, "seeds": 3, "progress": False}
    found[protocol] = ov.training.compare(
        lambda seed: ov.models.digits_cnn(seed=seed), data, racers, **options
    )
    print(found[protocol].verdict)
better = sum("orthogonal SGD better" in one.verdict for one in found.values())
guess.reveal({1: "one", 2: "two", 3: "all three"}[better])

# %% [markdown]
# Three protocols, two answers. Whoever shows one of them only has chosen the answer.

# %% [markdown]
# ## Length or shape, on photographs
#
# BasicCNN on CIFAR-10, three epochs, five seeds, each optimiser at its best of four rates or more
# (`results/controls`). **Controls** change one thing of the orthogonal step:
#
# - *norm-matched*: its shape, at the gradient's own length;
# - *per tensor*: its length, with the gradient's own shape;
# - *per filter*: each row at one length; equal rows, not orthogonal ones;
# - *random spectrum*, *square-root spectrum*: its directions, with random lengths or the roots of the
#   gradient's.
#
# SGD and orthogonal SGD are 5.7 points apart. How much of that does the length alone bring?

# %%
why = {
    "nothing": "",
    "about half": "So it was at an equal rate. Here every optimiser has its best.",
    "nearly all": "Then shape would not matter. Look at per tensor below.",
}
guess = ov.course.predict("of the lead, the length alone brings", choices=why)
guess

# %%
controls = ov.training.results("controls").query("chosen and epoch == 3")
ends = controls.groupby("optimizer").test_accuracy.agg(list)
order = ends.map(sum).sort_values().index
figure, (ax,) = ov.plots.new_figure(8, 4)
for place, name in enumerate(order):
    colour = {"sgd": ov.plots.SGD, "orthogonal_sgd": ov.plots.ORTHOGONAL}.get(name, ov.plots.RANDOM)
    ax.plot(ends[name], [place] * len(ends[name]), "o", color=colour, ms=8, alpha=0.6)
ax.set(yticks=range(len(order)), yticklabels=[ov.optim.LABELS[name] for name in order])
ax.set(xlabel="test accuracy", title="Everything that lifts weak directions is ahead")
guess.reveal("nothing" if sum(ends["per_tensor"]) < sum(ends["sgd"]) else "about half")
ov.course.picture(figure, "Five seeds of nine optimisers: SGD, per tensor and per filter end lowest.")

# %%
print(reports.compare("controls"))

# %% [markdown]
# The length alone brings nothing, and the shape at the gradient's own length brings all. And now the
# surprise: *random* lengths in the right directions do nearly as well as equal ones. They end 1.4 points
# lower on average, and five seeds cannot tell that from nothing. It is the **directions** that matter, and
# that weak ones are lifted. Lesson 12 goes on from here.

# %% [markdown]
# **"In lesson 00 it was the ruler. Now it is the shape?"** Both, of different things. The ruler is what goes
# when each gets its best rate: on photographs 12.8 points at one rate, 5.6 at the best of each. The shape is
# what *remains*: the controls divide that remainder.

# %% [markdown]
# ## Ten epochs, and a rate that falls
#
# The three protocols on photographs, ten epochs (`results/fair-...`). The last row adds what every good
# recipe has: the rate falls in a straight line to zero.

# %%
rows = {}
for protocol in ("equal_lr", "equal_step", "both_tuned", "schedule"):
    fair = ov.training.results(f"fair-{protocol}").query("chosen and epoch == 10")
    rows[protocol] = 100 * fair.groupby("optimizer").test_accuracy.mean()
fair = pd.DataFrame(rows).T
fair["lead of orthogonal SGD"] = fair["orthogonal_sgd"] - fair["sgd"]
fair.rename(columns=ov.optim.LABELS).round(1)

# %%
for protocol in ("equal_lr", "equal_step", "both_tuned", "schedule"):
    print(reports.compare(f"fair-{protocol}"))

# %% [markdown]
# On photographs the orthogonal step leads by every rule. Of its lead at equal rates about half is left once
# SGD has its best rate. A falling rate helps both, and the lead stays. (Two or three seeds: read the
# verdicts. The equal step was matched over the first 50 of 440 steps only, so that row is a hint.)

# %% [markdown]
# ## The whole length
#
# Ten epochs are a start. The paper trains 100, at rate 0.01 for both. Here are two seeds of that
# (`results/table1-basic_cnn`).

# %%
full = ov.training.results("table1-basic_cnn")
mean = full.groupby(["epoch", "optimizer"]).test_accuracy.mean().unstack() * 100
for epoch in (1, 10, 20, 50, 100):
    print(f"epoch {epoch:3}: lead {mean['orthogonal_sgd'][epoch] - mean['sgd'][epoch]:.1f} points")
figure = ov.plots.training_curves(full)
ov.course.picture(figure, figure.get_suptitle() + ". BasicCNN on CIFAR-10, 100 epochs, two seeds.")

# %% [markdown]
# Most of the lead was *time*. SGD gets there later, and at a constant rate of 0.01 it has not quite arrived
# after 100 epochs. How much faster is the orthogonal step, then?

# %% [markdown]
# ### Exercise 3: a speed-up
#
# Accuracies by epoch of two optimisers; entry 0 is before training. How many times fewer epochs does the
# second take until it first reaches a target?


# %% tags=["exercise"]
def speedup(first, second, target):
    """Epochs of the first to reach `target`, divided by epochs of the second; two lists."""
    raise NotImplementedError


# %% tags=["check"]
speedup = ov.course.use("06.speedup", speedup)

# %%
tuned = ov.training.results("fair-both_tuned").query("chosen")
tuned = tuned.groupby(["epoch", "optimizer"]).test_accuracy.mean().unstack() * 100
for protocol, curves, targets in (("equal rate", mean, (50, 60, 70)), ("both tuned", tuned, (50, 60, 63))):
    sgd, ours = ([0, *curves[name]] for name in ("sgd", "orthogonal_sgd"))
    ratios = ", ".join(f"{speedup(sgd, ours, target):.1f} times to {target} %" for target in targets)
    print(f"{protocol}: {ratios}")

# %% [markdown]
# A speed-up has a target in it, and a protocol. Say all three, or say nothing.

# %% [markdown]
# ## The paper's own tables
#
# Table 1 (equal rate, 100 epochs) beside what has been run in this repository. `orthoviz train NAME` runs one
# that is missing. Below it is Table 2: SGD with the recipe that was tuned for it, 200 epochs of resnet20. Who
# wins there? Say it aloud before you run.

# %%
from IPython.display import display

display(reports.table1())
print(ov.training.recipes.recipe("table2").paper)

# %% [markdown]
# Tuned SGD, and the paper says so itself. Its claim is speed and robustness without tuning. (Our BasicCNN
# falls short of the paper's for both. We trained on 45,000 of the 50,000 images, from a JPEG copy, with two
# seeds.)

# %% [markdown]
# ## What you found
#
# - The protocol decides what a comparison can say. Name it, with the target and the seeds.
# - On photographs, each at its best rate, the shape brings the lead and the length alone nothing.
# - Random lengths in the same directions are nearly as good as equal ones.

# %% [markdown]
# ## Where this fails
#
# - **Two or three seeds** separate only what is far apart, and much of the table above has no more.
# - **A grid has edges.** Where the best rate is at one, the verdict is unclear; `grow=True` goes on.
# - **Equal epochs are not equal seconds.** A step costs a little more (`protocol="equal_seconds"`).
# - **One network, three epochs.** What explains the lead on BasicCNN need not explain a transformer's.
#
# **Open question.** Small batches: run `compare` on digits with `batch_size=4` and
# `ov.optim.OPTIMIZERS["orthogonal_sgd_keep"]`, which also steps along directions that a small batch does not
# support. What does that cost? (`results/batch_size-basic_cnn` has photographs.)
#
# **Next:** `07_barlow_twins`, where the outputs are orthogonal.
