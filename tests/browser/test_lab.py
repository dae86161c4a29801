"""Lesson 00 and two views, touched as a learner would. In full: test_lessons.py and test_views.py."""

import re
import shutil
import subprocess

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]


def output_of(page, alt):
    """The output that holds a picture whose alternative text starts so now; it may change later."""
    output = page.locator(".jp-OutputArea-output", has=page.locator(f"img[alt^='{alt}']")).first
    output.evaluate("(node, name) => node.setAttribute('data-view', name)", alt)
    return page.locator(f"[data-view='{alt}']")


def picture(view):
    return view.locator("img").get_attribute("src")


def changed(page, view, before):
    """Wait until the picture is another one."""
    page.wait_for_function(
        "([view, before]) => view.querySelector('img').src !== before",
        arg=[view.element_handle(), before],
    )


def clean(page):
    """No dialog, no notification, no failed cell, no lost widget, nothing in the console."""
    assert page.errors == []
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator(".Toastify__toast").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    text = page.locator(".jp-Notebook").inner_text()
    assert "Traceback" not in text
    assert "Error displaying widget" not in text


def fits(page, *widths):
    """Nothing sticks out of the notebook: no horizontal scroll, no picture wider than its place.

    ``widths``: of the window, one after the other, where not the width that it has.
    """
    for width in widths:
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(300)
        fits(page)
    assert page.evaluate(
        """() => {
            const notebook = document.querySelector('.jp-WindowedPanel-outer') ||
                document.querySelector('.jp-Notebook');
            const pictures = [...document.querySelectorAll('.jp-OutputArea-output img')];
            return notebook.scrollWidth <= notebook.clientWidth + 1 &&
                pictures.every(p => p.getBoundingClientRect().right <= innerWidth);
        }"""
    )


