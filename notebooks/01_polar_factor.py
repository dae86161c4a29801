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
# # 01 · The polar factor
#
# After this lesson you will be able to
#
# - find the nearest orthonormal matrix by hand, and compute it in three lines;
# - say what of a gradient it keeps and what it loses;
# - predict when it amplifies noise, and what it does to a gradient that lacks directions.
#
# Time: 40 minutes to read and play, a few seconds to run.

# %%
import seaborn as sns
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## Two filters that learn alike
#
# A layer with two filters of two weights each has a 2 x 2 gradient. One row is one filter; this matrix will
# be with us through the course.

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)


def degrees(a, b):
    """The angle between two vectors."""
    return torch.rad2deg(torch.arccos(torch.dot(a, b) / (a.norm() * b.norm())))


print(f"row lengths {G.norm(dim=1).tolist()}, angle between the rows {degrees(*G):.1f} degrees")

# %% [markdown]
# The rows are 26 degrees apart: a step along $G$ moves both filters in nearly the same direction. We want
# a step that moves them in *different* directions, and changes the gradient as little as it can. So: **which
# pair of perpendicular rows of length 1 is nearest to $G$?**
#
# Near means the Frobenius norm: the root of the sum of the squared differences of all entries.
#
# ## Find it by hand
#
# Before you try: how near, do you think, can an orthonormal pair come? Press **game: find it by hand**. Turn
# the pair, flip it if you like, and make the distance small. Note your best distance before you tick
# *reveal*. (`p=1.0` starts the view at $G$ itself; what else $p$ can be comes later.)

# %%
ov.widgets.polar_lab(p=1.0)

# %%
guess = ov.course.predict("smallest distance to G", low=0, high=3)
guess

# %%
O = ov.polar_factor(G)
guess.reveal((G - O).norm().item())
print("O =", O.numpy().round(4).tolist())
print("O O^T =", (O @ O.T).numpy().round(4).tolist())

# %% [markdown]
# The rows of $O$ are orthonormal ($O O^\top = I$), and no other orthonormal pair is nearer to $G$. The matrix
# $O$ is called the **polar factor** of $G$, because $G = H O$ with a symmetric positive $H$ is the matrix
# version of $z = r e^{i\varphi}$: $H$ is the size, $O$ the direction.
#
# ### Why not Gram-Schmidt?
#
# You may know another way to make rows orthonormal: keep the first, and take from the second what is new.


# %%
def gram_schmidt(rows):
    """Row 1 at length 1, then what row 2 adds to it, at length 1."""
    first = rows[0] / rows[0].norm()
    second = rows[1] - torch.dot(rows[1], first) * first
    return torch.stack([first, second / second.norm()])


swapped = gram_schmidt(G.flip(0)).flip(0)
for name, pair in {"Gram-Schmidt": gram_schmidt(G), "from row 2": swapped, "polar factor": O}.items():
    print(f"{name:13} distance to G {(G - pair).norm():.3f}")


# %% [markdown]
# Gram-Schmidt has favourites: whoever comes first keeps its direction, the others give way. Number the
# filters in another order and the step is another one. The polar factor treats all rows alike, and is
# nearer.
#
# ## Where it comes from
#
# Take the singular value decomposition $G = U S V^\top$: turn ($V^\top$), stretch along the axes ($S$), turn
# again ($U$). The stretches are the singular values; for our $G$ they are 2.156 and 0.501.
#
# ### Exercise 1: the polar factor in three lines
#
# $U$ and $V$ only turn, so they are orthogonal already; all that makes $G$ crooked is $S$. Write the
# function. It should work for any (m, n); `full_matrices=False` makes the shapes fit.


# %% tags=["exercise"]
def polar(gradient):
    """U V^T of `gradient`, (m, n)."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("01.polar", polar)

# %% [markdown]
# ### See it
#
# The vectors $aG$, for all $a$ of length 1, trace an ellipse. Its half-axes are the singular values. Move
# $p$ from 1 to 0: that is $U S^p V^\top$, from the gradient to its polar factor.

# %%
ov.widgets.polar_lab(p=1.0)

# %% [markdown]
# **Kept:** the axes, dashed: the directions in which the gradient wants to go. **Lost:** how much it wants
# each of them. A direction that was half a unit long and one that was two are now the same.
#
# ### Exercise 2: how far away is it?
#
# Look at the bars while you move $p$. Can you tell the distance from $G$ to its polar factor from the
# singular values alone? (Full rank, so none of them is zero.)


# %% tags=["exercise"]
def distance(gradient):
    """Frobenius distance of `gradient`, (m, n), from its polar factor, from its singular values."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("01.distance", distance)

