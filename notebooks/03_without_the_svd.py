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
# # 03 · Without the SVD
#
# After this lesson you will be able to
#
# - push singular values to 1 with matrix products alone, and say how many steps it takes;
# - tell a right polar factor from one that only looks orthogonal;
# - say when the difference matters for training, and when it does not.
#
# Time: 45 minutes to read and play, under half a minute of computing.

# %%
import timeit

import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## A case for a detective
#
# Somebody on your team has replaced the SVD by something faster. You check the new step: its rows are
# orthonormal. You check it against the gradient: it agrees almost as well as any matrix can. Then you ship
# it. Was that enough? By the end of this lesson you will know what else to ask.
#
# First: why would anyone want to do without the SVD? Take the gradient of a large convolution, 256 x 2304,
# and compare one SVD with one product $G G^\top$.

# %%
layer = torch.randn(256, 2304, generator=torch.Generator().manual_seed(0))
works = {"SVD": lambda: torch.linalg.svd(layer, full_matrices=False), "product": lambda: layer @ layer.T}
best = {name: 1000 * min(timeit.repeat(work, number=1, repeat=5)) for name, work in works.items()}
print(f"SVD {best['SVD']:.1f} ms, product {best['product']:.2f} ms: 1 to {best['SVD'] / best['product']:.0f}")

# %% [markdown]
# Processors are built for products. A method with only a handful of them would be a bargain. But products
# can only add and multiply: they make *polynomials* of a matrix. Can a polynomial orthogonalise?

# %% [markdown]
# ## A trick with one number
#
# Take $p(x) = \tfrac32 x - \tfrac12 x^3$. It leaves 0 and 1 where they are, and moves all between them up.
# Apply it again and again. From 0.3, a few steps lead to within one percent of 1. How many do you need if you
# start ten times lower, at 0.03?

# %%
why = {
    "one more step": "Near zero each step multiplies by 1.5, not by 10.",
    "about six more steps": "",
    "ten times as many steps": "The value grows by a factor in each step, not by an amount.",
}
guess = ov.course.predict("a mode that is ten times weaker needs", choices=why)
guess

# %%
path = [torch.tensor(list(ov.plots.MODES), dtype=torch.float64) / 10]  # 1, 0.3, 0.1 and 0.03
for _ in range(14):
    path.append(1.5 * path[-1] - 0.5 * path[-1] ** 3)
steps = (torch.stack(path) < 0.99).sum(0)
guess.reveal("about six more steps" if 5 <= steps[3] - steps[1] <= 7 else "one more step")
figure, (ax,) = ov.plots.new_figure(8, 3)
for values, (colour, dashes) in zip(torch.stack(path).T, ov.plots.MODES.values(), strict=True):
    ax.plot(values, dashes, color=colour, lw=2)
    ax.annotate(f"{values[0]:.2g}", (2, values[2]), (-4, 4), textcoords="offset points", ha="right")
ax.set(xlabel="step", ylabel="value", title="Small values grow by half in each step until they are near 1")
ov.course.picture(figure, f"From 0.3 it takes {steps[1]} steps to 0.99, from 0.03 it takes {steps[3]}.")

# %% [markdown]
# While $x$ is small, the cubic term is nothing, and each step multiplies by 1.5. So the price of a weak mode
# is its *logarithm*.

# %% [markdown]
# ## The same trick with a matrix
#
# The matrix version of $x^3$ is $X X^\top X$. With $X = U S V^\top$ the inner $U$ and $V$ cancel:
#
# $$\tfrac32 X - \tfrac12 X X^\top X = U \left(\tfrac32 S - \tfrac12 S^3\right) V^\top.$$
#
# So each singular value moves as if it were alone, and no direction is touched. This is the **Newton-Schulz
# iteration**.
#
# ### Exercise 1: one step
#
# Write one step of it, with products only. It should work for wide and for tall matrices.


# %% tags=["exercise"]
def step(X):
    """1.5 X - 0.5 X X^T X."""
    raise NotImplementedError


# %% tags=["check"]
newton_schulz = ov.course.use("03.step", step)

# %% [markdown]
# ## Where to start
#
# The trick needs singular values between 0 and 1. Our matrix $G$ has 2.16 as its largest. Let us be careless,
# and start with $0.9\,G$ as it is. The next cell uses your step.

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)
X = 0.9 * G
print("singular values at the start", ov.measures.singular_values(X).numpy().round(2).tolist())
for _ in range(12):
    X = newton_schulz(X)
print("X Xᵀ        ", (X @ X.T).numpy().round(6).tolist())
print("X           ", X.numpy().round(3).tolist())
print("polar factor", ov.polar_factor(G).numpy().round(3).tolist())

# %% [markdown]
# Orthonormal to six digits, and another matrix. Orthogonality asks nothing about $G$. So ask each direction
# of $G$. For its singular pair $u_i, v_i$ the **gain** $u_i^\top X v_i$ says how long that direction is in
# $X$. It should be 1.
#
# ### Exercise 2: the gains
#
# Write this measurement, for all pairs at once.


