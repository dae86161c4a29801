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
# # The views
#
# All on one page, for a lecture. Run all cells (Run, Run All Cells), then show what you need. Each view opens
# in the state that tells its message; "make it lose" shows where the message fails. Most take your own
# tensor, model or frame: `help(ov.widgets.polar_lab)`.
#
# For a projector: write `ov.widgets.theme("lecture")` below the import, and run all cells again. On a small
# screen close the file browser (Ctrl B): a picture is as wide as there is room.

# %%
import orthoviz as ov

# %% [markdown]
# ## What orthogonalising does

# %%
ov.widgets.polar_lab()

# %%
ov.widgets.flattening()

# %%
ov.widgets.dead_filters()

# %% [markdown]
# ## How it is computed

# %%
ov.widgets.newton_schulz()

# %% [markdown]
# ## What becomes of the step

# %%
ov.widgets.loss_valley()

# %%
ov.widgets.step_size_lens()

# %%
ov.widgets.clipping()

# %%
ov.widgets.stage_spectra()

# %% [markdown]
# ## What the filters learn

# %%
ov.widgets.filter_gallery()

# %%
ov.widgets.what_they_see()

# %%
ov.widgets.cosine_film()

# %% [markdown]
# ## Live: training while you watch

# %%
ov.widgets.race()

# %%
ov.widgets.barlow()
