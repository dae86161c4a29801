"""What the lecturer's kit says is so: views, headings, numbers, minutes, cut lines, recorded runs, slides."""

import ast
import importlib.util
import math
import re
from functools import cache
from pathlib import Path

import jupytext
import pytest
import torch

import orthoviz as ov
from benchmarks import recorded
from orthoviz.course.exercises import EXERCISES
from orthoviz.lab import find_lesson
from tests.browser import lab

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT / "notebooks" / "lecturer"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(KIT.glob("*.md"))}
LESSONS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))}
VIEW = re.compile(r"`(ov\.widgets\.\w+\([^`]*\))`")
SAYS = re.compile(r"(?<!\*)\*([^*]+)\*(?!\*)")


@cache
def headings(lesson):
    """The lesson's headings, in order, as they stand."""
    text = "\n".join(c.source for c in jupytext.read(LESSONS[lesson]).cells if c.cell_type == "markdown")
    return re.findall(r"^#+ .+$", text, re.MULTILINE)


def sections(page):
    """(title, text) of each part of a page under a heading of level 2."""
    return re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGES[page], re.MULTILINE)


def named_in(text):
    """Headings of lessons that a page names; the page may break them."""
    return [" ".join(heading.split()) for heading in re.findall(r"`(##+ [^`]+)`", text)]


def rows(text):
    """Cells of the rows of all tables, without their heads."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if not set("".join(line)) <= set("- ")]


CALLS = sorted({call for page in PAGES.values() for call in VIEW.findall(page) if "theme" not in call})


@cache
def made(call):
    """Whether a view has a picture, what it says, and a race's final accuracies."""
    view = eval(call, {"ov": ov, "torch": torch})
    race = getattr(view, "frame", None)
    ends = race().groupby("optimizer", sort=False).test_accuracy.last().tolist() if race else []
    told = bool(view.image), f"{view.title} {view.text}", ends
    view.close()
    return told


@pytest.mark.full
@pytest.mark.parametrize("call", CALLS)
def test_a_view_that_is_named_can_be_made(call):
    assert made(call)[0]


@pytest.mark.full
def test_a_view_says_what_the_table_says_that_it_says():
    checked = 0
    for page in PAGES.values():
        for row in rows(page):
            calls = [call for cell in row[:-1] for call in VIEW.findall(cell)]
            for quote in SAYS.findall(row[-1]) if calls else []:
                assert any(quote in made(call)[1] for call in calls), (calls, quote)
                checked += 1
    assert checked > 15


@pytest.mark.full
def test_races_end_as_the_script_says():
    options = ("lr_first=0.1", "lr_first=0.1, lr_second=0.1", 'second="per_tensor"', 'second="muon_order"')
    fair, both, length, muon = (made(f"ov.widgets.race({given})")[2] for given in options)
    assert abs(fair[0] - fair[1]) < 0.02
    assert 0.02 < both[0] - both[1] < 0.09
    assert length[0] < length[1] < fair[1]
    assert muon[1] < muon[0] + 0.01


def test_headings_that_are_named_exist():
    everywhere = {heading for lesson in LESSONS for heading in headings(lesson)}
    named = 0
    for name, page in PAGES.items():
        for heading in named_in(page):
            assert heading in everywhere, (name, heading)
            named += 1
    assert named > 40


@pytest.mark.parametrize(("title", "text"), sections("plans.md"))
def test_a_plans_headings_are_its_own_lessons(title, text):
    lesson = find_lesson(title[:2])
    for heading in named_in(text):
        assert heading in headings(lesson), heading


def test_lessons_files_and_commands_that_are_named_exist():
    for page in PAGES.values():
        for name in re.findall(r"`(\d\d_\w+)`", page):
            assert name in LESSONS, name
        for name in re.findall(r"`(\w+\.(?:md|ipynb))`", page):
            assert (KIT / name).is_file() or name == "NN_topic.ipynb", name
    readme = PAGES["README.md"]
    assert {path.name for path in KIT.glob("*.ipynb")} | set(PAGES) - {"README.md"} <= set(
        re.findall(r"`([\w.]+)`", readme)
    )


def names(cells, kind):
    """Names that code cells set (ast.Store) or read (ast.Load)."""
    found = set()
    for cell in cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, kind):
                    found.add(node.id)
                if kind is ast.Store and isinstance(node, ast.FunctionDef):
                    found.add(node.name)
    return found


@pytest.mark.parametrize(("title", "text"), sections("plans.md"))
def test_nothing_after_a_cut_misses_what_was_cut(title, text):
    lesson = find_lesson(title[:2])
    cells = jupytext.read(LESSONS[lesson]).cells
    cut = " ".join(text[text.index("**Cut.**") : text.index("**Checkpoint.**")].split())

    def place(heading):
        return next(i for i, c in enumerate(cells) if heading in c.source.splitlines())

    pairs = re.findall(r"from `(##+ [^`]+)` to `(##+ [^`]+)`", cut)
    assert pairs
    for first, last in pairs:
        start, end = place(first), place(last)
        assert start < end
        lost = names(cells[start:end], ast.Store) - names(cells[:start], ast.Store)
        for i in range(end, len(cells)):
            missing = names(cells[i : i + 1], ast.Load) & lost - names(cells[end : i + 1], ast.Store)
            assert not missing, (first, missing)


def test_the_minutes_of_the_class_add_up():
    end = 0
    for title, text in sections("90_minutes.md"):
        if clock := re.match(r"(\d):(\d\d) to (\d):(\d\d)", title):
            begins, ends = (60 * int(clock[i]) + int(clock[i + 1]) for i in (1, 3))
            assert begins == end
            end = ends
            minutes = [float(row[0]) for row in rows(text) if re.fullmatch(r"[\d.]+", row[0])]
            assert sum(minutes) == ends - begins, title
    assert end == 90


