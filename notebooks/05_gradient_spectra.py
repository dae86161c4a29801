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
# - read the spectrum of a gradient and of the momentum buffer that is filled with polar factors;
# - use that buffer as a meter of how much successive steps agree, and compare it with noise;
# - say what Muon's order of momentum and factor changes: the step's length, and how much of it is signal.
#
# Time: 40 minutes to read and play, a minute to run.

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
energy = s.value.to_numpy() ** 2
guess.reveal(int(energy.cumsum().searchsorted(energy.sum() / 2)) + 1)
print(f"the strongest direction is {s.value.max() / s.value.min():.0f} times as strong as the weakest")

# %%
figure = ov.plots.spectra(frame, layer="3.weight")
ov.course.picture(figure, figure.get_suptitle() + ". Dotted: a random matrix of the same shape.")

# %% [markdown]
# Left, a line a step, from early (light) to late (dark); right, the same as a map. Compare with the dotted
# line, a random matrix: there all directions are of a kind. A gradient $G = U S V^\top$ is a few strong
# directions and a long, weak tail. Plain gradient descent steps along $G$, so it hardly moves along the
# tail. The polar factor $U V^\top$ moves along all of them equally.
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
# Two smoother numbers count directions, and answer different questions. The **stable rank**, $\sum s_i^2 /
# s_1^2$, counts energy in units of the strongest direction, so the tail hardly shows. The **effective rank**,
# $\exp(-\sum p_i \ln p_i)$ with $p_i = s_i / \sum s$, counts lengths, so the tail counts. That is why the
# second is always the larger, for a random matrix too (printed first). Which of the two sees a change here?

# %%
G = torch.randn(32, 144)
print(f"random: {ov.measures.stable_rank(G):.1f} and {ov.measures.effective_rank(G):.1f} of 32")
ranks = frame.query(
    "stage == 'raw' and layer == '3.weight' and quantity in ['stable_rank', 'effective_rank']"
)
ranks.pivot_table(index="step", columns="quantity", values="value", observed=True).iloc[::6].round(1)

# %% [markdown]
# ## What becomes of it
#
# In the order of the paper (Tuddenham and others, 2022) a step has three stages: **raw** gradient,
# **orthogonal** factor, **momentum** buffer $B \leftarrow \gamma B + U V^\top$; the weights move by
# $-\eta B$. In a factor all directions have the same length, one. How long are they in the buffer? If all
# factors were the same, lengths would add up: $1 +
# \gamma + \gamma^2 + \dots = 1/(1 - \gamma)$, which is 10 at $\gamma = 0.9$. And if they had nothing to do
# with one another? Try noise in the shape of a layer that we shall meet below, 32 filters of 288 numbers.

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
# Whole steps of length 1 at right angles to one another, at momentum $\gamma$: how long does the buffer
# become in the long run? (Squares of lengths at right angles add up. Of singular values this holds for their
# mean square; single ones spread around it.)


# %% tags=["exercise"]
def unrelated(gamma):
    """Length of the buffer of many unrelated steps of length 1 each."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("05.meter", unrelated)

# %% [markdown]
# So the buffer is a **meter of persistence**. Noise spreads around the mark of unrelated steps, from the
# smallest to the largest value printed above. That noise is *round*, alike in all directions. If steps were
# unrelated and round, a direction **above its largest** would be something that they agree on, and one below
# its smallest where they cancel. Put one direction into otherwise random gradients, a little stronger than
# the noise is in its strongest direction, and see it stand out:

# %%
u = torch.nn.functional.normalize(torch.randn(32, 1), dim=0)
v = torch.nn.functional.normalize(torch.randn(1, 288), dim=1)
persistent = ov.measures.singular_values(buffered(lambda: 30 * u @ v + torch.randn(32, 288)))
print(f"largest {persistent[0]:.1f}, then {persistent[1]:.1f} to {persistent[-1]:.1f}")

# %% [markdown]
# Now a real network: the second convolution of the paper's BasicCNN, 32 x 288, through its first epoch on
# CIFAR-10 (49 steps of 1024 images). Move through the steps; change the order and the momentum. How many
# directions stand above the whole curve of noise, and by how much?

# %%
ov.widgets.stage_spectra()

# %%
stages = ov.training.results("stages").query("momentum == 0.9 and order == 'before_momentum'")
buffer = stages[stages.stage == "momentum"].groupby("step").value
agree = buffer.agg(lambda s: (s > noise[0].item()).sum())
cancel = buffer.agg(lambda s: (s < noise[-1].item()).sum())
spread = {"largest": buffer.max(), "median": buffer.median(), "smallest": buffer.min()}
pd.DataFrame({**spread, "above noise": agree, "below noise": cancel}).round(2)

# %% [markdown]
# (The noise is that of 60 steps, so the first two rows, whose buffer is not full yet, compare with nothing.)
# Early on the strongest direction stands at twice the mark: steps agree. Later most of the 32 lie within what
# round noise alone would do: at full length the orthogonal step follows much that is chance, from one batch
# to the next. A few still stand above what round noise reaches, and a few below. Is that agreement? It need
# not be: the noise of a convolution's gradient is not round but has the shape of its inputs, and unrelated
# steps of such a shape spread as far (exercise for the brave: columns with variances 1, 1/2, 1/3, ...). What
# momentum does is sure all the same: what agrees grows, what does not fades. That is what it gives back of
# what "every direction equally" threw away.
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
# Which order finds a signal in noise? Take gradients $G_t = \theta\, u v^\top + Z_t$: one fixed direction of
# strength $\theta = 1$, buried in 64 x 64 numbers of noise that are twice as strong in their strongest
# direction. After 60 steps compare three steps $O$: **factor first** (the average of the factors), **average
# first** (the factor of the average, Muon's), and the **plain average** with no factor at all. All are
# averages, with weights that add up to 1. Ask of each the **gain**, its length along the signal,
# $u^\top O v$; and the **cosine** with the signal, gain over length: how much of it is signal.
#
# Muon's order has the larger gain. Which has the larger cosine? Guess the ratio.

# %%
guess = ov.course.predict("cosine, factor first / average first", low=0.1, high=10, scale="log")
guess


# %%
def steps_of(theta, seed, size=64, gamma=0.9, count=60):
    """The averaged factors, the factor of the average, and the average, with the signal's directions."""
    torch.manual_seed(seed)
    u, v = torch.nn.functional.normalize(torch.randn(2, size), dim=1)
    gradients = theta * torch.outer(u, v) + torch.randn(count, size, size) / size**0.5
    weights = (1 - gamma) * gamma ** torch.arange(count - 1, -1, -1.0)
    mean = torch.einsum("t,tij->ij", weights, gradients)
    factors = torch.einsum("t,tij->ij", weights, ov.polar_factor(gradients))
    return u, v, {"factor first": factors, "average first": ov.polar_factor(mean), "plain average": mean}


