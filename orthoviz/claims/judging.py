"""Judge claims, and show the ledger: as a frame, in words, as a table in a notebook."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from orthoviz.claims.catalogue import CLAIMS
from orthoviz.claims.parts import FOUND, NO_CASE, ONE_RUN, UNTESTED, VERDICTS, Claim, Part, conclude
from orthoviz.training import recipes
from orthoviz.training.stored import check_table, names, provenance_of, results, table_file

if TYPE_CHECKING:
    from IPython.display import Markdown

_BENCHMARKS = {
    "lr_sweep": "lr_sweep COPY",
    "filters": "traces COPY",
    "features": "features COPY",
    "polar": "polar",
    "polar_gradients": "polar_gradients COPY",
    "optim": "optim",
    "rank_budget": "rank_budget COPY",
    "theories": "theories",
}


def judge(name: str) -> tuple[str, str]:
    """A claim's verdict, and the figures that it rests on: none where a table is missing.

    Raises:
        ValueError: there is no such claim, or a table was changed so that nothing can be said of it.
    """
    claim = _claim(name)
    if _missing(claim):
        return UNTESTED, ""
    parts = [*claim.parts(*map(_trusted, claim.needs))]
    return conclude(parts), _figures(parts)


def _trusted(need: str) -> pd.DataFrame:
    """A stored table, which somebody may have changed since it was checked and stored."""
    try:
        return check_table(results(need))
    except ValueError as error:
        raise ValueError(f"results/{need}: {error}") from error


def _figures(parts: Sequence[Part]) -> str:
    """Where there are several comparisons, those for the claim together, then those against it, and so on."""
    if len(parts) == 1 and parts[0].found not in (ONE_RUN, NO_CASE):
        return parts[0].figures
    sentences = []
    for found in FOUND:
        some = [f"{part.label}: {part.figures}".removeprefix(": ") for part in parts if part.found == found]
        if some:
            sentences.append(f"{found.capitalize()}: {'; '.join(some)}.")
    return " ".join(sentences)


def ledger(*chosen: str) -> pd.DataFrame:
    """A claim a row: all, or those that are named.

    Returns:
        Columns ``name``, ``by``, ``claim``, ``source``, ``rule``, ``results``, ``verdict``, ``figures``, and
        ``command``, which makes the runs that a claim lacks.

    Raises:
        ValueError: there is no such claim.
    """
    rows = []
    for name in chosen or CLAIMS:
        claim, (verdict, figures) = _claim(name), judge(name)
        row = {"name": name, "by": claim.by, "claim": claim.text, "source": claim.source, "rule": claim.rule}
        row |= {"results": ", ".join(dict.fromkeys(claim.needs)), "verdict": verdict, "figures": figures}
        rows.append(row | {"command": _command(claim) if verdict == UNTESTED else ""})
    return pd.DataFrame(rows)


def listing() -> str:
    """All claims in words, those of one origin together, and how many came to which verdict."""
    frame = ledger()
    lines = []
    for by, rows in frame.groupby("by", sort=False):
        lines += [str(by).upper(), ""]
        for row in rows.to_dict("records"):
            todo = row["command"] and f"To test it: {row['command']}"
            lines += [f"{row['name']}: {row['verdict']}", *_wrap(row["claim"], row["figures"], todo), ""]
    counts = [f"    {one} {_count(frame[frame['verdict'] == one])}" for one in VERDICTS]
    lines += [
        *(f"{len(frame)} claims:", *counts),
        "One in full, with its source and its rule: orthoviz claims NAME",
        "A run counts once it is stored: orthoviz results store RECIPE FOLDER COPY",
    ]
    return "\n".join(lines)


def _count(rows: pd.DataFrame) -> str:
    """How many claims, and on how many sets of runs they rest; several claims can rest on one."""
    sets = {need.partition("/")[0] for needs in rows["results"] for need in needs.split(", ")}
    untested = (rows["verdict"] == UNTESTED).all()
    return f"{len(rows)}" if untested else f"{len(rows)} (on {len(sets)} set{'s' * (len(sets) != 1)} of runs)"


def describe(name: str) -> str:
    """One claim in full: source, rule, figures, and the runs that they come from.

    Raises:
        ValueError: there is no such claim.
    """
    claim, (verdict, figures) = _claim(name), judge(name)
    sections = {"claim": claim.text, "source": f"{claim.by}: {claim.source}", "rule": claim.rule}
    sections |= {"figures": figures, "to test it": _command(claim) if verdict == UNTESTED else ""}
    for stored in dict.fromkeys(need.partition("/")[0] for need in claim.needs):
        if stored in names():
            about = provenance_of(stored)
            sections[f"results/{stored}"] = f"{about['what']}. {about['data']}. {about['date']}"
    lines = [f"{name}: {verdict}"]
    for title, text in sections.items():
        lines += ["", title, *_wrap(text)] if text else []
    return "\n".join(lines)


def table(*chosen: str) -> "Markdown":
    """The ledger for a notebook: all claims, or those that are named. ``.data`` is its Markdown.

    Raises:
        ValueError: there is no such claim.
    """
    from IPython.display import Markdown

    lines = ["| claim | verdict | figures |", "|---|---|---|"]
    for row in ledger(*chosen).to_dict("records"):
        todo = row["command"] and f"To test it: `{row['command']}`"
        cells = (row["claim"], f"**{row['verdict']}**", f"{row['figures']} {todo}".strip())
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return Markdown("\n".join(lines))  # type: ignore[no-untyped-call]


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise ValueError(f"there is no claim {name!r}; there is: {', '.join(CLAIMS)}")
    return CLAIMS[name]


def _wrap(*texts: str) -> list[str]:
    """Lines with a margin; a number and its % stay together."""
    wrapper = textwrap.TextWrapper(
        100, initial_indent=" " * 4, subsequent_indent=" " * 4, break_on_hyphens=False
    )
    nbsp = "\N{NO-BREAK SPACE}"
    lines = [line for text in texts for line in wrapper.wrap(text.replace(" %", f"{nbsp}%"))]
    return [line.replace(nbsp, " ") for line in lines]


def _missing(claim: Claim) -> list[str]:
    return [need for need in claim.needs if not table_file(need).is_file()]


def _command(claim: Claim) -> str:
    """What makes the tables that a claim lacks; or more runs, where those of one run each tell nothing."""
    missing = _missing(claim)
    commands = [_make(need) for need in missing or claim.needs]
    if not missing:
        commands = [f"{command} --seeds 3" for command in commands if command.startswith("orthoviz")]
    return "; ".join(dict.fromkeys(commands))


def _make(need: str) -> str:
    """The command that makes a stored table."""
    name = need.partition("/")[0]
    if name in _BENCHMARKS:
        return f"python -m benchmarks.{_BENCHMARKS[name]}"
    recipe = next(recipe for recipe in recipes.RECIPES if recipe.replace("/", "-") == name)
    return f"orthoviz train {recipe}"
