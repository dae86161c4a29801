"""A view is a function: it draws what stays, and returns ``show``, which draws a state.

    @view(steps=slider("steps", range(11)), lose={"steps": 10})
    def newton_schulz(canvas, matrix=None, *, steps=5):
        (ax,) = canvas.axes(9, 4.8)
        curve = canvas.line(ax, color="C0")      # made once, moved by show

        def show(steps):
            curve.set_data(...)
            return "the message", "what is seen now"

        return show

The signature is the view's own: its defaults are the first state, and what has no control is the caller's
data. A control's options are the values that are allowed. "As code", reset and presets follow from both.
All that a view needs can be imported from here.
"""

import base64
import functools
import html
import inspect
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets as w
from IPython.core.getipython import get_ipython

from orthoviz.widgets.canvas import Canvas
from orthoviz.widgets.controls import Control, State, buttons, checkbox, options, own_tensor, short, slider
from orthoviz.widgets.look import caption_picture, current_theme, img
from orthoviz.widgets.worker import Worker

__all__ = [
    "Canvas", "Scene", "Show", "State", "View", "buttons", "checkbox", "own_tensor", "short", "slider", "view"
]  # fmt: skip

# Draws a state, given as keyword arguments; returns the message and what is seen now, a sentence each.
Show = Callable[..., tuple[str, str]]
_KINDS = {"png": "image/png", "svg": "image/svg+xml"}


class Scene(NamedTuple):
    """What a view's function returns where ``show`` alone does not say it all.

    Attributes:
        work: what a live view does between start and stop, a piece at a time; gets the state.
        opens: whether the work is done once before the view opens.
        options: values that the caller's data allow, in the place of a control's own.
        first: values for arguments that are None.
        presets: in the place of the view's own presets and ``lose``.
        frame: what the work has recorded so far, as a tidy frame.
    """

    show: Show
    work: Callable[..., Generator[None]] | None = None
    opens: bool = False
    options: Mapping[str, Iterable[Any]] = {}
    first: Mapping[str, Any] = {}
    presets: Mapping[str, State] | None = None
    lose: State | None = None
    frame: Callable[[], Any] | None = None


