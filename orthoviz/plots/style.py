"""Colours, line styles and sizes: one cast of characters in every picture.

Colours are from Okabe & Ito's palette, which colour-blind readers can tell apart; each comes with a
line style of its own, for print in black and white.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orthoviz.optim.named import label_of

SGD = "#D55E00"
ORTHOGONAL = "#0072B2"
# Grey is always a random baseline or a control.
RANDOM = "#8A8A8A"
INK = "#222222"
PALE = "#BBBBBB"

# The course's four modes, with the colour and line style that each has everywhere.
MODES = {10.0: ("#CC79A7", "-"), 3.0: (ORTHOGONAL, "--"), 1.0: ("#009E73", "-."), 0.3: ("#E69F00", ":")}

# Colour and line style of what a gradient becomes, stage by stage.
STAGES: dict[str, tuple[str, Any]] = {
    "raw": ("#CC79A7", (0, (1, 1))),
    "orthogonal": (ORTHOGONAL, "-"),
    "momentum": ("#009E73", (0, (5, 2))),
    "applied": ("#E69F00", (0, (6, 1.5, 1, 1.5))),
    "weight": (INK, (0, (2, 1.5))),
}

_MUON = "#009E73"
_KNOWN: dict[str, tuple[str, Any]] = {
    "sgd": (SGD, (4, 1.5)),
    "lars": (SGD, (4, 1.5)),
    "orthogonal_sgd": (ORTHOGONAL, ""),
    "orthogonal_lars": (ORTHOGONAL, ""),
    "orthogonal_sgd_keep": (ORTHOGONAL, (1, 1)),
    "muon_order": (_MUON, (6, 1.5, 1, 1.5)),
    "muon_order_keep": (_MUON, (1, 1)),
    "control": (RANDOM, (1, 1)),
    "matched": (RANDOM, (4, 1.5)),
    "per_filter": (RANDOM, (6, 1.5, 1, 1.5)),
    "per_tensor": (RANDOM, (1, 1)),
}
_KNOWN |= {label_of(name): known for name, known in _KNOWN.items()}
# Palette by optimiser's name or label, for seaborn's palette=.
COLOURS = {name: colour for name, (colour, _) in _KNOWN.items()}
# Line style by optimiser's name or label, for seaborn's dashes=.
DASHES = {name: dashes for name, (_, dashes) in _KNOWN.items()}


def literal(text: str) -> str:
    """A user's text as matplotlib shows it: a $ begins no formula."""
    return text.replace("$", r"\$")


_OTHERS = (_MUON, "#CC79A7", "#E69F00", "#56B4E9", INK)
_PATTERNS: tuple[Any, ...] = ((6, 1.5, 1, 1.5), (2, 1.5), (8, 2), (3, 1, 1, 1, 1, 1), "")


def look(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and line style for each name, as ``palette=`` and ``dashes=``: known names keep theirs."""
    names = list(dict.fromkeys(names))
    taken = [_KNOWN[name] for name in names if name in _KNOWN]
    others = cycle(one for one in zip(_OTHERS, _PATTERNS, strict=True) if one not in taken)
    looks = {name: _KNOWN.get(name) or next(others) for name in names}
    return {key: {name: looks[name][i] for name in names} for i, key in enumerate(("palette", "dashes"))}


def new_figure(
    width: float, height: float, columns: tuple[float, ...] = (1,), *, ax: Axes | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches with axes side by side, outside pyplot's memory.

    Args:
        columns: relative widths of the axes.
        ax: axes to draw on instead; the figure is theirs.
    """
    if ax is not None:
        return cast(Figure, ax.get_figure()), [ax]
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(columns), width_ratios=columns, squeeze=False)[0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)
