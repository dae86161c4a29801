"""Views as pages that move without a kernel.

A view is drawn in every state that its page offers, by the same ``show`` that JupyterLab runs; a small script
moves between the pictures. A live view runs once for each of its presets, and time is a slider.
"""

import base64
import html
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

import orthoviz.widgets as widgets
from orthoviz.widgets.controls import State
from orthoviz.widgets.look import current_theme, theme
from orthoviz.widgets.view import View

MOST_STATES, MOST_INLINE = 120, 60
_COLOURS = {"page": 64, "phone": 24}  # of a picture, which makes it a third as large; photographs have more
_FRAMES = 16  # of a live run


class Step(NamedTuple):
    """A state of a page."""

    picture: bytes
    title: str
    text: str
    hidden: list[str]
    """Controls that have no effect there."""


class Recording(NamedTuple):
    """All that a page needs of a view."""

    controls: list[dict[str, Any]]
    """Each with ``key``, ``label``, ``options`` in words, ``at`` (the first place) and ``play``."""
    places: dict[str, int]
    """The number of the state, by the places of all controls: "0,3"."""
    presets: dict[str, tuple[int, list[int]]]
    """The number of the state, and the places of the controls that come nearest."""
    steps: list[Step]


def record(view: View, most: int = MOST_STATES) -> Recording:
    """Draw a view in all states of its page.

    Args:
        most: states, beside those of the presets.
    """
    return _record(view, most) if view._work is None else _record_live(view, view._work)


def _record(view: View, most: int) -> Recording:
    options = _thin(view, most)
    steps: list[Step] = []
    numbers: dict[tuple[Any, ...], int] = {}

    def number(state: State) -> int:
        """Of the state in which what has no effect is as it was first."""
        shown = {key: control.shown(state) for key, control in view._controls.items()}
        plain = {key: value if shown[key] else view._first[key] for key, value in state.items()}
        key = tuple(plain.values())
        if key not in numbers:
            numbers[key] = len(steps)
            steps.append(_draw(view, plain, [name for name, is_shown in shown.items() if not is_shown]))
        return numbers[key]

    number(view._first)
    places = {}
    for place in itertools.product(*(range(len(values)) for values in options.values())):
        chosen = {key: options[key][i] for key, i in zip(options, place, strict=True)}
        places[",".join(map(str, place))] = number(view._first | chosen)
    presets = {}
    for label, preset in {"reset": {}, **view._presets}.items():
        state = view._first | {key: value for key, value in preset.items() if key in view._controls}
        presets[label] = number(state), [_nearest(values, state[key]) for key, values in options.items()]
    controls = []
    for key, values in options.items():
        control, at = view._controls[key], values.index(view._first[key])
        words = [control.options[value] for value in values]
        described = {"key": key, "label": control.label(view._first), "options": words}
        controls.append(described | {"at": at, "play": control.play})
    return Recording(controls, places, presets, steps)


def _record_live(view: View, work: Callable[..., Iterator[None]]) -> Recording:
    """A run for each preset, as pictures between its pieces."""
    runs: dict[str, list[Step]] = {}
    for label, preset in view._presets.items():
        view.set(**view._first | {key: value for key, value in preset.items() if key in view._controls})
        pieces = [_draw(view, view.state, []) for _ in work(**view.state)]
        last = len(pieces) - 1
        runs[label] = [pieces[round(i * last / (_FRAMES - 1))] for i in range(_FRAMES)]
    steps = [step for run in runs.values() for step in run]
    keys = {f"{r},{t}": r * _FRAMES + t for r in range(len(runs)) for t in range(_FRAMES)}
    names = list(runs)
    controls = [
        {"key": "run", "label": "run", "options": names, "at": 0, "play": False},
        {"key": "time", "label": "time", "options": [f"{t + 1} of {_FRAMES}" for t in range(_FRAMES)],
         "at": _FRAMES - 1, "play": True},
    ]  # fmt: skip
    return Recording(controls, keys, {"reset": (_FRAMES - 1, [0, _FRAMES - 1])}, steps)


def _thin(view: View, most: int) -> dict[str, list[Any]]:
    """The values of each control that a page offers, in ascending order, the first state's among them."""
    options = {}
    for key, control in view._controls.items():
        if not control.more and len(control.options) > 1:
            some = {*control.page, view._first[key]} if control.page else control.options
            options[key] = [value for value in control.options if value in some]

    def count() -> int:
        return len({
            tuple(v if view._controls[k].shown(view._first | s) else None for k, v in s.items())
            for s in (dict(zip(options, at, strict=True)) for at in itertools.product(*options.values()))
        })  # fmt: skip

    while count() > most:
        key = max(options, key=lambda name: len(options[name]))
        values, first = options[key], options[key].index(view._first[key])
        kept = {first, 0, len(values) - 1} | set(range(first % 2, len(values), 2))
        if len(kept) >= len(values):
            kept = {first, 0, len(values) - 1}
        options[key] = [values[i] for i in sorted(kept)]
    return options


