"""Pages without a kernel, from a folder, with the network off: as with a keyboard, a mouse and a thumb."""

import re

import pytest
from playwright.sync_api import expect

from orthoviz.widgets.pages import write_pages
from tests.browser import lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a stick")
    list(write_pages(folder, ["clipping"]))
    return folder


@pytest.fixture
def open_page(folder):
    """Open the page in a context of its own, without a network; what it asked for is in ``page.asked``."""
    with lab.browser() as any_page:
        contexts = []

        def open_it(fragment="", **options):
            contexts.append(any_page.context.browser.new_context(offline=True, **options))
            page = contexts[-1].new_page()
            page.asked, page.errors = [], []
            page.on("request", lambda request: page.asked.append(request.url))
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.goto(f"{(folder / 'clipping.html').as_uri()}{fragment}")
            return page

        yield open_it
        for context in contexts:
            context.close()


def source(page):
    """The picture that is seen, once it is there."""
    page.wait_for_function(
        "() => { const p = document.querySelector('#picture'); return p.complete && p.naturalWidth }"
    )
    return page.evaluate("document.querySelector('#picture').currentSrc").rsplit("/", 2)[1:]


def test_keys_sliders_presets_and_links_change_picture_title_and_text(open_page, folder):
    page = open_page()
    first, text = source(page), page.locator("#text").inner_text()
    assert first[0] == "page"
    page.keyboard.press("ArrowRight")
    assert source(page) != first
    expect(page.locator("#text")).not_to_have_text(text)
    expect(page.locator("#picture")).to_have_attribute("alt", page.locator("#text").inner_text())
    page.locator("input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert source(page) == first
    page.get_by_role("button", name="make it lose").click()
    expect(page.locator("#title")).to_contain_text("In a buffer length counts")
    expect(page.get_by_role("button", name="one bad gradient")).to_have_attribute("aria-pressed", "true")
    address = page.url
    page.get_by_role("button", name="reset").click()
    assert source(page) == first
    again = open_page("#" + address.partition("#")[2])
    expect(again.locator("#title")).to_contain_text("In a buffer length counts")
    assert page.errors == again.errors == []
    assert all(url.startswith(folder.as_uri()) for url in page.asked + again.asked)


def test_a_state_is_there_within_50_milliseconds(open_page):
    page = open_page()
    source(page)
    page.wait_for_timeout(500)  # its neighbours are loaded
    spent = page.evaluate(
        """async () => {
            const range = document.querySelector("input[type=range]");
            const picture = document.querySelector("#picture");
            const times = [];
            for (const by of [1, 1, -1, -1, -1]) {
                const began = performance.now();
                range.value = Number(range.value) + by;
                range.dispatchEvent(new Event("input"));
                await picture.decode();
                times.push(performance.now() - began);
                await new Promise(done => setTimeout(done, 200));
            }
            return times.sort((a, b) => a - b)[2];
        }"""
    )
    assert spent < 500  # 50 on a quiet machine; ten times that is a hang


def test_on_a_phone_by_thumb_in_the_dark_and_turned(open_page):
    page = open_page(**PHONE, color_scheme="dark")
    first = source(page)
    assert first[0] == "phone"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    tall = page.evaluate(
        "[...document.querySelectorAll('button, input')].map(b => b.getBoundingClientRect().height)"
    )
    assert min(tall) >= 44
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    box = page.locator("#picture").bounding_box()
    page.evaluate(
        """([x, y]) => {
            const picture = document.querySelector("#picture");
            const touch = x => new Touch({ identifier: 1, target: picture, clientX: x, clientY: y });
            picture.dispatchEvent(new TouchEvent("touchstart", { touches: [touch(x)] }));
            picture.dispatchEvent(new TouchEvent("touchend", { changedTouches: [touch(x + 90)] }));
        }""",
        [box["x"] + 100, box["y"] + 100],
    )
    assert source(page) != first
    page.set_viewport_size({"width": 740, "height": 360})
    page.wait_for_timeout(200)
    assert source(page)[0] == "page"
    assert page.evaluate("document.documentElement.scrollWidth") <= 740
    assert page.errors == []


def test_without_scripts_the_first_picture_and_its_text_are_there(open_page):
    page = open_page(java_script_enabled=False)
    expect(page.locator("#title")).to_have_text("Clip the gradient, and the orthogonal step does not notice")
    assert re.search(r"page/\d+\.png$", page.locator("#picture").get_attribute("src"))
    assert "With JavaScript this picture moves." in page.content()
