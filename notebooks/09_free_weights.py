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
# Time: 25 minutes to read and play, ten seconds to run.

# %%
import pandas as pd
import torch
from torch.nn.utils.parametrizations import orthogonal

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## One word, two ideas
#
# Search for "orthogonal" and "neural network", and you find two literatures. One makes the **steps**
# orthogonal: that is this course. The older one makes the **weights** orthogonal and keeps them so: a layer
# may turn or mirror its input, and never stretch or shrink it.
#
# People mix them up. Does a layer stay orthogonal if all its steps are? Take the smallest case. A layer is
# the identity, which is orthogonal. Add one orthogonal step: a rotation by some angle.

# %% [markdown]
# ### Exercise 1: two orthogonal matrices, added
#
# A vector of length 1 goes in. How long does it come out?


# %% tags=["exercise"]
def two_steps(angle):
    """Singular value (there are two equal ones) of I + R, R the 2 x 2 rotation by `angle` in degrees."""
    raise NotImplementedError


# %% tags=["check"]
two_steps = ov.course.use("09.two_steps", two_steps)

# %%
print(", ".join(f"{angle} degrees: {float(two_steps(float(angle))):.2f}" for angle in (0, 90, 120, 180)))

# %% [markdown]
# From 2, where they agree, down to 0, where they cancel. With a mirror image directions even come out
# differently: diag(1, 1) + diag(1, -1) = diag(2, 0). So a sum of orthogonal matrices can be any matrix.
#
# Now let three layers of `02_toy_problems` *start* orthogonal, and take a hundred orthogonal steps. Their
# product should get the singular values 10, 3, 1 and 0.3. What becomes of each layer?

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
# The three layers share the work: each has the cube roots of the modes. It stretches one direction more than
# twice, and shrinks the fifth and all after it to next to nothing. Orthogonal start, orthogonal steps, and
# **nothing orthogonal is left of the weights.**

# %% [markdown]
# ## Now forbid it
#
# `torch.nn.utils.parametrizations.orthogonal` writes a weight as a function of free numbers, and its value is
# always an orthogonal matrix. Descent on those numbers moves from one orthogonal matrix to the next. The same
# target, three such layers. A network of zeros has a loss of 55. How low will this one get?

# %%
why = {
    "0": "It can learn every direction of the target. But what about the lengths?",
    "about 20": "Mode 10 alone leaves (10 - 1)^2 / 2 = 40.5.",
    "about 50": "",
}
guess = ov.course.predict("lowest loss of three orthogonal layers", choices=why)
guess

# %%
toy = ov.toys.DeepLinear()
for name in ("0", "1", "2"):
    orthogonal(toy.layers, name)
run = ov.toys.descend(toy, torch.optim.SGD(toy.parameters(), lr=0.01), steps=400)
end = run.error.iloc[-1]
guess.reveal("0" if end < 10 else "about 20" if end < 35 else "about 50")
print(f"loss {end:.2f}, learnt:", end=" ")
print(", ".join(f"of mode {mode:g} {mode * run[mode].iloc[-1]:.2f}" for mode in ov.plots.MODES))

# %% [markdown]
# It has learnt every direction of the target, and no length but 1. A product of orthogonal matrices is
# orthogonal: each mode comes out with length 1, and so do the twelve directions in which the target is zero.

# %% [markdown]
# ### Exercise 2: the floor
#
# How low can $\tfrac12 \|Q - T\|_F^2$ get if $Q$ must be orthogonal? The modes of $T$ are given. In all other
# directions of the `size` it is zero. (Think of $Q$ and $T$ as having the same singular vectors.)


# %% tags=["exercise"]
def floor(modes, size):
    """Lowest loss of an orthogonal size x size matrix; `modes` is a list of singular values."""
    raise NotImplementedError


# %% tags=["check"]
floor = ov.course.use("09.floor", floor)

