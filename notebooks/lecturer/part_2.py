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
# # Part 2: where the class is after the break
#
# For whoever comes late. Five minutes, four cells: what the first half found, a picture and a line each.
# Lesson 06 defines all that it uses, so go on there, at "What would the loser say?"
#
# First your vote. A network and data that nobody here has seen; each layer's gradient is replaced by its
# nearest orthogonal matrix, nothing else changes; the opponent is SGD at its best learning rate, with as
# many epochs. The orthogonal step (A) wins; (B) makes no difference, where it wins its steps were longer;
# (C) loses; (D) you cannot say before you have measured something: what? Write it down.

# %%
import orthoviz as ov

ov.course.header()

# %% [markdown]
# ## Found so far, 1: what the step is
#
# A layer's gradient is a matrix with a row for each filter: turn, stretch, turn, $G = U S V^\top$. The
# **polar factor** $U V^\top$ leaves the stretch out. It is the nearest matrix with perpendicular rows of
# length 1. It keeps the directions and forgets the sizes: a difference that is small becomes as large as
# all others, whether it is signal or noise. Move p from 1 to 0.

# %%
ov.widgets.polar_lab(p=1.0)

# %% [markdown]
# ## Found so far, 2: two things change at once
#
# Its length does not depend on the gradient, so at the same learning rate it is usually the longer step
# (the **ruler** differs); and it points elsewhere (the **shape** differs). On CIFAR-10 orthogonal SGD leads
# by 12.8 points where both have rate 0.01, by 5.6 where each has its best: more than half was the ruler.

# %%
figure = ov.plots.lr_flatness(ov.training.results("lr_sweep").query("epoch == 5"))
ov.course.picture(figure, "CIFAR-10, BasicCNN, five epochs: mean and range of three seeds, by learning rate.")

# %% [markdown]
# ## Found so far, 3: weak modes first
#
# A network of three matrices should become one, with modes of strength 10, 3, 1 and 0.3. Gradient descent
# learns the strong ones first, the orthogonal step the weak ones, since all grow equally fast and a weak
# one has less far to go. Given the gradient's own length ("norm-matched") it still learns the weak mode six
# times sooner than SGD with momentum: the shape counts. On a quadratic off the axes tuned momentum is faster:
# **make it lose**.

# %%
ov.widgets.loss_valley()

# %% [markdown]
# ## Go on
#
# Words that lesson 06 uses: *protocol*, the rule by which two optimisers get their learning rates;
# *norm-matched*, the orthogonal shape at the gradient's own length; *per tensor*, the gradient at the
# orthogonal step's length; *Muon's order*, momentum first, then the polar factor. Now open `06_cifar10`.
