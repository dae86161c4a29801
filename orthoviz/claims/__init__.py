"""The ledger of claims: what the paper and its successors say, and what the stored runs say to that.

A claim's rule turns the stored tables that it needs into comparisons, each for the claim, against it, or
unclear, and :func:`conclude` makes a verdict of them. No verdict is typed in: a table changes, and it does.
"""

from orthoviz.claims.catalogue import CLAIMS
from orthoviz.claims.judging import describe, judge, ledger, listing, table
from orthoviz.claims.parts import VERDICTS, Claim, Part, conclude

__all__ = [
    "CLAIMS", "VERDICTS", "Claim", "Part", "conclude", "describe", "judge", "ledger", "listing", "table",
]  # fmt: skip
