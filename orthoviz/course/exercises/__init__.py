"""The exercises of all lessons, read from the tables beside this file.

A table says of each exercise: its ``minutes``; the ``arguments`` of the function that is asked for;
``right``, the right answer as a formula of them (``also_right``: another one); ``cases``, the arguments to
try; what it ``says`` of a right answer; three ``hints``; and ``slips``, each a wrong formula and what is
said of it. A formula is Python, with the names of ``formulas``.

Where many answers are right, ``judge`` names a function of ``judges``. Where an answer is one of a few
``choices``, each case comes with what is said if the choice is wrong. The slips of these have a part of what
is said. The stubs stand in the notebooks, worked solutions in ``notebooks/solutions``.
"""

import tomllib
from pathlib import Path
from typing import Any

from orthoviz.course.exercises import formulas, judges
from orthoviz.course.judge import Exercise, judge_choices


def _exercise(row: dict[str, Any]) -> Exercise:
    """An exercise as its table has it, with the formulas as functions."""

    def function(formula: str) -> Any:
        return eval(f"lambda {row['arguments']}: ({formula})", vars(formulas))

    def case(formula: str) -> tuple[Any, ...]:
        values = eval(formula, vars(formulas))
        return values if isinstance(values, tuple) else (values,)

    right = function(row["right"])
    judge = getattr(judges, row["judge"]) if "judge" in row else None
    if "choices" in row:
        words = {why: case(formula) for formula, why in row["cases"].items()}
        judge = judge_choices(right, words, tuple(row["choices"]))
    return Exercise(
        minutes=row["minutes"],
        right=(right, function(row["also_right"])) if "also_right" in row else (right,),
        cases=() if judge else tuple(map(case, row["cases"])),
        slips=tuple((function(formula), words) for formula, words in row.get("slips", {}).items()),
        says=row["says"],
        hints=tuple(row["hints"]),
        near=row.get("near", ""),
        tolerance=row.get("tolerance", 1e-5),
        in_place=row.get("in_place", False),
        judge=judge,
    )


EXERCISES = {
    name: _exercise(row)
    for table in ("foundations", "diagnostics", "experiments", "theories")
    for name, row in tomllib.loads(
        (Path(__file__).parent / f"{table}.toml").read_text(encoding="utf-8")
    ).items()
}
