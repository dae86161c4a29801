"""What all views share: a state, one picture of it, and controls that set it.

A view is made from a function ``draw(state) -> Picture`` and a dict of ipywidgets controls. The state is
the dict of the controls' values; whenever one of them changes, the state is drawn again. A preset is a
state with a name. Nothing here knows what a picture shows.
"""

import base64
import html
import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
from IPython.core.getipython import get_ipython
from matplotlib.artist import Artist

from orthoviz.widgets.stage import Picture, captioned, img, themed

State = dict[str, Any]

_MOST_EARLIER = 3


class View(w.VBox):  # type: ignore[misc]
    """A picture between its presets and its controls.

    Args:
        name: of the function in ``ov.widgets`` that makes the view.
        draw: ``draw(state)``, the picture of a state. Called from one thread at a time.
        controls: widgets with a ``value``, by the name that they have in the state.
        presets: states with names, as buttons; values that a preset leaves out become the first state's.
        lose: a preset that puts the view where its message fails.
        visible: ``visible(state)``, the names of the controls to show. The others are hidden.
        more: names of controls that stand under "more".
        buttons: further buttons, shown before the presets.
        state: what the picture needs besides the controls.
        given: ``given(state)``, the arguments of the call that makes this state.
        trail: whether the state that is drawn has ``earlier``, the last three states, for pale ghosts.
    """

    def __init__(
        self,
        name: str,
        draw: Callable[[State], Picture],
        controls: dict[str, Any],
        *,
        presets: dict[str, State] | None = None,
        lose: State | None = None,
        visible: Callable[[State], Sequence[str]] | None = None,
        more: Sequence[str] = (),
        buttons: Sequence[w.Widget] = (),
        state: State | None = None,
        given: Callable[[State], list[str]] = lambda state: [],
        trail: bool = False,
    ) -> None:
        self._name, self._draw, self._controls, self._given = name, draw, controls, given
        self._visible = visible or (lambda state: list(controls))
        self._extra = dict(state or {})
        self._first = {key: control.value for key, control in controls.items()}
        self._trail = trail
        self._earlier: list[State] = []
        self._now: State | None = None
        self._shown: tuple[bytes, Picture] | None = None
        self._holding = False
        self._drawing = threading.Lock()
        self._heading, self.picture, self._line = w.HTML(), w.HTML(), w.HTML()
        self._call, self._files = _hidden(), _hidden()

        row = [*buttons]
        for label, preset in (presets or {}).items():
            row.append(self._preset_button(label, preset))
        if lose is not None:
            row.append(self._preset_button("make it lose", lose, style="warning"))
        row.append(self._preset_button("reset"))
        for label, show in (("as code", self._show_call), ("save", self._show_files)):
            toggle = w.ToggleButton(description=label, layout=w.Layout(width="auto"))
            toggle.observe(show, "value")
            row.append(toggle)
        self._saving = row[-1]

        main = [control for key, control in controls.items() if key not in more]
        children = [self._heading, _row(row), self._call, self._files, self.picture, self._line, _row(main)]
        if more:
            hidden = w.Accordion(
                [_row([controls[key] for key in more])], titles=("more",), selected_index=None
            )
            children.append(hidden)
        for control in controls.values():
            control.observe(self._changed, "value")
        theme, width = themed()
        super().__init__(children, layout=w.Layout(max_width=f"{width + 8}px"))
        for kind in ("view", theme, name):
            self.add_class(f"orthoviz-{kind}")
        self.redraw()
        _replace_earlier(self)

    @property
    def state(self) -> State:
        """The controls' values, and what else the picture needs."""
        return {key: control.value for key, control in self._controls.items()} | self._extra

    @property
    def image(self) -> bytes:
        """The picture as it is now, a PNG."""
        return self._shown[0] if self._shown else b""

    @property
    def title(self) -> str:
        """The message of the picture as it is now."""
        return self._shown[1].title if self._shown else ""

    @property
    def text(self) -> str:
        """What the picture shows now, in words."""
        return self._shown[1].text if self._shown else ""

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
            state, earlier = self.state, self._earlier
            if self._trail and self._now is not None and self._now != state:
                earlier = [*earlier, self._now][-_MOST_EARLIER:]
            try:
                picture, image = self._drawn(state, earlier, lambda p, artists: p.stage.png(artists))
            except Exception as error:  # wherever it comes from, the learner should see it
                self.say(error)
                return
            self._shown, self._now, self._earlier = (image, picture), state, earlier
            self.picture.value = img(image, picture.text, photo=picture.photo)
            self._heading.value = f'<div class="orthoviz-title">{html.escape(picture.title)}</div>'
            self._line.value = f'<div class="orthoviz-line" role="status">{html.escape(picture.text)}</div>'
            visible = self._visible(state)
            for key, control in self._controls.items():
                control.layout.display = "" if key in visible else "none"
            call = f"ov.widgets.{self._name}({', '.join(self._given(state))})"
            self._call.value = f"<code>{html.escape(call)}</code>"
            self._saving.value = False  # the links would be those of another state

    def forget(self) -> None:
        """Forget the earlier states: the next picture has no ghosts."""
        self._earlier, self._now = [], None

    def save(self, path: str | Path) -> None:
        """Write the picture as it is now, with its title, to a ``.png`` or ``.svg`` file."""
        path = Path(path)
        kind = path.suffix.removeprefix(".").lower()
        if kind not in ("png", "svg"):
            raise ValueError(f"path must end in .png or .svg, got {str(path)!r}")
        path.write_bytes(self._file(kind))

    def close(self) -> None:
        """Take the view and all its parts away."""
        for widget in _parts(self):
            widget.unobserve_all()
            if widget is not self:
                widget.close()
        super().close()

    def say(self, error: BaseException) -> None:
        """Show an error below the picture."""
        message = str(error) if isinstance(error, ValueError) else "".join(traceback.format_exception(error))
        self._line.value = f'<div class="orthoviz-alert" role="alert">{html.escape(message)}</div>'

    def _drawn(
        self, state: State, earlier: list[State], render: Callable[[Picture, list[Artist]], bytes]
    ) -> tuple[Picture, bytes]:
        """The picture of a state, and what is made of its artists; those that pass are gone after it."""
        picture = self._draw(state | {"earlier": earlier} if self._trail else state)
        try:
            return picture, render(picture, [*picture.moving, *picture.passing])
        finally:
            for artist in picture.passing:
                artist.remove()

    def _file(self, kind: str) -> bytes:
        """The picture that is shown, which is not that of a state that could not be drawn."""
        with self._drawing:
            shown = self.state if self._now is None else self._now
            _, file = self._drawn(shown, self._earlier, lambda p, all_: p.stage.save(all_, p.title, kind))
            return file

    def _changed(self, change: Any) -> None:
        if not self._holding:
            self.redraw()

    def _preset_button(self, label: str, preset: State | None = None, style: str = "") -> w.Button:
        """A button that sets this state; without one it brings the first back, and its ghosts go."""

        def press(_: w.Button) -> None:
            if preset is None:
                self.forget()
            self.set(**{**self._first, **(preset or {})})

        return _button(label, press, button_style=style)

    def _show_call(self, change: Any) -> None:
        self._call.layout.display = "" if change.new else "none"

    def _show_files(self, change: Any) -> None:
        """Links that hold the files themselves: nothing is written on the kernel's machine."""
        self._files.layout.display = "" if change.new else "none"
        kinds = {"png": "image/png", "svg": "image/svg+xml"} if change.new else {}
        links = []
        for kind, mime in kinds.items():
            source = f"data:{mime};base64,{base64.b64encode(self._file(kind)).decode()}"
            links.append(f'<a download="{self._name}.{kind}" href="{source}"><u>{kind.upper()}</u></a>')
        self._files.value = " &nbsp; ".join(links)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for a page without a kernel its picture and caption."""
        photo = self._shown is not None and self._shown[1].photo
        still = captioned(self.image, self.text, title=self.title, photo=photo)
        return super()._repr_mimebundle_(**kwargs) | {"text/html": still}


class LiveView(View):
    """A view that works in a thread of its own, between start and stop, or step by step.

    A subclass has ``work()``, which does a little at a time and yields in between, and may have
    ``ended(stopped)``. An error in the work is shown in the view. The work ends when it is done, with Stop,
    when the view's cell is run again, and with ``close()``, which ends the thread too. There is one for the
    view's life, as each new one can bring megabytes of an allocator's that stay.

    Args:
        as for :class:`View`; the state gets a ``status`` to show.
    """

    def __init__(
        self,
        name: str,
        draw: Callable[[State], Picture],
        controls: dict[str, Any],
        *,
        state: State,
        **options: Any,
    ) -> None:
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._work: Iterator[None] | None = None
        self._switching = threading.Lock()  # buttons answer in whatever thread the kernel gives them
        self._closed = False
        buttons = [
            _button("start", lambda _: self.start(), button_style="primary"),
            _button("step", lambda _: self.start(pieces=1)),
            _button("stop", lambda _: self.stop()),
        ]
        super().__init__(name, draw, controls, buttons=buttons, state={**state, "status": ""}, **options)

    @property
    def working(self) -> bool:
        """Whether the work is on."""
        return not self._idle.is_set()

    def work(self) -> Iterator[None]:
        """What is done, in small pieces."""
        raise NotImplementedError

    def ended(self, stopped: bool) -> None:
        """Called after the work, in its thread."""

    def start(self, pieces: int | None = None) -> None:
        """Begin the work, or go on with it, for so many pieces or to its end; does nothing while it is on."""
        with self._switching:
            if self._closed or self.working:
                return
            self._stop.clear()
            self._idle.clear()
            self._orders.put(pieces)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="orthoviz-view", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the work that is on, if any, and wait for it: the time of a piece."""
        with self._switching:
            self._stop.set()
            self._idle.wait()
            if self._work is not None:  # it was waiting between two pieces
                self._end(stopped=True)

    def close(self) -> None:
        """Stop, and take the view away."""
        self._closed = True
        if hasattr(self, "_switching"):  # ipywidgets closes those too whose making raised
            self.stop()
            if self._thread is not None:
                self._orders.put(None)
                self._thread.join()
        super().close()

    def run(self, pieces: int | None = None) -> None:
        """Do the work, or so many pieces of it, here and now, drawing twelve times a second."""
        drawn = 0.0
        try:
            if self._work is None:
                self.set(status="")
                self._work = self.work()
            for done, _ in enumerate(self._work, start=1):
                if self._stop.is_set():
                    break
                if done == pieces:
                    self.redraw()
                    return
                if time.perf_counter() - drawn > 0.08:
                    self.redraw()
                    drawn = time.perf_counter()
            self._end(stopped=self._stop.is_set())
        except (Exception, SystemExit) as error:  # in a thread nobody else would see it
            self._work = None
            self.say(error)

    def _serve(self) -> None:
        """Wait for orders and do them, until the view is closed."""
        while not self._closed:
            pieces = self._orders.get()
            try:
                if not self._closed:
                    self.run(pieces)
            finally:
                self._idle.set()

    def _end(self, stopped: bool) -> None:
        work, self._work = self._work, None
        if isinstance(work, Generator):
            work.close()
        self.ended(stopped)
        self.redraw()


