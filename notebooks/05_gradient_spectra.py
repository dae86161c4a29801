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
# - read the spectrum of a gradient, and of the momentum buffer that adds up polar factors;
# - tell whether successive steps agree, with a control that has the right shape;
# - say what Muon's order changes, and what half precision does to an orthogonal step.
#
# Time: 40 minutes to read and play, half a minute of computing.

# %%
import pandas as pd
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## A few directions and a long tail
#
# A gradient has singular values $s_1 \ge s_2 \ge \dots$: how strongly it pulls along each of its directions.
# The square $s_i^2$ is the *energy* of direction $i$. Train a small network for digits, and keep all
# gradients of its second convolution. It has 32 filters, so 32 directions.

# %%
data, model = ov.datasets.load("digits"), ov.models.digits_cnn(seed=0)
optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
gradients, losses = [], []
for epoch in range(1, 9):
    for images, labels in data.batches(256, seed=0, epoch=epoch):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        gradients.append(model[3].weight.grad.flatten(1).clone())
        losses.append(loss.item())
        optimizer.step()
gradients = torch.stack(gradients)  # (48, 32, 144)

# %%
torch.manual_seed(0)
random = torch.randn(32, 144)
figure, (ax,) = ov.plots.new_figure(8, 3)
for name, G, dashes in (("random", random, ":"), ("first", gradients[0], "-"), ("last", gradients[-1], "--")):
    values = ov.measures.singular_values(G)
    colour = ov.plots.RANDOM if name == "random" else ov.plots.INK
    ax.semilogy(range(1, 33), values / values[0], dashes, color=colour, lw=2)
    ax.annotate(name, (32, values[-1] / values[0]), (6, -4), textcoords="offset points")
ax.set_xlim(0, 36)
ax.set(xlabel="direction", ylabel="s / s1", title="A gradient: a few strong directions and a long tail")
ov.course.picture(figure, "Singular values of a layer's gradient at the first and the last of 48 steps.")

# %% [markdown]
# In a random matrix all directions are similar. A gradient's differ by a factor of ten or more. Plain
# descent hardly moves along the tail. The polar factor moves along all directions equally.
#
# ### Exercise 1: half of the energy
#
# Given singular values from large to small: how many does it take to hold at least half of the energy?


# %% tags=["exercise"]
def half_energy(s):
    """Number of leading singular values whose squares add up to half of all squares, or more."""
    raise NotImplementedError


# %% tags=["check"]
half = ov.course.use("05.half", half_energy)

# %% [markdown]
# Two smoother counts: the **stable rank** $\sum s_i^2 / s_1^2$ counts energy in units of the strongest
# direction, so the tail hardly shows. The **effective rank** $\exp(-\sum p_i \ln p_i)$ with $p_i = s_i / \sum
# s$ counts lengths, so the tail counts.

# %%
rows = []
for name, G in {"random": random, "step 0": gradients[0], "step 47": gradients[-1]}.items():
    counts = ov.measures.stable_rank(G).item(), ov.measures.effective_rank(G).item()
    rows.append((name, int(half(ov.measures.singular_values(G))), *counts))
pd.DataFrame(rows, columns=["matrix", "half energy", "stable rank", "effective rank"]).round(1)

# %% [markdown]
# The effective rank falls while the network learns: with each of five seeds in the tests of this course. The
# other two go up or down. Half of the energy is always in a handful.

# %% [markdown]
# ## The momentum buffer
#
# In the paper's order each gradient becomes a factor first, and the factors are added up: $B \leftarrow
# \gamma B + U V^\top$. In a factor all directions have length 1. If all factors are the same, their lengths
# add up to $1 + \gamma + \gamma^2 + \dots = 1/(1 - \gamma)$, which is 10 at $\gamma = 0.9$. And if they have
# nothing to do with one another?
#
# ### Exercise 2: unrelated steps
#
# Steps of length 1, at right angles to one another: how long does the buffer become in the long run? (At
# right angles, squares of lengths add up.)


# %% tags=["exercise"]
def unrelated(gamma):
    """Length of the buffer of many unrelated steps of length 1 each."""
    raise NotImplementedError


# %% tags=["check"]
middle = ov.course.use("05.meter", unrelated)


# %%
def buffer(factors):
    """Singular values of the momentum buffer of factors, the oldest first."""
    weights = 0.9 ** torch.arange(len(factors) - 1, -1, -1.0)
    return ov.measures.singular_values(torch.einsum("t,tij->ij", weights, factors))


