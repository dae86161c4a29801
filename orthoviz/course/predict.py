"""Predict, then run: a guess is taken first and shown beside the answer."""

import html
import math
from typing import Any

import ipywidgets as w
from IPython.display import display

from orthoviz.course.picture import picture
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, new_figure


def predict(question: str, *, low: float, high: float, unit: str = "", scale: str = "linear") -> "Prediction":
    """Ask for a number before it is computed.

    Args:
        question: what is asked, in a few words.
        low, high: ends of the axis.
        unit: of the answer, such as ``"degrees"``.
        scale: ``"linear"`` or ``"log"``.

    Returns:
        A widget. After the answer has been computed, ``guess.reveal(answer)`` shows both on one axis.

    Raises:
        ValueError: the axis is empty, or logarithmic and not positive.
    """
    if scale not in ("linear", "log"):
        raise ValueError(f"scale must be 'linear' or 'log', got {scale!r}")
    if not (low < high and (scale == "linear" or low > 0)):
        raise ValueError(f"low must be below high, and positive on a log scale, got {low} and {high}")
    return Prediction(question, low, high, unit, scale)


class Prediction(w.VBox):  # type: ignore[misc]
    """The widget of :func:`predict`. ``guess`` is the number that was committed to, or None."""

    def __init__(self, question: str, low: float, high: float, unit: str, scale: str) -> None:
        self.guess: float | None = None
        self._low, self._high, self._unit, self._scale, self._question = low, high, unit, scale, question
        wide = {"description_width": "initial"}
        if scale == "log":
            ends = {"min": math.log10(low), "max": math.log10(high)}
            middle = math.sqrt(low * high)
            self.slider = w.FloatLogSlider(middle, step=0.01, readout_format=".3g", style=wide, **ends)
        else:
            step = 10 ** math.floor(math.log10((high - low) / 100))
            self.slider = w.FloatSlider((low + high) / 2, min=low, max=high, step=step, style=wide)
        self.slider.description = unit or "guess"
        self.slider.layout = w.Layout(width="min(30em, 90%)")
        commit = w.Button(
            description="this is my guess", button_style="primary", layout=w.Layout(width="auto")
        )
        skip = w.Button(description="skip", layout=w.Layout(width="auto"))
        self._status = w.HTML("No guess yet.")
        commit.on_click(lambda _: self.commit(self.slider.value))
        skip.on_click(lambda _: self.commit(None))
        super().__init__(
            [w.HTML(f"<b>{html.escape(question)}</b>"), self.slider, w.HBox([commit, skip, self._status])]
        )

    def commit(self, guess: float | None) -> None:
        """Hold on to a guess; None skips."""
        self.guess = guess
        text = "Skipped." if guess is None else f"Your guess: {guess:.3g} {self._unit}".rstrip() + "."
        self._status.value = f'<span role="status">{text} Run the next cell.</span>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for a page without a kernel the question."""
        fallback = f"<p><b>{html.escape(self._question)}?</b></p>"
        return super()._repr_mimebundle_(**kwargs) | {"text/html": fallback}

    def reveal(self, answer: float) -> None:
        """Show the answer, and the guess if there is one, on one axis."""
        figure, (ax,) = new_figure(9, 1.5)
        inside = min(max(answer, self._low), self._high)
        ax.plot([inside], [0], "D", color=ORTHOGONAL, ms=10, clip_on=False)
        label = f"answer {answer:.3g}" + (" (off the axis)" if inside != answer else "")
        ax.annotate(label, (inside, 0), (0, 12), textcoords="offset points", ha="center", color=ORTHOGONAL)
        text = f"{self._question}: {answer:.3g} {self._unit}".rstrip()
        if self.guess is not None:
            ax.plot([self.guess], [0], "o", color=INK, ms=8, mfc="none", clip_on=False)
            below = (self.guess, 0), (0, -20)
            ax.annotate(f"you {self.guess:.3g}", *below, textcoords="offset points", ha="center", color=INK)
            text += f"; your guess was {self.guess:.3g}"
        ax.axhline(0, color=RANDOM, lw=1, zorder=0)
        ax.set(xlim=(self._low, self._high), xscale=self._scale, ylim=(-1, 1), yticks=[])
        ax.set_xlabel(f"{self._question}, {self._unit}" if self._unit else self._question)
        ax.spines["left"].set_visible(False)
        display(picture(figure, text))  # type: ignore[no-untyped-call]
