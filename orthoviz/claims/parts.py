"""What a claim is, what a comparison is, and how comparisons come to a verdict."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

# What a claim can come to.
VERDICTS = HOLDS, FAILS, MIXED, UNTESTED = ("holds", "does not hold here", "mixed", "not tested")

# What a comparison can find; the last two tell nothing.
FOUND = FOR, AGAINST, UNCLEAR, ONE_RUN, NO_CASE = ("for", "against", "unclear", "one run each", "no case")


class Part(NamedTuple):
    """One comparison of a rule.

    Attributes:
        label: what is compared, where there are several.
        found: ``"for"`` the claim, ``"against"`` it, ``"unclear"``; or what tells nothing: ``"one run
            each"``, and ``"no case"``, where what the claim explains did not happen.
    """

    label: str
    found: str
    figures: str


class Claim(NamedTuple):
    """A claim, and how it is decided.

    Attributes:
        by: whose it is: "the paper", "this course" or "its successors".
        needs: stored tables, as :func:`orthoviz.training.results` takes them.
        parts: the rule: from the tables that are needed, in this order, to comparisons.
        text: in one sentence.
        rule: in words.
    """

    by: str
    needs: tuple[str, ...]
    parts: Callable[..., Iterator[Part]]
    text: str
    source: str
    rule: str


def conclude(parts: Sequence[Part]) -> str:
    """The verdict on a claim.

    "holds" where every comparison is for it; "does not hold here" where none is, and at least one is against
    it; otherwise "mixed". Comparisons of one run each, or of what was not run, tell nothing, but keep a claim
    from holding; those with no case of what the claim explains count for nothing. "not tested" where there
    are no others.
    """
    found = {part.found for part in parts} - {ONE_RUN, NO_CASE}
    if not found:
        return UNTESTED
    if found == {FOR}:
        return MIXED if any(part.found == ONE_RUN for part in parts) else HOLDS
    return FAILS if AGAINST in found and FOR not in found else MIXED
