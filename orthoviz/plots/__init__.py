"""The look that every picture shares."""

from orthoviz.plots.style import COLOURS, DASHES, INK, MODES, ORTHOGONAL, PALE, RANDOM, SGD, new_figure

__all__ = ["COLOURS", "DASHES", "INK", "MODES", "ORTHOGONAL", "PALE", "RANDOM", "SGD", "new_figure"]
