"""Views as pages: every state is the view's own, sizes and numbers of states, what is refused."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import orthoviz as ov
from orthoviz.widgets.pages import reduce_colours, write_pages
from tests.views import NAMES

pytestmark = pytest.mark.slow


def data_of(path):
    """What a page knows: controls, places, presets, steps."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def in_theme(name, make):
    ov.widgets.theme(name)
    try:
        return make()
    finally:
        ov.widgets.theme("notebook")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all pages")
    list(write_pages(folder, ["clipping", "cosine_film"]))
    return folder


@pytest.mark.parametrize("name", ["clipping", "cosine_film"])
@pytest.mark.parametrize(("kind", "column", "colours"), [("page", 0, 64), ("phone", 1, 24)])
def test_a_state_of_a_page_is_what_the_view_shows(folder, name, kind, column, colours):
    page, rng = data_of(folder / f"{name}.html"), np.random.default_rng(0)
    view = in_theme(kind, getattr(ov.widgets, name))
    options = {key: {word: value for value, word in c.options.items()} for key, c in view._controls.items()}
    compared = 0
    for place, number in rng.permutation(list(page["places"].items())).tolist():
        *files, title, text, hidden = page["steps"][int(number)]
        at = map(int, place.split(","))
        values = {
            c["key"]: options[c["key"]][c["options"][i]] for c, i in zip(page["controls"], at, strict=True)
        }
        if hidden or compared == 6:
            continue
        fresh = in_theme(kind, lambda values=values: getattr(ov.widgets, name)(**values))
        assert (title, text) == (fresh.title, fresh.text)
        expected = pixels(reduce_colours(fresh.image, colours))
        np.testing.assert_array_equal(pixels((folder / files[column]).read_bytes()), expected)
        fresh.close()
        compared += 1
    assert compared == 6


def test_a_page_offers_what_its_presets_show(folder):
    page = data_of(folder / "clipping.html")
    number, places = page["presets"]["make it lose"]
    view = ov.widgets.clipping(what="one bad gradient")
    assert page["steps"][number][2:4] == [view.title, view.text]
    assert page["places"][",".join(map(str, places))] == number


@pytest.mark.full
def test_all_views_have_pages_and_these_are_small(tmp_path):
    lines = list(write_pages(tmp_path))
    assert len(lines) == len(NAMES)
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    for name in NAMES:
        page = data_of(tmp_path / f"{name}.html")
        assert f'href="{name}.html"' in index
        assert 5 < len(page["steps"]) <= 150, name
        sizes = {
            kind: [p.stat().st_size for p in (tmp_path / name / kind).glob("*.png")]
            for kind in ("page", "phone")
        }
        assert len(sizes["page"]) == len(sizes["phone"]) == len(page["steps"])
        assert sum(sizes["page"]) < 6e6, name
        assert sum(sizes["phone"]) < 1.3e6, name
        assert max(sizes["phone"]) < 100_000, name
        for key in ("controls", "places", "presets"):
            assert page[key]
        first = page["presets"]["reset"][0]
        at = [control["at"] for control in page["controls"]]
        steps = [n for n in (at[0] - 1, at[0] + 1) if 0 <= n < len(page["controls"][0]["options"])]
        near = [page["places"][",".join(map(str, [n, *at[1:]]))] for n in steps]
        assert all(n != first for n in near) or page["controls"][0]["key"] == "run"


def test_a_page_of_ones_own_data_is_one_file(tmp_path):
    view = ov.widgets.polar_lab([[2.0, 0.5], [0.5, 1.0]])
    before, picture = view.state, view.image
    view.page(tmp_path / "mine.html")
    assert (view.state, view.image) == (before, picture)
    page = data_of(tmp_path / "mine.html")
    assert len(page["steps"]) <= 60 + len(page["presets"])
    assert (tmp_path / "mine.html").stat().st_size < 2.5e6
    png = base64.b64decode(page["steps"][0][0].partition("base64,")[2])
    fresh = in_theme("page", lambda: ov.widgets.polar_lab([[2.0, 0.5], [0.5, 1.0]]))
    np.testing.assert_array_equal(pixels(png), pixels(reduce_colours(fresh.image, 64)))
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.html"]


def test_what_cannot_be_a_page_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.html, got"):
        ov.widgets.clipping().page(tmp_path / "view.png")
    with pytest.raises(ValueError, match="there is no view 'nothing'; there is: barlow"):
        list(write_pages(tmp_path, ["nothing"]))
    assert list(tmp_path.iterdir()) == []