def control(kind: Callable[..., Any], label: str, value: Any, *, width: int = 26, **options: Any) -> Any:
    """A control with a layout of its own: a slider ``width`` letters wide, others as wide as their texts."""
    wide, style = "auto", {"description_width": "initial"}
    if kind in (w.IntSlider, w.FloatSlider, w.SelectionSlider):
        wide = f"{width if themed()[0] == 'notebook' else round(1.5 * width)}em"
    elif kind is w.ToggleButtons:
        style["button_width"] = "auto"
    elif kind is w.Checkbox:
        options["indent"] = False
    layout = w.Layout(width=wide, max_width="100%")
    return kind(value=value, description=label, style=style, layout=layout, **options)


def one_of(name: str, value: Any, options: Iterable[Any]) -> Any:
    """The value, where it is one of the options that a control has."""
    options = list(options)
    if value not in options:
        allowed = ", ".join(short(option) for option in options)
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    return value


def changed(state: State, first: State) -> list[str]:
    """The keyword arguments of what a state has changed, as in code."""

    def written(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) and 1e-3 <= value <= 300 else short(value)

    return [f"{key}={written(state[key])}" for key, value in first.items() if state[key] != value]


def short(value: Any) -> str:
    """A power of ten as 1e3 or 1e-5, everything else as Python writes it: fit for labels and for code."""
    if not isinstance(value, float):
        return repr(value)
    if value == 0 or 0.1 <= value <= 300:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


_of_cell: dict[str, tuple[str, list[w.Widget]]] = {}


def _replace_earlier(view: w.Widget) -> None:
    """Close the views that this notebook cell made when it ran before.

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


def _button(label: str, press: Callable[[w.Button], None], **look: Any) -> w.Button:
    button = w.Button(description=label, layout=w.Layout(width="auto"), **look)
    button.on_click(press)
    return button


def _hidden() -> w.HTML:
    return w.HTML(layout=w.Layout(display="none"))


def _row(widgets: Sequence[w.Widget]) -> w.Box:
    return w.Box(list(widgets), layout=w.Layout(flex_flow="row wrap", align_items="center", width="100%"))
