"""stage_spectra: what the momentum buffer's singular values tell about the steps before."""

import math
from functools import cache, partial
from typing import Any

import pandas as pd
import torch
from matplotlib.patheffects import withStroke

from orthoviz import training
from orthoviz.measures import singular_values
from orthoviz.plots import INK, ORTHOGONAL, RANDOM, STAGES
from orthoviz.plots.frames import need
from orthoviz.polar import polar_factor
from orthoviz.widgets.view import Canvas, Scene, buttons, slider, view

_BEFORE = "before_momentum"
_ORDERS = {"none": "plain SGD", _BEFORE: "before momentum", "after_momentum": "after momentum"}
_FACTOR = buttons("factor", _ORDERS)
_STEPS = (0, 1, 2, 4, 8, 16, 32, 48)
_STORED, _NOISE, _PERSISTENT = "BasicCNN, conv 2", "noise alone", "one persistent direction"
_SHAPE: tuple[int, ...] = (32, 288)
_CURVES: dict[str, dict[str, Any]] = {
    "its earlier steps": dict(color=STAGES["momentum"][0], lw=1, alpha=0.3),
    "buffer of noise alone": dict(color=RANDOM, lw=2.5, ls=(0, (1, 1))),
    "orthogonalised": dict(color=ORTHOGONAL, lw=2.2),
    "momentum buffer": dict(color=STAGES["momentum"][0], lw=2.4, ls=STAGES["momentum"][1]),
}
# By order, and before momentum by source.
_TITLES = {
    "": "Without momentum there is no buffer, and nothing to read from it",
    "none": "Plain SGD: the buffer mixes how strong a direction is with how long it persists",
    "after_momentum": "Factor after momentum: every direction counts 1, and the meter is blind",
    _STORED: "The momentum buffer is a persistence meter",
    _NOISE: "Noise alone: no direction persists, and the meter stays low",
    _PERSISTENT: "One persistent direction stands out of the noise: {:.1f} of at most {:.1f}",
}
_EMPTY = pd.Series(dtype=float)
# By step, the singular values from index 1, a column a stage.
_Readings = dict[int, pd.DataFrame]


@view(
    step=slider("step", _STEPS),
    order=_FACTOR,
    momentum=buttons("momentum", (0.0, 0.5, 0.9)),
    source=buttons("gradients", (_STORED, _NOISE, _PERSISTENT), more=True),
    presets={
        "at first steps agree": {"step": 2},
        "an epoch later": {"step": 48},
        "noise alone": {"step": 48, "source": _NOISE},
        "one persistent direction": {"step": 48, "source": _PERSISTENT},
    },
    phone=1.3,
    lose={"order": "after_momentum", "step": 48},
)
def stage_spectra(
    canvas: Canvas, data: pd.DataFrame | None = None, *, order: str = _BEFORE, momentum: float = 0.9,
    step: int | None = None, source: str = _STORED,
) -> Scene:  # fmt: skip
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
    own, shape, count, top = _Readings(), _SHAPE, _SHAPE[0], 10.6
    if data is not None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be from 0 to 1, 1 not included, got {momentum!r}")
        own, shape = _own(data, _FACTOR.check("order", order))
        values = pd.concat(own.values()).filter(["raw", "momentum"])
        count, top = values.index.max(), 1.06 * max(1 / (1 - momentum), values.max().max())
    steps = tuple(own) or _STEPS
    (ax,) = canvas.axes(9, 4.5)
    canvas.figure.set_layout_engine("none")  # places by hand: a strip stands below
    ax.set_position((0.085, 0.37, 0.7, 0.545))
    strip = canvas.figure.add_axes((0.085, 0.13, 0.7, 0.175), sharex=ax, yscale="log", ylim=(8e-3, 1.5))
    strip.set(xlabel="index, from the strongest", ylabel="raw, $s/s_1$")
    strip.spines[["top", "right"]].set_visible(False)
    ax.set(xlim=(0, count + 1), ylim=(0, top), ylabel="singular value")
    ax.tick_params(labelbottom=False)
    handles = [ax.plot([], [], label=name, **look)[0] for name, look in _CURVES.items()]
    handles[0].set_alpha(0.4)  # on the picture many lie above each other
    key = canvas.moves(ax.legend(
        handles=[*handles[2:], *handles[:2]], loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4,
        frameon=False, fontsize=10, columnspacing=1.2, handlelength=2.2, handletextpad=0.5,
    ))  # fmt: skip
    parts = {text.get_text(): (line, text) for line, text in zip(key.legend_handles, key.texts, strict=True)}
    note = canvas.text(ax, 0.99, 0.86, transform=ax.transAxes, ha="right", va="top", fontsize=10)
    clear: Any = dict(color=INK, va="bottom", size=11, path_effects=[withStroke(linewidth=3, foreground="w")])

    def show(step: int, order: str, momentum: float, source: str) -> tuple[str, str]:
        most, marks = (1 - momentum ** (step + 1)) / (1 - momentum), {1.0: "1"}  # if all steps agree
        if momentum and order == _BEFORE:  # a buffer of raw gradients has no such scale
            marks[(1 - momentum**2) ** -0.5] = "{:.2f}  steps unrelated"
            marks[1 / (1 - momentum)] = "{:.2f}  steps agree"
            if most < 0.95 / (1 - momentum):
                marks[most] = "{:.2f}  agree, so far"
        at, right = -math.inf, ax.get_yaxis_transform()
        for height, words in sorted(marks.items()):
            at, name = max(height, at + 0.07 * top), words.format(height)  # apart from the one below
            canvas.now(ax.axhline(height, color=RANDOM, lw=1, ls=":"))
            canvas.now(ax.text(1.01, at, name, transform=right, color=RANDOM, va="center", fontsize=10))
        find = own.__getitem__ if own else partial(_reading, source, order, momentum)
        *earlier, reading = (find(at) for at in steps if at <= step)
        buffer, noise = reading.get("momentum", _EMPTY), _EMPTY
        if order == _BEFORE and momentum and source != _NOISE and shape and step <= _STEPS[-1]:
            noise = _reading(_NOISE, order, momentum, step, shape)["momentum"]
        before = [one.get("momentum", _EMPTY) for one in earlier]
        drawn = before, [noise], [reading.get("orthogonal", _EMPTY)], [buffer]
        for (name, look), several in zip(_CURVES.items(), drawn, strict=True):
            canvas.now(*(line for values in several for line in ax.plot(values, **look)))
            for part in parts[name]:
                part.set_visible(any(map(len, several)))
        canvas.now(*strip.plot(reading["raw"], color=STAGES["raw"][0], lw=2))
        for x, side in ((1, "left"), (len(buffer), "right")) if len(buffer) else ():
            canvas.now(ax.text(x, buffer[x] + 0.02 * top, f"{buffer[x]:.2f}", ha=side, **clear))
        relative = order != _BEFORE and len(buffer)
        note.set_text("buffer relative to the gradient's largest value" if relative else "")
        title, text = _message(reading, noise, most, order, step, source)
        return title, f"Step {step}, {_ORDERS[order]}, momentum {momentum:g}: {text}"

    if data is None:
        return Scene(show, first={"step": 8})
    ends = {"first": {"step": steps[0]}, "last": {"step": steps[-1]}}
    rest = order, momentum, _STORED
    return Scene(lambda step: show(step, *rest), options={"step": steps}, first=ends["last"], presets=ends)