class View(w.VBox):  # type: ignore[misc]
    """A picture between its presets and its controls; made by :func:`view`."""

    def __init__(
        self, name: str, canvas: Canvas, scene: Scene, controls: dict[str, Control], first: State,
        call: Callable[[State], str], presets: Mapping[str, State], lose: State | None, photo: bool,
        again: Callable[[], "View"],
    ) -> None:  # fmt: skip
        self._name, self._canvas, self._show, self.frame = name, canvas, scene.show, scene.frame
        self._controls, self._first, self._written, self._photo = controls, first, call, photo
        self._inputs = {key: control.widget(first, first[key]) for key, control in controls.items()}
        self._presets = dict(presets) if lose is None else {**presets, "make it lose": lose}
        self._work, self._again = scene.work, again
        self._now: State | None = None
        self._holding, self._drawing = False, threading.Lock()
        self.title, self.text, self.image = "", "", b""
        self._heading, self.picture, self._line, self._call, self._files = (w.HTML() for _ in range(5))
        work = scene.work
        self.worker = work and Worker(lambda: work(**self.state), self.redraw, self.say)
        rows = [[self._inputs[k] for k in controls if controls[k].more is wish] for wish in (False, True)]
        head, main, more = map(_row, (self._buttons(presets, lose), *rows))
        parts = [self._heading, head, self._call, self._files, self.picture, self._line, main]
        parts += [w.Accordion([more], titles=("more",), selected_index=None)] if rows[1] else []
        for one in self._inputs.values():
            one.observe(lambda _: None if self._holding else self.redraw(), "value")
        theme, width = current_theme()
        super().__init__(parts, layout=w.Layout(max_width=f"{width + 8}px"))
        for kind in ("view", theme, name):
            self.add_class(f"orthoviz-{kind}")
        self.redraw()
        _replace_earlier(self)
        if self.worker and scene.opens:
            self.worker.run()

    @property
    def state(self) -> State:
        """The controls' values."""
        return {key: one.value for key, one in self._inputs.items()}

    def set(self, **state: Any) -> None:
        """Change some of the state, and draw once.

        Raises:
            ValueError: the view has no such control, or a control no such value; nothing has changed.
        """
        if unknown := state.keys() - self._inputs.keys():
            raise ValueError(f"the view has no {', '.join(unknown)}; it has {', '.join(self._inputs)}")
        state = {key: self._controls[key].check(key, value) for key, value in state.items()}
        self._holding = True
        try:
            for key, value in state.items():
                self._inputs[key].value = value
        finally:
            self._holding = False
        self.redraw()

    def reset(self) -> None:
        """Back to the first state, without ghosts."""
        self._canvas.forget()
        self._now = None
        self.set(**self._first)

    def redraw(self) -> None:
        """Draw the state as it is now. An error is shown in the view; the last picture stays."""
        with self._drawing:
            state = self.state
            try:
                self._canvas.clear(moved=self._now not in (None, state))
                title, text = self._show(**state)
                image = self._canvas.png()
            except Exception as error:  # wherever it comes from, the learner should see it
                self.say(error)
                return
            self.title, self.text, self.image, self._now = title, text, image, state
            self.picture.value = img(image, text, photo=self._photo)
            self._heading.value = f'<div class="orthoviz-title">{html.escape(title)}</div>'
            self._line.value = f'<div class="orthoviz-line" role="status">{html.escape(text)}</div>'
            for key, one in self._inputs.items():
                one.layout.display = "" if self._controls[key].shown(state) else "none"
                one.description = self._controls[key].label(state)
            self._call.value = f"<code>{html.escape(self._written(state))}</code>"
            self._saving.value = False  # the links would be those of another state

    def save(self, path: str | Path) -> None:
        """Write the picture as it is now, with its title, to a ``.png`` or ``.svg`` file.

        Raises:
            ValueError: the name ends otherwise.
        """
        path = Path(path)
        kind = path.suffix.removeprefix(".").lower()
        if kind not in _KINDS:
            raise ValueError(f"path must end in .png or .svg, got {str(path)!r}")
        path.write_bytes(self._file(kind))

    def page(self, path: str | Path) -> None:
        """Write the view as a page that moves without a kernel: a file ``.html`` that holds all it needs.

        It has at most 60 states; a slider that has too many values keeps every second, third, ... of them.
        """
        from orthoviz.widgets.pages import write_page  # which imports all views

        write_page(self, Path(path))

    def close(self) -> None:
        """Take the view and all its parts away, and end its work."""
        if worker := getattr(self, "worker", None):  # ipywidgets closes a view too whose __init__ raised
            worker.close()
        for widget in _parts(self):
            widget.unobserve_all()
            if widget is not self:
                widget.close()
        super().close()

    def say(self, error: BaseException) -> None:
        """Show an error below the picture."""
        message = str(error) if isinstance(error, ValueError) else "".join(traceback.format_exception(error))
        self._line.value = f'<div class="orthoviz-alert" role="alert">{html.escape(message)}</div>'

    def _buttons(self, presets: Mapping[str, State], lose: State | None) -> list[w.Widget]:
        """What stands above the picture."""

        def preset(state: State) -> Callable[[], None]:
            known = {key: value for key, value in state.items() if key in self._controls}
            return lambda: self.set(**{**self._first, **known})

        row: list[w.Widget] = []
        if worker := self.worker:
            row.append(_button("start", worker.start, "primary"))
            row += [_button("step", lambda: worker.start(pieces=1)), _button("stop", worker.stop)]
        for moved in (self._inputs[key] for key, control in self._controls.items() if control.play):
            layout, last = w.Layout(width="auto"), len(moved.options) - 1
            row.append(w.Play(value=moved.index, max=last, interval=150, layout=layout))
            w.jslink((row[-1], "value"), (moved, "index"))  # which takes over its first end's value
        row += [_button(label, preset(state)) for label, state in presets.items()]
        if lose is not None:
            row.append(_button("make it lose", preset(lose), "warning"))
        row.append(_button("reset", self.reset))
        for label, box in (("as code", self._call), ("save", self._files)):
            box.layout.display = "none"
            toggle = w.ToggleButton(description=label, layout=w.Layout(width="auto"))
            toggle.observe(functools.partial(self._open, box), "value")
            row.append(toggle)
        self._saving = row[-1]
        return row

    def _file(self, kind: str) -> bytes:
        """The picture that is shown, which is not that of a state that could not be drawn."""
        with self._drawing:
            self._canvas.clear(moved=False)
            self._show(**(self.state if self._now is None else self._now))
            return self._canvas.file(self.title, kind)

    def _open(self, box: w.HTML, change: Any) -> None:
        """Show or hide what a button is for; files are links that hold them: none is written here."""
        box.layout.display = "" if change.new else "none"
        if box is self._files:
            links = []
            for kind, mime in _KINDS.items() if change.new else ():
                source = f"data:{mime};base64,{base64.b64encode(self._file(kind)).decode()}"
                links.append(f'<a download="{self._name}.{kind}" href="{source}"><u>{kind.upper()}</u></a>')
            box.value = " &nbsp; ".join(links)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for a page without a kernel its picture and caption."""
        still = caption_picture(self.image, self.text, title=self.title, photo=self._photo)
        return super()._repr_mimebundle_(**kwargs) | {"text/html": still}


def view(
    *,
    presets: Mapping[str, State] = {},
    lose: State | None = None,
    photo: bool = False,
    phone: float = 2.0,
    **controls: Control,
) -> Callable[[Callable[..., Show | Scene]], Callable[..., View]]:
    """Make a view of a function that draws what stays and returns ``show``, or a :class:`Scene`.

    Args:
        presets: states with names, as buttons; values that a preset leaves out become the first state's.
        lose: a preset that puts the view where its message fails.
        photo: the colours are the things' own, so that a dark page must not turn them round.
        phone: how much larger type is on a phone, in proportion to the picture; less where that has no room.
        **controls: by argument, in the order in which they stand. Those that ``show`` does not take are
            left out; with ``**state`` it takes all.
    """

    def decorate(build: Callable[..., Show | Scene]) -> Callable[..., View]:
        own = inspect.signature(build)
        public = own.replace(parameters=[*own.parameters.values()][1:])

        @functools.wraps(build)
        def make(*args: Any, **kwargs: Any) -> View:
            usual = {name: parameter.default for name, parameter in public.parameters.items()}
            given = usual | public.bind(*args, **kwargs).arguments
            canvas = Canvas(phone)
            built = build(canvas, **given)
            scene = built if isinstance(built, Scene) else Scene(built)
            taken = inspect.signature(scene.show).parameters
            some, first = {}, {}
            for name in (name for name in controls if name in taken or "state" in taken):
                allowed = options(scene.options.get(name, controls[name].options))
                some[name] = controls[name]._replace(options=allowed)
                if usual[name] is None:
                    usual[name] = scene.first.get(name, next(iter(allowed)))
                first[name] = some[name].check(name, usual[name] if given[name] is None else given[name])

            def call(state: State) -> str:
                """What differs from the usual arguments: plain values, and the caller's data by name."""
                found = []
                for name, parameter in public.parameters.items():
                    value = state.get(name, given[name])
                    hidden = name in some and not some[name].shown(state)
                    plain = isinstance(value, str | int | float)
                    if hidden or value is usual[name] or (plain and value == usual[name]):
                        continue
                    written = short(value, 1e-3) if plain else name
                    found.append(f"{name}={written}" if parameter.kind is parameter.KEYWORD_ONLY else written)
                return f"ov.widgets.{build.__name__}({', '.join(found)})"

            buttons = (presets, lose) if scene.presets is None else (scene.presets, scene.lose)
            again = functools.partial(make, *args, **kwargs)
            return View(build.__name__, canvas, scene, some, first, call, *buttons, photo, again)

        make.__signature__ = public.replace(return_annotation=View)  # type: ignore[attr-defined]
        return make

    return decorate


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
    for old in views if earlier != run else ():
        old.close()
    _of_cell[cell] = run, [*(views if earlier == run else ()), view]


def _parts(widget: w.Widget) -> Iterator[w.Widget]:
    """The widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _parts(child)


def _button(label: str, press: Callable[[], None], style: str = "") -> w.Button:
    button = w.Button(description=label, button_style=style, layout=w.Layout(width="auto"))
    button.on_click(lambda _: press())
    return button


def _row(widgets: Sequence[w.Widget]) -> w.Box:
    return w.Box(list(widgets), layout=w.Layout(flex_flow="row wrap", align_items="center", width="100%"))
