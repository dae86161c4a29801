"""stage_spectra: what the momentum buffer's singular values tell about the steps before."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import ipywidgets as w
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from orthoviz import training
from orthoviz.measures import singular_values
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, STAGES, new_figure
from orthoviz.polar import polar_factor
from orthoviz.widgets.core import State, View, changed, control, one_of
from orthoviz.widgets.stage import Picture, Stage

if TYPE_CHECKING:
    import pandas as pd

_ORDERS = {"none": "plain SGD", "before_momentum": "before momentum", "after_momentum": "after momentum"}
_MOMENTA = (0.0, 0.5, 0.9)
_STEPS = (0, 1, 2, 4, 8, 16, 32, 48)
_STORED, _NOISE, _PERSISTENT, _YOURS = "BasicCNN, conv 2", "noise alone", "one persistent direction", "yours"
_SHAPE = (32, 288)
_STRENGTH = 40.0
"""Of the persistent direction; a Gaussian matrix of this shape has about 22 in its strongest."""
_MOMENTUM, _RAW = STAGES["momentum"][0], STAGES["raw"][0]
_DEFAULTS = {"order": "before_momentum", "momentum": 0.9, "step": 8, "source": _STORED}

Values = NDArray[np.float64]


class _Reading(NamedTuple):
    """Singular values at the stages of one step; None where there is no such stage."""

    raw: Values
    orthogonal: Values | None
    momentum: Values | None

    def buffer(self, order: str) -> Values | None:
        """The buffer's values, relative to the gradient's largest where it holds raw gradients."""
        if self.momentum is None or order == "before_momentum":
            return self.momentum
        relative: Values = self.momentum / self.raw[0]
        return relative


Find = Callable[[State], _Reading]


def stage_spectra(
    data: "pd.DataFrame | None" = None,
    *,
    order: str = "before_momentum",
    momentum: float = 0.9,
    step: int | None = None,
    source: str = _STORED,
) -> View:
    r"""*The momentum buffer is a persistence meter.*

    Shows the singular values of a layer's gradient as it becomes a step: orthogonalised, in the momentum
    buffer and, on the strip below, raw. Where the factor is taken before momentum, the buffer adds up
    matrices whose directions all have length 1, so a direction's value tells how long it has persisted:
    :math:`1/(1-\gamma)` where all steps agree, :math:`1/\sqrt{1-\gamma^2}` where they are unrelated. The
    grey curve is that control, independent Gaussian gradients at the same step. Where the buffer holds raw
    gradients (plain SGD, or the factor taken after momentum) it is drawn relative to the gradient's largest
    value. What is applied is the learning rate times the last stage, and is left out.

    The stored run is BasicCNN's second convolution (32 x 288) in its first epoch on CIFAR-10.

    Args:
        data: a monitor's frame of one run and one layer, with "singular_values" at the stages "raw",
            "orthogonal" and "momentum". ``order`` and ``momentum`` say how it was trained.
        order: "none" (plain SGD), "before_momentum" or "after_momentum".
        momentum: 0, .5 or .9; with your own data, from 0 to 1 (not included).
        step: number of steps done before, of 0, 1, 2, 4, 8, 16, 32 and 48, default 8; with your own data
            one of its steps, default the last.
        source: "BasicCNN, conv 2", "noise alone" (independent Gaussian gradients) or "one persistent
            direction" (the same, and one direction that they share). Without effect on your own data.

    Raises:
        ValueError: an argument has a value that the view has no place for; the frame lacks columns or rows,
            or holds several layers or runs.
    """
    one_of("order", order, _ORDERS)
    if data is not None:
        return _own_view(data, order, momentum, step)
    step = int(one_of("step", _DEFAULTS["step"] if step is None else step, _STEPS))
    one_of("momentum", momentum, _MOMENTA)
    one_of("source", source, (_STORED, _NOISE, _PERSISTENT))
    return _stored_view({"order": order, "momentum": float(momentum), "step": step, "source": source})


def _stored_view(first: State) -> View:
    """The view of the stored run and of made-up gradients."""

    top = 1.06 / (1 - _MOMENTA[-1])
    return View(
        "stage_spectra",
        partial(_draw, _Scene(_SHAPE[0], top, _STEPS), _found, _SHAPE),
        {
            "step": control(w.SelectionSlider, "step", first["step"], options=_STEPS),
            "order": control(
                w.ToggleButtons,
                "factor",
                first["order"],
                options=[(label, order) for order, label in _ORDERS.items()],
            ),
            "momentum": control(
                w.ToggleButtons,
                "momentum",
                first["momentum"],
                options=[(f"{value:g}", value) for value in _MOMENTA],
            ),
            "source": control(
                w.ToggleButtons, "gradients", first["source"], options=(_STORED, _NOISE, _PERSISTENT)
            ),
        },
        presets={
            "at first steps agree": {**_DEFAULTS, "step": 2},
            "an epoch later": {**_DEFAULTS, "step": 48},
            "noise alone": {**_DEFAULTS, "step": 48, "source": _NOISE},
            "one persistent direction": {**_DEFAULTS, "step": 48, "source": _PERSISTENT},
        },
        lose={**_DEFAULTS, "order": "after_momentum", "step": 48},
        more=["source"],
        given=lambda state: changed(state, _DEFAULTS),
    )


def _own_view(data: "pd.DataFrame", order: str, momentum: float, step: int | None) -> View:
    """The view of a learner's frame: only the step can be moved."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be from 0 to 1, 1 not included, got {momentum!r}")
    readings = _readings(data)
    steps = tuple(readings)
    step = int(one_of("step", steps[-1] if step is None else step, steps))
    buffers = [values for r in readings.values() if (values := r.buffer(order)) is not None]
    top = 1.06 * max(1 / (1 - momentum), *(float(values.max()) for values in buffers), 1.0)
    count = max(len(reading.raw) for reading in readings.values())
    fixed = {"order": order, "momentum": float(momentum), "source": _YOURS}

    usual = {"order": _DEFAULTS["order"], "momentum": _DEFAULTS["momentum"], "step": steps[-1]}
    return View(
        "stage_spectra",
        partial(_draw, _Scene(count, top, steps), lambda state: readings[state["step"]], _shape(data)),
        {"step": control(w.SelectionSlider, "step", step, options=steps)},
        presets={"first": {"step": steps[0]}, "last": {"step": steps[-1]}},
        state=fixed,
        given=lambda state: ["data", *changed(state, usual)],
    )