noise = torch.randn(48, 32, 144)
one = torch.nn.functional.normalize(torch.randn(32, 1), dim=0) @ torch.randn(1, 144)
for name, steps in {"noise": noise, "noise and one direction": noise + 3 * one}.items():
    values = buffer(ov.polar_factor(steps))
    print(f"{name:24} largest {values[0]:.2f}, then {values[1]:.2f} to {values[-1]:.2f}")
print(f"your formula: {middle(0.9):.2f}")

# %% [markdown]
# Noise spreads around your number. One direction that all steps share stands far above it. So the buffer can
# tell what steps agree on. But from which value on?

# %% [markdown]
# ## The right control
#
# That noise was *round*, alike in all directions. A gradient's noise is not: it has the shape of the layer's
# inputs. A fair control keeps the real factors and destroys only the agreement. **Give each factor a random
# sign.** Do this forty times, early and late in the run.

# %%
factors = ov.polar_factor(gradients)
figure, axes = ov.plots.new_figure(9, 3.2, (1, 1))
for ax, count in zip(axes, (12, 48), strict=True):
    flips = torch.randint(2, (40, count, 1, 1)) * 2.0 - 1
    control = torch.stack([buffer(factors[:count] * flip) for flip in flips])
    round_noise = buffer(ov.polar_factor(noise[:count]))
    low, high = control.amin(0), control.amax(0)
    ax.fill_between(range(1, 33), low, high, color=ov.plots.RANDOM, alpha=0.4, lw=0)
    ax.plot(range(1, 33), round_noise, ":", color=ov.plots.RANDOM)
    ax.plot(range(1, 33), buffer(factors[:count]), color=ov.plots.ORTHOGONAL, lw=2.5)
    print(f"step {count}: loss {losses[count - 1]:.4f}, {(buffer(factors[:count]) > high).sum()} of 32 above")

# %%
for ax, title in zip(axes, ("Step 12: the steps agree", "Step 48: no more than chance"), strict=True):
    ax.set(xlabel="direction", ylim=(0, 5.3), title=title)
axes[0].set_ylabel("buffer")
axes[0].annotate("real", (6, 4.3), color=ov.plots.ORTHOGONAL)
axes[1].annotate("random signs", (1.5, 4.5), color=ov.plots.INK)
axes[1].annotate("round noise", (20, 2.6), color=ov.plots.INK)
ov.course.picture(figure, "Grey: the least and the most of forty controls. Dotted: round noise.")

# %% [markdown]
# Early, the real buffer stands above the control in nearly all directions. Late, the digits are learnt, and
# nothing stands above. Round noise would have misled you: the low end of the buffer lies far below it. So
# does the control.
#
# And photographs? BasicCNN's second convolution, one epoch on CIFAR-10, five seeds, stored:

# %%
signs = ov.training.results("signs").query("index == 0 and step in (16, 32, 48)")
for step, rows in signs.groupby("step"):
    real = f"largest value {rows.value.min():.2f} to {rows.value.max():.2f}"
    control = f"with random signs {rows.control_low.min():.2f} to {rows.control_high.max():.2f}"
    wins = (rows.value > rows.control_high).sum()
    print(f"step {step}: {real}, {control}; above all forty in {wins} of 5 seeds")

# %% [markdown]
# At step 16 the strongest direction is one that steps agree on, with every seed. At the end of the first
# epoch random signs reach as high, with every seed. Move through such an epoch. (The view's grey curve is
# round noise.)

# %%
ov.widgets.stage_spectra()

# %% [markdown]
# ## The other order
#
# Let momentum come **first**: $B \leftarrow \gamma B + G$, and the step is the factor of $B$. That is Muon
# (Jordan and others, 2024).
#
# ### Exercise 3: Muon's order
#
# What is the step after a list of gradients?


# %% tags=["exercise"]
def muon(gradients, momentum):
    """Polar factor of the momentum buffer (from zero) after all these gradients, the oldest first."""
    raise NotImplementedError


# %% tags=["check"]
muon_step = ov.course.use("05.muon", muon)

# %% [markdown]
# Which order finds a signal in noise? All gradients are one fixed direction of length 1 plus 64 x 64 numbers
# of noise, whose strongest direction has length 2. After 60 of them, take the average of the factors
# (**factor first**) and the factor of the average (**average first**, Muon's). How much of each step is
# signal? That is its *cosine* with the signal.

