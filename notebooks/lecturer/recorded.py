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
# # Recorded: the live cells of the 90-minute class
#
# For when a kernel dies or the machine is slow: what the lessons' own cells found (`python -m
# benchmarks.recorded`, quick mode, on digits), drawn by the same functions. Nothing here trains. Run all
# cells before the class (Run, Run All Cells) and leave the tab open.

# %%
import orthoviz as ov
from orthoviz import reports

ov.course.header()

# %% [markdown]
# ## 00: Race it, and was it the ruler?
#
# Your optimiser at 0.02; SGD at 0.02, at 0.1, and at 0.1 with batch-norm.

# %%
runs = ov.training.results("recorded-first").set_index("epoch")
pairs = {"both at 0.02": ("yours", "sgd"), "SGD at 0.1": ("yours", "faster")}
pairs["with batch-norm"] = ("normed", "sgd_normed")
figure, axes = ov.plots.new_figure(9, 3, (1, 1, 1))
for ax, (title, (yours, sgd)) in zip(axes, pairs.items(), strict=True):
    ax.plot(runs[yours], color=ov.plots.ORTHOGONAL, lw=2.5)
    ax.plot(runs[sgd], "--", color=ov.plots.SGD, lw=2.5)
    lead = 100 * (runs[yours].iloc[-1] - runs[sgd].iloc[-1])
    ax.set(title=f"{title}: lead {lead:.1f}", xlabel="epoch", ylim=(0, 1))
axes[0].set_ylabel("test accuracy")
ov.course.picture(figure, "Yours blue, SGD orange and dashed; leads in points after five epochs.")

# %% [markdown]
# ## 00: Play on
#
# The scoreboard after four races, one at each rate.

# %%
runs = ov.training.results("recorded-race")
figure = ov.plots.lr_flatness(runs)
ov.course.picture(figure, figure.axes[0].get_title() + ". Digits, four epochs, one seed.")

# %% [markdown]
# ## 02: Three layers, four modes; length or shape?

# %%
modes = ov.training.results("recorded-modes")
figure, axes = ov.plots.new_figure(9, 3.4, (1, 1, 1))
for ax, (name, walk) in zip(axes, modes.groupby("method"), strict=True):
    for mode, (colour, dashes) in ov.plots.MODES.items():
        ax.plot(walk.step, walk[str(mode)], dashes, color=colour, lw=2, label=f"mode {mode:g}")
    ax.set(xscale="log", xlim=(1, 1000), ylim=(-0.05, 1.3), xlabel="step", title=name)
axes[0].set_ylabel("learnt part")
axes[0].legend(frameon=False)
ov.course.picture(figure, "Descent learns strong modes first. Only the shape: weak first, but late.")

# %% [markdown]
# ## 06: Three protocols on this machine

# %%
for protocol in ("equal_lr", "equal_step", "both_tuned"):
    print(reports.compare(f"recorded-{protocol}"))

# %%
figure = ov.plots.lr_flatness(ov.training.results("recorded-both_tuned"))
ov.course.picture(figure, figure.axes[0].get_title() + ". Digits, two epochs, three seeds.")

# %% [markdown]
# ## 10: Who wins?
#
# The error that is left after 200 steps on the noisy layer, each at its best rate.

# %%
errors = ov.training.results("recorded-rank_one").pivot(index="batch", columns="optimizer", values="error")
errors.assign(times=errors["orthogonal"] / errors["gradient descent"]).round(3)

# %% [markdown]
# Everything else of the class is quick or stored anyway: 06's photographs come from `results/`, and the
# views are on the page `views`.