# %% tags=["exercise"]
def gains(O, G):
    """u_i^T O v_i for every singular pair of G, as a vector."""
    raise NotImplementedError


# %% tags=["check"]
measure = ov.course.use("03.gains", gains)

# %%
print("gain of each direction of G", measure(X, G).numpy().round(3).tolist())

# %% [markdown]
# The *strongest* direction has gain -1. Its value 1.94 went through $p$, came out negative, and settled at
# -1. A step along $X$ would climb along the gradient's main direction.
#
# The cure: first divide by something that is at least $s_1$. The Frobenius norm $\sqrt{\sum s_i^2}$ is
# cheap. The price: with many equal singular values it is much larger than $s_1$. All values start small, and
# extra steps are needed to bring them up.

# %% [markdown]
# ## Faster: Muon's quintic
#
# Near 0 the cubic multiplies by 1.5. A steeper polynomial needs fewer steps. Muon uses $a x + b x^3 + c
# x^5$ with $(a, b, c) = (3.4445, -4.7750, 2.0315)$. Five steps of it are usual. What happens if you go on?

# %%
x = torch.tensor([0.3], dtype=torch.float64)
late = [ov.polar.gain(ov.polar.JORDAN[:1] * count, x).item() for count in range(40, 46)]
print("after 40 to 45 steps:", *(f"{value:.2f}" for value in late))

# %% [markdown]
# It never settles. It goes round through four values, and none of them is 1. That is the bargain: *roughly*
# 1, quickly. In the view, left to right is how strong a direction is, and up is its gain. Look for directions
# that are not reached. Then press **make it lose**.

# %%
ov.widgets.newton_schulz()

# %% [markdown]
# ### Exercise 3: read the curve before you buy
#
# Write the function that the view draws. Given a table, one tuple $(a, b, c, \dots)$ for each step: what
# becomes of a starting value $x$?


# %% tags=["exercise"]
def gain_after(table, x):
    """x after all steps of the table; x is a tensor of any shape."""
    raise NotImplementedError


# %% tags=["check"]
gain = ov.course.use("03.gain", gain_after)

# %% [markdown]
# ## The best polynomial: Polar Express
#
# Which odd polynomial of degree 5 brings all of an interval $[l, 1]$ as near to 1 as possible? Chebyshev's
# answer: the one whose error is equally large at its four worst points, above and below in turn. After that
# step the values lie in a narrower interval, for which another polynomial is best. The best one at each step
# is also best for all steps together ([Polar Express](https://arxiv.org/abs/2505.16932), 2025). The curves
# below are yours.

# %%
x = torch.logspace(-4, 0, 400, dtype=torch.float64)
tables = {"cubic": ov.polar.CUBIC[:5], "Jordan": ov.polar.JORDAN, "best": ov.polar.coefficients(4.5e-3, 5)}
look = ((ov.plots.RANDOM, ":", 0.05), (ov.plots.INK, "--", 0.0041), (ov.plots.ORTHOGONAL, "-", 1.0))
figure, (ax,) = ov.plots.new_figure(8, 3.2)
for (name, table), (colour, dashes, at) in zip(tables.items(), look, strict=True):
    ax.semilogx(x, gain(table, x), dashes, color=colour, lw=2)
    y = gain(table, torch.tensor([at], dtype=torch.float64)).item()
    ax.annotate(name, (at, y), (6, -3), textcoords="offset points", color=colour, annotation_clip=False)
ax.set(xlabel="singular value at the start", ylabel="gain", title="Five steps: the best table arrives at 1")
flat = 1 - gain(tables["best"], torch.logspace(-2.3468, 0, 100, dtype=torch.float64)).min()
ov.course.picture(figure, f"Above 0.0045 the best table is within {flat:.3f} of 1; Jordan's swings.")

# %% [markdown]
# ## The case
#
# Now the evidence. A 256 x 1024 matrix has singular values that fall evenly, on a log scale, from 1 to
# 1/10,000. The suspect: ten steps of a best table, in bfloat16, the number format that graphics processors
# like. These are the two checks that your team made.

# %%
draw = torch.Generator().manual_seed(0)
U = torch.linalg.qr(torch.randn(256, 256, generator=draw)).Q
V = torch.linalg.qr(torch.randn(1024, 256, generator=draw)).Q
s = torch.logspace(0, -4, 256)
evidence = (U * s) @ V.T
table = ov.polar.coefficients(1e-3, 10, safety=1.01)
method = ov.polar.NewtonSchulz(table, precision=torch.bfloat16)
suspect = ov.polar_factor(evidence, method)
print(f"length of O Oᵀ - I {ov.measures.orthogonality_residual(suspect):.3f}, 0: orthonormal rows")
print(f"alignment          {ov.measures.alignment(suspect, evidence):.3f}, <O, G> over its largest value")

# %%
why = {
    "0.005": "Orthogonality knows nothing about G. You saw it fail at the start.",
    "0.03": "You computed it from the alignment. Weak directions weigh little there.",
    "0.5": "",
}
guess = ov.course.predict("distance of the suspect from the polar factor, over its length", choices=why)
guess

