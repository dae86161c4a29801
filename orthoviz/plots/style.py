"""Colours, line styles and sizes: one cast of characters in every picture.

Colours are from Okabe & Ito's palette, which colour-blind readers can tell apart; each comes with a
line style of its own, for print in black and white.
"""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SGD = "#D55E00"
ORTHOGONAL = "#0072B2"
RANDOM = "#8A8A8A"
"""Grey is always a random baseline or a control."""
INK = "#222222"
PALE = "#BBBBBB"

MODES = {10.0: ("#CC79A7", "-"), 3.0: (ORTHOGONAL, "--"), 1.0: ("#009E73", "-."), 0.3: ("#E69F00", ":")}
"""The course's four modes, with the colour and line style that each has everywhere."""

COLOURS = {"SGD": SGD, "orthogonal SGD": ORTHOGONAL, "control": RANDOM}
"""Palette by optimiser's name, for seaborn's ``palette=``."""
DASHES = {"SGD": (4, 1.5), "orthogonal SGD": "", "control": (1, 1)}
"""Line style by optimiser's name, for seaborn's ``dashes=``."""


def new_figure(width: float, height: float, columns: tuple[float, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches with axes side by side, outside pyplot's memory.

    Args:
        columns: relative widths of the axes.
    """
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(columns), width_ratios=columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)
