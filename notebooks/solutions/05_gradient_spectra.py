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
# For each exercise the worked solution, then typical wrong answers and what the check says of them.

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
# Values instead of squares:


# %% tags=["wrong", "05.half", "square the singular values first"]
def half_energy(s):
    return (s.cumsum(0) < 0.5 * s.sum()).sum() + 1


ov.course.check("05.half", half_energy)

# %% [markdown]
# The direction that reaches it left out:


# %% tags=["wrong", "05.half", "one too few"]
def half_energy(s):
    energy = s.square()
    return (energy.cumsum(0) < 0.5 * energy.sum()).sum()


ov.course.check("05.half", half_energy)

# %% [markdown]
# Half is not enough:


# %% tags=["wrong", "05.half", "one direction too many"]
def half_energy(s):
    energy = s.square()
    return (energy.cumsum(0) <= 0.5 * energy.sum()).sum() + 1


ov.course.check("05.half", half_energy)

# %% [markdown]
# ## Exercise 2, 05.meter


# %% tags=["solution", "05.meter"]
def unrelated(gamma):
    return (1 - gamma**2) ** -0.5


ov.course.check("05.meter", unrelated)

# %% [markdown]
# Steps that agree:


# %% tags=["wrong", "05.meter", "buffer of steps that agree"]
def unrelated(gamma):
    return 1 / (1 - gamma)


ov.course.check("05.meter", unrelated)

# %% [markdown]
# Weights not squared:


# %% tags=["wrong", "05.meter", "its square gamma^(2k)"]
def unrelated(gamma):
    return (1 - gamma) ** -0.5


ov.course.check("05.meter", unrelated)

# %% [markdown]
# The square:


# %% tags=["wrong", "05.meter", "take the root"]
def unrelated(gamma):
    return 1 / (1 - gamma**2)


ov.course.check("05.meter", unrelated)

# %% [markdown]
# Upside down:


# %% tags=["wrong", "05.meter", "the buffer is longer than one step"]
def unrelated(gamma):
    return (1 - gamma**2) ** 0.5


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

# %% [markdown]
# The paper's order:


# %% tags=["wrong", "05.muon", "this is the paper's order"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + ov.polar_factor(gradient)
    return buffer


ov.course.check("05.muon", muon)

# %% [markdown]
# Factors twice:


# %% tags=["wrong", "05.muon", "factors twice"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + ov.polar_factor(gradient)
    return ov.polar_factor(buffer)


ov.course.check("05.muon", muon)

# %% [markdown]
# The buffer itself:


# %% tags=["wrong", "05.muon", "take its polar factor"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + gradient
    return buffer


ov.course.check("05.muon", muon)

# %% [markdown]
# Nothing fades:


# %% tags=["wrong", "05.muon", "all gradients count alike"]
def muon(gradients, momentum):
    return ov.polar_factor(sum(gradients))


ov.course.check("05.muon", muon)

# %% [markdown]
# With the optimiser's minus:


# %% tags=["wrong", "05.muon", "the sign"]
def muon(gradients, momentum):
    buffer = torch.zeros_like(gradients[0])
    for gradient in gradients:
        buffer = momentum * buffer + gradient
    return -ov.polar_factor(buffer)


ov.course.check("05.muon", muon)

# %% [markdown]
# The first gradient is worked on in place:


# %% tags=["wrong", "05.muon", "work on a copy"]
def muon(gradients, momentum):
    buffer = gradients[0]
    for gradient in gradients[1:]:
        buffer.mul_(momentum).add_(gradient)
    return ov.polar_factor(buffer)


ov.course.check("05.muon", muon)