def _own(data: pd.DataFrame, order: str) -> tuple[_Readings, tuple[int, ...]]:
    """The caller's readings, and the shape of the matrix where noise can be made like it."""
    need(data, "step", "stage", "quantity", "index", "value")
    rows = data[data["quantity"] == "singular_values"]
    if rows.duplicated(["step", "stage", "index"]).any():
        raise ValueError("data must be of one layer and one run, as data[data.layer == ...], got several")
    if not (readings := _readings(rows, order)):
        raise ValueError('data must hold "singular_values" at the stage "raw", got none')
    shape = tuple(int(n) for side in ("rows", "columns") for n in data["value"][data["quantity"] == side][:1])
    return readings, shape if len(shape) == 2 and math.prod(shape) <= 300_000 else ()


def _readings(rows: pd.DataFrame, order: str) -> _Readings:
    """The readings of a table; steps without gradients are left out."""
    table: Any = rows.pivot(index="index", columns=["step", "stage"], values="value").astype(float)
    return {step: _relative(table[step], order) for step, stage in table if stage == "raw"}


def _relative(reading: pd.DataFrame, order: str) -> pd.DataFrame:
    """A reading from index 1, raw gradients (the buffer's too) relative to the gradient's largest value."""
    raw = reading.filter(["raw"] if order == _BEFORE else ["raw", "momentum"])
    return reading.assign(**raw / reading["raw"].iloc[0]).set_axis(range(1, len(reading) + 1))


@cache
def _stored(order: str, momentum: float) -> _Readings:
    return _readings(training.results("stages").query("order == @order and momentum == @momentum"), order)


@cache
def _reading(source: str, order: str, momentum: float, step: int, shape: Any = _SHAPE) -> pd.DataFrame:
    """What is stored, or what the optimiser would make of Gaussian gradients."""
    if source == _STORED:
        return _stored(order, momentum)[step]
    gradients, factors = _gradients(source, shape)
    kept = (factors if order == _BEFORE else gradients)[: step + 1]
    buffer = torch.einsum("t,tij->ij", momentum ** torch.arange(step, -1, -1), kept)
    stages = {"raw": gradients[step]} | ({"momentum": buffer} if momentum else {})
    if order != "none":
        stages["orthogonal"] = factors[step] if order == _BEFORE else polar_factor(buffer)
    values = {stage: singular_values(G).double().numpy() for stage, G in stages.items()}
    return _relative(pd.DataFrame(values), order)


@cache
def _gradients(source: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Independent Gaussian gradients, with or without a direction that all share, and their polar factors."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.nn.functional.normalize(torch.randn(n, generator=generator), dim=0) for n in shape)
    gradients = torch.randn(_STEPS[-1] + 1, *shape, generator=generator)
    gradients += 40 * (source == _PERSISTENT) * torch.outer(u, v)  # the strongest of noise is about 22
    return gradients, polar_factor(gradients)


def _message(reading: Any, noise: Any, most: float, order: str, step: int, source: str) -> tuple[str, str]:
    """Title, and what the picture shows now."""
    span = {stage: f"{values.min():.2f} to {values.max():.2f}" for stage, values in reading.items()}
    others = f"the raw gradient's fall from 1 to {reading['raw'].iloc[-1]:.2g}"
    if "orthogonal" in span:
        others += f", the orthogonalised step's are {span['orthogonal']}"
    if (buffer := span.get("momentum")) is None:
        return _TITLES[""], f"there is no buffer; {others}."
    if order != _BEFORE:
        text = f"the buffer holds raw gradients and has singular values of {buffer} times"
        return _TITLES[order], f"{text} the gradient's largest; {others}."
    text = f"the buffer's singular values are {buffer}; {step + 1} gradients that agree give {most:.2f}"
    text += f", noise alone {noise.min():.2f} to {noise.max():.2f}." if len(noise) else "."
    return _TITLES[source].format(reading["momentum"].max(), most), text
