import re
from pathlib import Path

import jupytext
import pytest

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