# %%
modes = [*ov.plots.MODES]
parts = {f"mode {mode:g}": floor([mode], 1) for mode in modes} | {"12 directions of zero": floor([], 12)}
figure, (ax,) = ov.plots.new_figure(8, 2.6)
ax.barh(list(parts), list(parts.values()), color=[*(c for c, _ in ov.plots.MODES.values()), ov.plots.RANDOM])
ax.bar_label(ax.containers[0], fmt="%.3g", padding=4)
ax.invert_yaxis()
ax.set(xlabel="loss that is left", title="What orthogonal weights cannot learn", xlim=(0, 45))
each = ", ".join(f"{name} {left:.3f}" for name, left in parts.items())
ov.course.picture(figure, f"What is left of the loss: {each}; together {floor(modes, 16):.3f}.")

# %% [markdown]
# Mode 1 costs nothing: it has the one length that is allowed. All others cost. So why would anyone want such
# weights?

# %% [markdown]
# ## What it buys
#
# Depth. Send a vector through many random layers, each made to keep its length on average. Its length depends
# on its direction, and more so with every layer.

# %%
draw, product, rows = torch.Generator().manual_seed(0), torch.eye(16, dtype=torch.float64), []
for depth in range(1, 21):
    product = torch.randn(16, 16, generator=draw, dtype=torch.float64) / 4 @ product
    s = ov.measures.singular_values(product)
    rows.append({"layers": depth, "strongest": s[0], "median": s.median(), "weakest": s[-1]})
depths = pd.DataFrame(rows).set_index("layers").astype(float)

# %%
figure, (ax,) = ov.plots.new_figure(8, 3)
ax.fill_between(depths.index, depths.weakest, depths.strongest, color=ov.plots.RANDOM, alpha=0.3)
ax.semilogy(depths.index, depths["median"], "--", color=ov.plots.RANDOM, lw=2)
ax.axhline(1, color=ov.plots.INK, lw=2)
ax.text(2, 1e-12, "random layers: weakest to\nstrongest direction, and median", color="#666666")
ax.text(10, 20, "orthogonal layers: every direction", color=ov.plots.INK)
ax.set(xlabel="layers", ylabel="length (it went in with 1)", xticks=range(0, 21, 5), ylim=(1e-17, 1e4))
ax.set_title("Random layers lose most directions, orthogonal ones none")
ten = depths.loc[10]
says = f"strongest {ten.strongest:.2g}, weakest {ten.weakest:.1e}, {ten.strongest / ten.weakest:.0e} times"
ov.course.picture(figure, f"After ten Gaussian layers: {says}. Through orthogonal layers every direction: 1.")

# %% [markdown]
# After ten layers the strongest direction is more than a hundred million times the weakest. A gradient goes
# the same way back, and most of its directions are gone. Through orthogonal layers it arrives as it left.
# (That is why networks often *start* orthogonal: [Saxe, McClelland and Ganguli,
# 2014](https://arxiv.org/abs/1312.6120).)

# %% [markdown]
# So build this: two orthogonal layers that stay as they are, and above them one **free** layer, which plain
# gradient descent trains. In which order does it learn the modes?

# %%
why = {
    "strong first": "So it is where other layers stretch. These two do not.",
    "weak first": "That is the orthogonal step. Here plain descent moves.",
    "all at once": "",
}
guess = ov.course.predict("order in which a free layer above orthogonal ones learns", choices=why)
guess

# %%
toy = ov.toys.DeepLinear()
for name in ("0", "1"):
    orthogonal(toy.layers, name)  # and only the third layer is given to the optimiser
run = ov.toys.descend(toy, torch.optim.SGD([toy.layers[2]], lr=0.1), steps=300)
steps = [ov.toys.steps_until(run[mode], 0.9, 1.1) for mode in ov.plots.MODES]
together = max(steps) - min(steps) < 5
guess.reveal("all at once" if together else "strong first" if steps[0] < steps[-1] else "weak first")
print(f"steps until modes 10, 3, 1, 0.3 are learnt: {steps}; loss after 300: {run.error.iloc[-1]:.0e}")

# %% [markdown]
# All at once. The free layer sees a problem whose curvature is 1 in every direction, so every error shrinks
# by a tenth in each step.
#
# Strong first, weak first, all at once: three answers to modes of different strength. Wait for the weak ones;
# step equally far along all; or build the network so that there is no difference.

