"""Predict, then run: a guess is taken first and shown beside the answer."""

import html
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from orthoviz.course.picture import picture
from orthoviz.course.tally import count_guesses, read_counts, record, tally_file
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, new_figure
from orthoviz.plots.style import literal
from orthoviz.widgets.look import current_theme

_PLACES = 60
"""Columns of dots for the class's guesses."""
_DOTS = 12
"""Most dots in a column; where there would be more, bars replace all dots."""

_BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}


def predict(
    question: str, *, low: float = math.nan, high: float = math.nan, unit: str = "", scale: str = "linear",
    choices: Mapping[str, str] | None = None,
) -> "Prediction":  # fmt: skip
    """Ask for a number, or for one of a few choices, before it is computed.

    Args:
        question: what is asked, in a few words.
        low, high: ends of the axis.
        unit: of the answer, such as ``"degrees"``.
        scale: ``"linear"`` or ``"log"``.
        choices: instead of an axis, what can be chosen; and what is said to those who chose it, where it is
            wrong.

    Returns:
        A widget. ``guess.reveal(answer)`` then shows guess and answer on one axis, with the class's guesses
        if there are any. If guesses are counted (see :func:`tally`), and in the lecture theme, the widget
        has a field in which a lecturer types the class's counts.

    Raises:
        ValueError: the axis is empty, or logarithmic and not positive.
    """
    if choices is not None:
        low, high = -0.5, len(choices) - 0.5
    if scale not in ("linear", "log"):
        raise ValueError(f"scale must be 'linear' or 'log', got {scale!r}")
    if not (low < high and (scale == "linear" or low > 0)):
        raise ValueError(f"low must be below high, and positive on a log scale, got {low} and {high}")
    return Prediction(question, low, high, unit, scale, choices or {})