# %% [markdown]
# ## The most that a step can gain
#
# To first order a step along $-Q$ lowers the loss by $\langle Q, G \rangle$, the sum of the products of their
# entries. Among all matrices that stretch nothing to more than its length (largest singular value at most
# 1), which $Q$ gains most? Let a thousand random orthonormal pairs compete with the polar factor.

# %%
torch.manual_seed(0)
rivals = ov.polar_factor(torch.randn(1000, 2, 2, dtype=torch.float64))  # random orthonormal pairs
gains = (rivals * G).sum((1, 2))
figure, (ax,) = ov.plots.new_figure(8, 2.8)
sns.histplot(gains.numpy(), bins=60, color=ov.plots.RANDOM, ax=ax)
ax.axvline((O * G).sum().item(), color=ov.plots.ORTHOGONAL)
ax.set(xlabel="gain <Q, G> of a step of Q", title="No random pair gains as much as the polar factor")
caption = f"A thousand random Q gain at most {gains.max():.4f}; the polar factor {(O * G).sum():.4f}."
ov.course.picture(figure, caption)

# %% [markdown]
# The polar factor's gain is $s_1 + s_2$, the sum of the singular values. Nobody can gain more, because
# $\langle Q, G \rangle = \sum_i s_i\, u_i^\top Q v_i$ and a $Q$ that stretches nothing has $u_i^\top Q v_i
# \le 1$: the polar factor collects from every direction in full. This is why it is called the direction of
# steepest descent *in the spectral norm*; lesson 10 comes back to it.
#
# ## Almost the same gradient
#
# Now the question of this lesson. Two filters have gradients of equal length that are **1 degree** apart:
# they have nearly the same opinion. How far apart are the rows of the polar factor?

# %%
guess = ov.course.predict("angle between the rows of the polar factor", low=0, high=180, unit="degrees")
guess


# %%
def pair(angle):
    """Two rows of length 1, so many degrees apart."""
    turn = torch.deg2rad(torch.tensor([-angle / 2, angle / 2], dtype=torch.float64))
    return torch.stack([torch.cos(turn), torch.sin(turn)], dim=1)


close = pair(1.0)
factor = ov.polar_factor(close)
guess.reveal(degrees(*factor).item())
growth = (factor[0] - factor[1]).norm() / (close[0] - close[1]).norm()
print(f"the difference of the rows is {growth:.0f} times as long as before")

# %% [markdown]
# Ninety degrees: orthonormal is orthonormal. The difference between the filters was one part in 115 of their
# sum; now it is as large as the sum. **That is the promise and the danger**: if the difference is a signal,
# it is heard at last; if it is noise, it is shouted.
#
# How does the growth depend on the angle?

# %%
angles = torch.logspace(-3, 2.25, 60)
rows = torch.stack([pair(float(a)) for a in angles])
factors = ov.polar_factor(rows)  # a batch: each matrix on its own
growth = (factors[:, 0] - factors[:, 1]).norm(dim=1) / (rows[:, 0] - rows[:, 1]).norm(dim=1)
figure, (ax,) = ov.plots.new_figure(8, 3.2)
ax.loglog(angles, growth, color=ov.plots.ORTHOGONAL)
ax.axhline(1, color=ov.plots.RANDOM, ls=":")
ax.set(xlabel="angle between the gradients, degrees", ylabel="growth of their difference")
ax.set_title("The more alike two gradients, the more their difference grows")
ov.course.picture(figure, f"From {growth.max():,.0f} times at 0.001 degrees to 1 at 90 degrees (grey).")

# %% [markdown]
# ### Crossing over
#
# Drag row 2 through row 1, from one side to the other: press **make it lose** below, then move the angle
# with the arrow keys from 1 to 0 to -1. What happens to the rows of the polar factor at 0?

# %%
ov.widgets.polar_lab(angle=1.0, p=0.0)

# %%
sweep = torch.linspace(-3, 3, 121)
turns = torch.deg2rad(torch.stack([torch.zeros(121), sweep], dim=1))  # row 1 stays, row 2 turns
factors = ov.polar_factor(torch.stack([torch.cos(turns), torch.sin(turns)], dim=2))
direction = torch.rad2deg(torch.atan2(factors[..., 1], factors[..., 0]))
figure, (ax,) = ov.plots.new_figure(8, 3)
for i, colour in enumerate((ov.plots.INK, ov.plots.ORTHOGONAL)):
    ax.plot(sweep, direction[:, i], ".", ms=3, color=colour)
    ax.annotate(f"row {i + 1}", (3.05, direction[-1, i]), va="center", annotation_clip=False)
ax.set(xlabel="direction of gradient 2, degrees", ylabel="direction of the factor's row")
ax.set_title("When the gradients cross, the rows of the polar factor change places")
ov.course.picture(figure, "At 0 degrees row 1 jumps from +45 to -45 degrees, and row 2 the other way.")

