"""Exercises that check themselves, and say which slip was made."""

import html
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from orthoviz.course.exercises import EXERCISES
from orthoviz.course.judge import Slip, judge

_record: Path | None = None  # where what checks say is kept


def check(name: str, answer: Any) -> None:
    """Judge an answer and print what is right or wrong with it; three hints open one by one.

    Nothing is raised for a wrong answer, so a notebook runs on.

    Args:
        name: the exercise, as its cell names it: ``"00.polar"``.
        answer: a function. A stub that still raises NotImplementedError is not judged.

    Raises:
        ValueError: there is no such exercise.
    """
    use(name, answer, otherwise="")


def use(name: str, answer: Any, *, otherwise: str = "Until then the lesson goes on with ours.") -> Any:
    """Judge an answer like :func:`check`, and return what the lesson goes on with.

    Args:
        otherwise: what is said beside the verdict where the answer is not right.

    Returns:
        The answer if it is right, else the course's own function.

    Raises:
        ValueError: there is no such exercise.
    """
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}; there is: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    try:
        if answer is exercise.right[0]:  # ours, from the time before
            raise NotImplementedError
        print(f"right: {judge(exercise, answer)}")
        _note(name, "right")
        return answer
    except NotImplementedError:
        says = f"not attempted: {name} ({exercise.minutes} minutes)"
    except Slip as slip:
        says = f"not yet: {slip}"
    except Exception as error:  # the learner's code can raise anything
        says = f"not yet: your code raised {type(error).__name__}: {error}"
    _note(name, says)
    print(f"{says}. {otherwise}" if otherwise else says)
    display(HTML(_nested(exercise.hints)))  # type: ignore[no-untyped-call]
    return exercise.right[0]


def record(path: str | os.PathLike[str] | None) -> None:
    """Keep what every check says in a file, from now on; None ends it.

    A line of JSON each: the exercise, "right" or what is wrong, the time. No name, and nothing of the answer.

    Args:
        path: of the file.

    Raises:
        ValueError: the path is that of a folder, or in a folder that does not exist.
    """
    global _record
    file = None if path is None else Path(path).expanduser().resolve()
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ValueError(f"record needs a file, in a folder that exists, got {os.fspath(path or '')!r}")
    _record = file


def _note(name: str, says: str) -> None:
    if _record is None:
        return
    about = {"exercise": name, "said": says, "time": datetime.now().isoformat(timespec="seconds")}
    try:
        with open(_record, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(about, ensure_ascii=False) + "\n")
    except OSError as error:
        print(f"This could not be kept in {_record} ({error}).")


def _nested(hints: tuple[str, ...], number: int = 1) -> str:
    """Each hint holds the next, closed."""
    if not hints:
        return ""
    inner = f"<p>{html.escape(hints[0])}</p>{_nested(hints[1:], number + 1)}"
    return f"<details><summary>hint {number}</summary>{inner}</details>"
