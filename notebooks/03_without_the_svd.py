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
# - push singular values to 1 with matrix products alone, and say how many it takes;
# - tell a right polar factor from one that only looks orthogonal;
# - choose a method for a layer by its shape, its precision and its price.
#
# Time: 45 minutes to read and play, under a minute to run.

# %%
import timeit

import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## A case for a detective
#
# Somebody on your team has replaced the SVD by something faster. The new step has orthonormal rows: you
# checked. It agrees with the gradient almost as well as any matrix can: you checked that too. And yet it is
# far from the polar factor: half its own length. By the end of this lesson you will have caught it, with
# one measurement.
#
# First: why would anyone want to do without the SVD?
#
# ## What the SVD costs
#
# A convolution with 256 output channels, 256 inputs and 3 x 3 kernels has a 256 x 2304 gradient. Processors
# are built for products such as $G G^\top$. How many of those fit into the time of one SVD?

# %%
guess = ov.course.predict("products G Gᵀ in the time of one SVD", low=1, high=1000, scale="log")
guess


# %%
def milliseconds(work):
    """The shortest of five runs."""
    return 1000 * min(timeit.repeat(work, number=1, repeat=5))


layer = torch.randn(256, 2304, generator=torch.Generator().manual_seed(0))
svd = milliseconds(lambda: torch.linalg.svd(layer, full_matrices=False))
product = milliseconds(lambda: layer @ layer.T)
guess.reveal(svd / product)
print(f"SVD {svd:.1f} ms, product {product:.2f} ms")

# %% [markdown]
# So anything that needs only a handful of products would be a bargain. But products can only add and
# multiply: they make *polynomials* of a matrix. Can a polynomial orthogonalise?
#
# ## A trick with one number
#
# Take $p(x) = \tfrac32 x - \tfrac12 x^3$. It leaves 0 and 1 where they are, and moves what lies between
# upwards. Apply it again and again to the course's four modes, 10, 3, 1 and 0.3, divided by 10. How many
# steps will the weakest, which starts at 0.03, need to come within one percent of 1?

# %%
modes = torch.tensor(list(ov.plots.MODES), dtype=torch.float64)
path = [modes / 10]
for _ in range(16):
    path.append(1.5 * path[-1] - 0.5 * path[-1] ** 3)
path = torch.stack(path)
figure, (ax,) = ov.plots.new_figure(8, 3.4)
for values, (mode, (colour, dashes)) in zip(path.T, ov.plots.MODES.items(), strict=True):
    ax.plot(values, dashes, color=colour, lw=2, label=f"mode {mode:g}")
ax.axhline(1, color=ov.plots.RANDOM, lw=1, zorder=0)
ax.set(xlabel="step", ylabel="value", title="Small values grow by half a step, until they are nearly there")
ax.legend(frameon=False)
ov.course.picture(figure, f"The weakest mode is at .99 after {(path[:, 3] < 0.99).sum()} steps.")

# %% [markdown]
# While x is small, the cubic term is nothing and each step multiplies by 1.5; near 1 the errors square. The
# price of a weak mode is its *logarithm*: a mode ten times weaker takes about six more steps.
#
# ## The same trick with a matrix
#
# An odd polynomial of a matrix is made of $X$, $X X^\top X$, $(X X^\top)^2 X$ and so on. With $X = U S
# V^\top$ the inner $U$ and $V$ cancel:
#
# $$\tfrac32 X - \tfrac12 X X^\top X = U \left(\tfrac32 S - \tfrac12 S^3\right) V^\top.$$
#
# So the iteration acts on each singular value as if it were alone, and never touches a direction. That is
# the **Newton-Schulz iteration**.
#
# ### Exercise 1: one step
#
# Write one step of it, with products only. It should work for wide and for tall matrices.


