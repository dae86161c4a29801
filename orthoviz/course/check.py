"""Exercises that check themselves, and say which slip was made."""

import html
from typing import Any

from IPython.display import HTML, display

from orthoviz.course.exercises import EXERCISES
from orthoviz.course.judge import Slip, judge


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
        return answer
    except NotImplementedError:
        says = f"not attempted: {name} ({exercise.minutes} minutes)"
    except Slip as slip:
        says = f"not yet: {slip}"
    except Exception as error:  # the learner's code can raise anything
        says = f"not yet: your code raised {type(error).__name__}: {error}"
    print(f"{says}. {otherwise}" if otherwise else says)
    display(HTML(_nested(exercise.hints)))  # type: ignore[no-untyped-call]
    return exercise.right[0]


def _nested(hints: tuple[str, ...], number: int = 1) -> str:
    """Each hint holds the next, closed."""
    if not hints:
        return ""
    inner = f"<p>{html.escape(hints[0])}</p>{_nested(hints[1:], number + 1)}"
    return f"<details><summary>hint {number}</summary>{inner}</details>"