def test_slips_are_those_that_the_checks_know():
    for title, text in sections("plans.md"):
        exercises = re.search(r"\*\*Exercises\.\*\*(.*?)\n- \*\*Cut", text, re.DOTALL)[1]
        parts = re.split(r"(\d\d\.\w+):", " ".join(exercises.split()))[1:]
        assert len(parts) >= 4, title
        for exercise, told in zip(parts[::2], parts[1::2], strict=True):
            for quote in SAYS.findall(told):
                assert any(quote in words for _, words in EXERCISES[exercise].slips), (exercise, quote)
            assert SAYS.findall(told)


def test_the_numbers_of_questions_and_exam_are_right():
    space = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGES["questions.md"], re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        exec(block, space)


def test_the_exam_has_eight_questions_with_marks_that_add_up():
    marks = [int(n) for n in re.findall(r"### Question \d \((\d+) marks\)", PAGES["questions.md"])]
    assert len(marks) == 8
    assert f"{sum(marks)} marks" in PAGES["questions.md"]
    assert PAGES["questions.md"].count("**Solution.**") == PAGES["questions.md"].count("*Marks.*") == 8


# Recorded


def test_recorded_tables_have_what_the_class_needs():
    race = ov.training.results("recorded-race")
    assert set(race.optimizer) == {"sgd", "orthogonal_sgd"}
    assert set(race.lr) == {0.003, 0.01, 0.03, 0.1}
    assert race.epoch.max() == 4
    assert race.test_accuracy.between(0, 1).all()
    for protocol in ("equal_lr", "equal_step", "both_tuned"):
        table = ov.training.results(f"recorded-{protocol}")
        assert set(table.optimizer) == {"sgd", "orthogonal_sgd"}
        assert table.seed.nunique() == 3
        assert table.chosen.any()
    modes = ov.training.results("recorded-modes")
    assert set(modes.method) == {"gradient descent", "only the shape", "orthogonal"}


def test_recorded_modes_are_what_the_lesson_finds_now():
    """Lesson 02's first run, and the orthogonal one, in float64."""
    lesson = recorded.play("02_toy_problems", "descent", "orthogonal")
    stored = ov.training.results("recorded-modes")
    for method, run in (("gradient descent", lesson["descent"]), ("orthogonal", lesson["orthogonal"])):
        kept = stored[stored.method == method].set_index("step").drop(columns="method")
        for mode, now in run.set_index("step")[list(ov.toys.MODES)].items():
            then = kept[str(mode)]
            arrived, expected = (ov.toys.steps_until(abs(1 - walk), high=0.1) for walk in (now, then))
            assert arrived == pytest.approx(expected, abs=0, nan_ok=True)
            # Four digits are stored. Once there, a mode jumps about its value; rounding decides how.
            way = slice(None) if math.isnan(arrived) else slice(arrived)
            assert abs(then.to_numpy() - now.to_numpy())[way].max() < 6e-4


def test_a_recorded_race_is_what_is_found_now(monkeypatch, tmp_path):
    monkeypatch.setenv("ORTHOVIZ_DATA", str(tmp_path))
    lesson, stored = recorded.play("00_start_here", "yours", "sgd"), ov.training.results("recorded-first")
    for name in ("yours", "sgd"):
        assert list(stored[name]) == pytest.approx(lesson[name], abs=0.01)
    stored = ov.training.results("recorded-race").query("optimizer == 'sgd' and lr == 0.1")
    now = recorded.train(torch.optim.SGD, 0.1)
    assert list(stored.step) == list(now.step)
    assert list(stored.test_accuracy) == pytest.approx(
        list(now.test_accuracy), abs=0.03
    )  # sums in another order


# Slides


@pytest.fixture(scope="module")
def slides():
    """The script that makes them; Sphinx's folder is no package."""
    pytest.importorskip("sphinx_revealjs")
    spec = importlib.util.spec_from_file_location("slides", ROOT / "site" / "slides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LITTLE = """# %% [markdown]
# # A little lesson
#
# With $x^2$ in it.
#
# ## How large?
#
# Guess first.

# %%
import orthoviz as ov

guess = ov.course.predict("its size", low=0, high=3)
guess

# %%
guess.reveal(2.0)

# %% tags=["exercise"]
def size(x):
    raise NotImplementedError

# %% tags=["check"]
ov.course.check("02.matched", size)

# %% [markdown]
# ## A view

# %%
ov.widgets.polar_lab()
"""


@pytest.mark.full
def test_slides_are_made_of_the_lesson_and_need_no_network(slides, tmp_path):
    if lab.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    source = tmp_path / "little.py"
    source.write_text(LITTLE, encoding="utf-8")
    page_file = slides.build(source, tmp_path / "out")
    with lab.browser() as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.context.set_offline(True)
        page.goto(page_file.as_uri())
        page.wait_for_function("() => document.querySelector('mjx-container') && Reveal.isReady()")
        assert not [url for url in asked if not url.startswith(("file:", "data:"))]
        assert page.errors == []
        assert page.evaluate("Reveal.getTotalSlides()") == 4  # title, question, answer, view
        shown = [section.inner_text() for section in page.locator("section section").all()]
    assert "its size?" in shown[1]
    assert "raise NotImplementedError" in "".join(shown)
    assert "not attempted" not in "".join(shown)
    assert "answer" not in shown[1]
