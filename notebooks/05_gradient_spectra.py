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
# # 05 · Gradient spectra
#
# After this lesson you will be able to
#
# - read the spectrum of a gradient, of its polar factor, of the momentum buffer and of the step;
# - use the momentum buffer as a meter of how much successive steps agree;
# - say what changes when momentum comes before the factor instead of after it, and why Muon does that.
#
# Time: 40 minutes to read and play, under a minute to run.

# %%
import pandas as pd
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## A gradient is a few directions and a long tail
#
# A gradient matrix has singular values $s_1 \ge s_2 \ge \dots$: how strongly it pulls along each of its
# directions. The square $s_i^2$ is the *energy* of direction $i$. The second convolution of a small network
# for digits has 32 filters, so 32 directions. Watch one while it trains. How many of the 32 hold half of
# the energy?

# %%
guess = ov.course.predict("directions that hold half of the energy, of 32", low=1, high=32)
guess

# %%
data = ov.datasets.load("digits")
model = ov.models.digits_cnn(seed=0)
optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
with ov.watch(model, optimizer, quantities=["singular_values", "stable_rank", "effective_rank"]) as monitor:
    ov.training.fit(model, optimizer, data, epochs=6, monitor=monitor)
frame = monitor.frame()
s = frame.query("quantity == 'singular_values' and stage == 'raw' and layer == '3.weight' and step == 0")
energy = s.value**2
guess.reveal(int((energy.cumsum() < 0.5 * energy.sum()).sum()) + 1)

# %%
figure = ov.plots.spectra(frame, layer="3.weight")
ov.course.picture(figure, figure.get_suptitle() + ". Dotted: a random matrix of the same shape.")

# %% [markdown]
# Left, a line a step, from early (light) to late (dark); right, the same as a map. Compare with the dotted
# line, a random matrix: there all directions are of a kind. A gradient is a few strong directions and a
# long tail a hundred times weaker. SGD's step has the same shape, so it hardly moves along the tail at
# all. The polar factor moves along all of them equally.
#
# ### Exercise 1: half of the energy
#
# Given singular values from large to small: how many directions does it take to hold at least half of the
# energy?


# %% tags=["exercise"]
def half_energy(s):
    """Number of leading singular values whose squares add up to half of all squares, or more."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("05.half", half_energy)

# %% [markdown]
# There are smoother numbers for the same thing. The **stable rank** counts energy in units of the strongest
# direction, the **effective rank** is what an entropy makes of the values; the weak directions weigh more
# in the second. Which of them is larger is no accident: it is always the same.

# %%
ranks = frame.query(
    "stage == 'raw' and layer == '3.weight' and quantity in ['stable_rank', 'effective_rank']"
)
ranks.pivot_table(index="step", columns="quantity", values="value", observed=True).iloc[::6].round(1)

# %% [markdown]
# ## What becomes of it
#
# In the paper's order a step has three stages: **raw** gradient, **orthogonal** factor, **momentum** buffer
# $B \leftarrow \gamma B + U V^\top$; the weights move by $-\eta B$. In a factor all directions have the same
# length, one. How long are they in the buffer? If all factors were the same, lengths would add up: $1 +
# \gamma + \gamma^2 + \dots = 1/(1 - \gamma)$, which is 10 at $\gamma = 0.9$. And if they had nothing to do
# with one another?

# %%
guess = ov.course.predict("a direction's length in the buffer, unrelated steps", low=0, high=11)
guess


# %%
def buffered(step, gamma=0.9):
    """The buffer after 60 steps."""
    buffer = torch.zeros(32, 288)
    for _ in range(60):
        buffer = gamma * buffer + ov.polar_factor(step())
    return buffer


# %%
torch.manual_seed(0)
noise = ov.measures.singular_values(buffered(lambda: torch.randn(32, 288)))
guess.reveal(noise.square().mean().sqrt().item())
print(f"from {noise[-1]:.2f} to {noise[0]:.2f}")

# %% [markdown]
# ### Exercise 2: the mark of unrelated steps
#
# Steps of length 1 at right angles to one another, at momentum $\gamma$: how long does the buffer become in
# the long run? (Squares of lengths at right angles add up.)


# %% tags=["exercise"]
def unrelated(gamma):
    """Length of the buffer of many unrelated steps of length 1 each."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("05.meter", unrelated)

# %% [markdown]
# So the buffer is a **meter of persistence**: a direction near the lower mark is chance, one above it is
# something that successive steps agree on. Put one direction into otherwise random gradients, and see it
# stand out:

# %%
u = torch.nn.functional.normalize(torch.randn(32, 1), dim=0)
v = torch.nn.functional.normalize(torch.randn(1, 288), dim=1)
persistent = ov.measures.singular_values(buffered(lambda: 4 * u @ v + torch.randn(32, 288) / 288**0.5))
print(f"largest {persistent[0]:.1f}, then {persistent[1]:.1f} to {persistent[-1]:.1f}")

# %% [markdown]
# Now a real network: BasicCNN on CIFAR-10. Move through the steps; change the order and the momentum. How
# many directions stand above the mark of unrelated steps, and by how much?

# %%
ov.widgets.stage_spectra()

# %%
stages = ov.training.results("stages").query("momentum == 0.9 and order == 'before_momentum'")
buffer = stages[stages.stage == "momentum"].groupby("step").value
pd.DataFrame({"largest": buffer.max(), "median": buffer.median(), "smallest": buffer.min()}).round(2)