class Prediction(w.VBox):  # type: ignore[misc]
    """The widget of :func:`predict`. ``guess`` is the learner's number, of a choice its place; or None."""

    def __init__(
        self, question: str, low: float, high: float, unit: str, scale: str, choices: Mapping[str, str]
    ) -> None:
        self.guess: float | None = None
        self._choices, self._wrong = list(choices), list(choices.values())
        self._low, self._high, self._unit, self._scale, self._question = low, high, unit, scale, question
        wide = {"description_width": "initial"}
        if choices:
            self.slider = w.ToggleButtons(options=[*zip(choices, range(len(choices)), strict=True)])
            self.slider.style.button_width = "auto"
        elif scale == "log":
            ends = {"min": math.log10(low), "max": math.log10(high)}
            middle = math.sqrt(low * high)
            self.slider = w.FloatLogSlider(middle, step=0.01, readout_format=".3g", style=wide, **ends)
        else:
            step = 10 ** math.floor(math.log10((high - low) / 100))
            self.slider = w.FloatSlider((low + high) / 2, min=low, max=high, step=step, style=wide)
        if not choices:
            self.slider.description = unit or "guess"
            self.slider.layout = w.Layout(width="min(30em, 90%)")
        commit = w.Button(
            description="this is my guess", button_style="primary", layout=w.Layout(width="auto")
        )
        skip = w.Button(description="skip", layout=w.Layout(width="auto"))
        self._status = w.HTML("No guess yet.")
        commit.on_click(lambda _: self.commit(self.slider.value))
        skip.on_click(lambda _: self.commit(None))
        rows = [w.HTML(f"<b>{html.escape(question)}</b>"), self.slider, w.HBox([commit, skip, self._status])]
        self._recorded: tuple[Path | None, float | None] = (None, None)  # where, and which guess
        self._typed = Counter[float]()
        if tally_file() or current_theme()[0] == "lecture":
            rows.append(self._class_field())
        super().__init__(rows)

    def _class_field(self) -> w.HBox:
        """Where a lecturer types counts; they are taken with Enter or when the field is left."""
        field = w.Text(
            description="class:", placeholder="guess: count, guess: count", continuous_update=False,
            style={"description_width": "initial"}, layout=w.Layout(width="min(30em, 90%)"),
        )  # fmt: skip
        said = w.HTML()

        def take(change: Any) -> None:
            try:
                self.tally(change["new"])
            except ValueError as error:
                slip = html.escape(str(error)[0].upper() + str(error)[1:])
                kept = f"{slip}. Kept as before: {_guesses(self._typed.total())}."
                said.value = f'<span role="alert" style="color:var(--jp-error-color1,#B00020)">{kept}</span>'
            else:
                said.value = f'<span role="status">{_guesses(self._typed.total())} of the class.</span>'

        field.observe(take, "value")
        return w.HBox([field, said], layout=w.Layout(flex_flow="row wrap"))

    def tally(self, counts: str | Mapping[float | str, int]) -> None:
        """Take down the guesses of a class, in the place of those taken down before.

        Args:
            counts: how often each guess was made, ``{30: 5, 90: 12}`` or ``"30: 5, 90: 12"``. Guesses that
                are counted in a file are added to them.

        Raises:
            ValueError: a guess is no number on the axis, or a count no whole number; nothing changes.
        """
        self._typed = read_counts(counts, self._low, self._high, self._choices)

    def commit(self, guess: float | None) -> None:
        """Hold on to a guess; None skips."""
        self.guess = guess
        text = (
            "Skipped." if guess is None else f"Your guess: {self._written(guess)} {self._unit}".rstrip() + "."
        )
        file, (before, earlier) = tally_file(), self._recorded
        try:
            record(self._question, guess, earlier if before == file else None)
            self._recorded = (file, guess) if file else (None, None)
        except OSError as error:
            text += f" It could not be counted in {tally_file()} ({error})."
        self._status.value = f'<span role="status">{html.escape(text)} Run the next cell.</span>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for a page without a kernel the question."""
        fallback = f"<p><b>{html.escape(self._question)}?</b></p>"
        return super()._repr_mimebundle_(**kwargs) | {"text/html": fallback}

    def _written(self, guess: float) -> str:
        """A guess as a number, or as what was chosen."""
        return self._choices[round(guess)] if self._choices else f"{guess:.3g}"

    def reveal(self, answer: float | str) -> None:
        """Show the answer, and the guess and the class's guesses if there are any, on one axis.

        Raises:
            ValueError: it is none of the choices.
        """
        display(self.draw(answer))  # type: ignore[no-untyped-call]

    def draw(self, answer: float | str) -> HTML:
        """The picture that :meth:`reveal` shows."""
        answer = self._choices.index(answer) if isinstance(answer, str) else answer
        of_class = self._of_class()
        figure, (ax,) = new_figure(9, 2.6 if of_class else 1.5)
        ax.set(xlim=(self._low, self._high), xscale=self._scale, ylim=(-1, 1), yticks=[])
        if self._scale == "log":
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            if self._high < 100 * self._low:  # powers of ten alone would be too few
                ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), minor_locator=NullLocator())
        if self._choices:
            ax.set_xticks(range(len(self._choices)), [literal(choice) for choice in self._choices])
        inside = min(max(answer, self._low), self._high)
        ax.plot([inside], [0], "D", color=ORTHOGONAL, ms=10, clip_on=False)
        label = f"answer {self._written(answer)}" + (" (off the axis)" if inside != answer else "")
        at, up = ((inside, 1), (0, 4)) if of_class else ((inside, 0.5), (0, 12))
        frame = ax.get_xaxis_transform()
        ax.annotate(label, at, up, frame, "offset points", ha="center", color=ORTHOGONAL)
        text = f"{self._question}: {self._written(answer)} {self._unit}".rstrip()
        if self.guess is not None:
            ax.plot([self.guess], [0], "o", color=INK, ms=8, mfc="none", clip_on=False)
            below = (self.guess, 0), (0, -20)
            guess = self._written(self.guess)
            you = "you" if self._choices else f"you {guess}"
            ax.annotate(you, *below, textcoords="offset points", ha="center", color=INK)
            text += f"; your guess was {guess}"
            if self._choices and self.guess != answer:
                text += f". {self._wrong[round(self.guess)]}"
        if of_class:
            said = _draw_class(ax, of_class)
            if self._choices:
                counts = (f"{self._written(place)} {count}" for place, count in sorted(of_class.items()))
                said = f"the class: {', '.join(counts)}"
            text += f"; {said}"
            ax.vlines(inside, 0, ax.get_ylim()[1], color=ORTHOGONAL, lw=1, zorder=0)
        ax.axhline(0, color=RANDOM, lw=1, zorder=0)
        ax.set_xlabel(literal(f"{self._question}, {self._unit}" if self._unit else self._question))
        ax.spines["left"].set_visible(False)
        return picture(figure, text)

    def _of_class(self) -> Counter[float]:
        """Guesses that were typed in, and those in the file that lie on the axis."""
        try:
            found = count_guesses(self._question)
        except OSError as error:
            print(f"The class's guesses in {tally_file()} could not be read ({error}).")
            return self._typed
        on_axis = {guess: count for guess, count in found.items() if self._low <= guess <= self._high}
        return self._typed + Counter(on_axis)


def _draw_class(ax: Axes, counts: Counter[float]) -> str:
    """A dot for each guess, stacked where guesses are close; bars where a stack would be too high.

    Returns:
        What is seen, in a few words.
    """
    low, high = ax.get_xlim()
    edges = (np.geomspace if ax.get_xscale() == "log" else np.linspace)(low, high, _PLACES + 1)
    guesses = np.repeat(list(counts), list(counts.values()))
    places = np.clip(np.digitize(guesses, edges), 1, _PLACES)
    stacks = {
        float(np.median(guesses[places == place])): int((places == place).sum()) for place in set(places)
    }
    tallest = max(stacks.values())
    for x, number in stacks.items():
        if tallest <= _DOTS:
            ax.plot([x] * number, 1.5 + np.arange(number), "o", color=INK, ms=7, mec="white", clip_on=False)
        else:
            top = 1 + (_DOTS - 1) * number / tallest
            ax.vlines(x, 1, top, color=INK, lw=7)
            ax.text(x, top + 0.3, f"{number}", ha="center", va="bottom", color=INK, bbox=_BLANK)
    ax.set_ylim(-3.5, _DOTS + 2)
    total = len(guesses)
    ax.set_ylabel(f"the class,\n{_guesses(total)}", rotation=0, ha="right", va="center", color=INK)
    return (
        f"the class made {_guesses(total)} from {guesses.min():.3g} to {guesses.max():.3g}, "
        f"median {np.median(guesses):.3g}"
    )


def _guesses(number: int) -> str:
    return f"{number} guess" if number == 1 else f"{number} guesses"
