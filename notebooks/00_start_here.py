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
# Each arrow shows where one filter of a network wants to move next. The arrows are 26 degrees apart, so the
# two filters are about to learn nearly the same thing. Now watch. The ellipse becomes a circle, and the
# arrows spring to 90 degrees. This is no random turn: of all right-angled pairs of length 1, it is the
# nearest.
#
# That is the idea of this course, published by [Tuddenham, Prügel-Bennett and Hare in
# 2022](https://arxiv.org/abs/2202.07052). A close relative, Muon, now trains language models.
#
# In this lesson you build an optimiser from an empty cell, and it beats SGD by a mile. Then you ask why, and
# most of the win is gone. Time: 25 minutes, half a minute of computing. Run the cells from top to bottom with
# Shift+Enter, and change whatever you like.
#
# **Your path.** Curious, an hour: 00, 01, 02. "Should I use it?", an hour: 00, 06, 11. Researcher, three
# hours: 03, 04, 05, 12.

# %%
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## Touch it
#
# Drag $p$ from 1 to 0. At 1 you see the two gradients, at 0 the step. Then press **make it lose**: the
# gradients are 1 degree apart. Drag again.

# %%
ov.widgets.polar_lab(p=1.0)

# %% [markdown]
# ## Build it
#
# A layer with $m$ filters has a matrix of weights with $m$ rows, and its gradient $G$ has the same shape. The
# singular value decomposition writes it as $G = U S V^\top$: turn, stretch, turn. Only $S$ stretches, and
# that is what makes the rows of $G$ crooked. The idea in four words: **throw away the stretch.**

# %% [markdown]
# ### Exercise 1: the factor
#
# Two minutes. $U$, $S$ and $V^\top$ are there. Replace the last line.


# %% tags=["exercise"]
def polar(G):
    """The gradient `G`, (m, n), without its stretch."""
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    raise NotImplementedError


# %% tags=["check"]
polar = ov.course.use("00.polar", polar)

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]])  # the two arrows
for name, rows in {"before": G, "after": polar(G)}.items():
    cosine = torch.cosine_similarity(rows[0], rows[1], dim=0)
    print(f"{name}: the rows are {torch.rad2deg(torch.arccos(cosine)):.1f} degrees apart")

# %% [markdown]
# (A stub that you leave empty stops nothing: the lesson goes on with our function, and says so.)

# %% [markdown]
# ### Exercise 2: the step
#
# An optimiser is a rule that changes all weights of a network. Ours: a matrix moves along `polar` of its
# gradient, a bias, which is a vector, along its gradient as it is. Both times `lr`, and downhill. Five lines.


# %% tags=["exercise"]
def step(model, lr):
    """Change every parameter p of `model` in place, by its gradient p.grad."""
    raise NotImplementedError


# %% tags=["check"]
step = ov.course.use("00.step", step)

# %% [markdown]
# ### Exercise 3: the training
#
# Now let it learn. The data are 1,437 images of digits, 8 x 8 pixels each; 360 others are the test. An epoch
# is one pass over all images, in 12 batches of 128. What has to happen for each batch? Four lines.

# %%
ov.datasets.contact_sheet(ov.datasets.load("digits"))


# %% tags=["exercise"]
data = ov.datasets.load("digits")


def train(model, step, lr):
    """Five epochs. Returns the test accuracy before the first and after each."""
    history = [ov.training.evaluate(model, data)["test_accuracy"]]
    for epoch in range(1, 6):
        model.train()
        for images, labels in data.batches(128, seed=0, epoch=epoch):
            raise NotImplementedError
        history.append(ov.training.evaluate(model, data)["test_accuracy"])
    return history


# %% tags=["check"]
train = ov.course.use("00.train", train)

# %% [markdown]
# ## Race it
#
# The opponent is plain gradient descent, SGD. The network, its first weights and all batches are the same for
# both, and so is the learning rate: 0.02.


# %%
def descent(model, lr):
    """The step of plain SGD."""
    torch.optim.SGD(model.parameters(), lr).step()


# %%
def draw(title, **runs):
    """Test accuracy by epoch; yours is blue."""
    figure, (ax,) = ov.plots.new_figure(8, 3.2)
    for name, run in runs.items():
        colour, line = (ov.plots.ORTHOGONAL, "-") if name == "yours" else (ov.plots.SGD, "--")
        ax.plot(run, line, color=colour, lw=2.5)
        up = 7 if run[-1] == max(r[-1] for r in runs.values()) else -7
        words = f"{name} {run[-1]:.3f}"
        ax.annotate(words, (5, run[-1]), (6, up), textcoords="offset points", color=colour, va="center")
    ax.set(title=title, xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.05))
    return ov.course.picture(figure, f"{title}. Test accuracy before the first and after each epoch.")


# %%
yours = train(ov.models.digits_mlp(seed=0), step, lr=0.02)
sgd = train(ov.models.digits_mlp(seed=0), descent, lr=0.02)
draw("Your optimiser against SGD, both at rate 0.02", yours=yours, SGD=sgd)

