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
# - find the nearest orthonormal matrix by hand, and compute it in two ways;
# - say what of a gradient it keeps, and what it loses;
# - predict when it turns noise into a full-size step.
#
# Time: 40 minutes to read and play, a few seconds of computing.

# %%
import torch

import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## The nearest pair
#
# Our two filters have two weights each, so their gradient is a 2 x 2 matrix, one row a filter. It will be
# with us through the course.

# %%
G = torch.tensor([[1.6, 0.3], [1.2, 0.9]], dtype=torch.float64)


def degrees(a, b):
    """The angle between two vectors."""
    return torch.rad2deg(torch.arccos(torch.cosine_similarity(a, b, dim=0))).item()


print(f"row lengths {G.norm(dim=1).tolist()}, angle between the rows {degrees(*G):.1f} degrees")

# %% [markdown]
# A step along $G$ moves both filters nearly the same way. We want a step that moves them in *different*
# directions and changes the gradient as little as it can. So: **which pair of perpendicular rows of length 1
# is nearest to $G$?** (Near means the Frobenius norm: the root of the sum of all squared differences.)
#
# Press **game: find it by hand**. Turn the pair, flip it if you like, and make the distance small. Write down
# your best before you tick *reveal*.

# %%
ov.widgets.polar_lab(p=1.0)

# %% [markdown]
# The nearest pair is called the **polar factor** of $G$. The name comes from complex numbers: $z = r
# e^{i\varphi}$ has a size and a direction, and $G = H O$ has, too. $H$ is symmetric and positive, the size.
# $O$ is the direction.
#
# You may know another way to make rows orthonormal, Gram-Schmidt: keep the first row, and take from the
# second only what is new. Why not that one?


# %%
def gram_schmidt(rows):
    """Row 1 at length 1, then what row 2 adds to it, at length 1."""
    first = rows[0] / rows[0].norm()
    second = rows[1] - torch.dot(rows[1], first) * first
    return torch.stack([first, second / second.norm()])


O = ov.polar_factor(G)
swapped = gram_schmidt(G.flip(0)).flip(0)
for name, pair in {"Gram-Schmidt": gram_schmidt(G), "from row 2": swapped, "polar factor": O}.items():
    print(f"{name:13} distance to G {(G - pair).norm():.3f}")

# %% [markdown]
# Gram-Schmidt has favourites. The first row keeps its direction, and the others give way. Number the filters
# in another order, and the step is another one. The polar factor treats all rows alike, and it is nearer.

# %% [markdown]
# ## Without the SVD
#
# In lesson 00 you wrote it with the SVD. Here is a second way, which lesson 03 builds on.
#
# ### Exercise 1: the inverse root
#
# $O = (G G^\top)^{-1/2}\, G$. For a symmetric matrix `torch.linalg.eigh` gives eigenvalues and eigenvectors;
# a power of the matrix has powers of the eigenvalues. (At most as many rows as columns.)


# %% tags=["exercise"]
def root(G):
    """The polar factor of `G`, (m, n) with m <= n, without an SVD."""
    raise NotImplementedError


# %% tags=["check"]
polar = ov.course.use("01.root", root)

# %% [markdown]
# From now on, `polar` is yours. Is it the same as the one by the SVD? And on a *tall* matrix, with more rows
# than columns?

# %%
wide = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
for name, matrix in {"2 x 2": G, "3 x 5": wide, "5 x 3": wide.T}.items():
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    print(f"{name}: difference {(polar(matrix) - U @ Vh).norm():.1e}")

# %% [markdown]
# (For the tall one $G G^\top$ is 5 x 5 and has rank 3: its root has no inverse, and rounding decides. There
# $G^\top G$ is the one to use, from the right. If you see 0, our function stands in for yours.)

# %% [markdown]
# ## What is kept, what is lost
#
# The vectors $aG$, for all $a$ of length 1, trace an ellipse. Its half-axes are the singular values, 2.16 and
# 0.50. Move $p$ from 1 to 0, slowly, and look at the dashed axes.

# %%
ov.widgets.polar_lab(p=1.0)

# %% [markdown]
# **Kept:** the axes, that is, the directions in which the gradient wants to go. **Lost:** how much it wants
# each of them. One was four times as long as the other; now they are the same.

# %% [markdown]
# ### Exercise 2: how far away is it?
#
# Look at the bars while you move $p$. Can you tell the distance from $G$ to its polar factor from the
# singular values alone?


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
# entries. Take all orthonormal pairs: turns by any angle, and flips. Which gains most?

# %%
angles = torch.linspace(-180, 180, 361, dtype=torch.float64)
c, s = torch.deg2rad(angles).cos(), torch.deg2rad(angles).sin()
turns = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)  # (361, 2, 2)
figure, (ax,) = ov.plots.new_figure(8, 3)
for name, pairs in {"turns": turns, "flips": turns * torch.tensor([[1.0], [-1.0]])}.items():
    gain = (pairs * G).sum((1, 2))
    ax.plot(angles, gain, "-" if name == "turns" else ":", color=ov.plots.INK, label=name)
place = torch.rad2deg(torch.atan2(O[0, 1], O[0, 0])).item()
ax.plot(place, (O * G).sum(), "D", color=ov.plots.ORTHOGONAL, ms=9, label="polar factor")
ax.set(xlabel="turned by, degrees", ylabel="gain <Q, G>", title="No pair gains more than the polar factor")
ax.legend(frameon=False)
ov.course.picture(figure, f"The polar factor's gain, {(O * G).sum():.3f}, is the highest of all pairs.")

# %% [markdown]
# The top is $s_1 + s_2 = 2.657$, the sum of the singular values. (The flips' top is $s_1 - s_2$.) Nobody can
# gain more: a $Q$ that stretches nothing moves at most 1 along each axis, and the polar factor moves 1 along
# all of them. Lesson 10 says what this makes of the method.

