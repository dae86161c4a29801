"""The pages of `make site`, in a real browser that has no network.

Lessons that test_lessons.py has run are not run again.
"""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
import nbformat
import pytest
from bs4 import BeautifulSoup

import orthoviz as ov
from tests.browser import lab
from tests.test_project import ROOT, make

ADDRESS = "https://github.com/someone/a-course"
LESSONS = ov.lab.lessons()

needs_chromium = pytest.mark.skipif(lab.CHROMIUM is None, reason="Chromium is not installed")
pytestmark = pytest.mark.full


def one_page(folder, *cells):
    """Build a site of one page, which is executed, with these cells; what Sphinx said."""
    shutil.copytree(ROOT / "site", folder / "site", ignore=shutil.ignore_patterns(".*", "_build", "lessons"))
    (folder / "site" / "index.md").write_text("# One page\n\n```{toctree}\nlessons/views\n```\n")
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "views.ipynb")
    command = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "site", "html"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site():
    """The folder of the pages."""
    tools = os.path.relpath(Path(sys.executable).parent, ROOT)
    done = make("site", "READY=", f"BIN={tools}", folder=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    return ROOT / "site" / "_build" / "html"


@pytest.fixture
def page(site):
    with lab.browser() as page:
        page.context.set_offline(True)
        yield page


def addresses(site):
    return [path.as_uri() for path in sorted(site.rglob("*.html"))]


@needs_chromium
@pytest.mark.parametrize("width", [1280, 800])
def test_pages_are_whole_without_a_network(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    typeset = 0
    for address in addresses(site):
        page.goto(address)
        formulas = page.locator(".math").count()
        page.wait_for_function(
            "n => document.querySelectorAll('mjx-container > svg').length === n", arg=formulas
        )
        typeset += formulas
        assert page.locator("[data-mml-node=merror]").count() == 0, address
        for picture in page.locator("img").all():
            assert picture.get_attribute("alt"), address
            assert picture.evaluate("picture => picture.naturalWidth > 0"), address
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) == 0, address
    assert typeset > 100
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}
    assert page.errors == []


def test_every_link_within_the_site_leads_somewhere(site):
    pages = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in site.rglob("*.html")
    }
    links = 0
    for path, soup in pages.items():
        for tag in soup.select("[href], [src]"):
            url = urlsplit(tag.get("href") or tag.get("src"))
            if url.scheme:
                assert url.scheme in ("https", "data"), (path, tag)
                assert tag.name == "a" or url.scheme == "data", (path, tag)  # nothing is fetched
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.is_file(), (path, tag)
            if url.fragment:
                assert pages[target].find(id=unquote(url.fragment)), (path, tag)
            links += 1
    assert links > 1000


def test_the_start_page_has_every_lesson_with_its_question(site):
    start = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    rows = [row.find_all("td") for row in start.select("table tbody tr")]
    assert [Path(lesson.a["href"]).stem for lesson, _ in rows] == LESSONS
    assert all(question.text.endswith("?") for _, question in rows)


@needs_chromium
def test_lessons_follow_each_other(site, page):
    page.goto((site / "index.html").as_uri())
    for name in [*LESSONS, "views"]:
        page.locator("a.next-page").click()
        assert Path(urlsplit(page.url).path).stem == name


@needs_chromium
def test_search_finds_a_page(site, page):
    page.goto((site / "index.html").as_uri())
    page.get_by_role("textbox", name="Search").fill("Newton-Schulz")
    page.keyboard.press("Enter")
    found = page.locator("#search-results a")
    found.first.wait_for()
    assert "03 · Without the SVD" in found.all_inner_texts()
    found.get_by_text("03 · Without the SVD", exact=True).click()
    assert page.locator("h1").inner_text().startswith("03")
    assert page.errors == []


def test_views_are_pictures_and_guesses_are_questions(site):
    soup = BeautifulSoup((site / "lessons" / "views.html").read_text(encoding="utf-8"), "html.parser")
    pictures = soup.select("figure img")
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture["src"].startswith("data:image/png;base64,")
        assert picture["alt"] == picture.find_parent("figure").figcaption.text
    assert "jupyter" not in str(soup.find_all("script"))


def test_a_badge_is_a_link_and_a_guess_a_question(tmp_path):
    badges = runpy.run_path(str(ROOT / "site" / "badges.py"))["with_badges"]
    source = badges((ROOT / "notebooks" / "views.py").read_text("utf-8"), "views", ADDRESS)
    cells = jupytext.reads(source, "py:percent").cells[:3]  # title, badges, installation
    guess = "import orthoviz as ov\nguess = ov.course.predict('how many', low=0, high=9)\nguess"
    done = one_page(tmp_path, *cells, nbformat.v4.new_code_cell(guess))
    assert done.returncode == 0, done.stderr
    soup = BeautifulSoup((tmp_path / "html" / "lessons" / "views.html").read_text("utf-8"), "html.parser")
    assert "how many?" in soup.text
    assert soup.find("a", string="Open in Colab")["href"].startswith("https://colab.research.google.com/")
    assert "pip" not in soup.text


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("raise RuntimeError('broken')", "raise RuntimeError('broken')"),
        ("import warnings\nwarnings.warn('mind')", "stderr"),
    ],
)
def test_a_page_that_fails_or_warns_fails_the_build(tmp_path, cell, said):
    done = one_page(tmp_path, nbformat.v4.new_markdown_cell("# Views"), nbformat.v4.new_code_cell(cell))
    assert done.returncode != 0
    assert said in done.stderr
