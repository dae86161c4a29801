import base64
import html
import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jupytext
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

import orthoviz as ov
from orthoviz.course.exercises import EXERCISES

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHECK = re.compile(r'ov\.course\.check\("([^"]+)", (\w+)\)')


def stubs():
    """Exercise to (name of the answer, source of the stub), from the lessons."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("[0-9]*.py")):
        previous = ""
        for cell in jupytext.read(path).cells:
            tags = cell.metadata.get("tags", [])
            if "check" in tags:
                exercise, answer = CHECK.fullmatch(cell.source.strip()).groups()
                found[exercise] = answer, previous
            previous = cell.source
    return found


def answers(kind):
    """(exercise, expected words, source) of every solution or wrong answer, from the solutions."""
    for path in sorted(NOTEBOOKS.glob("solutions/[0-9]*.py")):
        for cell in jupytext.read(path).cells:
            tags = cell.metadata.get("tags", [])
            if tags[:1] == [kind]:
                yield tags[1], [*tags, ""][2], cell.source


def said(exercise, source, capsys):
    """What the check says of an answer, given as source that may hold the check itself."""
    space = {"ov": ov, "torch": __import__("torch")}
    exec(CHECK.sub("", source), space)
    capsys.readouterr()
    ov.course.check(exercise, space[stubs()[exercise][0]])
    return capsys.readouterr().out


def test_every_exercise_has_a_stub_a_solution_and_three_wrong_answers():
    solved = [exercise for exercise, _, _ in answers("solution")]
    wrong = [exercise for exercise, _, _ in answers("wrong")]
    assert set(stubs()) == set(EXERCISES) == set(solved)
    assert all(wrong.count(exercise) >= 3 for exercise in EXERCISES)


@pytest.mark.parametrize(("exercise", "source"), [(e, source) for e, _, source in answers("solution")])
def test_a_solution_is_right(exercise, source, capsys):
    assert said(exercise, source, capsys).startswith("right: ")


@pytest.mark.parametrize(("exercise", "words", "source"), list(answers("wrong")))
def test_a_wrong_answer_is_told_its_mistake(exercise, words, source, capsys):
    out = said(exercise, source, capsys)
    assert out.startswith("not yet: ")
    assert words in out


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_empty_stub_is_not_attempted(exercise, capsys):
    out = said(exercise, stubs()[exercise][1], capsys)
    assert out.startswith(f"not attempted: {exercise} (")


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *arguments: None, "returns nothing"),
        (lambda *arguments: "a string", "returns a str"),
        (lambda *arguments: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_an_answer_that_is_no_answer_is_told_so(exercise, answer, words, capsys):
    ov.course.check(exercise, answer)
    out = capsys.readouterr().out
    assert out.startswith("not yet: ")
    assert words in out


def test_an_answer_that_changes_its_input_is_told_so(capsys):
    ov.course.check("01.polar", lambda gradient: gradient.zero_())
    assert "work on a copy" in capsys.readouterr().out


def test_an_unknown_exercise_lists_what_there_is():
    with pytest.raises(ValueError, match=r"01\.polar"):
        ov.course.check("99.nothing", None)


def test_the_mode_is_quick_unless_it_is_full(monkeypatch, capsys):
    monkeypatch.delenv("ORTHOVIZ_MODE", raising=False)
    assert ov.course.mode() == "quick"
    monkeypatch.setenv("ORTHOVIZ_MODE", "full")
    ov.course.header()
    assert "full mode" in capsys.readouterr().out
    monkeypatch.setenv("ORTHOVIZ_MODE", "slow")
    with pytest.raises(ValueError, match="'quick' or 'full', got 'slow'"):
        ov.course.mode()


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_guess_is_shown_with_the_answer(scale, capsys):
    guess = ov.course.predict("times longer", low=0.1, high=100, scale=scale, unit="times")
    guess.slider.value = 3.0
    buttons = {b.description: b for b in guess.children[2].children if hasattr(b, "click")}
    buttons["this is my guess"].click()
    assert guess.guess == pytest.approx(3.0, rel=0.02)
    guess.reveal(250.0)  # off the axis
    buttons["skip"].click()
    assert guess.guess is None
    guess.reveal(10.0)


@pytest.mark.parametrize(
    "axis", [dict(low=1, high=1), dict(low=0, high=1, scale="log"), dict(low=0, high=1, scale="x")]
)
def test_an_impossible_axis_is_refused(axis):
    with pytest.raises(ValueError, match="must be"):
        ov.course.predict("how many", **axis)


# The class's guesses


@pytest.fixture
def tally_file(tmp_path, monkeypatch):
    """A file that guesses are counted in, for one test."""
    monkeypatch.setenv("ORTHOVIZ_TALLY", "")  # is put back afterwards
    ov.course.tally(tmp_path / "guesses.jsonl")
    return tmp_path / "guesses.jsonl"


def asked():
    return ov.course.predict("angle of the rows", low=0, high=180, unit="degrees")


def press(guess, label):
    next(b for b in guess.children[2].children if getattr(b, "description", "") == label).click()


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def caption(guess):
    return re.search("<figcaption>(.*)</figcaption>", guess.revealed(90).data)[1]


def class_field(guess):
    """The lecturer's field and what is said beside it; fails where there is none."""
    return guess.children[3].children


def test_without_being_asked_nothing_is_written_and_no_field_is_there(tmp_path, monkeypatch):
    monkeypatch.delenv("ORTHOVIZ_TALLY", raising=False)
    monkeypatch.chdir(tmp_path)
    guess = asked()
    press(guess, "this is my guess")
    assert len(guess.children) == 3
    assert "class" not in caption(guess)
    assert list(tmp_path.iterdir()) == []


