"""Views: pictures that answer to sliders. Each calls the functions that a training run calls."""

from orthoviz.widgets.polar_lab import polar_lab
from orthoviz.widgets.race import race

__all__ = ["polar_lab", "race"]
