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
# # 07 · Barlow Twins
#
# After this lesson you will be able to
#
# - learn features from images without a single label, and say why they do not all become the same;
# - read a cross-correlation matrix, and count the dimensions that features span;
# - tell two ideas apart that sound alike: orthogonal *outputs* and orthogonal *gradients*.
#
# Time: 35 minutes to read and play, half a minute to run.

# %%
import pandas as pd
import torch

import orthoviz as ov
from orthoviz.training import barlow

torch.manual_seed(0)
ov.course.header()

# %% [markdown]
# ## Two views of one thing
#
# Take an image twice: cut out two different parts, mirror each or not, change the brightness. A person sees
# the same thing in both. **Barlow Twins** (Zbontar and others, 2021) trains a network to see that too: the
# two views should get the same features. No label says what is in the picture.

# %%
data = ov.datasets.load("digits")
views = barlow.TwoViews(data)
images, _ = next(iter(views.batches(256, seed=0, epoch=1, device="cpu")))
first, second = images.chunk(2)
figure, panels = ov.plots.new_figure(9, 2.4, (1,) * 8)
for i, panel in enumerate(panels):
    panel.imshow((first if i % 2 == 0 else second)[i // 2, 0], cmap="gray", vmin=-2, vmax=2)
    panel.set_axis_off()
    panel.set_title(f"image {'abcd'[i // 2]}, view {i % 2 + 1}", fontsize=9)
ov.course.picture(figure, "Four digits, two random views of each.")

# %% [markdown]
# An **encoder** turns an image into features (here 128); a **projector**, a few dense layers, turns those
# into an **embedding** $z$ (here 32 numbers). The loss sees embeddings; after training the projector is
# thrown away, and the encoder is what one wanted.
#
# "The same embedding" alone is a trap: a network that says 7 to everything has the same one for all views. So
# Barlow Twins looks at each entry *over the batch* of $N$ images: $\hat z_{bi}$ is entry $i$ of image $b$,
# shifted and scaled so that over the batch it has mean 0 and standard deviation 1. It asks for the
# correlations between the entries of view 1 and those of view 2:
#
# $$ C_{ij} = \frac1N \sum_b \hat z^1_{bi}\, \hat z^2_{bj} $$
#
# ### Exercise 1: the cross-correlation


# %% tags=["exercise"]
def correlation(first, second):
    """C, (d, d), of the embeddings of two views, (N, d) each, as the projector gives them: standardise
    each column, dividing by N in the variance too. Rows of C belong to the first."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("07.correlation", correlation)

# %% [markdown]
# The loss pulls the diagonal to 1 (a feature is the same in both views) and everything else to 0 (features
# are not one another's copies):
#
# $$ L = \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2 $$
#
# ### Exercise 2: the loss


# %% tags=["exercise"]
def loss(C, lam):
    """Barlow Twins' loss of a cross-correlation matrix, a number."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("07.loss", loss)

# %% [markdown]
# So $C$ should become the identity: the *outputs* are made orthogonal to one another. That is the same word
# as in this course's title, and another thing: there the *gradient* of a layer is made orthogonal, whatever
# the loss. Keep the two apart. Can one replace the other?
#
# ## How many dimensions survive?
#
# A network for digits with a projector of three dense layers, 15 epochs. How many of their 32 dimensions the
# embeddings span, **RankMe** says (Garrido and others, 2023): the exponential of the entropy of the singular
# values, as lesson 05's effective rank; here of embeddings whose mean is taken off, because a shift that all
# images share is no dimension. The optimiser is **LARS**: SGD whose step in each layer is as long as
# a fixed part of the layer's weights; large batches of Barlow Twins are trained with it. First without the
# second term, $\lambda = 0$. How many dimensions are left?

# %%
guess = ov.course.predict("dimensions of 32 at lambda = 0", low=1, high=32)
guess


# %%
def pretrained(lam, optimizer="lars", epochs=15):
    """The history of a network that learns as Barlow Twins do; its last row also has what a probe finds."""
    model = barlow.twins("digits_cnn", width=32, seed=0)
    groups = ov.param_groups(model, convolutions_only=True)
    run = ov.training.fit(
        model, ov.optim.OPTIMIZERS[optimizer](groups, 0.1), views, epochs=epochs, batch_size=256,
        loss=barlow.BarlowLoss(lam), evaluation=lambda model, data: {}, progress=False,
    )  # fmt: skip
    return run.history.join(pd.DataFrame(barlow.probe(model, views), index=[epochs]))


# %%
runs = {lam: pretrained(lam) for lam in (0.0, 0.05, 1.0)}
guess.reveal(runs[0.0].centred_rank.iloc[-1])
rows = {f"lambda {lam:g}": history.iloc[-1] for lam, history in runs.items()}
rows = {"untrained": barlow.probe(barlow.twins("digits_cnn", width=32, seed=0), views), **rows}
pd.DataFrame(rows).T[["centred_rank", "test_accuracy"]].astype(float).round(3)

# %% [markdown]
# Hardly more than one, and ten before training. The entries agree between views, and with one another: all of
# them say the same number, up to its sign. The loss is content, nothing in its first term asks for more. With
# the second term more dimensions stay. With too much of it, at 1, the network gives up on the first term
# (watch the diagonal in the view below).
#
# `test_accuracy` is a test of usefulness: the 20 nearest training images, by the encoder's features, vote on
# the class of a test image. It is lower with both faults. (The encoder before training is about as good:
# digits are that easy.)
#
# ### Exercise 3: content and collapsed
#
# Make embeddings of `count` images with `size` features that satisfy the first term exactly (both views are
# equal) and yet span a single dimension.


# %% tags=["exercise"]
def collapsed(count, size):
    """(count, size): the first term of the loss is 0, RankMe is 1."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("07.collapse", collapsed)

# %% [markdown]
# Watch it happen. Start a run at each $\lambda$: the heat map is $C$ as it trains. At 0 it becomes red and
# blue stripes, every entry the copy of every other up to its sign; at 0.05 a red diagonal on paler spots; at
# 1 it is pale everywhere, the diagonal too.

# %%
ov.widgets.barlow()

# %% [markdown]
# Now the question from above: **orthogonal gradients, and no second term**. Can the orthogonal step keep
# embeddings apart without being asked to? How many dimensions are left? (Guess first. "Make it lose" in the
# view above shows the same.)

# %%
guess = ov.course.predict("dimensions, orthogonal LARS at lambda = 0", low=1, high=32)
guess

# %%
history = pretrained(0.0, "orthogonal_lars")
guess.reveal(history.centred_rank.iloc[-1])

# %% [markdown]
# No. An orthogonal step goes where the loss pulls, only along all of its directions equally: if the loss
# wants all features to be the same, they become the same. Orthogonality of the step is no statement about
# what is learnt (lesson 04 found the same of filters).
#
# ## Does the orthogonal step help?
#
# The paper of this course has another claim: with orthogonal LARS (dense layers left alone) the loss falls
# faster, on ImageNet at batch 1024. LARS makes the length of a step less of a confound than it was in lesson
# 06: in every convolution what enters the momentum is equally long for both, relative to the weights. (The
# buffer is longer where steps agree, so mostly, not wholly.) Which loss is lower after 15 epochs on digits?

# %%
guess = ov.course.predict("loss of orthogonal LARS, as a part of LARS's", low=0.5, high=2, scale="log")
guess

# %%
ours = pretrained(0.05, "orthogonal_lars").assign(optimizer="orthogonal_lars")
both = pd.concat([runs[0.05].assign(optimizer="lars"), ours])
last = both[both.epoch == both.epoch.max()].set_index("optimizer")
guess.reveal(last.train_loss["orthogonal_lars"] / last.train_loss["lars"])
last[["train_loss", "centred_rank", "test_accuracy"]].rename(ov.optim.LABELS).round(3)

# %%
figure = ov.plots.paper_figure("barlow", both)
ov.course.picture(figure, "Training loss by epoch, LARS and orthogonal LARS, digits, one seed.")

# %% [markdown]
# One seed and a small network: a difference of a few per cent says nothing yet. So here are ten epochs on
# CIFAR-10, BasicCNN with a projector of three layers of 512, $\lambda = 0.005$, two seeds
# (`results/barlow_twins`). The paper shows the loss and no probe; this table has both, and they need not
# agree. Which is ahead at the end, and in which column?

# %%
photographs = ov.training.results("barlow_twins")
columns = ["train_loss", "test_accuracy", "linear_accuracy", "rank_me"]
some = photographs[photographs.epoch.isin([0, 1, 5, 10])]
some.groupby(["optimizer", "epoch"])[columns].mean().rename(ov.optim.LABELS).round(3)

# %%
figure = ov.plots.paper_figure("barlow", photographs)
ov.course.picture(figure, "Loss by epoch, LARS and orthogonal LARS, CIFAR-10, mean and range of two seeds.")

# %%
probe = ov.plots.compare(photographs, "test_accuracy")
ov.course.picture(probe, "Nearest neighbours' accuracy by epoch, mean and range of two seeds.")

# %% [markdown]
# At first the paper is right: through four epochs the orthogonal loss is lower in both seeds. From the fifth
# on they are within two hundredths of one another, at this rate. The neighbours find the features of the
# orthogonal run more useful all the same, in both seeds; the straight line agrees, by a point or two. And it
# is no matter of dimensions alone: RankMe (of embeddings as they are) is a little higher at first, by the
# tenth epoch the seeds disagree, and it was highest before training, where the features are least useful.
#
# "The loss falls faster", by a rule: lower after every epoch, beyond chance. The ledger of lesson 04:

# %%
ov.claims.table("barlow_twins")

# %% [markdown]
# A step costs 1.4 times as much here (the milliseconds stand in the table's provenance): equal epochs are not
# equal seconds.
#
# ## What the features know
#
# A second probe, a straight line through the features (logistic regression), for the three $\lambda$:

# %%
for lam, history in runs.items():
    end = history.iloc[-1]
    print(f"lambda {lam:<5g} neighbours {end.test_accuracy:.3f}, straight line {end.linear_accuracy:.3f}")

# %% [markdown]
# The line finds more than the neighbours, most of all where training went wrong: the 128 features of the
# encoder stand before the projector, and a little of everything is left in them. Two probes, two answers: say
# which you used.
#
# ## Where this fails
#
# - **Digits are too easy.** Their pixels already tell them apart; a probe has little to find.
# - **Views decide what is learnt.** Mirrored digits are other digits: here a 2 and its mirror image must have
#   the same features. For photographs mirroring is harmless.
# - **Lambda depends on the number of features.** The second term has $d(d-1)$ parts, the first $d$: Zbontar's
#   .005 at 8,192 features is no .005 at 32.
# - **RankMe counts, it does not judge.** Dimensions that say nothing about the images count too.
#
# **Open question.** Orthogonalise the dense layers as well (`ov.param_groups(model)` without
# `convolutions_only`): the paper left them alone. Does the loss fall faster, and do more dimensions survive?
#
# **Next:** `08_imagenet`, a field guide to the full-size runs.
