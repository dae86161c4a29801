"""The class's guesses: counted in a local file when asked to, or typed in by the lecturer."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock

_VARIABLE = "ORTHOVIZ_TALLY"
_EVERYONE = 0o666  # a class has many users, and each of them adds lines


def tally(path: str | os.PathLike[str] | None) -> None:
    """Count the guesses of this session in a file, from now on; None ends it.

    Nothing is written unless this is called or ``ORTHOVIZ_TALLY`` names a file. A guess becomes one line of
    JSON: the question, the guess, the time, and which guess it takes the place of where somebody thought
    again. No name, and nothing else that tells who it was. In a shared folder it counts a whole class.

    Args:
        path: of the file, which is made with the first guess. A new class takes a new file.

    Raises:
        ValueError: the path is that of a folder, or in a folder that does not exist.
    """
    if path is None:
        os.environ.pop(_VARIABLE, None)
        return
    file = Path(path).expanduser().resolve()
    if file.is_dir() or not file.parent.is_dir():
        raise ValueError(f"tally needs a file, in a folder that exists, got {os.fspath(path)!r}")
    os.environ[_VARIABLE] = str(file)


def tally_file() -> Path | None:
    """Where guesses are counted, or None."""
    chosen = os.environ.get(_VARIABLE)
    return Path(chosen).expanduser() if chosen else None


def record(question: str, guess: float | None, instead_of: float | None = None) -> None:
    """Append a line for a guess, where guesses are counted.

    Args:
        guess: None takes back the one before.
        instead_of: the guess before in the same file, which counts no longer.

    Raises:
        OSError: the file cannot be written, or another process has held it for ten seconds.
    """
    file = tally_file()
    if file is None or guess == instead_of:
        return
    about = {"question": question, "guess": guess, "time": datetime.now().isoformat(timespec="seconds")}
    if instead_of is not None:
        about["instead_of"] = instead_of
    line = json.dumps(about, ensure_ascii=False).encode() + b"\n"
    lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=10, mode=_EVERYONE)
    with lock, open(file, "ab+") as lines:
        if lines.tell() == 0:
            with suppress(OSError):  # not every file system has such rights
                file.chmod(_EVERYONE)
        elif lines.seek(-1, os.SEEK_END) and lines.read(1) != b"\n":
            line = b"\n" + line  # a machine went off and left half a line, which must not spoil this one
        lines.write(line)


def count_guesses(question: str) -> Counter[float]:
    """Count a question's guesses in the file. A damaged line is skipped."""
    file, counts = tally_file(), Counter[float]()
    if file is None or not file.exists():
        return counts
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            about = json.loads(line)
            if about["question"] == question:
                if about["guess"] is not None:
                    counts[float(about["guess"])] += 1
                if "instead_of" in about:
                    counts[float(about["instead_of"])] -= 1
    return +counts


def read_counts(
    counts: str | Mapping[float | str, int], low: float, high: float, choices: Sequence[str] = ()
) -> Counter[float]:
    """Read the counts of guesses that a lecturer typed.

    Args:
        counts: ``"30: 5, 90: 12"``, or the same as a mapping.
        low, high: ends of the question's axis.
        choices: or what can be chosen; a guess is its place.

    Raises:
        ValueError: the text has another form, a guess is no number on the axis, or a count is no whole
            number from 0 to 9999. The message says what is right, and where it is not.
    """
    parts = counts.split(",") if isinstance(counts, str) else [f"{g}: {n}" for g, n in counts.items()]
    found = Counter[float]()
    for part in filter(str.strip, parts):
        guess, _, count = (piece.strip() for piece in part.partition(":"))
        with suppress(ValueError):
            number = choices.index(guess) if choices else float(guess)
            if low <= number <= high and re.fullmatch("[0-9]{1,4}", count):  # nor is nan
                found[number] += int(count)
                continue
        axis, sample = f"a number from {low:g} to {high:g}", "30: 5, 90: 12"
        if choices:
            axis, sample = f"one of {', '.join(choices)}", f"{choices[0]}: 5"
        raise ValueError(
            f"write each guess, {axis}, with its count, a whole number up to 9999, as in {sample}; "
            f"got {part.strip()!r}"
        )
    return +found
