"""The claims, read from the table beside this file, which says what each of its keys is."""

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from orthoviz.claims import measured, rules
from orthoviz.claims.parts import Claim
from orthoviz.training import recipes

_WORDS = {
    "seeds": "Better or worse where the differences of pairs of runs with the same seed are not chance "
    "(Student's t, 5 %), otherwise unclear, as where a tuned rate is the first or last of its grid.",
    "margin": "As good where the whole 95 % interval of the lead, of pairs of runs with the same seed, lies "
    f"above {-100 * rules.MARGIN:g} point; against where it lies below; otherwise unclear.",
    "paper": {name: recipe.paper for name, recipe in recipes.RECIPES.items()},
}


def _claim(by: str, row: dict[str, Any]) -> Claim:
    """A claim as its table has it, with the rule as a function."""
    module, _, function = row["compare"].partition(".")
    compare = getattr({"rules": rules, "measured": measured}[module], function)
    text, source, rule = (row[key].format_map(_WORDS) for key in ("claim", "source", "rule"))
    return Claim(by, tuple(row["needs"]), partial(compare, **row.get("options", {})), text, source, rule)


# By name; the paper's, then this course's questions to it, then its successors'.
CLAIMS = {
    name: _claim(by, row)
    for by, rows in tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8")).items()
    for name, row in rows.items()
}