# %% [markdown]
# **You wrote that.** No package, no SVD trick, some fifteen lines, and SGD is beaten by a mile: change the
# seed, and it is beaten again. This is the comparison of the paper's Figure 1, in small. The effect is real.
#
# It is easy to misread, too. Before you go on: **what else is different between the two runs?**

# %% [markdown]
# ## Was it the ruler?
#
# Every direction of your step has length 1, however small the gradient is. SGD's step is as long as the
# gradient, and this gradient is small. So 0.02 means a long step for you and a short one for SGD: the
# learning rate is a ruler, and each of you measures with another one.
#
# Give SGD a longer ruler: **five times the rate.** How much of your lead is left?

# %%
why = {
    "nearly all": "Then the length of the step would not matter. It was most of the lead.",
    "about half": "Nearly. The length of the step did even more of it.",
    "a third or less": "",
}
guess = ov.course.predict("SGD at five times the rate: of your lead is left", choices=why)
guess

# %%
faster = train(ov.models.digits_mlp(seed=0), descent, lr=0.1)
left = (yours[-1] - faster[-1]) / (yours[-1] - sgd[-1])
guess.reveal("nearly all" if left > 0.75 else "about half" if left > 0.34 else "a third or less")
draw(f"SGD at five times the rate: {left:.0%} of the lead is left", yours=yours, SGD=faster)

# %% [markdown]
# Is that the end of it? Let us look for more help for SGD. Nearly every network for images has
# **batch-norm**: before each ReLU it brings the numbers of every unit to mean 0 and deviation 1. The same
# network with batch-norm, SGD still at five times the rate: what is left now?

# %%
why = {
    "more than before": "Batch-norm makes SGD's life easier, not yours.",
    "the same": "Batch-norm keeps the gradients from fading. That helps SGD more than you.",
    "next to nothing": "",
}
guess = ov.course.predict("with batch-norm: of your lead is left", choices=why)
guess

# %%
normed = train(ov.models.digits_mlp(seed=0, norm=True), step, lr=0.02)
sgd_normed = train(ov.models.digits_mlp(seed=0, norm=True), descent, lr=0.1)
now = (normed[-1] - sgd_normed[-1]) / (yours[-1] - sgd[-1])
guess.reveal(
    "more than before" if now > left + 0.05 else "the same" if now > left - 0.05 else "next to nothing"
)
draw(f"With batch-norm: {now:.0%} of the lead is left", yours=normed, SGD=sgd_normed)

# %% [markdown]
# Within three points of each other, with each of five seeds. A longer ruler and a friendlier network: hardly
# anything is left of a mile. **So is the idea worth anything?** Digits are too easy to tell. Ask photographs.

# %% [markdown]
# ## What is left on photographs
#
# Here is a stored experiment: the paper's BasicCNN, which has batch-norm, on all of CIFAR-10 (a JPEG copy),
# five epochs, four rates for each optimiser, three seeds. Both have momentum, which lesson 02 adds to yours.

# %%
sweep = ov.training.results("lr_sweep").query("epoch == 5")
table = sweep.groupby(["optimizer", "lr"]).test_accuracy.mean().unstack("optimizer")
for when, row in {"both at 0.01": table.loc[0.01], "each at its best": table.max()}.items():
    print(f"{when:16} lead {100 * (row['orthogonal_sgd'] - row['sgd']):.1f} points")
figure = ov.plots.lr_flatness(sweep)
best = ", ".join(f"{ov.optim.LABELS[name]} {value:.3f}" for name, value in table.max().items())
ov.course.picture(figure, f"CIFAR-10, BasicCNN: mean and range of three seeds. At best: {best}.")

# %% [markdown]
# At one rate the lead is 12.8 points, at the best rate of each it is 5.6. More than half was the ruler. The
# rest was not. **The course is about that rest:** what it is, when it comes, and when it does not.

# %% [markdown]
# ## Play on
#
# Each race adds two dots to the scoreboard. What you draw is the curve of the stored experiment, for digits.
# Then press **make it lose**. (Under *more* are other optimisers.)

# %%
ov.widgets.race()

# %% [markdown]
# ## What you found
#
# - A gradient without its stretch is a step in which all filters go different ways. You built it.
# - At an equal learning rate it wins by far. Most of that is the length of the step.
# - Where both are tuned, something is left on photographs, and next to nothing on digits with batch-norm.

# %% [markdown]
# ## Where this fails
#
# - With He et al.'s tuned recipe for resnet20, a residual network of 20 layers, SGD wins: 91.17 against 90.18
#   % (the paper's own Table 2).
# - Your step is as long near the minimum as far from it. Sooner or later its rate has to fall.
# - "The best of four rates" was chosen by test accuracy, for both. That is fair between them, but no way to
#   report the accuracy of one.
#
# **Open question.** Does your lead grow or shrink with the batch size? In `train` the 128 is yours to change:
# look at 32 and 512. (The solutions have an answer.)
#
# **Next:** `01_polar_factor` takes your step apart: what it keeps of a gradient, what it loses, and when it
# turns noise into a full-size step.
