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
# # 09 · Free weights
#
# After this lesson you will be able to
#
# - tell orthogonal *steps* from orthogonal *weights*, and say what each of them forbids;
# - compute how low a loss can get when every weight matrix must be orthogonal;
# - say what weight decay adds to orthogonal steps: a ball that the weights cannot leave.
#
# Time: 20 minutes to read and play, half a minute to run.

# %%
import pandas as pd
import torch
from torch.nn.utils.parametrizations import orthogonal

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## One word, two ideas
#
# Search for "orthogonal" and "neural network" and you find two literatures. One makes the **steps**
# orthogonal; that is this course. The older one makes the **weights** orthogonal and keeps them so: each
# layer may turn or mirror its input, and never stretch or shrink it. People mix them up. Does a layer that
# only ever takes orthogonal steps stay orthogonal?
#
# Take the smallest case. A layer is the identity, an orthogonal matrix. One orthogonal step is added: a
# rotation by some angle. How long does every vector come out, if it went in with length 1?
#
# ### Exercise 1: two orthogonal matrices, added


# %% tags=["exercise"]
def two_steps(angle):
    """Singular value (there are two equal ones) of I + R, R the 2 x 2 rotation by `angle` in degrees."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("09.two_steps", two_steps)

# %% [markdown]
# From 2, when they agree, down to 0, when they cancel; and with a mirror image different directions come out
# differently: diag(1, 1) + diag(1, -1) = diag(2, 0). So a sum of orthogonal matrices can be any matrix, and a
# layer that takes orthogonal steps is as free as any. Let the three layers of `02_toy_problems` **start**
# orthogonal, all singular values 1, and take a hundred such steps. Their product should get the singular
# values 10, 3, 1 and 0.3. What will those of a single layer be? (Three layers share the work.)

# %%
torch.manual_seed(0)
toy = ov.toys.DeepLinear()
for layer in toy.layers:
    torch.nn.init.orthogonal_(layer)
ov.toys.descend(toy, ov.OrthogonalSGD(ov.param_groups(toy), lr=0.03), steps=100)
spectra = pd.DataFrame([ov.measures.singular_values(layer.detach())[:5].tolist() for layer in toy.layers])
spectra.index = [f"layer {i}" for i in (1, 2, 3)]
spectra.loc["cube roots of 10, 3, 1, 0.3"] = [*(mode ** (1 / 3) for mode in ov.plots.MODES), 0]
spectra.round(2)

# %% [markdown]
# The singular values of each layer have become the cube roots of the modes: it stretches one direction more
# than twice, and shrinks the fifth and all after it to next to nothing. Orthogonal start, orthogonal steps,
# and nothing orthogonal is left of the weights.
#
# ## Now forbid it
#
# `torch.nn.utils.parametrizations.orthogonal` writes a weight as a function of free numbers whose value is
# always an orthogonal matrix. Plain gradient descent on those numbers then moves from one orthogonal matrix
# to the next. The same target, three such layers. A network of zeros has a loss of 55.0 (an orthogonal one
# starts above that). How low will this one get?

# %%
guess = ov.course.predict("lowest loss of three orthogonal layers", low=0, high=55)
guess

# %%
toy = ov.toys.DeepLinear()
for name in ("0", "1", "2"):
    orthogonal(toy.layers, name)
run = ov.toys.descend(toy, torch.optim.SGD(toy.parameters(), lr=0.01), steps=400)
guess.reveal(run.error.iloc[-1])
print("learnt:", ", ".join(f"of mode {mode:g} {mode * run[mode].iloc[-1]:.2f}" for mode in ov.plots.MODES))

# %% [markdown]
# It has learnt every direction of the target, and no length but 1: a product of orthogonal matrices is
# orthogonal, so each mode comes out with length one, and so do the twelve directions in which the target is
# zero.
#
# ### Exercise 2: the floor
#
# How low can $\tfrac12 \|Q - T\|_F^2$ get if $Q$ must be orthogonal? The modes of $T$ are given; in all
# other directions of the `size` it is zero. (Think of $Q$ and $T$ as having the same singular vectors.)


# %% tags=["exercise"]
def floor(modes, size):
    """Lowest loss of an orthogonal size x size matrix; `modes` is a list of singular values."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("09.floor", floor)

