"""The page of all views in the browser: each opens, answers to keys and buttons, and survives rough use."""

import json
import re
import urllib.request

import pytest
from playwright.sync_api import expect

from tests.browser import lab
from tests.browser.lab import VIEWS, find_view
from tests.browser.test_lab import changed, clean, fits, picture

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page(address):
    with lab.browser() as page:
        lab.open_notebook(page, address, "views")
        lab.run_all(page)
        yield page


def press(page, view, label):
    before = picture(view)
    view.get_by_role("button", name=label, exact=True).click()
    changed(page, view, before)


def settle(page, view):
    """Wait until the kernel is idle and the picture stays as it is."""
    before = None
    while picture(view) != before:
        before = picture(view)
        page.wait_for_timeout(600)
        lab.ask_kernel(page, "pass")


def come_to_rest(page, view):
    """Stop what moves by itself: live work, and an animation that may be on repeat."""
    for stop in view.locator("button:text-is('stop'), .widget-play button:has(.fa-stop)").all():
        stop.click()
    settle(page, view)


def move_by_keyboard(page, view):
    """The first slider one step by an arrow, or the first button that is not chosen by Enter."""
    before = picture(view)
    handles = view.locator(".noUi-handle:visible")
    if handles.count():
        handle = handles.first
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.focus()
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    else:
        view.locator(".widget-toggle-buttons:visible button:not(.mod-active)").first.focus()
        page.keyboard.press("Enter")
    changed(page, view, before)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_opens_moves_by_keyboard_loses_and_comes_back(page, name):
    view = find_view(page, name)
    first, said = picture(view), view.locator("img").get_attribute("alt")
    expect(view.locator(".orthoviz-title")).not_to_be_empty()
    move_by_keyboard(page, view)
    press(page, view, "reset")
    press(page, view, "make it lose")
    press(page, view, "reset")
    assert picture(view) == first
    expect(view.locator("img")).to_have_attribute("alt", said)
    expect(view.locator("[role=status]")).to_have_text(said)
    view.get_by_role("button", name="as code", exact=True).click()
    expect(view.locator("code")).to_have_text(f"ov.widgets.{name}()")
    clean(page)
    fits(page)


def test_the_picture_is_saved_as_png_and_svg(page, tmp_path):
    view = find_view(page, "polar_lab")
    view.get_by_role("button", name="save", exact=True).click()
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<?xml")):
        with page.expect_download() as download:
            view.get_by_role("link", name=kind).click()
        assert download.value.suggested_filename == f"polar_lab.{kind.lower()}"
        download.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().startswith(begins)
    move_by_keyboard(page, view)
    expect(view.get_by_role("link", name="SVG")).to_be_hidden()  # it would be another state's
    clean(page)


def test_live_views_go_step_by_step_and_side_by_side(page):
    race, barlow = find_view(page, "race"), find_view(page, "barlow")
    press(page, race, "step")
    press(page, race, "step")
    assert "Test accuracy" in race.locator("[role=status]").inner_text()
    press(page, barlow, "start")
    press(page, race, "start")
    expect(barlow.locator("[role=status]")).to_contain_text("step 90")
    expect(race.locator("[role=status]")).to_contain_text("2 finished races")
    clean(page)


def test_exported_without_a_kernel_each_view_is_its_picture(address, page, tmp_path):
    """The page that JupyterLab's menu exports, opened without any network."""
    page.evaluate(
        """() => {
            const content = jupyterapp.shell.currentWidget.content.model.toJSON();
            const contents = jupyterapp.serviceManager.contents;
            return contents.save('executed.ipynb', {type: 'notebook', format: 'json', content});
        }"""
    )
    base, token = re.match(r"(http://[^/]+)/.*[?&](token=\w+)", address).groups()
    with urllib.request.urlopen(f"{base}/nbconvert/html/executed.ipynb?{token}") as answer:
        (tmp_path / "views.html").write_bytes(answer.read())
    export = page.context.browser.new_context(offline=True).new_page()
    export.goto(f"file://{tmp_path}/views.html", wait_until="commit")  # MathJax's address does not answer
    pictures = export.locator("figure img[alt]:visible")
    expect(pictures).to_have_count(len(VIEWS))
    assert all(pictures.nth(i).evaluate("p => p.naturalWidth > 0") for i in range(len(VIEWS)))
    assert export.locator("figcaption").count() == len(VIEWS)
    export.screenshot(path=tmp_path / "export.png", full_page=True)
    export.close()