def test_a_guess_is_a_line_without_a_name(tally_file):
    guess = asked()
    guess.slider.value = 30
    press(guess, "this is my guess")
    press(guess, "this is my guess")  # twice by mistake
    (line,) = lines(tally_file)
    assert set(line) == {"question", "guess", "time"}
    assert (line["question"], line["guess"]) == ("angle of the rows", 30)


def test_who_thinks_again_counts_once_and_who_skips_not(tally_file):
    first, second = asked(), asked()
    first.commit(30.0)
    second.commit(60.0)
    first.commit(90.0)
    assert "the class made 2 guesses from 60 to 90" in caption(first)
    second.commit(None)
    assert "the class made 1 guess from 90 to 90" in caption(first)
    other = ov.course.predict("something else", low=0, high=180)
    assert "class" not in caption(other)


def test_a_guess_from_before_the_counting_takes_no_others_place(tally_file, tmp_path):
    ov.course.tally(None)
    first, second = asked(), asked()
    first.commit(30.0)
    ov.course.tally(tally_file)
    second.commit(30.0)
    first.commit(50.0)
    assert "the class made 2 guesses from 30 to 50" in caption(first)
    ov.course.tally(tmp_path / "another.jsonl")  # a new class
    second.commit(90.0)
    first.commit(50.0)  # the same as before, in a file that does not have it yet
    assert "the class made 2 guesses from 50 to 90" in caption(first)


def test_many_who_write_at_once_lose_no_line(tally_file):
    """Each in a process of its own; the module needs no other of the package, so they start together."""
    script = "import runpy, sys; record = runpy.run_path(sys.argv[1])['record']\n"
    script += "for i in range(100): record(f'question of {sys.argv[2]} ' + 'x' * 500, float(i))"
    module = str(Path(ov.__file__).parent / "course" / "tally.py")
    started = [subprocess.Popen([sys.executable, "-c", script, module, str(who)]) for who in range(6)]
    assert [process.wait(120) for process in started] == [0] * 6
    found = Counter((line["question"][:13], line["guess"]) for line in lines(tally_file))
    assert found == Counter((f"question of {who}", float(i)) for who in range(6) for i in range(100))


def test_half_a_line_of_a_machine_that_went_off_spoils_no_other(tally_file):
    asked().commit(30.0)
    with open(tally_file, "a") as file:
        file.write('{"question": "angle of the r')
    asked().commit(90.0)
    assert "the class made 2 guesses from 30 to 90" in caption(asked())


def test_a_tally_that_cannot_be_written_loses_no_guess(tally_file, tmp_path):
    tally_file.mkdir()
    guess = asked()
    guess.commit(30.0)
    assert guess.guess == 30
    assert "Your guess: 30 degrees. It could not be counted" in guess.children[2].children[2].value
    assert "your guess was 30" in caption(guess)


@pytest.mark.parametrize("path", ["", "no such folder/guesses.jsonl"])
def test_a_tally_needs_a_file_in_a_folder_that_exists(path, tmp_path):
    with pytest.raises(ValueError, match="tally needs a file"):
        ov.course.tally(tmp_path / path)


def test_the_lecturer_types_counts_in_the_lecture_theme(monkeypatch):
    monkeypatch.delenv("ORTHOVIZ_TALLY", raising=False)
    ov.widgets.theme("lecture")
    try:
        field, said = class_field(asked())
    finally:
        ov.widgets.theme("notebook")
    field.value = "30: 5, 90: 12"
    assert "17 guesses of the class" in said.value


def test_typed_counts_come_to_those_in_the_file(tally_file):
    guess = asked()
    guess.commit(45.0)
    class_field(guess)[0].value = "30: 5, 90: 12,"
    assert "your guess was 45; the class made 18 guesses from 30 to 90, median 90" in caption(guess)
    guess.tally({30: 1, "60": 2})  # in the place of those before
    assert "the class made 4 guesses from 30 to 60, median 52.5" in caption(guess)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thirty: 5", "from 0 to 180, got 'thirty'"),
        ("200: 5", "from 0 to 180, got '200'"),
        ("nan: 5", "from 0 to 180, got 'nan'"),
        ("30: -5", "whole number up to 9999, got '-5' for the guess 30"),
        ("30: 2.5", "whole number up to 9999, got '2.5'"),
        ("30: 99999", "whole number up to 9999, got '99999'"),
        ("30: ", "whole number up to 9999, got ''"),
        ("30, 90", "as in 30: 5, 90: 12; got '30'"),
        ("30; 5", "as in 30: 5, 90: 12; got '30; 5'"),
    ],
)
def test_a_slip_in_the_counts_is_named_and_loses_nothing(tally_file, text, words):
    guess = asked()
    field, said = class_field(guess)
    field.value = "30: 5, 90: 12"
    field.value = text
    assert 'role="alert"' in said.value
    assert words in html.unescape(said.value)
    assert re.search(r">(A (guess|count) must|Write each)", said.value)
    assert "Kept as before: 17 guesses" in said.value
    assert field.value == text
    assert "the class made 17 guesses" in caption(guess)
    with pytest.raises(ValueError, match=r"must be|write each guess"):
        guess.tally(text)


def test_each_guess_of_a_class_is_a_dot(tally_file):
    guess = asked()
    guess.tally("30: 5, 90: 12, 120: 1")
    data = base64.b64decode(re.search('base64,([^"]+)', guess.revealed(150).data)[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    high, wide = pixels.shape
    above_the_axis = pixels[: int(0.66 * high), int(0.18 * wide) :]
    _, dots = scipy.ndimage.label(above_the_axis < 70)  # the answer's blue is lighter
    assert dots == 18