# %% tags=["exercise"]
def step(X):
    """1.5 X - 0.5 X X^T X."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("03.step", step)

# %% [markdown]
# ## Where to start
#
# The trick needs singular values between 0 and 1 (up to $\sqrt3$ they still end at 1, up to $\sqrt5$ at 1
# or at -1, beyond they explode). $G$, the course's matrix, has 2.16 as its largest. Let us be careless, and
# start with $0.9\,G$ as it is.

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)
X = 0.9 * G
print("singular values at the start", ov.measures.singular_values(X).numpy().round(3).tolist())
for _ in range(12):
    X = 1.5 * X - 0.5 * X @ X.T @ X
print("X Xᵀ =", (X @ X.T).numpy().round(6).tolist())

# %% [markdown]
# Orthonormal, to six digits. Is it the polar factor of $G$? Before you run on: what would you measure?

# %%
print("polar factor", ov.polar_factor(G).numpy().round(3).tolist())
print("what we have", X.numpy().round(3).tolist())
gain = ov.measures.direction_gain(X, G)
print("gain of each direction", gain.numpy().round(3).tolist())

# %% [markdown]
# The first suspect is caught. For each singular pair $u_i, v_i$ of $G$ the **gain** $u_i^\top X v_i$ says
# how long that direction has become in $X$. It should be 1. Here the *strongest* direction has gain -1: a
# value of 1.94 went through $p$, came out negative, and settled at -1. The step would climb along the
# gradient's main direction.
#
# Orthogonality could not tell: it looks at $X$ alone, and asks nothing about $G$.
#
# For any iteration of this kind the gain is the polynomial's value: $u_i^\top X v_i = p(s_i)$, so a picture
# of $p$ says everything.
#
# The cure is to divide first by something at least as large as $s_1$. The Frobenius norm $\sqrt{\sum
# s_i^2}$ is cheap, and it is what most implementations take. Its price: for a matrix with many equal modes
# it is far too large, and every step that makes up for it has to be paid.
#
# ## Faster than Newton and Schulz
#
# Near 0 the cubic multiplies by 1.5. A steeper polynomial needs fewer steps. Muon uses $a x + b x^3 + c
# x^5$ with $(a, b, c) = (3.4445, -4.7750, 2.0315)$, five times. It is so steep that it overshoots. Where
# does it end?

# %%
guess = ov.course.predict("gain of s = 0.3 after 20 steps of Muon's quintic", low=0, high=1.5)
guess

# %%
x = torch.tensor([0.3], dtype=torch.float64)
after = {steps: ov.polar.gain(ov.polar.JORDAN[:1] * steps, x).item() for steps in (5, 10, 19, 20, 21)}
guess.reveal(after[20])
print({steps: round(value, 2) for steps, value in after.items()})

# %% [markdown]
# It never settles at 1: it ends by going round through four values between 0.68 and 1.13. That is the
# bargain: *roughly* 1, quickly. Play with it. Horizontal: how strong a direction is; vertical: its gain.
# Look for the directions that were not reached, then press **make it lose** and keep what you see in mind.

# %%
ov.widgets.newton_schulz()

# %% [markdown]
# ### Exercise 2: read the curve before you buy
#
# Write the function that the picture draws: given a table, one tuple $(a, b, c, \dots)$ for each step, what
# becomes of a starting value $x$?


# %% tags=["exercise"]
def gain_after(table, x):
    """x after all steps of the table; x is a tensor of any shape."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("03.gain", gain_after)

# %% [markdown]
# ## The best polynomial
#
# Which odd polynomial of degree 5 brings all of $[l, 1]$ as near to 1 as possible? Chebyshev's answer: the
# one whose error touches its largest size four times, with alternating sign. If one touch were smaller,
# there would be room.

# %%
low = 0.1
x = torch.linspace(low, 1, 500, dtype=torch.float64)
figure, (ax,) = ov.plots.new_figure(8, 3)
for degree, dashes in ((3, ":"), (5, "-"), (9, "--")):
    ax.plot(x, 1 - ov.polar.gain(ov.polar.coefficients(low, 1, degree), x), dashes, label=f"degree {degree}")
