"""What all views share: a state, one picture of it, and controls that set it.

A view is made from a function ``draw(state) -> Picture`` and a dict of ipywidgets controls. The state is
the dict of the controls' values; whenever one of them changes, the state is drawn again. A preset is a
state with a name. Nothing here knows what a picture shows.
"""

import base64
import html
import io
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
from IPython.core.getipython import get_ipython
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

State = dict[str, Any]

_WIDTH = 900  # CSS pixels of a picture; it shrinks where there is less room


class Picture(NamedTuple):
    """What a state looks like, and what it says."""

    png: bytes
    text: str
    """One sentence: the line below the picture, and its alternative text."""


class View(w.VBox):  # type: ignore[misc]
    """A picture above its controls.

    Args:
        draw: ``draw(state)``, the picture of a state. Called from one thread at a time.
        controls: widgets with a ``value``, by the name that they have in the state.
        presets: states with names, as buttons; values that a preset leaves out become the first state's.
        lose: a preset that puts the view where its message fails.
        visible: ``visible(state)``, the names of the controls to show. The others are hidden.
        more: names of controls that stand under "more".
        buttons: further buttons, shown before the presets.
        state: what the picture needs besides the controls.
        code: ``code(state)``, the call that makes this state.
    """

    def __init__(
        self,
        draw: Callable[[State], Picture],
        controls: dict[str, Any],
        *,
        presets: dict[str, State] | None = None,
        lose: State | None = None,
        visible: Callable[[State], Sequence[str]] | None = None,
        more: Sequence[str] = (),
        buttons: Sequence[w.Button] = (),
        state: State | None = None,
        code: Callable[[State], str] = lambda state: "",
    ) -> None:
        self._draw, self._controls, self._code = draw, controls, code
        self._visible = visible or (lambda state: list(controls))
        self._extra = dict(state or {})
        self._first = {key: control.value for key, control in controls.items()}
        self._image, self._text = b"", ""
        self._holding = False
        self._drawing = threading.Lock()
        self.picture, self._line, self._call = w.HTML(), w.HTML(), w.HTML()
        self._call.layout.display = "none"

        row = [*buttons]
        for label, preset in (presets or {}).items():
            row.append(self._preset_button(label, preset))
        if lose is not None:
            row.append(self._preset_button("make it lose", lose, style="warning"))
        row.append(self._preset_button("reset", {}))
        code_button = w.ToggleButton(description="as code", layout=w.Layout(width="auto"))
        code_button.observe(self._show_call, "value")
        row.append(code_button)

        main = [control for key, control in controls.items() if key not in more]
        children = [_row(row), self.picture, self._line, _row(main)]
        if more:
            hidden = w.Accordion(
                [_row([controls[key] for key in more])], titles=("more",), selected_index=None
            )
            children.append(hidden)
        for control in controls.values():
            control.observe(self._changed, "value")
        super().__init__([*children, self._call], layout=w.Layout(max_width=f"{_WIDTH + 8}px"))
        self.redraw()

    @property
    def state(self) -> State:
        """The controls' values, and what else the picture needs."""
        return {key: control.value for key, control in self._controls.items()} | self._extra

    @property
    def image(self) -> bytes:
        """The picture as it is now, a PNG."""
        return self._image

    def set(self, **state: Any) -> None:
        """Change some of the state, in the order given, and draw once."""
        if unknown := state.keys() - self.state.keys():
            raise ValueError(f"the view has no {', '.join(unknown)}; it has {', '.join(self.state)}")
        self._holding = True
        try:
            for key, value in state.items():
                if key in self._controls:
                    self._controls[key].value = value
                else:
                    self._extra[key] = value
        finally:
            self._holding = False
        self.redraw()

    def redraw(self) -> None:
        """Draw the state as it is now. An error is shown in the view; the last picture stays."""
        with self._drawing:
            state = self.state
            try:
                image, text = self._draw(state)
            except Exception as error:  # wherever it comes from, the learner should see it
                self.say(error)
                return
            self._image, self._text = image, text
            self.picture.value = img(image, text)
            self._line.value = f'<div role="status">{html.escape(text)}</div>'
            shown = self._visible(state)
            for key, control in self._controls.items():
                control.layout.display = "" if key in shown else "none"
            self._call.value = f"<code>{html.escape(self._code(state))}</code>"

    def close(self) -> None:
        """Take the view and all its parts away."""
        for widget in _parts(self):
            widget.unobserve_all()
            if widget is not self:
                widget.close()
        super().close()

    def say(self, error: Exception) -> None:
        """Show an error below the picture."""
        message = str(error) if isinstance(error, ValueError) else "".join(traceback.format_exception(error))
        self._line.value = f'<pre role="alert" style="color:#B00020">{html.escape(message)}</pre>'

    def _changed(self, change: Any) -> None:
        if not self._holding:
            self.redraw()

    def _preset_button(self, label: str, preset: State, style: str = "") -> w.Button:
        button = w.Button(description=label, button_style=style, layout=w.Layout(width="auto"))
        button.on_click(lambda _: self.set(**{**self._first, **preset}))
        return button

    def _show_call(self, change: Any) -> None:
        self._call.layout.display = "" if change.new else "none"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for a page without a kernel its picture and caption."""
        return super()._repr_mimebundle_(**kwargs) | {"text/html": captioned(self._image, self._text)}


class LiveView(View):
    """A view that works in a thread of its own, between start and stop.

    A subclass has ``work()``, which does a little at a time and yields in between, and may have
    ``ended(stopped)``. An error in the work is shown in the view. The work ends when it is done, with Stop,
    when the view's cell is run again, and with ``close()``.

    Args:
        as for :class:`View`; the state gets a ``status`` to show.
    """

    def __init__(
        self, draw: Callable[[State], Picture], controls: dict[str, Any], *, state: State, **options: Any
    ) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._switching = threading.Lock()  # buttons answer in whatever thread the kernel gives them
        self._closed = False
        start = w.Button(description="start", button_style="primary", layout=w.Layout(width="auto"))
        stop = w.Button(description="stop", layout=w.Layout(width="auto"))
        start.on_click(lambda _: self.start())
        stop.on_click(lambda _: self.stop())
        super().__init__(draw, controls, buttons=[start, stop], state={**state, "status": ""}, **options)
        replace_earlier(self)

    def work(self) -> Iterator[None]:
        """What is done, in small pieces."""
        raise NotImplementedError

    def ended(self, stopped: bool) -> None:
        """Called after the work, in its thread."""

    def start(self) -> None:
        """Begin the work; does nothing while it is on."""
        with self._switching:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self.run, name="orthoviz-view", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the work that is on, if any, and wait for it: the time of a piece."""
        with self._switching:
            self._stop.set()
            if self._thread is not None:
                self._thread.join()

    def close(self) -> None:
        """Stop, and take the view away."""
        self._closed = True
        if hasattr(self, "_switching"):  # ipywidgets closes those too whose making raised
            self.stop()
        super().close()

    def run(self) -> None:
        """Do the work here and now, drawing twelve times a second."""
        self.set(status="")
        drawn, stopped = 0.0, False
        try:
            for _ in self.work():
                if stopped := self._stop.is_set():
                    break
                if time.perf_counter() - drawn > 0.08:
                    self.redraw()
                    drawn = time.perf_counter()
            self.ended(stopped)
            self.redraw()
        except Exception as error:  # in a thread nobody else would see it
            self.say(error)


