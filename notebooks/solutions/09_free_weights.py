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
# # 09 · Free weights: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 09.two_steps
#
# $x$ and $Rx$ are two sides of a rhombus, of length 1, and $x + Rx$ is its diagonal: $2 \cos(\alpha/2)$ for
# every $x$, so both singular values are that.


# %% tags=["solution", "09.two_steps"]
def two_steps(angle):
    import math

    return 2 * abs(math.cos(math.radians(angle) / 2))


ov.course.check("09.two_steps", two_steps)

# %% [markdown]
# By computing it, which is as good:


# %% tags=["solution", "09.two_steps"]
def two_steps(angle):
    a = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    R = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
    return torch.linalg.svdvals(torch.eye(2, dtype=torch.float64) + R)[0]


ov.course.check("09.two_steps", two_steps)

# %% [markdown]
# ## Exercise 2, 09.floor
#
# Where both have the same singular vectors, $Q - T$ has the singular values $1 - s$, and no other $Q$ is
# nearer: $Q$ is the polar factor of $T$, filled up where $T$ is zero.


# %% tags=["solution", "09.floor"]
def floor(modes, size):
    return (sum((s - 1) ** 2 for s in modes) + size - len(modes)) / 2


ov.course.check("09.floor", floor)

# %% [markdown]
# ## Exercise 3, 09.wall
#
# At the wall a step takes away as much as it adds: $\eta \lambda w = \eta$.


# %% tags=["solution", "09.wall"]
def wall(lr, decay):
    return 1 / decay


ov.course.check("09.wall", wall)

# %% [markdown]
# ## The open question: with ReLUs, on digits
#
# Orthogonal steps are ahead on average of five seeds, by four points. With four of them they are clearly
# ahead of SGD; with one, rounding decides. SGD with weights that stay orthogonal comes last on average. Each
# has its best of a few rates, inside its grid. The free weights do not stay orthogonal: under orthogonal
# steps the smallest singular value has shrunk from 1 to a tenth or less.

# %%
from torch.nn.utils.parametrizations import orthogonal


def network(rule, seed):
    """Lesson 00's network, and its hidden layers, which start orthogonal."""
    model = ov.models.digits_mlp(seed=seed)
    hidden = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][:-1]
    torch.manual_seed(seed)
    for layer in hidden:
        torch.nn.init.orthogonal_(layer.weight)
        if rule == "SGD, weights stay":
            orthogonal(layer)
    return model, hidden


# %%
def trained(rule, lr, seed):
    """Test accuracy after five epochs, and the smallest singular value of the hidden weights."""
    (model, hidden), data = network(rule, seed), ov.datasets.load("digits")
    make, parameters = torch.optim.SGD, model.parameters()
    if rule == "orthogonal steps":
        make, parameters = ov.OrthogonalSGD, ov.param_groups(model)
    optimizer = make(parameters, lr=lr)
    run = ov.training.fit(model, optimizer, data, epochs=5, batch_size=128, seed=seed, progress=False)
    values = [torch.linalg.svdvals(layer.weight.detach()).min().item() for layer in hidden]
    return run.history.test_accuracy.iloc[-1], min(values)


# %%
for rule, lr in {"orthogonal steps": 0.1, "SGD": 0.8, "SGD, weights stay": 0.1}.items():
    ends, smallest = zip(*(trained(rule, lr, seed) for seed in range(5)), strict=True)
    print(f"{rule:17} {', '.join(f'{end:.3f}' for end in ends)}; smallest singular value", end=" ")
    print(", ".join(f"{value:.2f}" for value in smallest))
