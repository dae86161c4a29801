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
# # 04 · Do filters learn the same?
#
# After this lesson you will be able to
#
# - say how alike a layer's filters or feature maps are, beside what chance gives;
# - say what the step does where a layer has too many filters, or too few directions;
# - meet a hypothesis with evidence that could refute it, and name the learning rate first.
#
# Time: 45 minutes to read and play, half a minute of computing.

# %%
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## The hypothesis
#
# The paper (Tuddenham and others, 2022) starts from a suspicion. A layer's filters see the same input and are
# pushed by the same loss, so they **learn alike**. Orthogonal steps push them in different directions, so
# they should end up less alike. It sounds right. Is it?
#
# "Alike" needs a number. Take two filters as vectors. The cosine of the angle between them is 1 if they are
# the same up to scale, 0 if they are perpendicular, -1 if one is the other's negative. The paper takes the
# mean of $|\cos|$ over all pairs.

# %%
W = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
print(ov.measures.cosine_matrix(W))
print(f"mean |cos| of the three pairs: {ov.measures.mean_abs_cosine(W):.3f}")

# %% [markdown]
# ## What chance gives
#
# Random filters have nothing to do with one another. Still, two random arrows are never quite perpendicular.
# The cosine of filters with $n$ numbers is roughly normal, with mean 0 and standard deviation $1/\sqrt n$.
#
# ### Exercise 1: chance
#
# What is the mean of its absolute value? (For a normal number with standard deviation $\sigma$ that is
# $\sigma\sqrt{2/\pi}$.)


# %% tags=["exercise"]
def chance(n):
    """About the mean |cos| of random filters with n numbers each. You may import math."""
    raise NotImplementedError


# %% tags=["check"]
expected = ov.course.use("04.chance", chance)

# %%
torch.manual_seed(0)
sizes = [9, 27, 64, 288, 1152]
means = [ov.measures.mean_abs_cosine(torch.randn(32, n)).item() for n in sizes]
figure, (ax,) = ov.plots.new_figure(8, 2.8)
ax.plot(sizes, means, "o", color=ov.plots.INK)
ax.plot(sizes, [expected(n) for n in sizes], ":", color=ov.plots.RANDOM)
ax.annotate("your formula", (9, expected(9)), (10, 0), textcoords="offset points", color=ov.plots.INK)
ax.set(xscale="log", xlabel="numbers in a filter", ylabel="mean |cos|", ylim=(0, 0.3))
ax.set_xticks(sizes, sizes)
ax.set_title("Small random filters are alike by chance")
ov.course.picture(figure, f"32 random filters: {means[1]:.2f} at 27 numbers, {means[3]:.3f} at 288.")

# %% [markdown]
# ## More filters than dimensions
#
# The first layer of the paper's BasicCNN has 32 filters with 27 numbers each. In 27 dimensions there is no
# room for 32 perpendicular arrows. What does the polar factor do then? Add rows one at a time: from 2 to 3
# the right angle breaks, and the *columns* are orthonormal instead. Then choose a real layer, and press
# **make it lose**.

# %%
ov.widgets.flattening()

# %% [markdown]
# ## The direction that is not there
#
# A layer can also have too few directions. A head of ten classes feeds the softmax. Raise all ten logits by
# the same amount: no probability changes. So the ten rows of the head's gradient add up to zero. How many
# directions does it have?

# %%
model, data = ov.models.digits_cnn(seed=0), ov.datasets.load("digits")
images, labels = next(data.batches(256, seed=0, epoch=1))
torch.nn.functional.cross_entropy(model(images), labels).backward()
head = model[10].weight.grad
print("singular values", " ".join(f"{value:.1e}" for value in ov.measures.singular_values(head)))

# %% [markdown]
# Nine. The tenth value is rounding. The plain SVD's $U V^\top$ gives it length 1 like the others.
#
# ### Exercise 2: only what is there
#
# Improve the factor: directions whose singular value is at most `tol` times the largest become zero. The size
# of the whole gradient should not matter, and a zero gradient should give zero.


# %% tags=["exercise"]
def polar_of_what_is_there(gradient, tol=1e-10):
    """U V^T over the directions with s > tol * s[0]."""
    raise NotImplementedError


# %% tags=["check"]
polar = ov.course.use("04.null", polar_of_what_is_there)

