"""A learner's copies of the lessons: nothing that a learner wrote is lost, nothing old stays unasked."""

import os
import stat

import pytest

from orthoviz import lab
from orthoviz.cli import main


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The lessons of an installed package, which nobody may write to."""
    place = tmp_path / "package"
    (place / "solutions").mkdir(parents=True)
    for name in ("00_first", "03_third", "views", "solutions/00_first"):
        (place / f"{name}.ipynb").write_text(f"{name} of the first edition")
    for path in place.rglob("*.ipynb"):
        path.chmod(0o444)
    monkeypatch.setattr(lab, "notebooks", lambda: place)
    return place


def update(package):
    for path in package.glob("*.ipynb"):
        path.unlink()
        path.write_text(f"{path.stem} of the second edition")


def texts(folder):
    return {path.stem: path.read_text() for path in folder.glob("*.ipynb")}


def test_an_update_renews_what_is_untouched_and_leaves_what_is_changed(package, tmp_path, capsys):
    copies = tmp_path / "orthoviz-course"
    lab.copy_lessons(copies)
    assert set(texts(copies)) == {"00_first", "03_third", "views"}
    assert all(path.stat().st_mode & stat.S_IWUSR for path in copies.glob("*.ipynb"))
    (copies / "03_third.ipynb").write_text("my work")
    lab.copy_lessons(copies)
    assert capsys.readouterr().out == ""
    update(package)
    lab.copy_lessons(copies)
    assert "you have changed it too: orthoviz lab --fresh 03_third\n" in capsys.readouterr().out
    assert texts(copies) == {
        "00_first": "00_first of the second edition",
        "03_third": "my work",
        "views": "views of the second edition",
    }


def test_a_fresh_copy_keeps_every_version_of_the_learner(package, tmp_path, capsys):
    copies = tmp_path / "orthoviz-course"
    lab.copy_lessons(copies)
    for work in ("my work", "more work"):
        (copies / "03_third.ipynb").write_text(work)
        (copies / "00_first.ipynb").write_text("another work")
        lab.copy_lessons(copies, fresh="03_third")
    assert "Your version of 03_third is now 03_third-yours-2.ipynb.\n" in capsys.readouterr().out
    kept = texts(copies)
    assert (kept["03_third-yours"], kept["03_third-yours-2"]) == ("my work", "more work")
    assert kept["03_third"] == "03_third of the first edition"
    assert kept["00_first"] == "another work"
    lab.copy_lessons(copies, fresh="03_third")  # nothing was changed, so nothing is kept
    assert texts(copies) == kept


def test_copies_of_an_older_package_or_of_a_class_are_taken_as_they_are(package, tmp_path):
    """They have no originals beside them."""
    copies = tmp_path / "orthoviz-course"
    copies.mkdir()
    (copies / "00_first.ipynb").write_text("my work")
    (copies / "03_third.ipynb").write_text("03_third of the first edition")
    lab.copy_lessons(copies)
    assert texts(copies)["00_first"] == "my work"
    update(package)
    lab.copy_lessons(copies)
    assert texts(copies)["00_first"] == "my work"
    assert texts(copies)["03_third"] == "03_third of the second edition"


def test_where_nothing_can_be_written_the_copies_are_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert lab.copies() == tmp_path / "orthoviz-course"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert lab.copies() == tmp_path / "home" / "orthoviz-course"


def test_an_appendix_comes_after_its_lesson(package):
    (package / "03_appendix.ipynb").write_text("more")
    assert lab.lessons() == ["00_first", "03_third", "03_appendix"]
    assert [lab.find_lesson(start) for start in ("03", "03_a")] == ["03_third", "03_appendix"]


def test_a_lesson_is_found_by_how_it_begins(package, capsys):
    assert [lab.find_lesson(start) for start in ("03", "3", "03_third.ipynb", "views")] == [
        *["03_third"] * 3,
        "views",
    ]
    assert main(["lab", "07"]) == 2
    assert "there is no lesson '07'; there is: 00_first, 03_third" in capsys.readouterr().err
