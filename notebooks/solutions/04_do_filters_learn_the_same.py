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
# # 04 · Do filters learn the same?: solutions
#
# For each exercise a worked solution, and what the check says of it. At the end the open question.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 04.chance
#
# The standard deviation is $1/\sqrt n$, and the mean size is $\sqrt{2/\pi}$ of it.


# %% tags=["solution", "04.chance"]
def chance(n):
    import math

    return math.sqrt(2 / (math.pi * n))


ov.course.check("04.chance", chance)

# %% [markdown]
# ## Exercise 2, 04.null
#
# The strict inequality takes care of the zero gradient: no value is greater than 0.


# %% tags=["solution", "04.null"]
def polar_of_what_is_there(gradient, tol=1e-10):
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    keep = (s > tol * s[0]).to(s.dtype)
    return (U * keep) @ Vh


ov.course.check("04.null", polar_of_what_is_there)

# %% [markdown]
# ## Exercise 3, 04.two_steps
#
# The sum has ones everywhere.


# %% tags=["solution", "04.two_steps"]
def two_steps():
    return torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])


ov.course.check("04.two_steps", two_steps)

# %% [markdown]
# ## The open question
#
# No, on digits. Without the mean filter the cosines hardly change, and they even rise a little. The order of
# the two optimisers stays: at equal rate orthogonal SGD's filters are more alike in conv 2 and conv 3. They
# are less alike if SGD has the rate 0.1, which is better for it. (Five seeds, in the tests of this course.)

# %%
data = ov.datasets.load("digits")
for make, lr in ((torch.optim.SGD, 0.01), (ov.OrthogonalSGD, 0.01), (torch.optim.SGD, 0.1)):
    model = ov.models.digits_cnn(seed=0)
    optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9)
    ov.training.fit(model, optimizer, data, epochs=8, progress=False)
    for layer in (3, 6):
        W = model[layer].weight.detach().flatten(1)
        before, after = (ov.measures.mean_abs_cosine(M).item() for M in (W, W - W.mean(0)))
        print(
            f"{make.__name__:13} at {lr:<4g} layer {layer}: {before:.3f}, without the mean filter {after:.3f}"
        )
