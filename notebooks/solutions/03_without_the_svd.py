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
# # 03 · Without the SVD: solutions
#
# For each exercise a worked solution, and what the check says of it. At the end the open question.

# %%
import torch

import orthoviz as ov

# %% [markdown]
# ## Exercise 1, 03.step
#
# $X X^\top X$ has the singular vectors of $X$ and the cubes of its singular values. `X**3` would cube the
# entries.


# %% tags=["solution", "03.step"]
def step(X):
    return 1.5 * X - 0.5 * X @ X.T @ X


ov.course.check("03.step", step)

# %% [markdown]
# ## Exercise 2, 03.gains
#
# The singular vectors are those of $G$: the question is what became of *its* directions.


# %% tags=["solution", "03.gains"]
def gains(O, G):
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return (U.T @ O @ Vh.T).diagonal()


ov.course.check("03.gains", gains)

# %% [markdown]
# ## Exercise 3, 03.gain


# %% tags=["solution", "03.gain"]
def gain_after(table, x):
    for p in table:
        x = sum(c * x ** (2 * i + 1) for i, c in enumerate(p))
    return x


ov.course.check("03.gain", gain_after)

# %% [markdown]
# ## The open question
#
# No. The gain $u_i^\top O v_i$ is linear in $O$, so the gain of a mean is the mean of the gains. Ten suspects
# with gains around 0.5 have a mean with gain 0.5. What averages away is the *wrong* part: the mean is shorter
# than one suspect. Momentum makes the noise smaller. It brings no direction back that none of the steps
# had.

# %%
draw = torch.Generator().manual_seed(0)
U = torch.linalg.qr(torch.randn(256, 256, generator=draw)).Q
V = torch.linalg.qr(torch.randn(1024, 256, generator=draw)).Q
evidence = (U * torch.logspace(0, -4, 256)) @ V.T
method = ov.polar.NewtonSchulz(ov.polar.coefficients(1e-3, 10, safety=1.01), precision=torch.bfloat16)
copies = evidence + 1e-4 * torch.randn(10, 256, 1024, generator=draw) / 32
suspects = ov.polar_factor(copies, method)
for name, O in {"one suspect": suspects[0], "mean of ten": suspects.mean(0)}.items():
    weak = gains(O, evidence)[192:].mean()
    print(f"{name}: gain of the 64 weakest {weak:.2f}, length {O.norm():.2f}")