# %% [markdown]
# ## Almost the same gradient
#
# Now the question of this lesson. Two filters have gradients of equal length, **1 degree** apart. They have
# nearly the same opinion. How far apart are the rows of the polar factor?

# %%
why = {
    "1 degree": "That is the gradient. The step has to be orthonormal.",
    "45 degrees": "You went half of the way: look at p = 0.5 in the view.",
    "90 degrees": "",
    "180 degrees": "Opposite rows are not orthogonal.",
}
guess = ov.course.predict("angle between the rows of the polar factor", choices=why)
guess


# %%
def pair(angle):
    """Two rows of length 1, so many degrees apart."""
    turn = torch.deg2rad(torch.tensor([-angle / 2, angle / 2], dtype=torch.float64))
    return torch.stack([torch.cos(turn), torch.sin(turn)], dim=1)


close = pair(1.0)
factor = polar(close)
guess.reveal(f"{degrees(*factor):.0f} degrees")
growth = (factor[0] - factor[1]).norm() / (close[0] - close[1]).norm()
print(f"the difference of the rows is {growth:.0f} times as long as before")

# %% [markdown]
# Orthonormal is orthonormal. The difference between the filters was one part in 115 of their sum. Now it is
# as large as the sum. **That is the promise and the danger.** If the difference is a signal, it is heard at
# last. If it is noise, it is shouted.
#
# What happens as one gradient passes the other? Press **make it lose**, then move the angle with the arrow
# keys from 1 to -1.

# %%
ov.widgets.polar_lab(torch.eye(2), angle=1.0)

# %%
sweep = torch.linspace(-3, 3, 121)
turns = torch.deg2rad(torch.stack([torch.zeros(121), sweep], dim=1))  # row 1 stays, row 2 turns
factors = ov.polar_factor(torch.stack([torch.cos(turns), torch.sin(turns)], dim=2))  # 121 at once
direction = torch.rad2deg(torch.atan2(factors[..., 1], factors[..., 0]))
figure, (ax,) = ov.plots.new_figure(8, 3)
for i, colour in enumerate((ov.plots.INK, ov.plots.ORTHOGONAL)):
    ax.plot(sweep, direction[:, i], ".", ms=3, color=colour)
    ax.annotate(f"row {i + 1}", (3.05, direction[-1, i]), va="center", annotation_clip=False)
ax.set(xlabel="direction of gradient 2, degrees", ylabel="direction of the factor's row")
ax.set_title("When the gradients cross, the rows of the factor change places")
ov.course.picture(figure, "At 0 degrees row 1 jumps from +45 to -45 degrees, and row 2 the other way.")

# %% [markdown]
# A change of the gradient that is too small to see turns the step by 90 degrees. The polar factor is smooth
# where the smallest singular value stays away from zero. It tears where that value reaches zero.

# %% [markdown]
# ## What if the difference is only noise?
#
# Two filters have the same true gradient $g$. From a mini-batch each sees $g$ plus noise, 1 % of its length.
# A step along the gradient points to $g$ almost exactly. How much of the *orthogonal* step does?

# %%
why = {
    "nearly all": "The noise is small, but it is the only thing in which the two rows differ.",
    "0.71 of each row": "",
    "next to nothing": "The sum of the rows still points along g.",
}
guess = ov.course.predict("of the factor's rows points along g", choices=why)
guess

# %%
generator = torch.Generator().manual_seed(1)
g = torch.nn.functional.normalize(torch.randn(100, generator=generator, dtype=torch.float64), dim=0)
noisy = [g + 0.001 * torch.randn(2, 100, generator=generator, dtype=torch.float64) for _ in range(500)]
cosine = torch.stack([polar(rows) @ g for rows in noisy]).abs().mean()
plain = torch.stack([rows @ g / rows.norm(dim=1) for rows in noisy]).mean()
guess.reveal("0.71 of each row" if abs(cosine - 0.71) < 0.05 else "nearly all")
print(f"cosine with g: gradient {plain:.4f}, polar factor {cosine:.4f}")

# %% [markdown]
# Half of each row's energy follows noise now: $\cos 45° = 0.707$. The noise is small. But it is the only
# thing in which the rows differ, so it gets half of the step. Momentum averages noise away, if it comes at
# the right place: lesson 05.

# %% [markdown]
# ### Exercise 3: more filters
#
# $k$ filters share one true gradient, and each sees it with a little noise of its own. What is the cosine of
# each row of the polar factor with $g$? (Think of all rows together: how long is their part along $g$?)


# %% tags=["exercise"]
def share(k):
    """Cosine of each of the k rows with the gradient that they share."""
    raise NotImplementedError


# %% tags=["check"]
ov.course.check("01.share", share)

# %% [markdown]
# ## What you found
#
# - The polar factor is the nearest matrix with orthonormal rows. It keeps directions and loses their sizes.
# - No step that stretches nothing gains more on the loss, to first order.
# - Where gradients are almost equal, their difference is all that counts, be it signal or noise.

# %% [markdown]
# ## Where this fails
#
# - **Sizes are lost.** The gradient says that one direction matters a thousand times more than another. The
#   step does not listen.
# - **It does not get smaller.** The step has length $\sqrt{\text{rank}}$, however near the minimum is. Only
#   the learning rate can end it (lesson 02).
# - **It costs.** An SVD for every layer in every step is slow. Lesson 03 does without.
#
# **Open question.** Turn $G$ by any angle: what does the factor do? Multiply it by $10^{-20}$? Swap its rows?
# Say first what should happen, then try. One of the three you can prove in a line.
#
# **Next:** `02_toy_problems` asks what such steps do over time.