# %%
parts = {f"mode {mode:g}": (mode - 1) ** 2 / 2 for mode in ov.plots.MODES} | {"12 directions of zero": 12 / 2}
figure, (ax,) = ov.plots.new_figure(8, 2.6)
colours = [colour for colour, _ in ov.plots.MODES.values()] + [ov.plots.RANDOM]
ax.barh(list(parts), list(parts.values()), color=colours)
ax.bar_label(ax.containers[0], fmt="%.3g", padding=4)
ax.invert_yaxis()
ax.set(xlabel="loss that is left", title="What orthogonal weights cannot learn", xlim=(0, 45))
each = ", ".join(f"{name} {left:.3f}" for name, left in parts.items())
ov.course.picture(figure, f"What is left of the loss: {each}; together {sum(parts.values()):.3f}.")

# %% [markdown]
# Mode 1 costs nothing: it happens to have the length that is allowed. So the constraint is no small thing.
# Why would anyone want it?
#
# ## What it buys
#
# Depth. Multiply random layers, each made to keep the length of a vector on average. How much stronger is
# the strongest direction of ten layers' product than the weakest of its sixteen: a thousand times, a million,
# a billion? And of ten orthogonal layers? (That one you know.) Say your number aloud.

# %%
draw, product, rows = torch.Generator().manual_seed(0), torch.eye(16, dtype=torch.float64), []
for depth in range(1, 21):
    product = torch.randn(16, 16, generator=draw, dtype=torch.float64) / 4 @ product
    s = ov.measures.singular_values(product)
    rows.append({"layers": depth, "strongest": s[0], "median": s.median(), "weakest": s[-1]})
depths = pd.DataFrame(rows).set_index("layers").astype(float)

# %%
figure, (ax,) = ov.plots.new_figure(8, 3)
for name, dashes in (("strongest", "-"), ("median", "--"), ("weakest", ":")):
    ax.semilogy(depths.index, depths[name], dashes, color=ov.plots.RANDOM, lw=2, label=f"Gaussian, {name}")
ax.axhline(1, color=ov.plots.INK, lw=2, label="orthogonal, every direction")
ax.set(xlabel="layers", ylabel="length (it went in with 1)", xticks=range(0, 21, 5))
ax.set_title("A signal through many layers")
ax.legend(frameon=False)
ten = depths.loc[10]
says = f"strongest {ten.strongest:.2g}, weakest {ten.weakest:.1e}, {ten.strongest / ten.weakest:.0e} times"
ov.course.picture(figure, f"After ten Gaussian layers: {says}. Through orthogonal layers every direction: 1.")

# %% [markdown]
# A gradient goes the same way back. Through orthogonal layers it arrives as it left; through the others most
# of its directions are gone. (That is why networks are often *started* orthogonal: Saxe, McClelland and
# Ganguli, 2014.) So: two orthogonal layers that stay as they are, below one **free** layer that may stretch.
# In which order will it learn the modes? Strong ones first as gradient descent, weak ones first as the
# orthogonal step, or otherwise?


# %%
toy = ov.toys.DeepLinear()
for name in ("0", "1"):
    orthogonal(toy.layers, name)  # and only the third layer is given to the optimiser
run = ov.toys.descend(toy, torch.optim.SGD([toy.layers[2]], lr=0.1), steps=300)
for mode in ov.plots.MODES:
    steps = ov.toys.steps_until(run[mode], 0.9, 1.1)
    print(f"mode {mode:g} stays within a tenth of its value from step {steps} on")
print(f"loss after 300 steps: {run.error.iloc[-1]:.1g}")

