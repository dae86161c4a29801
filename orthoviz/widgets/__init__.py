"""Views: pictures that answer to sliders. Each calls the functions that a training run calls."""

from orthoviz.lab import check_installed

check_installed("orthoviz.widgets", "ipywidgets")

from orthoviz.widgets.barlow import barlow
from orthoviz.widgets.clipping import clipping
from orthoviz.widgets.cosine_film import cosine_film
from orthoviz.widgets.dead_filters import dead_filters
from orthoviz.widgets.filter_gallery import filter_gallery
from orthoviz.widgets.flattening import flattening
from orthoviz.widgets.look import theme
from orthoviz.widgets.loss_valley import loss_valley
from orthoviz.widgets.newton_schulz import newton_schulz
from orthoviz.widgets.polar_lab import polar_lab
from orthoviz.widgets.race import race
from orthoviz.widgets.stage_spectra import stage_spectra
from orthoviz.widgets.step_size_lens import step_size_lens
from orthoviz.widgets.what_they_see import what_they_see

__all__ = [
    "barlow", "clipping", "cosine_film", "dead_filters", "filter_gallery", "flattening", "loss_valley",
    "newton_schulz", "polar_lab", "race", "stage_spectra", "step_size_lens", "theme",
    "what_they_see",
]  # fmt: skip
