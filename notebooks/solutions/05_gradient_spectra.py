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
# # 05 · Gradient spectra: solutions
#
# For each exercise a worked solution, and what the check says of it. At the end the open question.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 05.half
#
# Count the partial sums below half. One more direction reaches it.


# %% tags=["solution", "05.half"]
def half_energy(s):
    energy = s.square()
    return (energy.cumsum(0) < 0.5 * energy.sum()).sum() + 1


ov.course.check("05.half", half_energy)

# %% [markdown]
# ## Exercise 2, 05.meter
#
# The step from $k$ steps ago counts $\gamma^k$. Squares add up: $1 + \gamma^2 + \gamma^4 + \dots = 1/(1 -
# \gamma^2)$.


# %% tags=["solution", "05.meter"]
def unrelated(gamma):
    return (1 - gamma**2) ** -0.5


ov.course.check("05.meter", unrelated)

# %% [markdown]
# ## Exercise 3, 05.muon
#
# The buffer collects gradients. The factor is taken once, at the end.


# %% tags=["solution", "05.muon"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + gradient
    return ov.polar_factor(buffer)


ov.course.check("05.muon", muon)

# %% [markdown]
# ## The open question
#
# It does not know, at least not by its strongest direction. In the same setting (BasicCNN, rate 0.01,
# momentum 0.9) the test loss falls in each of the four epochs that follow, with each of three seeds. Some
# directions still stand above their controls at the end of the first epoch. And steps that do not agree can
# lower the loss all the same.

# %%
signs = ov.training.results("signs").query("step == 48")
above = (signs.value > signs.control_high).groupby(signs.seed).sum()
print("directions of 32 above all forty controls, seed by seed:", *above)
runs = ov.training.results("filters").query("quantity == 'test_loss' and optimizer == 'orthogonal_sgd'")
runs[runs.lr == 0.01].pivot_table(index="seed", columns="epoch", values="value").round(2)