# %%
right = ov.polar_factor(evidence)
error = ((suspect - right).norm() / right.norm()).item()
guess.reveal("0.5" if 0.4 < error < 0.6 else "0.03")
figure, (ax,) = ov.plots.new_figure(8, 3)
ax.semilogx(s, measure(suspect, evidence), "o", color=ov.plots.INK, ms=3)
ax.axhline(1, color=ov.plots.ORTHOGONAL, lw=2.5, zorder=0)
ax.axvline(2**-8, color=ov.plots.RANDOM, lw=1, ls=":")
ax.annotate("bfloat16 rounds here", (2**-8, 0.35), (6, 0), textcoords="offset points", color=ov.plots.INK)
ax.set(xlabel="strength s / s1", ylabel="gain", title="The suspect has lost the weak directions")
ax.set_ylim(0, 1.1)
ov.course.picture(figure, f"Error {error:.2f}. Dots: the suspect's gains. Blue: 1, the polar factor's.")

# %% [markdown]
# Solved. bfloat16 rounds every entry by up to one part in 256, so weak directions sink into rounding. The
# iteration took the noise that it found there and made it length 1. So the result is orthonormal. And weak
# directions hardly count in $\langle O, G\rangle$, so the alignment is good. What is to blame, the format or
# the iteration?

# %%
for precision in (torch.bfloat16, torch.float32):
    O = ov.polar_factor(evidence, ov.polar.NewtonSchulz(table, precision=precision))
    error, least = (O - right).norm() / right.norm(), measure(O, evidence).min()
    print(f"{precision!s:14} error {error:.2f}, least gain {least:.2f}")

# %% [markdown]
# ## Does it matter?
#
# Mostly the format. (In float32 the limit is the table's, which is made for directions down to 1/1,000.) Now
# put the suspect to work. $W$ should become $U V^\top$, where all directions count the same. The loss is
# nearly flat along the weak ones. There are twenty steps, which is all that the exact step needs.

# %%
figure, (ax,) = ov.plots.new_figure(8, 3)
rules = ("exact", "exact", "-"), ("suspect", method, "--"), ("quintic", "newton_schulz", ":")
for name, how, dashes in rules:
    W = torch.zeros_like(evidence)
    for _ in range(20):
        W -= 0.05 * ov.polar_factor((U * s) @ (U.T @ W - V.T), how)  # of the gradient U S Uᵀ (W - U Vᵀ)
    learnt = ((U.T @ W) * V.T).sum(1)
    ax.semilogx(s, learnt, dashes, color=ov.plots.ORTHOGONAL if name == "exact" else ov.plots.INK, lw=2)
    ax.annotate(name, (s[-1], learnt[-1]), (-6, -4), textcoords="offset points", ha="right")
    print(f"{name:8} learns {learnt.mean():.0%} on average, {learnt.min():.0%} of the weakest direction")
ax.set(xlabel="strength s / s1", ylabel="learnt part", xlim=(2e-5, 1.5), title="What is lost is not learnt")
ov.course.picture(figure, "Learnt part of each direction after 20 steps, weak directions at the left.")

# %% [markdown]
# So it matters where weak directions are the signal. Muon's quintic replaces nothing by noise, and learns
# even less of them: it leaves them short. Would digits show it? How weak is the weakest direction of a real
# gradient?

# %%
model, data = ov.models.digits_cnn(seed=0), ov.datasets.load("digits")
images, labels = next(data.batches(256, seed=0, epoch=1))
torch.nn.functional.cross_entropy(model(images), labels).backward()
for place in (0, 3, 6):
    gradient = model[place].weight.grad.flatten(1)
    values = ov.measures.singular_values(gradient)
    least = measure(ov.polar_factor(gradient, method), gradient).min()
    ratio = (values[0] / values[-1]).item()
    print(f"{tuple(gradient.shape)}: strongest over weakest {ratio:.0f}, least gain {least:.2f}")

# %% [markdown]
# Nothing there is weak enough to be lost, so a run on digits cannot convict the suspect. And it cannot
# acquit it. **Ask for the least gain on the gradients of your own network.**
#
# ## What you found
#
# - Products alone can orthogonalise. Each step acts on every singular value as on a number.
# - "Orthonormal" and "well aligned" do not mean "right". The least gain does.
# - A lost direction is not learnt. Whether that costs anything depends on the gradient.

# %% [markdown]
# ## Where this fails
#
# - **Iterations cannot cut.** They scale a direction of pure rounding like any weak one. Only a decomposition
#   can say "this is nothing" and drop it.
# - **Every table has a limit.** Below it gains fall to zero. Near-square matrices have directions that weak,
#   even random ones.
# - **The toy is made for weak directions.** Where they are noise, losing them is a gain.
#
# **Open question.** The gradient changes from step to step, so the suspect's noise changes too. Would
# momentum average it away, and would the weak directions come back? Average the suspects of ten noisy copies
# of the evidence, and measure the gains of their mean.
#
# **Next:** `04_do_filters_learn_the_same` asks what all these steps do to the filters. The fast methods are
# in `03_appendix`.
