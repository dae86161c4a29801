"""What a view looks like: figures that are drawn often, themes, and pictures as HTML."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

_SHARP = 1.5  # pixels of a picture in a CSS pixel
_THEMES = {"notebook": (900, 1.0), "lecture": (1100, 1.12)}
"""CSS pixels of a picture, which shrinks where there is less room, and how much larger its type is."""
_CONTRAST = (255 * (np.arange(256) / 255) ** 1.7).round().astype(np.uint8)
"""The lecture theme's: pale tones become darker, white stays white."""
_theme = "notebook"

_CSS = """<style>
.orthoviz-title{font-size:18px;font-weight:600;line-height:1.3;padding:4px 0}
.orthoviz-line{line-height:1.4}
.orthoviz-alert{color:var(--jp-error-color1,#B00020);white-space:pre-wrap}
.orthoviz-lecture .orthoviz-title{font-size:26px}
.orthoviz-lecture :is(.orthoviz-line,.widget-label,.widget-readout,.widget-button,.widget-toggle-button,
.widget-checkbox span,code){font-size:19px;line-height:1.35}
.orthoviz-lecture .widget-label{min-width:max-content}
.orthoviz-lecture :is(.widget-button,.widget-toggle-button,.widget-inline-hbox){height:auto;min-height:34px}
:is([data-jp-theme-light=false],.vscode-dark,[theme=dark]) .orthoviz-picture{
filter:invert(.93) hue-rotate(180deg)}
:is([data-jp-theme-light=false],.vscode-dark,[theme=dark]) .orthoviz-photo{
box-sizing:border-box;padding:8px;background:white}
</style>"""

# Notebook 7's shortcuts would take the arrow keys from a slider, unless it has this attribute
_KEEP_ARROWS = (
    "const view = this.closest('.orthoviz-view'); "
    "if (view &amp;&amp; !view.dataset.keys) { view.dataset.keys = 1; "
    "view.addEventListener('focusin', event => event.target.matches('.noUi-handle') &amp;&amp; "
    "event.target.setAttribute('data-lm-suppress-shortcuts', '')) }"
)


def theme(name: str = "notebook") -> None:
    """How the views look that are made from now on.

    Args:
        name: "notebook", or "lecture" for a projector: large type, thick lines, high contrast.
    """
    global _theme
    if name not in _THEMES:
        raise ValueError(f"theme must be one of {', '.join(map(repr, _THEMES))}, got {name!r}")
    _theme = name


def themed() -> tuple[str, int]:
    """The theme of views that are made now, and their width."""
    return _theme, _THEMES[_theme][0]


class Picture(NamedTuple):
    """What a state looks like, and what it says."""

    stage: "Stage"
    moving: Sequence[Artist]
    """Artists that the stage keeps, as this state has them."""
    title: str
    """The message, in one sentence."""
    text: str
    """What is seen now, in one sentence: the line below the picture, and its alternative text."""
    passing: Sequence[Artist] = ()
    """Artists made for this state alone. They lie above the moving ones, and are removed after drawing."""
    photo: bool = False
    """Whether colours are the things' own, so that a dark page must not turn them round."""


class Stage:
    """A figure that is drawn often: what never moves is drawn once and kept.

    Artists made with ``animated=True`` are the ones that move; they are drawn over the kept background.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure, self._lecture = figure, _theme == "lecture"
        pixels, larger = _THEMES[_theme]
        figure.set_figwidth(figure.get_figwidth() / larger)
        figure.set_dpi(_SHARP * pixels / figure.get_figwidth())
        self._canvas = FigureCanvasAgg(figure)
        self._background: Any = None

    def forget(self) -> None:
        """Draw what does not move anew, because it did."""
        self._background = None

    def png(self, moving: Sequence[Artist] = ()) -> bytes:
        """The figure with these artists on it, quickly rather than small."""
        if self._background is None:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in moving:
            self._figure.draw_artist(artist)
        pixels: NDArray[np.uint8] = np.asarray(self._canvas.buffer_rgba())[..., :3]
        data = io.BytesIO()
        Image.fromarray(_CONTRAST[pixels] if self._lecture else pixels).save(data, "png", compress_level=1)
        return data.getvalue()

    def save(self, moving: Sequence[Artist], title: str, kind: str) -> bytes:
        """The same with its title above it, as a file: ``kind`` is "png" or "svg"."""
        shown = {artist for artist in moving if artist.get_animated()}
        hidden = [
            artist
            for artist in self._figure.findobj(lambda artist: artist.get_animated())
            if artist not in shown and artist.get_visible()
        ]
        heading = self._figure.text(0.5, 1.02, title, ha="center", va="bottom", fontsize=13)
        for artist in hidden:
            artist.set_visible(False)
        for artist in shown:  # a figure leaves out what is animated
            artist.set_animated(False)
        layout = self._figure.get_layout_engine()
        if layout is not None:
            self._figure.set_layout_engine("none")  # all stays where it is
        data = io.BytesIO()
        try:
            self._figure.savefig(data, format=kind, dpi="figure", bbox_inches="tight")
        finally:
            heading.remove()
            for artist in hidden:
                artist.set_visible(True)
            for artist in shown:
                artist.set_animated(True)
            if layout is not None:
                self._figure.set_layout_engine(layout)
        return data.getvalue()


def png(figure: Figure) -> bytes:
    """A picture of a figure, drawn once."""
    return Stage(figure).png()


def img(data: bytes, text: str, *, photo: bool = False) -> str:
    """A picture with alternative text, as HTML that needs nothing else."""
    # decoding=sync: the new picture replaces the old one without a blank in between
    source, width = base64.b64encode(data).decode(), _THEMES[_theme][0]
    return (
        f'{_CSS}<img class="orthoviz-{"photo" if photo else "picture"}" decoding="sync" '
        f'alt="{html.escape(text, quote=True)}" width="{width}" style="max-width:100%;height:auto" '
        f'src="data:image/png;base64,{source}" onload="{_KEEP_ARROWS}">'
    )


def captioned(data: bytes, text: str, *, title: str = "", photo: bool = False) -> str:
    """A picture with the same line as its alternative text and below it, and its title above."""
    above = f"<strong>{html.escape(title)}</strong><br>" if title else ""
    caption = f"<figcaption>{html.escape(text)}</figcaption>"
    return f'<figure style="margin:0">{above}{img(data, text, photo=photo)}{caption}</figure>'