# %% [markdown]
# All at once. Through orthogonal layers the free one sees a problem whose curvature is 1 in every direction,
# and there plain gradient descent needs no help: each error shrinks by the same tenth in every step. (At rate
# 1 it would need a single step. Behind two Gaussian layers it would not.)
#
# Strong first, weak first, all at once: three answers to one question, what to do about modes of different
# strength. Wait for them; step equally far along all; or build the network so that there is no difference.
#
# ## Between free and orthogonal: a ball
#
# There is something in between. With **weight decay** a weight shrinks by a small part in every step, $w
# \leftarrow (1 - \eta\lambda)\, w - \eta\, o$. Without momentum $o$ is a polar factor, so no singular value
# of it is above 1. However many steps all push the same way: how large can a singular value of the weight
# get?
#
# ### Exercise 3: the wall


# %% tags=["exercise"]
def wall(lr, decay):
    """Where a singular value ends that is, in every step, multiplied by 1 - lr * decay and raised by lr."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("09.wall", wall)

# %% [markdown]
# So from a small start orthogonal steps with decay $\lambda$ stay in a **ball**: no singular value above
# $1/\lambda$, whatever the gradients are. (For Muon, whose momentum stands inside the polar factor: Chen, Li
# and Liu, 2025, [arXiv 2506.15054](https://arxiv.org/abs/2506.15054).) SGD has no such wall, as its steps
# grow with the gradient. Take $\lambda = 1$: each layer may now turn and **shrink**, but not stretch. How
# low does the loss of the three layers get? (48.7 with orthogonal weights, 0 with free ones.)

# %%
guess = ov.course.predict("lowest loss inside the ball", low=0, high=55)
guess

# %%
toy = ov.toys.DeepLinear()
optimizer = ov.OrthogonalSGD(ov.param_groups(toy), lr=0.01, weight_decay=1)
run = ov.toys.descend(toy, optimizer, steps=1500)
guess.reveal(run.error.iloc[-1])
print("learnt:", ", ".join(f"of mode {mode:g} {mode * run[mode].iloc[-1]:.2f}" for mode in ov.plots.MODES))
largest = [ov.measures.singular_values(layer.detach()).max().item() for layer in toy.layers]
print("largest singular value of each layer:", [round(value, 4) for value in largest])

# %% [markdown]
# $\tfrac12 (9^2 + 2^2) = 42.5$: what the two strong modes have above 1 is out of reach, the others are
# learnt, up to the jitter of a constant rate, and so are the twelve empty directions. Orthogonal weights
# forbid both, the ball forbids stretching only. (Usual decays are smaller, so the wall stands farther away:
# at 5e-4, as in lesson 00, at 2,000; at 0.1, torch's default for Muon, at 10.)
#
# ## Where this fails
#
# - **The floor is the toy's.** A target with lengths of its own and no free layer is the worst case for
#   orthogonal weights. One free scale for the whole network would lower it to 48.65 only; one free layer
#   removes it.
# - **A wall that nobody reaches.** At small decays the ball explains nothing about short runs.
# - **Momentum moves the wall.** In the paper's order, factor first, with decoupled decay, the buffer is up
#   to ten polar factors long at momentum 0.9, and the wall ten times as far. Inside the factor, Muon's
#   order, it is where you computed it.
# - **Mirrors.** The parametrisation never changes the sign of a determinant, so a full-rank target may need a
#   reflection that it cannot make, and the floor is then not reached.
# - **Convolutions.** `parametrizations.orthogonal` looks at the last two axes: of a 3 x 3 convolution it
#   makes every little 3 x 3 kernel orthogonal, and not the matrix of filters. It does not warn.
# - **All of it is linear.** With ReLUs a layer changes lengths even if its weight cannot; how much the
#   constraint costs a real network is another question, and the open one below.
#
# **Open question.** Build a dense network for the digits whose hidden layers start orthogonal
# (`torch.nn.init.orthogonal_`). Train it with orthogonal steps, with SGD, and with SGD and weights that stay
# orthogonal (`orthogonal(layer)`), each at its best of a few rates: `ov.training.fit` in a loop. Who wins,
# and how small has the smallest singular value of the free hidden weights become? Predict both, then run.
#
# **Next:** `10_why_it_works`, theories that must predict first.