class Stage:
    """A figure that is drawn often: what never moves is drawn once and kept.

    Artists made with ``animated=True`` are the ones that move; they are drawn over the kept background.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        figure.set_dpi(1.5 * _WIDTH / figure.get_figwidth())  # sharp on a projector
        self._canvas = FigureCanvasAgg(figure)
        self._background: Any = None

    def forget(self) -> None:
        """Draw what does not move anew, because it did."""
        self._background = None

    def png(self, moving: Iterable[Artist]) -> bytes:
        """The figure with these artists on it."""
        if self._background is None:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in moving:
            self._figure.draw_artist(artist)
        return _encoded(self._canvas)


def control(kind: Callable[..., Any], label: str, value: Any, *, width: str = "26em", **options: Any) -> Any:
    """A slider or buttons of this kind, wide enough for its label, with a layout of its own."""
    style = {"description_width": "initial"} | options.pop("style", {})
    return kind(value=value, description=label, style=style, layout=w.Layout(width=width), **options)


def one_of(name: str, value: Any, options: Iterable[Any]) -> Any:
    """The value, where it is one of the options that a control has."""
    options = list(options)
    if value not in options:
        allowed = ", ".join(short(option) for option in options)
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    return value


def short(value: Any) -> str:
    """A power of ten as 1e3 or 1e-5, everything else as Python writes it: fit for labels and for code."""
    if not isinstance(value, float):
        return repr(value)
    if value == 0 or 0.1 <= value <= 300:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def png(figure: Figure) -> bytes:
    """A picture of a figure, drawn once."""
    return Stage(figure).png([])


def _encoded(canvas: FigureCanvasAgg) -> bytes:
    """PNG of what the canvas shows, quickly rather than small."""
    data = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(data, "png", compress_level=1)
    return data.getvalue()


_of_cell: dict[str, tuple[str, list[w.Widget]]] = {}


def replace_earlier(view: w.Widget) -> None:
    """Close the live views that this notebook cell made when it ran before.

    A cell that is run again makes new views, and nothing else tells the old ones that they are gone.
    """
    shell: Any = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:
        return
    run = parent["header"]["msg_id"]
    earlier, views = _of_cell.get(cell, (run, []))
    if earlier != run:
        for old in views:
            old.close()
        views = []
    _of_cell[cell] = run, [*views, view]


def _parts(widget: w.Widget) -> Iterator[w.Widget]:
    """The widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _parts(child)


def img(data: bytes, text: str) -> str:
    """A picture with alternative text, as HTML that needs nothing else."""
    # decoding=sync: the new picture replaces the old one without a blank in between
    source = base64.b64encode(data).decode()
    return (
        f'<img decoding="sync" alt="{html.escape(text, quote=True)}" width="{_WIDTH}" '
        f'style="max-width:100%;height:auto" src="data:image/png;base64,{source}">'
    )


def captioned(data: bytes, text: str) -> str:
    """A picture with the same line as its alternative text and below it."""
    caption = f"<figcaption>{html.escape(text)}</figcaption>"
    return f'<figure style="margin:0">{img(data, text)}{caption}</figure>'


def _row(widgets: Sequence[w.Widget]) -> w.Box:
    return w.Box(list(widgets), layout=w.Layout(flex_flow="row wrap", align_items="center", width="100%"))