def _nearest(values: Sequence[Any], value: Any) -> int:
    if value in values:
        return list(values).index(value)
    return min(range(len(values)), key=lambda i: abs(values[i] - value))


def _draw(view: View, state: State, hidden: list[str]) -> Step:
    """The state without the ghosts of others, in few colours."""
    view._canvas.forget()
    view._now = None
    view.set(**state)
    colours = 64 if view._photo else _COLOURS.get(view._canvas._theme, 64)
    return Step(reduce_colours(view.image, colours), view.title, view.text, hidden)


def reduce_colours(png: bytes, colours: int) -> bytes:
    """The same picture with a palette."""
    data = io.BytesIO()
    Image.open(io.BytesIO(png)).quantize(colours, dither=Image.Dither.NONE).save(data, "png", optimize=True)
    return data.getvalue()


def write_page(view: View, path: Path) -> None:
    """A page that holds its pictures.

    Raises:
        ValueError: the name does not end in .html.
    """
    if path.suffix != ".html":
        raise ValueError(f"path must end in .html, got {str(path)!r}")
    recording = record(_themed("page", view._again), MOST_INLINE)
    sources = [f"data:image/png;base64,{base64.b64encode(step.picture).decode()}" for step in recording.steps]
    path.write_text(_page(view._name, recording, sources, [""] * len(sources)), encoding="utf-8")


def write_pages(folder: str | Path, names: Sequence[str] = ()) -> Iterator[str]:
    """Write all views as pages, and an ``index.html``.

    Args:
        folder: for the pages; each view has a folder of pictures beside its page.
        names: of the views. Default: all.

    Yields:
        A line for each page that is written.
    """
    folder = Path(folder)
    chosen = list(names) or [name for name in widgets.__all__ if name != "theme"]
    if unknown := [name for name in chosen if name not in widgets.__all__]:
        raise ValueError(f"there is no view {unknown[0]!r}; there is: {', '.join(widgets.__all__)}")
    first = []
    for name in chosen:
        sources = []
        for kind in ("page", "phone"):
            recording = record(_themed(kind, getattr(widgets, name)))
            pictures = folder / name / kind
            pictures.mkdir(parents=True, exist_ok=True)
            for i, step in enumerate(recording.steps):
                (pictures / f"{i}.png").write_bytes(step.picture)
            sources.append([f"{name}/{kind}/{i}.png" for i in range(len(recording.steps))])
        (folder / f"{name}.html").write_text(_page(name, recording, *sources), encoding="utf-8")
        opens = recording.presets["reset"][0]
        first.append((name, recording.steps[opens].title, sources[0][opens]))
        yield f"{folder / name}.html: {len(recording.steps)} states"
    (folder / "index.html").write_text(_index(first), encoding="utf-8")


def _themed(name: str, make: Callable[[], View]) -> View:
    """A view in another theme, without a change of the current one."""
    before, _ = current_theme()
    theme(name)
    try:
        return make()
    finally:
        theme(before)


def _page(name: str, recording: Recording, wide: list[str], narrow: list[str]) -> str:
    state = recording.presets["reset"][0]
    files = zip(wide, narrow, recording.steps, strict=True)
    steps = [[w, n, step.title, step.text, step.hidden] for w, n, step in files]
    data = recording._asdict() | {"steps": steps}
    step = recording.steps[state]
    fill = {"NAME": name, "TITLE": step.title, "TEXT": step.text, "WIDE": wide[state]}
    fill["NARROW"] = narrow[state] or wide[state]
    page = _template("page.html")
    for word, value in fill.items():
        page = page.replace(f"@{word}@", html.escape(value))
    return page.replace("@DATA@", json.dumps(data, ensure_ascii=False).replace("</", "<\\/"))


def _index(first: list[tuple[str, str, str]]) -> str:
    rows = (
        f'<li><a href="{name}.html"><img src="{source}" alt="{name}">{html.escape(title)}</a></li>'
        for name, title, source in first
    )
    return _template("index.html").replace("@ROWS@", "\n".join(rows))


def _template(name: str) -> str:
    return (resources.files("orthoviz.widgets") / name).read_text(encoding="utf-8")
