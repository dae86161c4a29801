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
# # 03, appendix · Fast and exact
#
# For readers of lesson 03 who want to choose a method, or to write one. After this appendix you will be able
# to
#
# - follow an iteration on a small matrix in the place of a large one, and say what that costs;
# - say how the package's default is exact and cheap at once;
# - choose by the shape of a layer, its precision and the price.
#
# Time: 20 minutes to read, half a minute of computing. No exercises.

# %%
import timeit

import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## Fewer operations: the Gram form
#
# A step of the quintic takes $X X^\top$, its square, and one product with $X$: $4 m^2 n + 2 m^3$ operations
# for an $m \times n$ matrix. In a 3 x 3 convolution with as many outputs as inputs $n$ is $9 m$. But all that
# a step multiplies $X$ with is a polynomial in the small matrix $K = X X^\top$. And $K$ can be followed by
# itself. Start from $R = I$; with $Q = aI + bK + cK^2$
#
# $$K' = Q K Q, \qquad R' = Q R, \qquad \text{and at the end } O = R X \text{ with the first } X.$$

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)
X = G / G.norm()
K, R = X @ X.T, torch.eye(2, dtype=torch.float64)
for a, b, c in ov.polar.JORDAN:
    Q = a * torch.eye(2) + b * K + c * K @ K
    K, R = Q @ K @ Q, Q @ R
print("Gram form  ", (R @ X).numpy().round(6).tolist())
print("direct form", ov.polar_factor(G, "newton_schulz").numpy().round(6).tolist())

# %% [markdown]
# The same result. What does it save in five steps on a 512 x 4608 layer?

# %%
big = torch.empty(512, 4608)  # explain computes nothing
for name in ("newton_schulz", "gram_newton_schulz"):
    print(f"{name:18} {ov.polar.explain(big, name).operations / 1e9:5.1f} GFLOP")

# %% [markdown]
# ## The price: squares
#
# $K$ holds the *squares* of the singular values. A direction of strength $10^{-4}$ is there as $10^{-8}$,
# less than float32's rounding of a 1. The remedy is a **restart**: as soon as the weak directions have grown,
# form $K$ anew from $R X$. The next cell takes lesson 03's evidence, singular values from 1 to 1/10,000, and
# restarts before step 5, before step 4, and before steps 2 and 4.

# %%
draw = torch.Generator().manual_seed(0)
U = torch.linalg.qr(torch.randn(256, 256, generator=draw)).Q
V = torch.linalg.qr(torch.randn(1024, 256, generator=draw)).Q
evidence = (U * torch.logspace(0, -4, 256)) @ V.T
right = ov.polar_factor(evidence)
long = ov.polar.coefficients(1e-4, 8, safety=1.01)
for restarts in ((5,), (4,), (2, 4)):
    O = ov.polar_factor(evidence, ov.polar.GramNewtonSchulz(long, restarts=restarts))
    print(f"restart before {restarts!s:6} error {(O - right).norm() / right.norm():.5f}")

# %% [markdown]
# The later, the larger the error. Without any restart the package refuses so long a table.

# %% [markdown]
# ## Exact, and cheap all the same
#
# The default, `"exact"`, decomposes the small $K$ in *float64*, where a square of $10^{-8}$ is nothing
# special. On large matrices `"fast"` uses a rational function, four shifted inverses of $K$ (Zolotarev,
# 1877). Here are five methods on a layer of random numbers, and their least gain on the evidence.

# %%
layer = torch.randn(256, 2304, generator=draw)
reference = ov.polar_factor(layer.double())
print("method             ms    error  least gain   on the evidence")
for name in ("svd", "exact", "newton_schulz", "polar_express", "fast"):
    O = ov.polar_factor(layer, name)
    error = ((O - reference).norm() / reference.norm()).item()
    least = ov.measures.direction_gain(O, layer).min()
    weak = ov.measures.direction_gain(ov.polar_factor(evidence, name), evidence).min()
    took = 1000 * min(timeit.repeat(lambda name=name: ov.polar_factor(layer, name), number=1, repeat=5))
    print(f"{name:14}{took:7.1f}  {error:7.1e}  {least:10.3f}  {weak:16.3f}")

# %% [markdown]
# One layer, on your machine, at this moment. For whole models the repository keeps a table that was measured
# in turn on a quiet machine. How many times faster than the SVD is each, and at what error? (All on random
# matrices, which have no very weak directions. Torch's own quintic computes in bfloat16.)

# %%
stored = ov.training.results("polar")
chosen = ("svd one by one", "quintic float32", "torch's quintic", "orthoviz exact", "orthoviz fast")
part = stored[stored.job.isin(["resnet18", "resnet50", "densenet121"]) & stored.contender.isin(chosen)]
print(part.pivot(index="contender", columns="job", values="to_svd").round(1))
print(part.pivot(index="contender", columns="job", values="error").map("{:.0e}".format))

# %% [markdown]
# ## Does the error cost accuracy?
#
# On the digits' gradients, which have no very weak directions (lesson 03). The same network, batches and
# rate, five seeds, three epochs: how many points does the exact factor lead by?

# %%
data, ends = ov.datasets.load("digits"), {}
for method in ("exact", "newton_schulz"):
    for seed in range(5):
        model = ov.models.digits_cnn(seed=seed)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9, method=method)
        run = ov.training.fit(model, optimizer, data, epochs=3, seed=seed, progress=False)
        ends.setdefault(method, []).append(100 * run.history.test_accuracy.iloc[-1])
leads = [a - b for a, b in zip(ends["exact"], ends["newton_schulz"], strict=True)]
print("exact ahead of the quintic, seed by seed:", *(f"{lead:+.1f}" for lead in leads), "points")

# %% [markdown]
# Next to nothing: one test image is 0.3 points. An error of this kind is a slightly different step in the
# same directions, and training on digits forgives it.
#
# ## What you found
#
# - The Gram form follows a small matrix, with far fewer operations. It sees squares, so weak directions need
#   a restart.
# - In float64 the same small matrix gives the exact factor, for less than an SVD.
# - A method has an error *and* a weakest direction that it reaches. Ask for both.

# %% [markdown]
# ## Where this fails
#
# - **Times are one machine's.** On a GPU products are far cheaper than decompositions, and float64 can be
#   slow.
# - **Near-square matrices** have no small side to save work on, and very weak directions even when random.
# - **A shape is not a gradient.** The stored table is for random matrices. Measure the gains of yours.