# %% [markdown]
# A change of the gradient too small to see turns the step by 90 degrees. Exactly at 0 there is only one
# direction: both rows point along it, with length 0.707 each. The polar factor is smooth
# wherever the smallest singular value stays away from zero, and torn where it reaches zero.
#
# ### What if the difference is only noise?
#
# Two filters have the same true gradient $g$. What we see, from a mini-batch, is $g$ plus a little noise in
# each. A step along the gradient points to $g$ almost exactly. How much of the *orthogonal* step does? (1:
# all of each row points along $g$; 0: none of it.)

# %%
guess = ov.course.predict("cosine of the factor's rows with g, at 1 % noise", low=0, high=1)
guess

# %%
torch.manual_seed(1)
g = torch.randn(100, dtype=torch.float64)
g = g / g.norm()
noisy = g + 0.01 * torch.randn(500, 2, 100, dtype=torch.float64) / 10  # noise of length 0.01
cosine = (ov.polar_factor(noisy) @ g).abs().mean().item()
guess.reveal(cosine)
plain = (noisy @ g / noisy.norm(dim=-1)).abs().mean().item()
print(f"cosine with g: gradient {plain:.4f}, polar factor {cosine:.4f}")

# %% [markdown]
# Half of each row's energy now follows noise: $\cos 45° = 0.707$. Not because the noise was large, but
# because it was the only thing in which the two rows differed. Momentum, which averages over batches, helps
# only if it comes at the right place; lesson 05 is about that.
#
# ## More filters than dimensions
#
# So far the rows could be made orthogonal. Three vectors in a plane cannot. What does the polar factor do
# with $m$ rows in $n < m$ dimensions? This is no corner case: the first layer of the paper's BasicCNN has 32
# filters with 27 weights each. Which of $O O^\top$ and $O^\top O$ is the identity for such a matrix?

# %%
factor = ov.polar_factor(torch.randn(32, 27))
figure, axes = ov.plots.new_figure(8, 3.6, (1, 1))
for ax, product, name in zip(axes, (factor @ factor.T, factor.T @ factor), ("O O^T", "O^T O"), strict=True):
    image = ax.imshow(product, vmin=-1, vmax=1, cmap="RdBu_r")
    ax.set(title=name, xlabel="filter" if name == "O O^T" else "weight")
figure.colorbar(image, ax=axes, label="product")
off = (factor @ factor.T - torch.diag((factor @ factor.T).diagonal())).abs()
caption = (
    f"32 filters in 27 dimensions: their products reach {off.max():.2f}; the weights' are 0 off the diagonal."
)
ov.course.picture(figure, caption)

# %% [markdown]
# The *columns* are orthonormal instead ($O^\top O = I$).
#
# Step through it: add rows one at a time (from 2 to 3 the right angle breaks), then choose a real layer and
# see how its kernel becomes one row. **make it lose** shows what is left of "different directions" when
# there are far too few of them.

# %%
ov.widgets.flattening()

# %% [markdown]
# ## A real gradient
#
# Now a network: the gradient of `digits_cnn` on one batch, before any training. `ov.param_groups` says which
# parameters are matrices; a convolution's weight (out, in, k, k) has a row for every output channel.

# %%
model = ov.models.digits_cnn(seed=0)
data = ov.datasets.load("digits")
images, labels = next(ov.datasets.batches(data, 256, seed=0, epoch=1))
torch.nn.functional.cross_entropy(model(images), labels).backward()
weights = [pair for group in ov.param_groups(model) if group["layout"] for pair in group["params"]]
layers = {name: weight.grad.flatten(1) for name, weight in weights}
for name, gradient in layers.items():
    print(f"{name:10} {tuple(gradient.shape)!s:10} length {gradient.norm():.3f}")

# %%
figure, (ax,) = ov.plots.new_figure(8, 3.4)
for (name, gradient), dashes in zip(layers.items(), ("-", "--", "-.", ":"), strict=True):
    values = ov.measures.singular_values(gradient)
    ax.semilogy(values / values[0], dashes, label=f"{name} {tuple(gradient.shape)}")
ax.axhline(1.2e-6, color=ov.plots.RANDOM, lw=1)
ax.annotate("the package's tolerance", (0, 1.6e-6), color=ov.plots.RANDOM)
ax.set(xlabel="index", ylabel="s / s1", title="Real gradients are uneven, and the head lacks a direction")
ax.legend(frameon=False)
ov.course.picture(figure, "Singular values of each layer's gradient. The head's tenth is rounding.")

# %% [markdown]
# The polar factor lifts all of these that lie above the grey line to 1.
#
# ### The direction that is not there
#
# Look at the last layer, ten classes by 128 features, which feeds the softmax. How many directions does its
# gradient really have?

# %%
guess = ov.course.predict("directions of a softmax layer's gradient, ten classes", low=0, high=12)
guess

