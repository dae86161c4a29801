"""What every view does, whatever it shows."""

import base64
import html
import io
from xml.etree import ElementTree

import ipywidgets
import pytest
import torch
from IPython.core.formatters import format_display_data
from PIL import Image

import orthoviz as ov
from orthoviz.widgets import view as module
from orthoviz.widgets.controls import short, slider
from tests.views import NAMES, again, code, line, presets, press, source, without_ghosts

pytestmark = pytest.mark.slow

LIVE = {"race": "epochs=1", "barlow": "epochs=1"}
"""The views that train, and how they are made here."""


@pytest.fixture(params=NAMES, scope="module")
def view(request):
    view = eval(f"ov.widgets.{request.param}({LIVE.get(request.param, '')})")
    view.states = {}
    for label in presets(view):
        press(view, label)
        view.states[label] = view.state
    yield view
    view.close()


@pytest.fixture
def fresh(view):
    press(view, "reset")
    return view


def changes(view):
    """Every control once at another value: a state that shows it, and what is changed in it."""
    for key, control in view._controls.items():
        start = next(state for state in (view._first, *view.states.values()) if control.shown(state))
        values = [value for value in control.options if value != start[key]]
        yield start, {key: values[len(values) // 2]}


def test_every_control_changes_the_view_and_reset_brings_the_first_back(fresh):
    first = source(fresh), line(fresh)
    for start, change in changes(fresh):
        fresh.set(**start)
        before = source(fresh), line(fresh)
        fresh.set(**change)
        assert 'role="status"' in fresh._line.value, line(fresh)
        assert fresh._name in LIVE or (source(fresh), line(fresh)) != before, change
    press(fresh, "reset")
    assert (source(fresh), line(fresh)) == first


def test_the_code_makes_the_view_that_is_shown(fresh):
    name = fresh._name
    assert code(fresh) == f"ov.widgets.{name}({LIVE.get(name, '')})"
    if name in LIVE:
        return  # their pictures hold what they have done so far
    both = dict(change.popitem() for start, change in changes(fresh) if start == fresh._first)
    for state in ({**fresh._first, **both}, fresh.states["make it lose"]):
        fresh.set(**state)
        other = again(fresh)
        assert (source(other), line(other), code(other)) == (without_ghosts(fresh), line(fresh), code(fresh))
        other.close()


def test_every_preset_makes_a_state_with_few_controls_and_leaves_the_random_state_alone(fresh):
    told = fresh.title, fresh.text
    shown = [key for key, control in fresh._controls.items() if not control.more]
    torch.manual_seed(0)
    assert 3 <= len(presets(fresh)) <= 7
    for label in presets(fresh):
        press(fresh, label)
        assert 'role="status"' in fresh._line.value
        assert 1 <= sum(fresh._inputs[key].layout.display != "none" for key in shown) <= 3
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(0)))
    press(fresh, "make it lose")
    assert fresh._name in LIVE or (fresh.title, fresh.text) != told


def test_the_picture_is_a_png_of_the_announced_width_with_its_line_for_a_text(fresh):
    image = Image.open(io.BytesIO(source(fresh)))
    assert (image.format, image.width) == ("PNG", 1.5 * 900)
    assert f'alt="{html.escape(line(fresh), quote=True)}"' in fresh.picture.value


def test_a_value_or_a_control_that_there_is_not_is_refused_and_nothing_changes(fresh):
    before = fresh.state
    for key in before:
        with pytest.raises(ValueError, match=f"{key} must be one of .*, got 'sideways'"):
            fresh.set(**{key: "sideways"})
    with pytest.raises(ValueError, match=f"{key} must be one of .*, got 'sideways'"):
        getattr(ov.widgets, fresh._name)(**{key: "sideways"})
    with pytest.raises(ValueError, match="the view has no angel; it has"):
        fresh.set(angel=40)
    assert fresh.state == before


def test_without_a_kernel_a_view_is_its_picture_with_a_caption(fresh):
    data, _ = format_display_data(fresh)
    assert "<figcaption>" in data["text/html"]
    assert base64.b64encode(source(fresh)).decode() in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_saved_with_its_title_and_only_what_is_shown(fresh, kind, tmp_path):
    path = tmp_path / f"view.{kind}"
    before = source(fresh)
    fresh.save(path)
    assert without_ghosts(fresh) == before  # saving leaves the picture as it was
    if kind == "png":
        saved, shown = Image.open(path), Image.open(io.BytesIO(before))
        assert saved.height / saved.width > shown.height / shown.width  # the title stands above
    else:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert fresh.title in html.unescape(path.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
        fresh.save(tmp_path / "view.gif")


# one of them


@pytest.fixture
def steps():
    view = ov.widgets.newton_schulz()
    yield view
    view.close()


def test_earlier_states_stay_as_ghosts_until_reset():
    lens = ov.widgets.step_size_lens()
    lens.set(scale=10.0)
    assert source(lens) != source(ov.widgets.step_size_lens(scale=10.0))
    assert without_ghosts(lens) == source(ov.widgets.step_size_lens(scale=10.0))
    lens.set(scale=100.0)
    press(lens, "reset")
    assert source(lens) == source(ov.widgets.step_size_lens())


def test_a_closed_view_leaves_no_widget_behind():
    instances = ipywidgets.widgets.widget._instances
    before = set(instances)
    view = ov.widgets.newton_schulz()
    assert len(instances) > len(before) + 20
    view.close()
    left = [instances[key] for key in set(instances) - before]
    assert not [widget for widget in left if isinstance(widget, ipywidgets.DOMWidget)]


def test_an_error_in_drawing_is_shown_and_the_picture_that_is_shown_is_saved(tmp_path):
    @module.view(x=slider("x", (1, 2)))
    def broken(canvas, *, x=1):
        (ax,) = canvas.axes(4, 3)

        def show(x):
            if x == 2:
                raise RuntimeError("the pencil broke")
            canvas.now(*ax.plot([1, x], color="black"))
            return "a title", "fine"

        return show

    view = broken()
    view.save(tmp_path / "before.png")
    before = source(view)
    view.set(x=2)
    assert 'role="alert"' in view._line.value
    assert "the pencil broke" in line(view)
    assert source(view) == before
    view.save(tmp_path / "after.png")
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()


def test_the_lecture_theme_is_larger_and_darker_and_ends(steps):
    pale = Image.open(io.BytesIO(source(steps)))
    ov.widgets.theme("lecture")
    try:
        view = ov.widgets.newton_schulz()
    finally:
        ov.widgets.theme()
    large = Image.open(io.BytesIO(source(view)))
    assert large.width > pale.width
    assert "orthoviz-lecture" in view._dom_classes
    greys = [{c[:3] for _, c in i.getcolors(1 << 20) if c[0] == c[1] == c[2]} for i in (pale, large)]
    assert (0xBB,) * 3 in greys[0] - greys[1]
    assert (255,) * 3 in greys[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (300.0, "300"), (3e4, "3e4"), (1e-8, "1e-8"), (-45.0, "-45"), ("a", "'a'")],
)
def test_numbers_are_written_as_people_write_them_and_can_be_read_back(value, text):
    assert short(value) == text
    assert eval(text) == value