# %%
U, s, Vh = torch.linalg.svd(head, full_matrices=False)
for name, step in {"plain SVD": U @ Vh, "only what is there": polar(head, 1.2e-6)}.items():
    along = step.sum(0).norm() / 10**0.5
    print(f"{name:18} length {step.norm():.3f}, of it along (1, ..., 1) {along:.3f}")

# %% [markdown]
# The paper's code takes the plain SVD: a full step along a direction made of rounding. The package drops it.
# And a direction that is nearly nothing? Here the gradient of one of 16 filters fades. Look at its step where
# the gradient is a thousandth of the others', and where it is exactly zero.

# %%
ov.widgets.dead_filters()

# %% [markdown]
# A fading filter keeps its full step until its gradient is lost in rounding. If a millionth of a gradient is
# still signal, this is right. If it is noise, it is wrong. No formula knows.
#
# The paper calls a parameter *dead* if its gradient is at most 0.0001. Is that a property of the network?

# %%
gradient = model[3].weight.grad.flatten(1)
for scale in (0.1, 1, 10):
    share = ov.measures.dead_parameters(scale * gradient).share.item()
    print(f"loss times {scale:<4g} {share:.1%} of the second convolution is dead")

# %% [markdown]
# Multiply the loss by ten, and the dead come back. A fixed threshold measures the unit of the loss, too.

# %% [markdown]
# ## The evidence
#
# BasicCNN on CIFAR-10, five epochs, three seeds, stored. Both optimisers have the rate 0.01, as in the paper.
# Compare the mean $|\cos|$ of the second convolution's filters at the end.

# %%
why = {
    "less alike": "So says the hypothesis: each step pushes the filters apart.",
    "as alike": "Weights are sums of steps. Something is left of them.",
    "more alike": "",
}
guess = ov.course.predict("at equal rate the filters of orthogonal SGD are", choices=why)
guess

# %%
runs = ov.training.results("filters")
last = runs[(runs.step == runs.step.max()) & (runs.quantity.isin(["mean_abs_cosine", "test_accuracy"]))]
last = last.assign(layer=last.layer.replace("", "accuracy").fillna("accuracy"))
table = last.pivot_table(index=["optimizer", "lr"], columns="layer", values="value")
ratio = table.loc[("orthogonal_sgd", 0.01), "conv 2"] / table.loc[("sgd", 0.01), "conv 2"]
guess.reveal("more alike" if ratio > 1.1 else "less alike" if ratio < 0.9 else "as alike")
table.rename(index=ov.optim.LABELS).round(3)

# %% [markdown]
# The other way round, in every convolution. Chance is 0.15 in conv 1 and 0.05 in conv 2 and 3. The paper's
# own Figure 6 says the same of resnet20.
#
# Or is it the ruler again (lesson 00)? Compare each at the better of its two rates: 0.1 for SGD, 0.03 for
# orthogonal SGD.
#
# Now the filters of orthogonal SGD are *less* alike in conv 1 and conv 3. (In conv 2 and in the head it
# depends on the seed.) **Name the learning rate first.** See every layer over time:

# %%
ov.widgets.cosine_film()

# %% [markdown]
# ## Orthogonal steps, free weights
#
# Each step has orthogonal rows. The weights are a *sum* of steps.
#
# ### Exercise 3: two orthogonal steps
#
# Find two 2 x 2 matrices, each with orthonormal rows, whose sum has **parallel** rows.