ax.axhline(0, color=ov.plots.RANDOM, lw=1)
ax.set(xlabel="singular value", ylabel="error 1 - p(x)", title="The best polynomial is wrong evenly")
ax.legend(frameon=False)
ov.course.picture(figure, "Errors of the best polynomials on [0.1, 1]: equal heights, alternating signs.")

# %% [markdown]
# After that step the values lie in a narrower interval, for which another polynomial is best; and taking
# the best one at each step is best for all steps together (Amsel and others, 2025, who called it Polar
# Express). Unlike Muon's table it arrives. Here is what five steps make of weak directions.

# %%
x = torch.logspace(-4, 0, 400, dtype=torch.float64)
tables = {"cubic": ov.polar.CUBIC[:5], "Jordan": ov.polar.JORDAN, "best": ov.polar.coefficients(4.5e-3, 5)}
look = ((ov.plots.RANDOM, ":"), (ov.plots.SGD, "--"), (ov.plots.ORTHOGONAL, "-"))
figure, (ax,) = ov.plots.new_figure(8, 3.4)
for (name, table), (colour, dashes) in zip(tables.items(), look, strict=True):
    ax.semilogx(x, ov.polar.gain(table, x), dashes, color=colour, lw=2, label=name)
ax.axhline(1, color=ov.plots.RANDOM, lw=1)
ax.set(xlabel="singular value at the start", ylabel="gain", title="Same five steps: reached, or nearly")
ax.legend(frameon=False)
ov.course.picture(
    figure, "After five steps the best table is flat above 0.0045; Jordan's swings; the cubic lags."
)

# %% [markdown]
# ## The case
#
# Now the evidence. A 256 x 1024 matrix whose singular values run evenly, on a log scale, from 1 to
# 1/10,000. The suspect: ten steps of an optimal table, in bfloat16, the number format that graphics
# processors like best.

# %%
draw = torch.Generator().manual_seed(0)
U = torch.linalg.qr(torch.randn(256, 256, generator=draw, dtype=torch.float64)).Q
V = torch.linalg.qr(torch.randn(1024, 256, generator=draw, dtype=torch.float64)).Q
s = torch.logspace(0, -4, 256, dtype=torch.float64)
evidence = ((U * s) @ V.T).float()
table = ov.polar.coefficients(1e-3, 10, safety=1.01)
suspect = ov.polar_factor(evidence, ov.polar.NewtonSchulz(table, precision=torch.bfloat16))
residual = ov.measures.orthogonality_residual(suspect)
alignment = ov.measures.alignment(suspect, evidence)
print(f"orthogonality residual {residual:.3f}   (length of O Oᵀ - I; 0: rows orthonormal)")
print(f"alignment              {alignment:.4f}  (<O, G> / sum of s; 1: as much as there can be)")

# %% [markdown]
# Both alibis are excellent. So: how far is the suspect from the polar factor, relative to its length? (0:
# it is the polar factor. 1: as far as the zero matrix is.)

# %%
guess = ov.course.predict("relative error", low=0, high=1)
guess

# %%
right = ov.polar_factor(evidence)
error = ((suspect - right).norm() / right.norm()).item()
guess.reveal(error)
print(f"relative error {error:.2f}")

# %% [markdown]
# About half. How can that be? Let us ask every direction by itself.

# %%
figure, (ax,) = ov.plots.new_figure(8, 3.4)
gain = ov.measures.direction_gain(suspect, evidence)
ax.semilogx(s, gain, ".", color=ov.plots.SGD, label="suspect")
ax.axhline(1, color=ov.plots.RANDOM, lw=1, label="the polar factor")
ax.axvline(2**-8, color=ov.plots.INK, lw=1, ls=":")
ax.annotate("bfloat16's rounding", (2**-8, 0.3), xytext=(5, 0), textcoords="offset points")
ax.set(xlabel="strength s / s1", ylabel="gain", title="The weak directions were lost")
ax.legend(frameon=False)
ov.course.picture(figure, f"Gains: 1 for the strong directions, down to {gain.min():.2f} for the weak.")

