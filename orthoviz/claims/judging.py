"""Judge claims, and show the ledger: as a frame, in words, as a table in a notebook."""

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from orthoviz.claims.catalogue import CLAIMS
from orthoviz.claims.parts import (
    AGAINST,
    FOR,
    NO_CASE,
    ONE_RUN,
    UNCLEAR,
    UNTESTED,
    VERDICTS,
    Claim,
    Part,
    concluded,
)
from orthoviz.claims.rules import sound
from orthoviz.training import recipes
from orthoviz.training.stored import folder, names, results

if TYPE_CHECKING:
    from IPython.display import Markdown

_WIDTH = 100


def judge(name: str) -> tuple[str, str]:
    """A claim's verdict, and the figures that it rests on: none where a table is missing.

    Raises:
        ValueError: there is no such claim; or a stored table lacks what the rule reads, or has something else
            than numbers there.
    """
    claim = _claim(name)
    if _missing(claim):
        return UNTESTED, ""
    try:
        parts = claim.parts(*map(_read, claim.needs))
        if not parts:
            raise ValueError("there is nothing that the rule compares")
    except (KeyError, ValueError) as error:
        reason = f"the rule reads what is not there, {error}" if isinstance(error, KeyError) else error
        places = " and ".join(dict.fromkeys(f"results/{need}" for need in claim.needs))
        made = "; ".join(dict.fromkeys(map(_command, claim.needs)))
        raise ValueError(f"claim {name!r} cannot be judged by {places}: {reason}. Made by: {made}") from error
    return concluded(parts), _figures(parts)


def _figures(parts: Sequence[Part]) -> str:
    """Where there are several comparisons, those for the claim together, then those against it, and so on."""
    if len(parts) == 1 and parts[0].found not in (ONE_RUN, NO_CASE):
        return parts[0].figures
    says = []
    for found in (FOR, AGAINST, UNCLEAR, ONE_RUN, NO_CASE):
        some = [part for part in parts if part.found == found]
        if told := [f"{part.label}: {part.figures}" if part.label else part.figures for part in some]:
            says.append(f"{found.capitalize()}: {'; '.join(told)}.")
    return " ".join(says)


def ledger(*chosen: str) -> pd.DataFrame:
    """A claim a row: all, or those that are named.

    Returns:
        Columns ``name``, ``by``, ``claim``, ``source``, ``rule``, ``results``, ``verdict``, ``figures``, and
        ``command``, which makes the runs that a claim lacks.

    Raises:
        ValueError: as :func:`judge`.
    """
    rows = []
    for name in chosen or CLAIMS:
        claim, (decided, figures) = _claim(name), judge(name)
        told = {"name": name, "by": claim.by, "claim": claim.text, "source": claim.source, "rule": claim.rule}
        told |= {"results": ", ".join(dict.fromkeys(claim.needs)), "verdict": decided, "figures": figures}
        rows.append(told | {"command": _lacking(claim) if decided == UNTESTED else ""})
    return pd.DataFrame(rows)


def listing() -> str:
    """All claims in words, those of one origin together, and how many came to which verdict."""
    frame = ledger()
    lines = []
    for by, rows in frame.groupby("by", sort=False):
        lines += [str(by).upper(), ""]
        for row in rows.to_dict("records"):
            told = [row["claim"], row["figures"], row["command"] and f"To test it: {row['command']}"]
            lines += [f"{row['name']}: {row['verdict']}"]
            lines += [line for text in told for line in _wrapped(text)] + [""]
    counts = frame["verdict"].value_counts()
    tally = ", ".join(f"{one} {counts.get(one, 0)}" for one in VERDICTS)
    lines += [
        f"{len(frame)} claims: {tally}.",
        "One in full, with its source and its rule: orthoviz claims NAME",
        "A run counts once it is stored: orthoviz results store RECIPE FOLDER COPY",
    ]
    return "\n".join(lines)


def shown(name: str) -> str:
    """One claim in full: source, rule, figures, and the runs that they come from.

    Raises:
        ValueError: as :func:`judge`.
    """
    claim = _claim(name)
    decided, figures = judge(name)
    told = {"claim": claim.text, "source": f"{claim.by}: {claim.source}", "rule": claim.rule}
    if figures:
        told["figures"] = figures
    if decided == UNTESTED:
        told["to test it"] = _lacking(claim)
    for stored in dict.fromkeys(need.partition("/")[0] for need in claim.needs):
        if stored in names():
            about = json.loads(results(stored).attrs["provenance"])
            told[f"results/{stored}"] = f"{about['what']}. {about['data']}. {about['date']}"
    lines = [f"{name}: {decided}"]
    for key, text in told.items():
        lines += ["", key, *_wrapped(text)]
    return "\n".join(lines)


def table(*chosen: str) -> "Markdown":
    """The ledger for a notebook: all claims, or those that are named. ``.data`` is its Markdown.

    Raises:
        ValueError: as :func:`judge`.
    """
    from IPython.display import Markdown

    lines = ["| claim | verdict | figures |", "|---|---|---|"]
    for row in ledger(*chosen).to_dict("records"):
        told = " ".join([row["figures"], row["command"] and f"To test it: `{row['command']}`"]).strip()
        cells = [cell.replace("|", r"\|") for cell in (row["claim"], f"**{row['verdict']}**", told)]
        lines.append(f"| {' | '.join(cells)} |")
    return Markdown("\n".join(lines))  # type: ignore[no-untyped-call]


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise ValueError(f"there is no claim {name!r}; there is: {', '.join(CLAIMS)}")
    return CLAIMS[name]


def _wrapped(text: str) -> list[str]:
    """Lines with a margin; a number and its % stay together."""
    margin, tied = " " * 4, text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(
        tied, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


# Stored tables

_KEYS = ("lr", "batch_size", "batch", "seed", "epoch", "step")  # by which rules pick rows


def _read(need: str) -> pd.DataFrame:
    stored, _, part = need.partition("/")
    read = pd.read_csv(folder(stored) / f"{part}.csv") if part else results(stored)
    for column in {*_KEYS} & {*read}:
        read = sound(read, column)
    read.attrs["name"] = stored
    return read


def _missing(claim: Claim) -> list[str]:
    def there(need: str) -> bool:
        stored, _, part = need.partition("/")
        return stored in names() and (folder(stored) / f"{part or 'table'}.csv").is_file()

    return [need for need in claim.needs if not there(need)]


_BENCHMARKS = {
    "lr_sweep": "python -m benchmarks.lr_sweep COPY",
    "filters": "python -m benchmarks.traces COPY",
    "polar": "python -m benchmarks.polar",
    "polar_gradients": "python -m benchmarks.polar_gradients COPY",
    "optim": "python -m benchmarks.optim",
    "rank_budget": "python -m benchmarks.rank_budget COPY",
    "theories": "python -m benchmarks.theories",
}


def _command(need: str) -> str:
    """What makes a stored table."""
    made = {name.replace("/", "-"): f"orthoviz train {name}" for name in recipes.RECIPES}
    return (made | _BENCHMARKS)[need.partition("/")[0]]


def _lacking(claim: Claim) -> str:
    """What makes the tables that a claim lacks; or more runs, where those of one run each tell nothing."""
    if missing := _missing(claim):
        return "; ".join(dict.fromkeys(map(_command, missing)))
    trained = [command for command in map(_command, claim.needs) if command.startswith("orthoviz train")]
    return "; ".join(f"{command} --seeds 3" for command in dict.fromkeys(trained))
