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
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 05.half


# %% tags=["solution", "05.half"]
def half_energy(s):
    energy = s.square()
    return (energy.cumsum(0) < 0.5 * energy.sum()).sum() + 1


ov.course.check("05.half", half_energy)

# %% [markdown]
# ## Exercise 2, 05.meter


# %% tags=["solution", "05.meter"]
def unrelated(gamma):
    return (1 - gamma**2) ** -0.5


ov.course.check("05.meter", unrelated)

# %% [markdown]
# ## Exercise 3, 05.muon


# %% tags=["solution", "05.muon"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + gradient
    return ov.polar_factor(buffer)


ov.course.check("05.muon", muon)