def _readings(data: "pd.DataFrame") -> dict[int, _Reading]:
    """A frame of one run and layer as readings by step; steps without gradients are left out."""
    needed = ("step", "stage", "quantity", "index", "value")
    if lacking := [column for column in needed if column not in data]:
        raise ValueError(f"data must be a monitor's frame, with {', '.join(needed)}; no {', '.join(lacking)}")
    rows = data[data["quantity"] == "singular_values"]
    layers = list(map(str, rows["layer"].unique())) if "layer" in rows else []
    if len(layers) > 1:
        raise ValueError(f"data must be of one layer, as data[data.layer == ...]; got {', '.join(layers)}")
    found = _by_step(rows)
    if not found:
        raise ValueError('data must hold "singular_values" at the stage "raw", got none')
    return found


def _by_step(rows: "pd.DataFrame") -> dict[int, _Reading]:
    if rows.duplicated(["step", "stage", "index"]).any():
        raise ValueError("data must be of one run, as data[data.run == ...]; got several values of one kind")
    found = {}
    for step, part in rows.sort_values("index").groupby("step"):
        stages = {stage: part["value"][part["stage"] == stage].to_numpy(float) for stage in _Reading._fields}
        if len(raw := stages["raw"]):
            later = (stages[stage] if len(stages[stage]) else None for stage in ("orthogonal", "momentum"))
            found[int(str(step))] = _Reading(raw, *later)
    return found


def _shape(data: "pd.DataFrame") -> tuple[int, int] | None:
    """The matrix's shape, where the monitor has written it down."""
    sizes = [data["value"][data["quantity"] == side] for side in ("rows", "columns")]
    return None if any(len(size) == 0 for size in sizes) else (int(sizes[0].iloc[0]), int(sizes[1].iloc[0]))


@cache
def _stored() -> dict[tuple[str, float], dict[int, _Reading]]:
    """The stored run's readings, by order and momentum."""
    table = training.results("stages")
    return {key: _by_step(part) for key, part in table.groupby(["order", "momentum"])}  # type: ignore[misc]


def _found(state: State) -> _Reading:
    """The reading of a state without own data."""
    order, momentum, step, source = (state[key] for key in ("order", "momentum", "step", "source"))
    if source == _STORED:
        return _stored()[order, momentum][step]
    return _made_up(source == _PERSISTENT, _SHAPE, order, momentum, step)


@cache
def _made_up(persistent: bool, shape: tuple[int, int], order: str, momentum: float, step: int) -> _Reading:
    """What the optimiser would make of Gaussian gradients."""
    gradients, factors = _gradients(persistent, shape)
    weights = momentum ** torch.arange(step, -1, -1)
    kept = (factors if order == "before_momentum" else gradients)[: step + 1]
    buffer = torch.einsum("t,tij->ij", weights, kept)
    orthogonal = (
        None if order == "none" else factors[step] if order == "before_momentum" else polar_factor(buffer)
    )
    stages = (gradients[step], orthogonal, buffer if momentum else None)
    return _Reading(*(None if G is None else singular_values(G).double().numpy() for G in stages))  # type: ignore[arg-type]