# %% [markdown]
# ## Between free and orthogonal: a ball
#
# With **weight decay** $\lambda$ a weight shrinks a little in every step: $w \leftarrow (1 - \eta\lambda)\, w
# - \eta\, o$. No singular value of the polar factor $o$ is above 1. Say that all steps push the same way, for
#   ever.
#
# ### Exercise 3: the wall


# %% tags=["exercise"]
def wall(lr, decay):
    """Where a singular value ends that is, in every step, multiplied by 1 - lr * decay and raised by lr."""
    raise NotImplementedError


# %% tags=["check"]
wall = ov.course.use("09.wall", wall)

# %% [markdown]
# So orthogonal steps with decay stay in a **ball**: from a small start no singular value gets beyond your
# wall, whatever the gradients are. (For Muon: [Chen, Li and Liu, 2025](https://arxiv.org/abs/2506.15054).)
# SGD has no such wall, since its steps grow with the gradient.
#
# Take $\lambda = 1$: each layer may turn and **shrink**, but not stretch. Orthogonal weights got stuck at
# 48.7. How low does the loss get now?

# %%
why = {
    "0": "The ball forbids stretching, and two modes need it.",
    "about 40": "",
    "about 50, as before": "Something is allowed that was not: a layer may shrink.",
}
guess = ov.course.predict("lowest loss inside the ball", choices=why)
guess

# %%
toy = ov.toys.DeepLinear()
optimizer = ov.OrthogonalSGD(ov.param_groups(toy), lr=0.01, weight_decay=1)
run = ov.toys.descend(toy, optimizer, steps=1500)
end = run.error.iloc[-1]
guess.reveal("0" if end < 10 else "about 40" if end < 46 else "about 50, as before")
largest = max(ov.measures.singular_values(layer.detach()).max().item() for layer in toy.layers)
print(
    f"loss {end:.2f}, largest singular value {largest:.4f}, your wall {wall(0.01, 1):.4f}; learnt:", end=" "
)
print(", ".join(f"of mode {mode:g} {mode * run[mode].iloc[-1]:.2f}" for mode in ov.plots.MODES))

# %% [markdown]
# $\tfrac12 (9^2 + 2^2) = 42.5$ is out of reach: what the two strong modes have above 1. The rest is learnt,
# up to the jitter of a constant rate. **Orthogonal weights forbid stretching and shrinking, the ball forbids
# stretching only.** Usual decays are smaller and the wall is farther away: torch's default for Muon is 0.1,
# so it stands at 10.
#
# ## What you found
#
# - Orthogonal steps leave the weights free. Orthogonal weights learn every direction, and no length.
# - Orthogonal layers carry a signal through any depth, and make the problem of a free layer round.
# - Orthogonal steps with decay keep all singular values below 1 / decay.

# %% [markdown]
# ## Where this fails
#
# - **The floor is the toy's.** One free scale for the whole network lowers it to 48.65 only, but one free
#   layer removes it.
# - **A wall that nobody reaches.** At small decays the ball explains nothing about short runs.
# - **Momentum moves the wall.** With the factor first and then momentum 0.9, a step is up to ten polar
#   factors long, and the wall ten times as far. With the factor last, as in Muon, it is where you found it.
# - **Mirrors.** The parametrisation never changes the sign of a determinant. A full-rank target may need a
#   reflection that it cannot make.
# - **Convolutions.** `parametrizations.orthogonal` takes the last two axes: of a 3 x 3 convolution it makes
#   every little kernel orthogonal, not the matrix of filters. It does not warn.
#
# **Open question.** All this was linear. Take the network of lesson 00 with orthogonal hidden layers at the
# start (`torch.nn.init.orthogonal_`). Train it with orthogonal steps, with SGD, and with SGD and weights that
# stay orthogonal, each at its best rate. Who wins, and what becomes of the smallest singular value? (The
# solutions have an answer.)
#
# **Next:** `10_why_it_works`: theories that must predict first.
