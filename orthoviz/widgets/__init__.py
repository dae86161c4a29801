"""Views: pictures that answer to sliders. Each calls the functions that a training run calls."""

from orthoviz.widgets.dead_filters import dead_filters
from orthoviz.widgets.flattening import flattening
from orthoviz.widgets.loss_valley import loss_valley
from orthoviz.widgets.newton_schulz import newton_schulz
from orthoviz.widgets.polar_lab import polar_lab
from orthoviz.widgets.race import race
from orthoviz.widgets.step_size_lens import step_size_lens

__all__ = [
    "dead_filters",
    "flattening",
    "loss_valley",
    "newton_schulz",
    "polar_lab",
    "race",
    "step_size_lens",
]
