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
# # 10 · Why it works: solutions
#
# For each exercise a worked solution, and what the check says of it.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 10.rows
#
# $\langle O, G\rangle$ is a sum over rows, and each row has a length of 1 to spend: by Cauchy and Schwarz
# best along its own gradient. (`normalize` leaves a row of zeros zero.)


# %% tags=["solution", "10.rows"]
def steepest_rows(gradient):
    return torch.nn.functional.normalize(gradient, dim=1)


ov.course.check("10.rows", steepest_rows)

# %% [markdown]
# ## Exercise 2, 10.test


# %% tags=["solution", "10.test"]
def favours_orthogonal(gradient, inputs):
    return ov.measures.nuclear_rank(gradient) > ov.measures.stable_rank(inputs)


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# From the norms themselves:


# %% tags=["solution", "10.test"]
def favours_orthogonal(gradient, inputs):
    s, t = torch.linalg.svdvals(gradient), torch.linalg.svdvals(inputs)
    return (s.sum() ** 2 / (s**2).sum()).item() > ((t**2).sum() / t[0] ** 2).item()


ov.course.check("10.test", favours_orthogonal)

# %% [markdown]
# ## Exercise 3, 10.scale
#
# All singular values are 1, so the squares of the $mn$ entries add up to $\min(m, n)$. Their mean is $\min(m,
# n) / (mn) = 1/\max(m, n)$.


# %% tags=["solution", "10.scale"]
def moonlight(m, n):
    return 0.2 * max(m, n) ** 0.5


ov.course.check("10.scale", moonlight)

# %% [markdown]
# ## The open question: the order of the layers
#
# The middle layers are ahead. Five seeds hardly separate the two (rounding decides whether they do); as pairs
# of the same seed ten do. So the prediction came true. But a simpler theory says the same: the middle layers
# have ten times the weights of the ends. And the test favours the ends too, where orthogonal steps bring
# nothing on top: "all" is no better than "middle only".

# %%
from orthoviz.verdicts import verdict

data = ov.datasets.load("digits")


def trained(skipped, seed):
    """Accuracy after two epochs; the skipped layers follow SGD at rate 0.1."""
    model = ov.models.digits_cnn(seed=seed)
    groups = ov.param_groups(model, overrides=dict.fromkeys(skipped, "skip"))
    optimizer = ov.OrthogonalSGD(groups, lr=0.03, momentum=0.9, rest_lr=0.1)
    run = ov.training.fit(model, optimizer, data, epochs=2, seed=seed, progress=False)
    return run.history.test_accuracy.iloc[-1]


# %%
middle, ends = ("3.*", "6.*"), ("0.*", "10.*")
choices = {"all": (), "middle only": ends, "ends only": middle}
runs = {name: [trained(skip, seed) for seed in range(10)] for name, skip in choices.items()}
for name, accuracies in runs.items():
    print(f"{name:11} {', '.join(f'{accuracy:.3f}' for accuracy in accuracies)}")
print(verdict({name: runs[name] for name in ("ends only", "middle only")}))
sizes = {name: p.numel() for name, p in ov.models.digits_cnn(seed=0).named_parameters() if p.ndim > 1}
print(f"weights: {sizes}")