@cache
def _gradients(persistent: bool, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Independent Gaussian gradients, with or without a direction that all share, and their polar factors."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.nn.functional.normalize(torch.randn(n, generator=generator), dim=0) for n in shape)
    gradients = torch.randn(_STEPS[-1] + 1, *shape, generator=generator)
    if persistent:
        gradients = gradients + _STRENGTH * torch.outer(u, v)
    return gradients, polar_factor(gradients)


class _Scene:
    """Axes, and lines that move over them."""

    def __init__(self, count: int, top: float, steps: tuple[int, ...]) -> None:
        self.steps, self.top = steps, top
        figure, (ax,) = new_figure(9, 4.5)
        self.stage = Stage(figure)
        figure.set_layout_engine("none")  # places by hand: a strip stands below
        ax.set_position((0.085, 0.37, 0.7, 0.545))
        strip = figure.add_axes((0.085, 0.13, 0.7, 0.175))
        strip.spines[["top", "right"]].set_visible(False)
        for panel in (ax, strip):
            panel.set_xlim(0, count + 1)
        ax.tick_params(labelbottom=False)
        ax.set(ylim=(0, top), ylabel="singular value")
        strip.set(yscale="log", ylim=(8e-3, 1.5), xlabel="index, from the strongest")
        strip.set_ylabel("raw, $s/s_1$", fontsize=10)

        def line(panel: Axes, colour: str, style: Any, width: float, **more: Any) -> Line2D:
            drawn: Line2D = panel.plot([], [], color=colour, ls=style, lw=width, animated=True, **more)[0]
            return drawn

        self.ghosts = [line(ax, _MOMENTUM, "-", 1, alpha=0.3) for _ in steps]
        self.noise = line(ax, RANDOM, (0, (1, 1)), 2.5)
        self.orthogonal = line(ax, ORTHOGONAL, "-", 2.2)
        self.momentum = line(ax, _MOMENTUM, (0, (5, 2)), 2.4)
        self.raw = line(strip, _RAW, "-", 2)
        self.key = ax.legend(
            handles=[
                Line2D([], [], color=ORTHOGONAL, lw=2.2, label="orthogonalised"),
                Line2D([], [], color=_MOMENTUM, lw=2.4, ls=(0, (5, 2)), label="momentum buffer"),
                Line2D([], [], color=_MOMENTUM, lw=1, alpha=0.4, label="its earlier steps"),
                Line2D([], [], color=RANDOM, lw=2.5, ls=(0, (1, 1)), label="buffer of noise alone"),
            ],
            loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, frameon=False, fontsize=10,
            columnspacing=1.2, handlelength=2.2, handletextpad=0.5,
        )  # fmt: skip
        self.key.set_animated(True)
        across = ax.get_yaxis_transform()
        self.marks = [ax.axhline(0, color=RANDOM, lw=1, ls=":", animated=True) for _ in range(4)]
        self.names = [
            ax.text(1.01, 0, "", transform=across, color=RANDOM, va="center", fontsize=10, animated=True)
            for _ in range(4)
        ]
        self.ends = [
            ax.text(0, 0, "", color=INK, ha=side, va="bottom", fontsize=11, animated=True)
            for side in ("left", "right")
        ]
        for end in self.ends:
            end.set_path_effects([withStroke(linewidth=3, foreground="white")])
        self.note = ax.text(
            0.99, 0.86, "", transform=ax.transAxes, ha="right", va="top", fontsize=10, animated=True
        )

    def named(self, drawn: Sequence[bool]) -> Artist:
        """The legend, of the lines that are drawn."""
        for handle, text, shown in zip(self.key.legend_handles, self.key.get_texts(), drawn, strict=True):
            assert handle is not None
            handle.set_visible(shown)
            text.set_visible(shown)
        return self.key

    def marked(self, state: State) -> list[Artist]:
        """The lines to read the meter by, and their names on the right, kept apart."""
        momentum, heights = state["momentum"], {1.0: "1"}
        if momentum and state["order"] == "before_momentum":  # a buffer of raw gradients has no such scale
            heights[(1 - momentum**2) ** -0.5] = "{:.2f}  steps unrelated"
            if (so_far := _most(momentum, state["step"])) < 0.95 / (1 - momentum):
                heights[so_far] = "{:.2f}  agree, so far"
            heights[1 / (1 - momentum)] = "{:.2f}  steps agree"
        heights = dict(sorted(heights.items()))
        at, artists = -math.inf, []
        for height, mark, name in zip(heights, self.marks, self.names, strict=False):
            at = max(height, at + 0.07 * self.top)
            mark.set_ydata([height, height])
            name.set(text=heights[height].format(height), y=at)
            artists += [mark, name]
        return artists


def _draw(scene: _Scene, find: Find, shape: tuple[int, int] | None, state: State) -> Picture:
    """The picture of a state."""
    reading, order, step = find(state), state["order"], state["step"]
    moving: list[Artist] = scene.marked(state)
    ghosts: list[Artist] = []
    for ghost, earlier in zip(scene.ghosts, (s for s in scene.steps if s < step), strict=False):
        ghosts += _set(ghost, find({**state, "step": earlier}).buffer(order))
    moving += ghosts
    noise = _noise(shape, state)
    moving += _set(scene.noise, noise)
    moving += _set(scene.orthogonal, reading.orthogonal)
    buffer = reading.buffer(order)
    moving += _set(scene.momentum, buffer)
    moving += _set(scene.raw, reading.raw / reading.raw[0])
    if buffer is not None:
        for end, x, value in zip(scene.ends, (1, len(buffer)), (buffer[0], buffer[-1]), strict=True):
            end.set(text=f"{value:.2f}", position=(x, value + 0.02 * scene.top))
            moving.append(end)
    lines = (reading.orthogonal, buffer, ghosts or None, noise)
    moving.append(scene.named([line is not None for line in lines]))
    raw_buffer = order != "before_momentum" and buffer is not None
    scene.note.set_text("buffer relative to the gradient's largest value" if raw_buffer else "")
    title, text = _message(reading, noise, state)
    return Picture(scene.stage, [*moving, scene.note], title, text)


def _most(momentum: float, step: int) -> float:
    """The buffer's value of a direction that all gradients so far have shared."""
    return (1 - momentum ** (step + 1)) / (1 - momentum)


def _set(line: Line2D, values: Values | None) -> list[Artist]:
    """The line at these values, or nothing."""
    if values is None:
        return []
    line.set_data(np.arange(1, len(values) + 1), values)
    return [line]


def _noise(shape: tuple[int, int] | None, state: State) -> Values | None:
    """The control: the buffer of noise alone at this step. None where it says nothing."""
    usual = state["order"] == "before_momentum" and state["source"] != _NOISE and state["momentum"]
    if not usual or shape is None or state["step"] > _STEPS[-1] or shape[0] * shape[1] > 300_000:
        return None
    return _made_up(False, shape, state["order"], state["momentum"], state["step"]).momentum


def _message(reading: _Reading, noise: Values | None, state: State) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    order, momentum, step = state["order"], state["momentum"], state["step"]
    start = f"Step {step}, {_ORDERS[order]}, momentum {momentum:g}:"
    buffer = reading.buffer(order)
    if buffer is None:
        return (
            "Without momentum there is no buffer, and nothing to read from it",
            f"{start} there is no buffer; {_told(reading)}.",
        )
    low, high = buffer.min(), buffer.max()
    if order != "before_momentum":
        title = "Plain SGD: the buffer mixes how strong a direction is with how long it persists"
        if order == "after_momentum":
            title = "Factor after momentum: every direction counts 1, and the meter is blind"
        return title, (
            f"{start} the buffer holds raw gradients and has singular values of {low:.2f} to "
            f"{high:.2f} times the gradient's largest; {_told(reading)}."
        )
    count = step + 1
    most = _most(momentum, step)
    text = (
        f"{start} the buffer's singular values are {low:.2f} to {high:.2f}; {count} gradients that "
        f"agree give {most:.2f}"
    )
    text += "." if noise is None else f", noise alone {noise.min():.2f} to {noise.max():.2f}."
    titles = {
        _NOISE: "Noise alone: no direction persists, and the meter stays low",
        _PERSISTENT: f"One persistent direction stands out of the noise: {high:.1f} of at most {most:.1f}",
    }
    return titles.get(state["source"], "The momentum buffer is a persistence meter"), text


def _told(reading: _Reading) -> str:
    """The other stages' ranges."""
    raw = reading.raw / reading.raw[0]
    told = f"the raw gradient's fall from 1 to {raw[-1]:.2g}"
    if reading.orthogonal is None:
        return told
    low, high = reading.orthogonal.min(), reading.orthogonal.max()
    return f"{told}, the orthogonalised step's are {low:.2f} to {high:.2f}"