# %% [markdown]
# Solved. bfloat16 rounds every entry by up to one part in 256 ($2^{-8}$), so directions well below that
# sink into rounding, most of them before the first step. The iteration did not notice: it took whatever lay
# there, noise, and made it length 1. So the result is orthonormal; and because weak directions weigh little
# in $\langle O, G\rangle$, the alignment hardly moved. A perfect alibi for noise.
#
# Was it the iteration, or the number format? The same table in float32:

# %%
for precision in (torch.bfloat16, torch.float16, torch.float32):
    O = ov.polar_factor(evidence, ov.polar.NewtonSchulz(table, precision=precision))
    gain = ov.measures.direction_gain(O, evidence)
    print(f"{precision!s:15} error {(O - right).norm() / right.norm():.3f}, least gain {gain.min():.2f}")

# %% [markdown]
# Mostly the format. What is left in float32 is the table's reach: it was made for directions down to
# 1/1,000 of a bound on the strongest, and the weakest here are below that.
#
# ### Exercise 3: the measurement that solves the case
#
# Write `direction_gain` yourself: the gains $u_i^\top O v_i$ for the singular pairs of $G$.


# %% tags=["exercise"]
def gains(O, G):
    """u_i^T O v_i for every singular pair of G, as a vector."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("03.gains", gains)

# %% [markdown]
# ## Fewer operations: the Gram form
#
# A step of the quintic takes $X X^\top$, its square, and one product with $X$: $4 m^2 n + 2 m^3$
# operations, and in a 3 x 3 convolution $n$ is $9 m$. (So five steps are ten large products, and the
# bargain of the first cell is a factor of two or so.) But all that a step multiplies $X$ with is a
# polynomial in $K = X X^\top$, and $K$ can be followed by itself: from $R = I$, with $Q = aI + bK + cK^2$
#
# $$X' = Q X, \qquad K' = Q K Q, \qquad R' = Q R, \qquad \text{last } O = R X \text{ with the first } X.$$
#
# Only small matrices in between. Here it is in full, for the course's $G$, beside the package's direct
# form; and what it saves for five steps on a 512 x 4608 layer.

# %%
X = G / G.norm()
K, R = X @ X.T, torch.eye(2, dtype=torch.float64)
for a, b, c in ov.polar.JORDAN:
    Q = a * torch.eye(2) + b * K + c * K @ K
    K, R = Q @ K @ Q, Q @ R
print((R @ X).numpy().round(6).tolist())
print(ov.polar_factor(G, "newton_schulz").numpy().round(6).tolist())
big = torch.empty(512, 4608)  # explain computes nothing
for name in ("newton_schulz", "gram_newton_schulz"):
    print(f"{name:18} {ov.polar.explain(big, name).operations / 1e9:5.1f} GFLOP")

# %% [markdown]
# What does it cost? $K$ holds the *squares*. A direction of strength $10^{-4}$ is there as $10^{-8}$, which
# is less than float32's rounding of a 1. The remedy is a **restart**: once the weak directions have grown,
# form $K$ anew from $R X$. Too late, and accuracy is gone; with none the package refuses so long a table.
# (Steps are counted from 0.)

# %%
long = ov.polar.coefficients(1e-4, 8, safety=1.01)
for restarts in ((5,), (4,), (2, 4)):
    O = ov.polar_factor(evidence, ov.polar.GramNewtonSchulz(long, restarts=restarts))
    print(f"restart before step {restarts}: error {(O - right).norm() / right.norm():.5f}")

# %% [markdown]
# ## Exact, and cheap all the same
#
# The package's default, `"exact"`, takes the other way out: $K$ is small, so it can be formed and
# decomposed in *float64*, where a square of $10^{-8}$ is nothing special. And `"fast"` uses for matrices
# with more than a few hundred rows not a polynomial but a rational function, four shifted inverses of $K$
# (Zolotarev, 1877). All on one layer of random numbers, and their least gain on the evidence too:

# %%
reference = ov.polar_factor(layer.double())
print("method             ms    error  least gain   on the evidence")
for name in ("svd", "exact", "newton_schulz", "polar_express", "fast"):
    O = ov.polar_factor(layer, name)
    error = ((O - reference).norm() / reference.norm()).item()
    least = ov.measures.direction_gain(O, layer).min()
    weak = ov.measures.direction_gain(ov.polar_factor(evidence, name), evidence).min()
    took = milliseconds(lambda name=name: ov.polar_factor(layer, name))
    print(f"{name:14}{took:7.1f}  {error:7.1e}  {least:10.3f}  {weak:16.3f}")

# %% [markdown]
# One layer on your machine, at this moment. For whole models, measured in turn on a quiet one, the
# repository keeps a table. How many times faster than the SVD, and at what error? (All on random matrices,
# which have no very weak directions; torch's own quintic computes in bfloat16.)

# %%
stored = ov.training.results("polar")
chosen = ("svd one by one", "quintic float32", "torch's quintic", "orthoviz exact", "orthoviz fast")
part = stored[stored.job.isin(["resnet18", "resnet50", "densenet121"]) & stored.contender.isin(chosen)]
print(part.pivot(index="contender", columns="job", values="to_svd").round(1))
print(part.pivot(index="contender", columns="job", values="error"))

# %% [markdown]
# ## Does it matter for training?
#
# Now the question that a detective should have asked first. Muon's quintic is as far off as the table above
# says, the exact factor is not. Same network, same batches, three seeds: how many points of accuracy does
# the error cost on digits?

# %%
guess = ov.course.predict("points lost by the quintic", low=-5, high=20, unit="points")
guess

# %%
data = ov.datasets.load("digits")
final = {}
for method in ("exact", "fast", "newton_schulz"):
    for seed in range(3):
        model = ov.models.digits_cnn(seed=seed)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9, method=method)
        run = ov.training.fit(model, optimizer, data, epochs=3, seed=seed, progress=False)
        final.setdefault(method, []).append(100 * run.history.test_accuracy.iloc[-1])
mean = {name: sum(values) / 3 for name, values in final.items()}
guess.reveal(mean["exact"] - mean["newton_schulz"])
for name, values in final.items():
    print(f"{name:14} mean {mean[name]:.1f} %, from {min(values):.1f} to {max(values):.1f}")

# %% [markdown]
# Compare the difference with the spread over seeds before you call it one. An error of the quintic's kind,
# with all gains around 1, is a slightly different step in the same directions, and training forgives that.
# Would it forgive the other kind, in which directions are *replaced* by noise? That is not tested here: put
# the suspect's method into the cell above. Both kinds can have the same size, so look at the gains and not
# at one number.
#
# ## Where this fails
#
# - **Iterations cannot cut.** A direction of pure rounding noise is scaled like any weak one; only a
#   decomposition can say "that is nothing" and drop it (`tol`). In the view, look left of the curve's
#   shoulder.
# - **Weak directions.** Every table has a reach. Beyond it gains fall to zero: `fast` reaches about a
#   hundredth of $s_1$, and real gradients can go further down.
# - **Half precision** decides what can be weak at all. No number of steps brings back what rounding took.
# - **Near-square matrices** have very weak directions even when they are random, and no side to save work
#   on.
#
# **Open question.** The suspect's noise directions change from step to step, because the gradient does.
# Would momentum average them away? Make ten suspects from the evidence plus a little noise, each anew, and
# measure `direction_gain` of their mean.
#
# **Next:** `04_do_filters_learn_the_same` asks what all these steps do to the filters.
