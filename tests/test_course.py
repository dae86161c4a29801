import base64
import html
import io
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import jupytext
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import orthoviz as ov
from orthoviz.course.exercises import EXERCISES
from orthoviz.course.judge import Slip, judge
from orthoviz.training.comparison import folder_names
from orthoviz.training.outcomes import summary

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHECK = re.compile(r'(?:\w+ = )?ov\.course\.(?:check|use)\("([^"]+)", (\w+)\)')


def answers():
    """(folder, exercise, function) of every stub and every solution."""
    for path in sorted([*NOTEBOOKS.glob("[0-9]*.py"), *NOTEBOOKS.glob("solutions/[0-9]*.py")]):
        source, space = "", {"ov": ov, "torch": torch}  # later answers use those before
        for cell in jupytext.read(path).cells:
            if check := CHECK.search(cell.source):
                stub = source if CHECK.fullmatch(cell.source) else ""  # is in the cell before its check
                exec(CHECK.sub("", f"{stub}\n{cell.source}"), space)
                yield path.parent.name, check[1], space[check[2]]
            source = cell.source


ANSWERS = list(answers())
SLIPS = [(name, *slip) for name, exercise in EXERCISES.items() for slip in exercise.slips]


def test_every_exercise_has_a_stub_a_solution_and_three_slips():
    wanted = {(folder, name) for folder in ("notebooks", "solutions") for name in EXERCISES}
    assert {(folder, name) for folder, name, _ in ANSWERS} == wanted
    assert min(len(exercise.slips) for exercise in EXERCISES.values()) >= 3


@pytest.mark.parametrize(("folder", "name", "answer"), ANSWERS)
def test_a_solution_is_right_and_a_stub_is_not_attempted(folder, name, answer, capsys):
    ov.course.check(name, answer)
    out = capsys.readouterr().out
    assert out.startswith("right: " if folder == "solutions" else f"not attempted: {name} (")


def only_float32(*values):  # or torch's own error
    for tensor in filter(torch.is_tensor, values):
        torch.dot(tensor.flatten(), torch.ones(tensor.numel()))


def returns(function, case):
    """Whether a formula has a value there: a misspelt one raises everywhere."""
    try:
        return function(*case) is not None
    except Exception:
        return False


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_answer_is_right_in_float64_and_in_float32(name):
    exercise = EXERCISES[name]
    for right in exercise.right:
        assert judge(exercise, right) == exercise.says
        assert (
            judge(exercise, lambda *case, right=right: only_float32(*case) or right(*case)) == exercise.says
        )


@pytest.mark.parametrize(("name", "wrong", "words"), SLIPS)
def test_every_slip_has_its_own_words(name, wrong, words):
    assert any(returns(wrong, case) for case in EXERCISES[name].cases) or EXERCISES[name].judge
    with pytest.raises(Slip) as slip:
        judge(EXERCISES[name], wrong)
    assert words in str(slip.value) if EXERCISES[name].judge else words == str(slip.value)


@pytest.mark.parametrize(("name", "answer", "words"), [
    ("01.share", lambda k: 1j * k**-0.5, "returns a complex"),
    ("00.polar", lambda G: G @ torch.ones(7, 7).to(G), r"^the shapes do not fit \("),
    ("00.polar", lambda G: G @ torch.ones(4, 4, dtype=torch.bool), "mixes float32 and bool"),
    ("00.polar", lambda G: G * torch.nan, "nan or inf"),
    ("05.muon", lambda gradients, momentum: gradients[0].mul_(momentum), "work on a copy"),
    ("11.chance", lambda seeds: 1.03 * 0.5**seeds, "gives 0.12875, not 0.125: near"),
])  # fmt: skip
def test_an_answer_that_is_no_known_slip_is_described(name, answer, words):
    with pytest.raises(Slip, match=words):
        judge(EXERCISES[name], answer)


@pytest.mark.parametrize("name", [name for name, one in EXERCISES.items() if not one.in_place])
@pytest.mark.parametrize(
    ("function", "words"),
    [(lambda: None, "nothing"), (lambda: "text", "a str"), (lambda: 1 / 0, "ZeroDivision")],
)
def test_an_answer_that_is_no_answer_is_told_so(name, function, words, capsys):
    ov.course.check(name, lambda *case: function())
    assert re.search(f"^not yet: your (function returns|code raised) {words}", capsys.readouterr().out)


def test_a_lesson_goes_on_with_a_right_answer_and_otherwise_with_its_own(capsys):
    def mine(G):
        U, _, Vh = torch.linalg.svd(G, full_matrices=False)
        return U @ Vh

    def stub(G):
        raise NotImplementedError

    assert ov.course.use("00.polar", mine) is mine
    for wrong, says in ((stub, "not attempted"), (lambda G: G, "not yet: that is G again")):
        ours = ov.course.use("00.polar", wrong)
        assert torch.allclose(ours(torch.eye(3) * 5), torch.eye(3))
        assert ov.course.use("00.polar", ours) is ours  # the cell is run again
        assert re.search(rf"{says}.*goes on with ours.*not attempted", capsys.readouterr().out, re.DOTALL)


