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
# # 00 · Start here
#
# ![Two arrows 26 degrees apart spring to 90 degrees, while the ellipse around them becomes a
# circle.](hero.gif)
#
# Each arrow shows where one filter of a network wants to move next. They are 26 degrees apart, so the two are
# about to learn nearly the same thing. Then the ellipse becomes a circle, and the arrows spring to 90
# degrees. Of all right-angled pairs of length 1 that one is the nearest. This step is the course's one idea,
# published by Tuddenham, Prügel-Bennett and Hare in 2022. A close relative, Muon, now trains language models.
#
# After this lesson you will be able to
#
# - train a network with orthogonalised gradients, in three lines;
# - say what an optimiser race at one learning rate does and does not prove;
# - tell the *direction* of a step from its *length*, and test which of them did the work.
#
# Time: 15 minutes to read and play, under a minute to run on two CPU cores. Run the cells from top to
# bottom with Shift+Enter; change anything you like, and run it again.

# %%
import pandas as pd
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## The idea
#
# A layer's filters may learn alike: as far as their gradients point in similar directions, a step of
# gradient descent pushes them all the same way. Write the gradient as a matrix $G$ with one row a filter,
# and take its singular value decomposition $G = U S V^\top$. **Throw away $S$**: step along $U V^\top$
# instead. Now the rows are orthogonal (where there is room for that), and every direction in the gradient
# is followed equally far.
#
# That is all of *Orthogonalising gradients to speed up neural network optimisation* (Tuddenham,
# Prügel-Bennett and Hare, 2022, [arXiv 2202.07052](https://arxiv.org/abs/2202.07052)). Its Figure 1 shows
# networks on CIFAR-10 that learn faster this way. You will now make that figure yourself.

# %%
name = "cifar10" if "cifar10" in ov.datasets.available() else "digits"
data = ov.datasets.load(name)
if name == "cifar10" and ov.course.mode() == "quick":
    data = data.subset(8_000, 2_000)
print(data)
ov.datasets.contact_sheet(data)

# %% [markdown]
# Scikit-learn's digits are built in, so this lesson needs no network. Once you have CIFAR-10 (`orthoviz
# data fetch cifar10`), the same cells train on it.
#
# ## One race
#
# The network, its first weights and every batch are the same for both. Only the optimiser differs: torch's
# SGD, and the same with orthogonalised gradients. Both with the paper's settings: learning rate 0.01,
# momentum 0.9 (a step keeps nine tenths of the one before) and weight decay 5e-4 (weights shrink a little
# in each step).
#
# **Predict, then run.** After one epoch, how far ahead in test accuracy will orthogonal SGD be? (Negative:
# behind.) Run the next cell, set your guess, and run on.


# %%
def train(make, lr):
    """Four epochs, from the same start on the same batches; what happened, a row an epoch."""
    network = ov.models.digits_cnn if name == "digits" else ov.models.basic_cnn
    model = network(seed=0)
    optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9, weight_decay=5e-4)
    return ov.training.fit(model, optimizer, data, epochs=4, seed=0).history


# %%
guess = ov.course.predict("lead of orthogonal SGD after one epoch", low=-40, high=80, unit="points")
guess

# %%
sgd = train(torch.optim.SGD, lr=0.01)
orthogonal = train(ov.OrthogonalSGD, lr=0.01)
lead = 100 * (orthogonal.test_accuracy - sgd.test_accuracy)
guess.reveal(lead[1])


# %%
def draw(runs):
    """Test accuracy by epoch, a line an optimiser."""
    history = pd.concat([run.assign(optimizer=key) for key, run in runs.items()])
    figure = ov.plots.compare(history)
    last = ", ".join(f"{key} {run.test_accuracy.iloc[-1]:.3f}" for key, run in runs.items())
    return ov.course.picture(figure, f"Test accuracy on {data.name} by epoch. After the last: {last}.")


draw({"SGD": sgd, "orthogonal SGD": orthogonal})

# %% [markdown]
# This is the comparison of the paper's Figure 1, in small. The effect is real, and easy to misread. Before
# you go on: **what else is different between the two runs?**
#
# ## Was it the ruler?
#
# $U V^\top$ has singular values 1 and nothing else, so the length of an orthogonal step is the same however
# small the gradient is. The learning rate is a ruler, and the two optimisers measure with it in different
# units: 0.01 is a short step for one and a long step for the other.
#
# So give SGD a longer ruler: ten times the learning rate. How much of the lead will be left after four
# epochs? 100 % means that nothing changes, 0 % that it is gone, less than 0 that SGD wins.

# %%
guess = ov.course.predict("share of the lead that is left", low=-100, high=150, unit="%")
guess