# %% tags=["exercise"]
def two_steps():
    """Two tensors, (2, 2) each, with orthonormal rows; the rows of their sum are parallel, and not zero."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# So the steps promise nothing about the weights. What does a long walk of 500 steps do? Always the same step;
# a new random one each time; random ones with one direction in common.

# %%
shared = torch.nn.functional.normalize(torch.randn(32, 1), dim=0) @ torch.randn(1, 288)
start, first = torch.randn(32, 288) / 288**0.5, ov.polar_factor(torch.randn(32, 288))
walks = {
    "the same step": lambda: first,
    "unrelated steps": lambda: ov.polar_factor(torch.randn(32, 288)),
    "one direction in common": lambda: ov.polar_factor(torch.randn(32, 288) + 3 * shared),
}
print(f"{'at the start':24} mean |cos| {ov.measures.mean_abs_cosine(start):.3f}")
for name, step in walks.items():
    weight = start + sum(0.01 * step() for _ in range(500))
    print(f"{name:24} mean |cos| {ov.measures.mean_abs_cosine(weight):.3f}")

# %% [markdown]
# What steps *agree* on adds up, the rest averages out. If they agree on one direction, all filters get a part
# of it. Whether real steps agree is the question of lesson 05.
#
# (Among many pairs of filters one is always alike, even of random ones: `ov.widgets.filter_gallery()` has a
# random twin of each layer. Switch to it before you believe a pair.)

# %% [markdown]
# ## Feature maps
#
# The paper's second measure looks at what filters *do*: it compares the feature maps of one input, after the
# ReLU. What is the cosine of two maps that have nothing to do with one another?

# %%
why = {
    "0": "After a ReLU nothing is negative, so all maps share their sign.",
    "about 0.3": "",
    "about 0.7": "Half of each map is zero, and not the same half.",
}
guess = ov.course.predict("cosine of two unrelated maps after a ReLU", choices=why)
guess

# %%
maps = torch.randn(8, 32, 16, 16).relu()
raw, centred = (ov.measures.feature_cosine(maps, centred=centred).item() for centred in (False, True))
guess.reveal("about 0.3" if abs(raw - 1 / torch.pi) < 0.02 else "0")
print(f"unrelated maps {raw:.3f}, one over pi {1 / torch.pi:.3f}; each map's mean taken off {centred:.3f}")

# %% [markdown]
# So a measured 0.33 says next to nothing. (The paper's raw cosines are in the film above: press *feature
# maps*.) Take each map's mean off first, and unrelated maps come back to your formula, with the number of
# pixels for $n$. Here are the stored runs. Hollow: rate 0.01. Full: the better rate.

# %%
rows = runs[runs.quantity == "centred_feature_cosine"]
rows = rows.set_index(["step", "layer", "optimizer", "lr"]).value.sort_index()
figure, (ax,) = ov.plots.new_figure(8, 3.2)
marks = ("sgd", 0.01, "s"), ("orthogonal_sgd", 0.01, "o"), ("sgd", 0.1, "s"), ("orthogonal_sgd", 0.03, "o")
for place in (1, 2, 3):
    ax.hlines(rows[0, f"conv {place}"].mean(), place - 0.4, place + 0.4, color=ov.plots.RANDOM)
    for i, (name, lr, mark) in enumerate(marks):
        colour, found = ov.plots.COLOURS[name], rows[245, f"conv {place}", name, lr]
        face = "white" if lr == 0.01 else colour
        ax.plot([place + 0.2 * i - 0.3] * len(found), found, mark, color=colour, mfc=face, ms=7)
ax.set(xticks=(1, 2, 3), xlabel="convolution", ylabel="cosine", title="Orthogonal SGD's maps are less alike")
ov.course.picture(figure, "Orange squares: SGD. Blue circles: orthogonal SGD. Grey lines: before training.")

# %% [markdown]
# Centred, the maps of orthogonal SGD are less alike in each layer at equal rate, and in conv 1 and conv 3 at
# the better rates. So there is something in the hypothesis: for the *maps* at either choice, for the filters
# only if each has its own rate.
#
# A mean hides what is there. Here the two networks look at a photograph. How many filters do work of their
# own? And what do the two that agree most see? **make it lose** shows a layer and an epoch where it is the
# other way.

# %%
ov.widgets.what_they_see()

# %% [markdown]
# ## What you found
#
# - A cosine says something only beside chance, which is not zero.
# - At equal rate orthogonal SGD's filters end *more* alike; at the better rates less, in two convolutions.
# - Its centred maps end less alike, in the same two at either choice, and its filters do more different work.

# %% [markdown]
# ## Where this fails
#
# - **One number for 496 pairs.** A mean hides a few pairs that are nearly the same.
# - **One small network, five epochs, three seeds.** Two more seeds, which are not stored, leave conv 2 open
#   at the better rates. After 100 epochs at equal rates nothing is clear. See `orthoviz claims
#   filters_equal_rate`.
# - **Best of two rates**, both at the edge of what was tried. The ledger calls such a comparison unclear.
# - **Batch-norm** rescales each filter's output. Cosines of weights do not see that.
#
# **Open question.** Are filters alike because they share one *mean filter*? Train `digits_cnn` with both
# optimisers, subtract the mean filter (`W - W.mean(0)`), and compare again.
#
# **Next:** `05_gradient_spectra` follows a gradient through the optimiser.