_HAMMER = """async ([view, count]) => {
    let seed = 1;
    const random = n => (seed = (seed * 48271) % 2147483647) % n;
    const keys = ['ArrowLeft', 'ArrowRight', 'PageUp', 'PageDown', 'Home', 'End'];
    for (let i = 0; i < count; i++) {
        const shown = [...view.querySelectorAll('.noUi-handle, button, input')].filter(
            part => part.offsetParent !== null && part.textContent !== 'save');
        const part = shown[random(shown.length)];
        if (part.classList.contains('noUi-handle')) {
            const key = keys[random(keys.length)];
            part.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        } else part.click();
        await new Promise(done => setTimeout(done, 2));
    }
}"""

_COUNT = """
import ctypes, gc, json, sys, threading, psutil, matplotlib.pyplot
gc.collect()
if sys.platform == "linux":
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is no leak
print(json.dumps([psutil.Process().memory_info().rss / 1e6,
                  sum(t.name == "orthoviz-view" for t in threading.enumerate()),
                  len(matplotlib.pyplot.get_fignums())]))
"""


@pytest.mark.parametrize("name", VIEWS)
def test_five_hundred_changes_at_full_speed(page, name):
    view = find_view(page, name)
    view.evaluate(f"(view, count) => ({_HAMMER})([view, count])", 50)  # what is loaded once is no leak
    come_to_rest(page, view)
    for _ in range(2):  # once more where memory has grown: a leak would grow again
        before, *counts = json.loads(lab.ask_kernel(page, _COUNT))
        view.evaluate(f"(view, count) => ({_HAMMER})([view, count])", 500)
        come_to_rest(page, view)
        memory, *after = json.loads(lab.ask_kernel(page, _COUNT))
        assert after == counts
        if memory - before < 20:
            break
    assert memory - before < 20, f"{memory - before:.0f} MB more"
    clean(page)
    view.get_by_role("button", name="reset", exact=True).click()  # from whatever error there was
    settle(page, view)
    shown = picture(view)
    lab.ask_kernel(page, f"[v for v in Out.values() if getattr(v, '_name', '') == {name!r}][-1].redraw()")
    page.wait_for_timeout(300)
    assert picture(view) == shown
    print(f"{name}: {memory - before:.1f} MB more")


@pytest.mark.parametrize("width", [1280, 800])
def test_every_control_of_every_view_changes_its_picture(page, width):
    page.set_viewport_size({"width": width, "height": 1000})
    for name in VIEWS:
        view = find_view(page, name)
        view.get_by_role("button", name="reset", exact=True).click()
        settle(page, view)
        fits(page)
        for more in view.locator(".jupyter-widget-Collapse:has(.lm-mod-hidden)").all():
            more.locator(".jupyter-widget-Collapse-header").click()
        for handle in view.locator(".noUi-handle:visible").element_handles():
            at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            before = picture(view)
            handle.focus()
            page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
            changed(page, view, before)
        for group in view.locator(".widget-toggle-buttons:visible").element_handles():
            if "guess" in group.inner_text():
                continue  # it changes the sentence
            before = picture(view)
            group.query_selector_all("button:not(.mod-active)")[-1].click()
            changed(page, view, before)
        view.get_by_role("button", name="reset", exact=True).click()  # the last buttons may hide a box
        settle(page, view)
        for box in view.locator("input[type=checkbox]:visible").all():
            before = picture(view)
            box.click()
            changed(page, view, before)
        fits(page)
    clean(page)


# These open pages of their own; the kernel of the page above is no longer needed


def test_in_notebook_7(tmp_path):
    with lab.server(tmp_path, notebook7=True) as address, lab.browser() as page:
        lab.open_notebook(page, address, "views")
        page.errors.clear()  # its own, of extensions made for JupyterLab
        lab.run_all(page)
        for name in VIEWS:
            view = find_view(page, name)
            move_by_keyboard(page, view)
            press(page, view, "reset")
            press(page, view, "make it lose")
        clean(page)


@pytest.mark.parametrize("dark", [False, True], ids=["lecture", "dark"])
def test_themes(tmp_path, dark):
    """The lecture theme and a dark page: nothing sticks out. The pictures are for looking at."""
    with lab.server(tmp_path, dark=dark) as address, lab.browser() as page:
        lab.open_notebook(page, address, "views")
        if not dark:
            page.evaluate(
                """() => {
                    const notebook = window.jupyterapp.shell.currentWidget.content;
                    const cell = notebook.widgets.find(c => c.model.sharedModel.source.startsWith('import'));
                    cell.model.sharedModel.source += '\\nov.widgets.theme("lecture")';
                }"""
            )
        lab.run_all(page)
        for name in VIEWS:
            view = find_view(page, name)
            fits(page, 800, 1280)
            view.screenshot(path=tmp_path / f"{name}.png")
        clean(page)
        light = page.evaluate("() => document.body.dataset.jpThemeLight")
        assert light == ("false" if dark else "true")
    print(f"pictures in {tmp_path}")