# %%
faster = train(torch.optim.SGD, lr=0.1)
before = orthogonal.test_accuracy.iloc[-1] - sgd.test_accuracy.iloc[-1]
after = orthogonal.test_accuracy.iloc[-1] - faster.test_accuracy.iloc[-1]
guess.reveal(100 * after / before)
print(f"lead at equal learning rate {100 * before:.1f} points, against SGD at 0.1 {100 * after:.1f} points")
draw({"SGD": faster, "orthogonal SGD": orthogonal})

# %% [markdown]
# On digits little of the lead is left with this seed (and look at the first epoch: there SGD is ahead now).
# Another seed leaves another share: change `seed=0` in `train`, twice, and see. And on real photographs?
# Here is a stored run: the paper's BasicCNN on all of CIFAR-10 (a JPEG copy) with random crops and flips,
# five epochs, four learning rates for each optimiser, three seeds. Where the numbers come from stands in
# `results/lr_sweep`.

# %%
sweep = ov.training.results("lr_sweep").query("epoch == 5")
table = sweep.groupby(["optimizer", "lr"]).test_accuracy.mean().unstack("optimizer")
best = table.max()
for when, row in {"both at 0.01": table.loc[0.01], "each at its best": best}.items():
    print(f"{when:16} lead {100 * (row['orthogonal_sgd'] - row['sgd']):.1f} points")
figure = ov.plots.lr_flatness(sweep)
at_best = ", ".join(f"{key} at best {value:.3f}" for key, value in best.rename(ov.optim.LABELS).items())
ov.course.picture(figure, f"CIFAR-10, BasicCNN: mean and range of three seeds. {at_best}")

# %% [markdown]
# So two things differ, and a race at one learning rate cannot tell them apart: **the step has another
# length**, and **the step has another shape**. On CIFAR-10 more than half of the lead at 0.01 goes when
# each optimiser gets its best of four rates. What is left is worth a course.
#
# ## Exercise 1: how much longer?
#
# A gradient matrix has rank `rank` and Frobenius norm `norm` (the root of the sum of its squared singular
# values). How many times longer than SGD's is the orthogonal step at the same learning rate?


# %% tags=["exercise"]
def times_longer(rank, norm):
    """Length of U V^T over the length of the gradient."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("00.longer", times_longer)

# %% [markdown]
# And in a real run? `ov.watch` measures while a network trains: two lines, and nothing about the training
# changes.

# %%
model = (ov.models.digits_cnn if name == "digits" else ov.models.basic_cnn)(seed=0)
optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
with ov.watch(model, optimizer) as monitor:
    ov.training.fit(model, optimizer, data, epochs=2)
figure = ov.plots.over_steps(monitor.frame(), "step_inflation")
ov.course.picture(figure, "How many times longer than the gradient the orthogonal step is, layer by layer.")

# %% [markdown]
# ## Exercise 2: the same shape at the gradient's own length
#
# To see what the shape alone does, give the polar factor the length of the gradient that it came from. This
# control is used throughout the course. `ov.polar_factor(gradient)` computes $U V^\top$.


# %% tags=["exercise"]
def matched(gradient):
    """The polar factor of `gradient`, (m, n), stretched to the gradient's own length."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("00.matched", matched)

# %% [markdown]
# ## Keep the score
#
# Now race them yourself. Each race adds two dots to the scoreboard; after a few you have drawn the curve of
# the stored run above, for digits. Then press **make it lose**. (Under *more* are other optimisers, and the
# controls that tell length and shape apart.)

# %%
ov.widgets.race()

# %% [markdown]
# ## Where this fails
#
# - After four epochs on digits every good setting ends near the same accuracy: this data set cannot tell
#   the methods apart. It shows the mechanism, not a winner.
# - One seed is one race. The stored run has three, and its range is drawn.
# - With He et al.'s tuned recipe for resnet20, a residual network of 20 layers, SGD wins: 91.17 against
#   90.18 % (the paper's own Table 2).
# - "Best of four rates" was chosen by test accuracy, for both. That is fair between them, but no way to
#   report a single method's accuracy.
# - The orthogonal step is as long near the minimum as far from it. Sooner or later its learning rate has to
#   fall.
#
# **Open question.** Does the lead grow or shrink with the batch size? `ov.training.fit` takes `batch_size`;
# change `train` above and look at 32 and 1024.
#
# **Next:** `01_polar_factor` takes the step apart: what $U V^\top$ keeps of a gradient, what it loses, and
# when it turns noise into a full-size step. After it, `02_toy_problems` shows what the shape does in the
# smallest network that has a strong and a weak direction.
