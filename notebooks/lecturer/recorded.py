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
# ## 00: One race
#
# Both at 0.01, as in the paper.

# %%
runs = ov.training.results("recorded-race")
equal = runs[runs.lr == 0.01]
first = equal[equal.epoch == 1].set_index("optimizer").test_accuracy
lead = 100 * (first["orthogonal_sgd"] - first["sgd"])
ov.course.picture(ov.plots.compare(equal), f"Lead after the first epoch: {lead:.1f} points.")

# %% [markdown]
# ## 00: Was it the ruler?
#
# SGD at 0.1 against orthogonal SGD at 0.01.

# %%
fairer = runs[(runs.lr == 0.1) & (runs.optimizer == "sgd") | (runs.lr == 0.01) & (runs.optimizer != "sgd")]
last = {name: table[table.epoch == 4].set_index("optimizer").test_accuracy for name, table in
        {"equal": equal, "ten times": fairer}.items()}  # fmt: skip
leads = {name: 100 * (end["orthogonal_sgd"] - end["sgd"]) for name, end in last.items()}
caption = (
    f"Lead after the last epoch {leads['equal']:.1f} points at equal rate, then {leads['ten times']:.1f}."
)
ov.course.picture(ov.plots.compare(fairer), caption)

# %% [markdown]
# ## 00: Keep the score
#
# The scoreboard after four races, one at each rate.

# %%
figure = ov.plots.lr_flatness(runs)
ov.course.picture(figure, figure.axes[0].get_title() + ". Digits, four epochs, one seed.")

# %% [markdown]
# ## 02: Three layers, four modes

# %%
modes = ov.training.results("recorded-modes")
figure, axes = ov.plots.new_figure(9, 3.4, (1, 1))
for ax, (name, walk) in zip(axes, modes.groupby("method"), strict=True):
    for mode, (colour, dashes) in ov.plots.MODES.items():
        ax.plot(walk.step, walk[str(mode)], dashes, color=colour, lw=2, label=f"mode {mode:g}")
    ax.axhline(1, color=ov.plots.RANDOM, lw=1, zorder=0)
    ax.set(xscale="log", xlim=(1, 1000), xlabel="step", title=name)
axes[0].set_ylabel("learnt part")
axes[0].legend(frameon=False)
ov.course.picture(
    figure, "Gradient descent learns the strong modes first, the orthogonal step the weak ones."
)

# %% [markdown]
# ## 02: Length or shape?
#
# Steps until each mode stays within a tenth of its value.

# %%
ov.training.results("recorded-learnt").set_index("method")

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