# %%
head = layers["10.weight"]
values = ov.measures.singular_values(head)
guess.reveal(int((values > 1.2e-6 * values[0]).sum()))
print(f"rows add up to {head.sum(0).abs().max():.1e}, tenth singular value {values[9]:.1e}")
for null in ("drop", "keep"):
    factor = ov.polar_factor(head, null=null)
    along = factor.sum(0).norm() / 10**0.5
    print(f"{null}: length of the step {factor.norm():.3f}, of its part along (1, ..., 1) {along:.3f}")

# %% [markdown]
# Nine, and a tenth that is rounding. Raising all ten logits by the same amount changes no probability, so
# the ten rows of this gradient always add up to zero. The paper's code keeps the tenth: $U V^\top$ of the
# plain SVD steps at full size along a direction that came from the last bits of float32. The package maps
# such directions to zero; `null="keep"`, the last line above, is the paper's behaviour.
#
# Does it hurt? Not here: the softmax cannot see that direction, in which the head then wanders about. In a
# layer that *can* see it, and with tiny batches, it may: lesson 06 tests that.
#
# ### What happens to a filter whose gradient fades?
#
# Exactly zero, or as good as? Here is a layer of 16 filters; the gradient of one of them shrinks. Before
# you move the slider: how long is its step when its gradient is a thousandth of the others'?

# %%
ov.widgets.dead_filters()

# %% [markdown]
# With the exact factor a fading filter keeps its full step until its gradient is lost in rounding (some
# millionths of the others'), and then has none. *keep* steps even at exactly zero. Muon's quintic, which
# lesson 03 is about, lets it fade. Which of them is right? If a millionth of a gradient is still signal, the
# first; if it is noise, the last. No formula knows.
#
# ### Exercise 3: only what is there
#
# Improve your function: directions whose singular value is at most `tol` times the largest become zero. It
# should not matter how small the gradient is as a whole, and a zero gradient should give zero.


# %% tags=["exercise"]
def polar_of_what_is_there(gradient, tol=1e-10):
    """U V^T over the directions with s > tol * s[0]."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("01.null", polar_of_what_is_there)

# %% [markdown]
# ## What it does to a layer
#
# The slogan is that filters are pushed in different directions. Here are the cosines between the gradients of
# all pairs of filters of the second convolution, before and after, beside those of random vectors.

# %%
gradient = layers["3.weight"]
steps = {
    "gradient": gradient,
    "polar factor": ov.polar_factor(gradient),
    "random": torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0)),
}
upper = torch.ones(32, 32).triu(1).bool()
cosines = {}
for name, step in steps.items():
    cosines[name] = ov.measures.cosine_matrix(step)[upper]

# %%
figure, (ax,) = ov.plots.new_figure(8, 3)
look = zip(cosines, (ov.plots.SGD, ov.plots.ORTHOGONAL, ov.plots.RANDOM), ("--", "-", ":"), strict=True)
for name, colour, dashes in look:
    sns.kdeplot(cosines[name].numpy(), color=colour, ls=dashes, label=name, ax=ax)
ax.set(xlabel="cosine between two filters' steps", xlim=(-1, 1), yscale="log", ylim=(0.05, None))
ax.set_title("Gradients agree or oppose; steps along the polar factor do neither")
ax.legend(frameon=False)
sizes = ", ".join(f"{name} {values.abs().mean():.3f}" for name, values in cosines.items())
ov.course.picture(figure, f"Mean absolute cosine of the 496 pairs: {sizes}.")

# %% [markdown]
# The filters' *steps* are orthogonal now. Whether the *filters* end up less alike is another question: a
# sum of orthogonal steps need not be orthogonal. Lesson 04 measures it, and the answer depends on the
# learning rate.
#
# ## What you can rely on
#
# - Scale does not matter: $G$ and $10^{-20} G$ have the same polar factor.
# - Turning the gradient turns the factor with it, and the order of the filters does not matter.
# - Each layer stands alone, and each matrix of a batch.
#
# Each is one line to check: try it.
#
# ## Where this fails
#
# - **Noise.** Where two filters differ by a little noise only, half of each row's energy is noise.
# - **Sizes are lost.** The gradient says that one direction matters a thousand times more than another; the
#   step does not listen. On a well-conditioned problem that is a loss (lesson 02).
# - **It does not get smaller.** The step has length $\sqrt{\text{rank}}$ however near the minimum is: only
#   the learning rate can end it.
# - **It costs.** An SVD for every layer in every step is slow; lesson 03 does without.
#
# **Open question.** You saw that equal gradients with noise lose half of each row. With $k$ filters that all
# share one true gradient, what share of each row still follows it? Guess, then try `polar_factor` on
# `(500, k, 100)`.
#
# **Next:** `02_toy_problems` asks what such steps do over time.