def test_what_checks_say_is_kept_where_it_is_asked_for(tmp_path, capsys):
    file = tmp_path / "answers.json"
    ov.course.record(file)
    try:
        ov.course.check("01.distance", lambda G: G.norm())
        ov.course.check("01.distance", lambda G: (torch.linalg.svdvals(G) - 1).norm())
        file.chmod(0o400)
        ov.course.record(None)
        ov.course.check("01.distance", lambda G: G.norm())
    finally:
        ov.course.record(None)
    said = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [set(one) for one in said] == [{"exercise", "said", "time"}] * 2
    assert [one["said"].partition(":")[0] for one in said] == ["not yet", "right"]
    with pytest.raises(ValueError, match="record needs a file"):
        ov.course.record(tmp_path / "missing" / "answers.json")


def test_an_unknown_exercise_lists_what_there_is():
    with pytest.raises(ValueError, match=r"00\.polar"):
        ov.course.check("99.nothing", None)


def test_the_mode_is_quick_unless_it_is_full(monkeypatch, capsys):
    monkeypatch.delenv("ORTHOVIZ_MODE", raising=False)
    assert ov.course.mode() == "quick"
    monkeypatch.setenv("ORTHOVIZ_MODE", "full")
    ov.course.header()
    says = capsys.readouterr().out
    assert says.startswith(f"orthoviz {metadata.version('orthoviz')} · torch {torch.__version__} · ")
    assert "full mode" in says
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


def test_a_choice_is_a_guess_too_and_a_wrong_one_is_answered():
    why = {"better": "Better would need new directions.", "same": "", "worse": "Nothing was lost."}
    guess = ov.course.predict("random numbers for the ones", choices=why)
    guess.slider.value = 2
    next(b for b in guess.children[2].children if b.description == "this is my guess").click()
    assert "Your guess: worse." in guess._status.value
    guess.tally("worse: 3, same: 12")
    says = guess.draw("same").data
    assert "random numbers for the ones: same; your guess was worse. Nothing was lost." in says
    assert "the class: same 12, worse 3" in says
    with pytest.raises(ValueError, match=r"one of better, same, worse, with its count, .*; got 'other: 3'"):
        guess.tally("other: 3")
    with pytest.raises(ValueError, match="'other' is not in list"):
        guess.draw("other")


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
    return re.search("<figcaption>(.*)</figcaption>", guess.draw(90).data)[1]


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
    "slip",
    ["thirty: 5", "200: 5", "nan: 5", "30: -5", "30: 2.5", "30: 99999", "30:", "30", "30; 5", "30: \u0665"],
)
def test_a_slip_in_the_counts_is_named_and_loses_nothing(tally_file, slip):
    guess = asked()
    field, said = class_field(guess)
    field.value = "30: 5, 90: 12"
    field.value = text = f"60: 1, {slip}, 90: 2"
    assert 'role="alert"' in said.value
    told = (
        "Write each guess, a number from 0 to 180, with its count, a whole number up to 9999, as in 30: 5, "
    )
    assert f"{told}90: 12; got {slip!r}. Kept as before: 17 guesses" in html.unescape(said.value)
    assert field.value == text
    assert "the class made 17 guesses" in caption(guess)
    with pytest.raises(ValueError, match="write each guess"):
        guess.tally(text)


def test_each_guess_of_a_class_is_a_dot(tally_file):
    guess = asked()
    guess.tally("30: 5, 90: 12, 120: 1")
    data = base64.b64decode(re.search('base64,([^"]+)', guess.draw(150).data)[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    high, wide = pixels.shape
    above_the_axis = pixels[: int(0.66 * high), int(0.18 * wide) :]
    _, dots = scipy.ndimage.label(above_the_axis < 70)  # the answer's blue is lighter
    assert dots == 18


@pytest.mark.slow
@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
@settings(max_examples=10, deadline=None)
def test_any_name_is_drawn_printed_and_stored(name):
    """As a question, an optimiser's key, a run's label: in a figure, a verdict, a folder."""
    name = name.strip() or "x"
    ov.course.predict(name, low=0, high=1).draw(0.3)
    rows = [(who, 0.1, seed, 1, 1, 0.5 + seed / 10) for who in (name, f"{name}$") for seed in range(2)]
    table = pd.DataFrame(rows, columns=["optimizer", "lr", "seed", "epoch", "step", "test_accuracy"])
    figure = ov.plots.compare(table)
    figure.canvas.draw()
    assert name in summary(table, "x")
    folders = {folder_names(who, 0.1, 0)[0] for who in (name, f"{name}$")}
    assert len(folders) == 2
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]+", folder) for folder in folders)


@pytest.mark.parametrize("question", ["price in $ of a_b $x$ $", "$\\frac{", r"\$x$"])
def test_a_question_with_dollar_signs_is_a_question(question):
    ov.course.predict(question, low=0, high=1).draw(0.3)