# %% [markdown]
# The median direction settles at the mark of *unrelated* steps: most of what the orthogonal step follows at
# full length is chance, one batch to the next. Early on a few directions persist, and the buffer lifts the
# strongest to twice the mark; at the end of the epoch it stands little above what noise alone reached.
# That is the price of "every direction equally", and what momentum gives back.
#
# ## The other order
#
# What if momentum comes **first**? Average the gradients, then take the factor of the average:
# $B \leftarrow \gamma B + G$, step along $\mathrm{polar}(B)$. That is Muon (Jordan and others, 2024), which
# reports that this order does better.
#
# ### Exercise 3: Muon's order
#
# What is the step after a list of gradients?


# %% tags=["exercise"]
def muon(gradients, momentum):
    """Polar factor of the momentum buffer (from zero) after all these gradients, the oldest first."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("05.muon", muon)

# %% [markdown]
# Which order finds a signal in noise? Take gradients $G_t = \theta\, u v^\top + Z_t$, one fixed direction of
# strength $\theta = 1$ and 64 x 64 numbers of noise whose norm is about 2 in its strongest direction. After
# 60 steps compare three steps: factor then average (before), average then factor (after), and the average
# with no factor at all. Two questions to ask of each: the **gain**, how long is it along the signal,
# $u^\top O v$; and the **cosine** with the signal, how much of it is signal.
#
# Muon's order has the better gain. Which has the better cosine? Guess its ratio, after / before.

# %%
guess = ov.course.predict("cosine with the signal, after / before", low=0.1, high=10, scale="log")
guess


# %%
def steps_of(theta, seed, size=64, gamma=0.9, count=60):
    """The averaged factors, the factor of the average, and the average, with the signal's directions."""
    torch.manual_seed(seed)
    u, v = torch.nn.functional.normalize(torch.randn(2, size), dim=1)
    gradients = theta * torch.outer(u, v) + torch.randn(count, size, size) / size**0.5
    weights = (1 - gamma) * gamma ** torch.arange(count - 1, -1, -1.0)
    mean = torch.einsum("t,tij->ij", weights, gradients)
    before = torch.einsum("t,tij->ij", weights, ov.polar_factor(gradients))
    return u, v, {"before": before, "after": ov.polar_factor(mean), "plain mean": mean}


# %%
rows = []
for theta in (0.3, 1.0, 4.0):
    for seed in range(5):
        u, v, found = steps_of(theta, seed)
        for name, step in found.items():
            gain = (u @ step @ v).item()
            rows.append({"signal": theta, "step": name, "gain": gain, "cosine": gain / step.norm().item()})
table = pd.DataFrame(rows).pivot_table(index="signal", columns="step", values=["gain", "cosine"])
guess.reveal(table.loc[1.0, ("cosine", "after")] / table.loc[1.0, ("cosine", "before")])
table.round(2)

# %% [markdown]
# Averaging first lets the factor see the signal above the noise, so it comes out at nearly full length: the
# gain is better. But the factor then stretches the averaged *noise* to length 1 too, in all 63 other
# directions. Averaging *after* the factor averages noise directions away, so a larger share of what is left
# is signal: the cosine is better. And the plain mean, with no factor at all, has the best cosine of all.
#
# So "momentum averages the noise before the non-linear step" is true of the gain and not of the cosine. What
# decides between the orders is not settled by one such number; a race has to.
#
# ## Equal learning rate is no equal step, again
#
# One thing is settled before any race: how long is a step of each order? The factor of a buffer has every
# direction at length 1. A buffer of factors has them near 2.3 where steps are unrelated, and up to 10 where
# they agree. How many times longer is it, for the real network above?

# %%
guess = ov.course.predict("length of the step, before / after", low=0.3, high=10, scale="log")
guess

# %%
applied = ov.training.results("stages").query("momentum == 0.9 and stage == 'applied' and step == 48")
length = applied.assign(square=applied.value**2).groupby("order").square.sum() ** 0.5
guess.reveal(length["before_momentum"] / length["after_momentum"])
(length / 0.01).round(2)

# %% [markdown]
# Whoever swaps the order at the same learning rate has changed the step's length as well. Muon's rates are
# for its own order.
#
# Does the order matter on digits, when each gets a rate of its own?

# %%
rows = []
for order, rates in {"before_momentum": (0.003, 0.01, 0.03), "after_momentum": (0.01, 0.03, 0.1)}.items():
    for lr in rates:
        model = ov.models.digits_cnn(seed=0)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=lr, momentum=0.9, order=order)
        run = ov.training.fit(model, optimizer, data, epochs=2)
        rows.append({"order": order, "lr": lr, "accuracy": run.history.test_accuracy.iloc[-1]})
pd.DataFrame(rows).pivot(index="lr", columns="order", values="accuracy").round(3)

# %% [markdown]
# Digits cannot tell them apart (one seed, a few tenths of a point are a handful of images): no order
# is refuted here. `06_cifar10` asks again on photographs.
#
# ## Where this fails
#
# - **Chance is not always useless.** A direction that differs from batch to batch may still be a way down
#   for that batch. The meter says that steps do not agree, not that they are wrong.
# - **The mark is for random steps in many dimensions.** Real gradients of a small layer share directions for
#   dull reasons, such as the mean of the images.
# - **One layer, one epoch, batch 1024.** With small batches everything looks like chance, near the end of
#   training too.
# - **A constant signal** is the friendliest case for momentum. When the signal turns, a long memory points
#   to where it was.
# - **Small singular values** of float32 gradients below a millionth of the largest are rounding.
#
# **Open question.** Does the buffer know when to lower the learning rate? Watch `momentum.singular_values`
# through a whole run of your own: when no direction is left above the mark, is the loss still falling?
#
# **Next:** `06_cifar10`, the fair fight.