# %%
why = {
    "factor first": "",
    "average first": "The average has less noise. But then the factor makes all of it long again.",
    "equal": "They differ in what is done to the noise that is left.",
}
guess = ov.course.predict("the order whose step has more signal in it", choices=why)
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
    average_first = muon_step([*gradients], gamma)
    return u, v, {"factor first": factors, "average first": average_first, "plain average": mean}


# %%
rows = []
for theta in (0.3, 1.0, 4.0):
    for seed in range(5):
        u, v, found = steps_of(theta, seed)
        for name, step in found.items():
            gain = (u @ step @ v).item()
            rows.append({"signal": theta, "step": name, "gain": gain, "cosine": gain / step.norm().item()})
table = pd.DataFrame(rows).pivot_table(index="signal", columns="step", values=["gain", "cosine"])
guess.reveal(table.cosine.loc[1.0, ["factor first", "average first"]].idxmax())
table.round(2)

# %% [markdown]
# Muon's order has the larger **gain**, the step's length along the signal. But the factor stretches the noise
# to length 1, too, in all 63 other directions. Multiply a step by ten and its gain is ten times larger: the
# ruler again. No learning rate can change the cosine. So the usual reason for Muon's order, that momentum
# should average the noise first, does not hold in this model. The plain average is best here: one strong
# direction in round noise is where the factor loses.
#
# The orders differ in length, too. How long is a step over the learning rate, for BasicCNN's second
# convolution?

# %%
applied = ov.training.results("stages").query("momentum == 0.9 and stage == 'applied' and step == 48")
length = applied.groupby("order").value.agg(lambda s: (s**2).sum() ** 0.5) / 0.01
names = {"none": "SGD", "before_momentum": "factor first", "after_momentum": "momentum first"}
print(length.rename(names).round(2).to_string())

# %% [markdown]
# Muon's is $\sqrt{32} = 5.66$, always. If you swap the order at the same rate, you change the length as well.
# Which order trains better has to be raced, with a rate for each (lesson 06).

# %% [markdown]
# ## Half precision
#
# On a GPU, autocast computes a layer in bfloat16 and stores its gradient in float32. A layer with 128 inputs
# and 128 outputs sees four examples, so its gradient has rank 4. How many directions does the orthogonal
# step have?

# %%
why = {
    "4": "So it is in exact numbers. But what does rounding leave in the other 124 directions?",
    "about 10": "Rounding is small. But it is in every entry, and the step makes it as long as the rest.",
    "more than 100": "",
}
guess = ov.course.predict("directions of the step, from a bfloat16 gradient of rank 4", choices=why)
guess

# %%
torch.manual_seed(0)
layer, inputs, steps = torch.nn.Linear(128, 128), torch.randn(4, 128).relu(), {}
for name, half_on, tol in (("float32", False, None), ("autocast", True, None), ('tol="bf16"', True, "bf16")):
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half_on):
        torch.nn.functional.cross_entropy(layer(inputs), torch.arange(4)).backward()
    steps[name] = ov.polar_factor(layer.weight.grad, tol=tol)
rank = {name: int(step.square().sum().round()) for name, step in steps.items()}
guess.reveal("more than 100" if rank["autocast"] > 100 else "about 10")
for name, step in steps.items():
    cosine = (step * steps["float32"]).sum() / step.norm() / steps["float32"].norm()
    print(f"{name:12} directions {rank[name]}, cosine with the right step {cosine:.2f}")

# %% [markdown]
# Each entry is rounded by up to one part in 256. That is hardly anything, in 124 directions that are not
# there, and the step makes each of them as long as the four real ones. The cure: tell the optimiser how the
# numbers were computed. `ov.OrthogonalSGD(..., tol="bf16")` drops what is rounding;
# `ov.training.fit(..., precision="bf16")` sets it for you.
#
# ## What you found
#
# - A gradient is a few strong directions and a long tail.
# - The buffer shows agreement only beside a control of the same shape. Early steps agree, later ones hardly.
# - Half precision fills missing directions with rounding, and the step makes them long.

# %% [markdown]
# ## Where this fails
#
# - **Steps that do not agree need not be wrong.** A direction that differs from batch to batch may be a way
#   down for that batch.
# - **One layer of two networks**, batches of 256 and 1024, one rate.
# - **A constant signal** is the friendliest case for momentum. If the signal turns, a long memory points to
#   where it was.
# - **Random signs** also hide what all gradients share for dull reasons, such as the mean of the images.
#
# **Open question.** Does the buffer know when to lower the learning rate? On photographs its strongest
# direction is within chance after one epoch. Is the loss still falling then?
#
# **Next:** `06_cifar10`, the fair fight.
