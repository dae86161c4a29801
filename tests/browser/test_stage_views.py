"""The views of stored runs, in a notebook of their own that is never saved, moved by the keyboard."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import lab
from tests.browser.test_lab import changed, clean, fits, output_of, picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]

VIEWS = {
    "stage_spectra": "Step 8, before momentum",
    "cosine_film": "Best lr of each, conv 2, filters",
    "filter_gallery": "The most alike pair of conv 1",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with lab.server(tmp_path_factory.mktemp("lab")) as address, lab.browser() as page:
        lab.open_notebook(page, address, "00_start_here")
        lab.write_cells(page, "import orthoviz as ov", *(f"ov.widgets.{name}()" for name in VIEWS))
        lab.run_all(page)
        yield page


@pytest.mark.parametrize(
    ("name", "key", "label"),
    [("stage_spectra", "ArrowRight", "16"), ("filter_gallery", "ArrowRight", "2")],
    ids=["stage_spectra", "filter_gallery"],
)
def test_the_slider_moves_label_line_and_picture(page, name, key, label):
    lab.show_cell(page, name)
    view = output_of(page, VIEWS[name])
    view.scroll_into_view_if_needed()
    before, said = picture(view), view.locator("img").get_attribute("alt")
    view.locator(".noUi-handle").first.focus()
    page.keyboard.press(key)
    changed(page, view, before)
    expect(view.locator(".widget-readout").first).to_have_text(label)
    expect(view.locator("img")).not_to_have_attribute("alt", said)
    expect(view.locator("[role=status]")).to_have_text(view.locator("img").get_attribute("alt"))
    ends_as_it_began(page, view, said)


def test_the_film_takes_another_learning_rate_and_another_layer(page):
    lab.show_cell(page, "cosine_film")
    view = output_of(page, VIEWS["cosine_film"])
    view.scroll_into_view_if_needed()
    first, said = picture(view), view.locator("img").get_attribute("alt")
    view.get_by_role("button", name="equal lr", exact=True).focus()
    page.keyboard.press("Enter")
    changed(page, view, first)
    expect(view.locator("[role=status]")).to_contain_text("Equal lr, conv 2")
    before = picture(view)
    view.get_by_role("button", name="conv 3", exact=True).focus()
    page.keyboard.press("Enter")
    changed(page, view, before)
    expect(view.get_by_role("button", name="conv 3", exact=True)).to_have_class(re.compile("mod-active"))
    expect(view.locator("[role=status]")).to_contain_text("Equal lr, conv 3")
    ends_as_it_began(page, view, said)


def ends_as_it_began(page, view, said):
    """Make it lose, reset, the code, and nothing went wrong on the way."""
    for name in ("make it lose", "reset"):
        before = picture(view)
        view.get_by_role("button", name=name, exact=True).click()
        changed(page, view, before)
    expect(view.locator("img")).to_have_attribute("alt", said)
    view.get_by_role("button", name="as code", exact=True).click()
    expect(view.locator("code")).to_contain_text("ov.widgets.")
    clean(page)
    fits(page)
