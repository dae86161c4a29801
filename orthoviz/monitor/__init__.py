"""Watch a model while it trains: hooks in, one tidy frame out, training unchanged.

:func:`watch` makes a :class:`Monitor` that hangs on the optimiser's step. Before a step it copies weights and
gradients, during it an optimiser of this package shows its stages, after it :mod:`orthoviz.measures` turn
what was seen into numbers, which leave the device in one copy. :data:`QUANTITIES` is the table of what can be
measured; what comes out is a frame with one value a row (:data:`COLUMNS`). :meth:`Monitor.report` names what
is wrong with a run.
"""

from orthoviz.measures.quantities import PRESETS, QUANTITIES, STAGES, Quantity
from orthoviz.monitor.frames import COLUMNS, join, read
from orthoviz.monitor.monitor import Monitor
from orthoviz.monitor.report import Fault, Report
from orthoviz.monitor.watching import watch

__all__ = [
    "COLUMNS", "PRESETS", "QUANTITIES", "STAGES", "Fault", "Monitor", "Quantity", "Report", "join", "read",
    "watch",
]  # fmt: skip
