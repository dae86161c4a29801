"""Figures in a lesson, with a caption that is also their alternative text."""

import html

from IPython.display import HTML
from matplotlib.figure import Figure

from orthoviz.widgets.core import img, png


def picture(figure: Figure, caption: str) -> HTML:
    """The figure and a line below it that says what it shows, also to a screen reader."""
    return HTML(  # type: ignore[no-untyped-call]
        f"<figure style='margin:0'>{img(png(figure), caption)}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