def git(folder, *command):
    """What git says in a folder."""
    identity = ["-c", "user.name=a test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Lesson 00 after its last cell, in a checkout of its own: page, checkout, copies.

    A file random.py lies in the folder in which the server starts, and by the lesson.
    """
    folder = tmp_path_factory.mktemp("a newcomer")
    checkout, copies = folder / "checkout", folder / "checkout" / "desk" / "orthoviz-course"
    for name in git(lab.ROOT, "ls-files").splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lab.ROOT / name, checkout / name)
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message=all")
    copies.mkdir(parents=True)
    for place in (copies.parent, copies):
        (place / "random.py").write_text("raise SystemExit('this is not random')")
    with lab.server(folder, root=checkout, start=copies.parent) as address, lab.browser() as page:
        lab.open_notebook(page, address, "00_start_here")
        lab.run_all(page)
        yield page, checkout, copies


def test_lesson_00_runs_from_top_to_bottom_and_takes_a_guess_by_keyboard(lesson):
    page, *_ = lesson
    page.wait_for_timeout(500)
    clean(page)
    fits(page, 800, 1280)
    lab.show_cell(page, 'ov.course.use("00.train"')
    page.get_by_text("not attempted: 00.train").wait_for()

    lab.show_cell(page, "SGD at five times the rate")
    guess = page.locator(".jp-OutputArea-output", has=page.get_by_text("SGD at five times the rate")).first
    guess.get_by_role("button", name="about half").focus()
    page.keyboard.press("Enter")
    guess.get_by_role("button", name="this is my guess").focus()
    page.keyboard.press("Enter")
    guess.get_by_text("Your guess: about half.").wait_for()
    clean(page)


def test_the_listing_shows_lessons_and_not_their_sources(lesson):
    page, *_ = lesson
    page.locator(".jp-DirListing-item").first.wait_for()
    names = page.locator(".jp-DirListing-itemText").all_inner_texts()
    assert any(re.fullmatch(r"00_start_here\.ipynb", name) for name in names)
    assert not any(name.endswith(".py") and name != "random.py" for name in names)


def test_a_lesson_that_was_run_and_saved_leaves_the_checkout_as_it_was(lesson):
    page, checkout, copies = lesson
    lab.save(page)
    cells = nbformat.read(copies / "00_start_here.ipynb", as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    assert git(checkout, "status", "--porcelain", "--untracked-files=all") == "?? desk/random.py\n"
    assert sorted(path.name for path in copies.glob("[0-9]*")) == sorted(
        path.name for path in (checkout / "notebooks").glob("[0-9]*.ipynb")
    )


def works(page, alt, key="ArrowRight"):
    """A view answers to its first slider by keyboard, to every preset, to "make it lose" and to reset."""
    view = output_of(page, alt)
    view.scroll_into_view_if_needed()
    first, said = picture(view), view.locator("img").get_attribute("alt")
    view.locator(".noUi-handle:visible, [role=slider]:visible").first.focus()
    page.keyboard.press(key)
    changed(page, view, first)
    expect(view.locator("img")).not_to_have_attribute("alt", said)
    before = picture(view)
    view.get_by_role("button", name="make it lose", exact=True).click()
    changed(page, view, before)
    before = picture(view)
    view.get_by_role("button", name="reset", exact=True).click()
    changed(page, view, before)
    expect(view.locator("img")).to_have_attribute("alt", said)
    view.get_by_role("button", name="as code", exact=True).click()
    expect(view.locator("code")).to_contain_text("ov.widgets.")


@pytest.fixture(scope="module")
def views(lesson):
    """The page with a view that shows a state, and one that works, in place of the lesson."""
    page, *_ = lesson
    cells = ("import orthoviz as ov", "ov.widgets.polar_lab(p=1.0)", "ov.widgets.race(epochs=1000)")
    lab.write_cells(page, *cells)
    lab.run_all(page)
    return page


def test_polar_labs_slider_moves_its_picture(views):
    page = views
    clean(page)
    fits(page)
    view = output_of(page, "G has axes")
    readout = view.locator(".widget-readout").first
    for key, expected in (("ArrowLeft", "0.95"), ("ArrowLeft", "0.90"), ("ArrowRight", "0.95")):
        before, said = picture(view), view.locator("img").get_attribute("alt")
        view.locator(".noUi-handle").first.focus()
        page.keyboard.press(key)
        changed(page, view, before)
        expect(readout).to_have_text(expected)
        expect(view.locator("img")).not_to_have_attribute("alt", said)
        expect(view.locator("[role=status]")).to_contain_text(f"p = {expected}")

    for name in ("orthogonalised", "half way", "make it lose", "reset", "game: find it by hand"):
        before = picture(view)
        view.get_by_role("button", name=name, exact=True).click()
        changed(page, view, before)
    expect(view.get_by_text("turn (degrees)")).to_be_visible()
    expect(view.get_by_text("degrees between rows")).to_be_hidden()
    for label in ("reveal", "flip"):
        before = picture(view)
        view.get_by_label(label).check()
        changed(page, view, before)

    before = picture(view)
    view.get_by_role("button", name="reset", exact=True).click()
    changed(page, view, before)
    view.locator(".jupyter-widget-Collapse-header").click()
    before = picture(view)
    view.get_by_label("by hand", exact=True).check()
    changed(page, view, before)
    clean(page)


def test_races_start_move_stop_and_end_with_their_cell(views):
    page = views
    view = output_of(page, "Press start")
    view.scroll_into_view_if_needed()
    start = view.get_by_role("button", name="start", exact=True)
    start.focus()
    page.keyboard.press("Enter")
    for _ in range(5):  # it goes on by itself
        changed(page, view, picture(view))
    view.get_by_role("button", name="stop", exact=True).click()
    view.get_by_text("Stopped: this race does not count").wait_for()

    count = "import threading; print(sum(t.name == 'orthoviz-view' for t in threading.enumerate()))"
    assert lab.ask_kernel(page, count).strip() == "1"  # the view's, waiting
    start.click()
    changed(page, view, picture(view))
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    output_of(page, "Press start").wait_for()
    assert lab.ask_kernel(page, count).strip() == "0"
    clean(page)
