"""Figures in a lesson, with a caption that is also their alternative text."""

from IPython.display import HTML
from matplotlib.figure import Figure

from orthoviz.widgets.canvas import png
from orthoviz.widgets.look import captioned


def picture(figure: Figure, caption: str) -> HTML:
    """The figure and a line below it that says what it shows, also to a screen reader."""
    return HTML(captioned(png(figure), caption))  # type: ignore[no-untyped-call]