# %%
rows = []
for theta in (0.3, 1.0, 4.0):
    for seed in range(5):
        u, v, found = steps_of(theta, seed)
        for name, step in found.items():
            gain = (u @ step @ v).item()
            rows.append({"signal": theta, "step": name, "gain": gain, "cosine": gain / step.norm().item()})
table = pd.DataFrame(rows).pivot_table(index="signal", columns="step", values=["gain", "cosine"])
guess.reveal(table.loc[1.0, ("cosine", "factor first")] / table.loc[1.0, ("cosine", "average first")])
table.round(2)

# %% [markdown]
# Averaging first lets the factor see the signal above the noise, so it comes out at nearly full length: a
# large gain. But the factor then stretches the averaged *noise* to length 1 too, in all 63 other directions:
# the step is long, and little of it is signal. Averaging *after* the factor averages noise directions away,
# so a larger share of what is left is signal.
#
# Mind the ruler: multiply a step by ten and its gain is ten times larger. What no learning rate can change is
# the cosine, and there the common reason for Muon's order, that momentum should average the noise *before*
# the non-linear step (Kovalev, 2025), does not hold in this model.
#
# And the plain average has the best cosine of all three. So why factor at all? Because here the signal is
# one direction and all noise is alike; `02_toy_problems` has the other case, where the weak directions *are*
# the signal. Neither settles a real network; a race has to.
#
# ## Equal learning rate is no equal step, again
#
# One thing is settled before any race: how long is a step of each order, in the units of the optimiser, where
# the buffer is a sum and no average? In the factor of a buffer every direction has length 1, so all 32
# together have $\sqrt{32} = 5.66$. And a buffer of factors, for the real network above?

# %%
guess = ov.course.predict("step length, factor first / average first", low=0.3, high=10, scale="log")
guess

# %%
applied = ov.training.results("stages").query("momentum == 0.9 and stage == 'applied' and step == 48")
length = applied.value.groupby(applied.order).agg(lambda s: (s**2).sum() ** 0.5)
guess.reveal(length["before_momentum"] / length["after_momentum"])
(length / 0.01).rename("length / learning rate").round(2).to_frame()

# %% [markdown]
# ("none" is SGD.) Whoever swaps the order at the same learning rate has changed the step's length as well: a
# rate that suits Muon's order is too large by this factor for the other.
#
# Does the order matter on digits, when each gets rates of its own?

# %%
rows = []
grids = {"before_momentum": (0.003, 0.01, 0.03, 0.1), "after_momentum": (0.01, 0.03, 0.1, 0.3)}
for order, rates in grids.items():
    for lr in rates:
        model = ov.models.digits_cnn(seed=0)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=lr, momentum=0.9, order=order)
        run = ov.training.fit(model, optimizer, data, epochs=2)
        rows.append({"order": order, "lr": lr, "accuracy": run.history.test_accuracy.iloc[-1]})
races = pd.DataFrame(rows).set_index(["order", "lr"]).accuracy
print(f"{len(data.test.labels)} test images")
races.map("{:.3f}".format).unstack("order").fillna("")

# %% [markdown]
# Compare the best of each column. One image is 0.3 points, another seed moves a run by more than one: so far
# no order is refuted. `06_cifar10` asks again on photographs.
#
# ## Where this fails
#
# - **Chance is not always useless.** A direction that differs from batch to batch may still be a way down
#   for that batch. The meter says that steps do not agree, not that they are wrong.
# - **The mark alone is not the test; noise of the same shape is.** Of a square matrix noise spreads from
#   almost 0 to nearly twice the mark. Try `buffered` with another shape.
# - **Real gradients share directions for dull reasons too**, such as the mean of the images.
# - **One layer, one epoch, batch 1024.** What smaller batches or the last epochs show is not measured here.
# - **A constant signal** is the friendliest case for momentum. When the signal turns, a long memory points
#   to where it was.
# - **Small singular values** of float32 gradients below a millionth of the largest are rounding.
#
# **Open question.** Does the buffer know when to lower the learning rate? Watch `momentum.singular_values`
# through a whole run of your own: when no direction is left above the mark, is the loss still falling?
#
# **Next:** `06_cifar10`, the fair fight.
