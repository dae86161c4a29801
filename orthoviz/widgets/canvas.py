"""Figures that are drawn often: what stays is drawn once and kept, what moves is drawn over it."""

import io
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from orthoviz.plots import new_figure
from orthoviz.widgets.look import THEMES, current_theme

_SHARP = 1.5  # pixels of a picture in a CSS pixel
# The lecture theme's: pale tones become darker, white stays white.
_PHONE_HEIGHT = 4.4  # inches, of 4.5
_CONTRAST = [round(255 * (i / 255) ** 1.7) for i in range(256)]


@dataclass
class _Layers:
    """What is drawn over a figure's background, and the background once it has been drawn.

    Attributes:
        trails: a line, the pale copies of it, and where it was before.
    """

    moving: list[Artist] = field(default_factory=list)
    passing: list[Artist] = field(default_factory=list)
    trails: list[tuple[Line2D, list[Line2D], deque[Any]]] = field(default_factory=list)
    background: Any = None


class Canvas:
    """A view's figures. One of them is shown: the last that was made, until :meth:`front` says otherwise.

    Args:
        phone: how much larger type is on a phone, in proportion to the picture.
    """

    def __init__(self, phone: float = 2.0) -> None:
        self._theme, _ = current_theme()
        self._phone = phone
        self._layers: dict[Figure, _Layers] = {}
        self.figure: Figure

    @property
    def narrow(self) -> bool:
        """Whether there is room for one panel only, as on a phone."""
        return self._theme == "phone"

    def axes(self, width: float, height: float, columns: tuple[float, ...] = (1,)) -> list[Axes]:
        """Axes side by side on a new figure; width and height in inches, columns as relative widths."""
        if not self.narrow or len(columns) not in (2, 3):
            figure, axes = new_figure(width, height, columns)
            self.add(figure)
            return axes
        main = columns.index(max(columns))  # the others are drawn on figures that nobody sees
        spare = [None if i == main else self.axes(width, height)[0] for i in range(len(columns))]
        (shown,) = self.axes(width, _PHONE_HEIGHT)
        return [ax or shown for ax in spare]

    def add(self, figure: Figure) -> None:
        """Take a figure in, at the theme's size."""
        pixels, larger = THEMES[self._theme]
        if self.narrow:  # what is drawn for a phone keeps its size
            larger = self._phone if figure.get_figwidth() > 6 else 1.0
        figure.set_figwidth(figure.get_figwidth() / larger)
        figure.set_dpi(_SHARP * pixels / figure.get_figwidth())
        FigureCanvasAgg(figure)
        self._layers[figure] = _Layers()
        self.figure = figure

    def front(self, ax: Any) -> None:
        """Show the figure that these axes are on."""
        self.figure = ax.figure

    def moves(self, *artists: Any, layout: bool = False) -> Any:
        """``show`` moves these artists, which are drawn in this order; ``layout``: they need room."""
        for artist in artists:
            artist.set(animated=True, in_layout=layout)
            self._layers[artist.figure].moving.append(artist)
        return artists[0]

    def line(self, ax: Axes, *, ghost: dict[str, Any] | None = None, **style: Any) -> Line2D:
        """A line to move; with ``ghost``, a style, its last three places stay pale below it."""
        ghosts = [] if ghost is None else [ax.plot([], [], **style | ghost)[0] for _ in range(3)]
        (line,) = ax.plot([], [], **style)
        self.moves(*ghosts, line)
        self._layers[line.figure].trails.append((line, ghosts, deque(maxlen=len(ghosts))))  # type: ignore[index]
        return line

    def text(self, on: Axes | Figure, x: float = 0, y: float = 0, **style: Any) -> Any:
        """Words to move, on axes or on a figure."""
        return self.moves(on.text(x, y, "", **style))

    def now(self, *artists: Any) -> None:
        """These artists are part of this picture alone, above those that move."""
        for artist in artists:
            artist.set_animated(True)
            self._layers[artist.figure].passing.append(artist)

    def clear(self, *, moved: bool) -> None:
        """Before the next picture: remove what was part of the last. ``moved``: the state is another one."""
        for layers in self._layers.values():
            for artist in layers.passing:
                artist.remove()
            layers.passing = []
        for line, ghosts, past in self._layers[self.figure].trails:
            if moved:
                past.append((line.get_data(), line.get_color()))
            for ghost, (place, colour) in zip(ghosts, past, strict=False):
                ghost.set(data=place, color=colour)

    def forget(self) -> None:
        """The next picture has no ghosts."""
        for layers in self._layers.values():
            for _, ghosts, past in layers.trails:
                past.clear()
                for ghost in ghosts:
                    ghost.set_data([], [])

    def anew(self) -> None:
        """Draw the background of the figure that is shown again: it has changed."""
        self._layers[self.figure].background = None

    def png(self) -> bytes:
        """The picture as it is, made quickly rather than small."""
        canvas: Any = self.figure.canvas
        layers = self._layers[self.figure]
        if layers.background is None:
            canvas.draw()
            layers.background = canvas.copy_from_bbox(self.figure.bbox)
        canvas.restore_region(layers.background)
        for artist in (*layers.moving, *layers.passing):
            if artist.axes is None or artist.axes.get_visible():
                self.figure.draw_artist(artist)
        pixels = canvas.buffer_rgba()
        image = Image.frombuffer("RGBA", pixels.shape[1::-1], pixels, "raw", "RGBA", 0, 1).convert("RGB")
        if self._theme == "lecture":
            image = image.point(3 * _CONTRAST)
        data = io.BytesIO()
        image.save(data, "png", compress_level=1)
        return data.getvalue()

    def file(self, title: str, kind: str) -> bytes:
        """The picture with its title above it, as a file: ``kind`` is "png" or "svg"."""
        layers, layout = self._layers[self.figure], self.figure.get_layout_engine()
        artists = [*layers.moving, *layers.passing]
        heading = self.figure.text(0.5, 1.02, title, ha="center", va="bottom", fontsize=13)
        for artist in artists:  # a figure leaves out what is animated
            artist.set_animated(False)
        self.figure.set_layout_engine("none")  # all stays where it is
        data = io.BytesIO()
        try:
            self.figure.savefig(data, format=kind, dpi="figure", bbox_inches="tight")
        finally:
            heading.remove()
            for artist in artists:
                artist.set_animated(True)
            self.figure.set_layout_engine(layout)
        return data.getvalue()
