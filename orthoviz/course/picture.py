"""Figures in a lesson, with a caption that is also their alternative text."""

from IPython.display import HTML
from matplotlib.figure import Figure

from orthoviz.widgets.canvas import Canvas
from orthoviz.widgets.look import caption_picture


def picture(figure: Figure, caption: str) -> HTML:
    """The figure and a line below it that says what it shows, also to a screen reader."""
    canvas = Canvas()
    canvas.add(figure)
    return HTML(caption_picture(canvas.png(), caption))  # type: ignore[no-untyped-call]
