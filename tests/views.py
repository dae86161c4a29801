"""What tests of views share: what the browser gets of a view, and its buttons."""

import base64
import html
import itertools
import re

import numpy as np
import pandas as pd

import orthoviz as ov

NAMES = [name for name in ov.widgets.__all__ if name != "theme"]


def source(view):
    """The picture's bytes, from what the browser gets."""
    return base64.b64decode(re.search(r'base64,([^"]+)"', view.picture.value).group(1))


def line(view):
    """The sentence below the picture, or the error."""
    return html.unescape(re.sub(r"<[^>]+>", "", view._line.value))


def code(view):
    """The call that "as code" shows."""
    return html.unescape(re.sub("<[^>]+>", "", view._call.value))


def again(view, **names):
    """The view that this call makes; ``names`` are the caller's data."""
    return eval(code(view), {"ov": ov, **names})


def button(view, label):
    """A button, or the view's other part, with this label."""
    return next(b for row in view.children for b in getattr(row, "children", ()) if b.description == label)


def press(view, label):
    button(view, label).click()


def presets(view):
    """The labels of all buttons that set a state, "make it lose" included."""
    labels = [b.description for b in view.children[1].children if type(b).__name__ == "Button"]
    return [label for label in labels if label not in ("start", "step", "stop", "reset")]


def without_ghosts(view):
    """The picture that a view shows which has no earlier states."""
    view._canvas.forget()
    view.redraw()
    return source(view)


def numbers(pattern, view):
    """The numbers that a pattern finds in the sentence."""
    match = re.search(pattern, line(view))
    assert match, line(view)
    return [float(number) for number in match.groups()]


def points(view, **look):
    """Where the lines that move on the picture are, of those that look so: ``color="C0", marker="o"``.

    Returns:
        ``(2, n)``, the x and y of all their points.
    """
    layers = view._canvas._layers[view._canvas.figure]
    lines = [a for a in (*layers.moving, *layers.passing) if hasattr(a, "get_marker")]
    found = [l for l in lines if all(getattr(l, f"get_{key}")() == value for key, value in look.items())]
    assert found, f"no line looks like {look}"
    return np.concatenate([np.array(l.get_data(), dtype=float) for l in found], axis=1)


def spectra(layer, stages=("raw", "orthogonal", "momentum")):
    """A frame of singular values, as a monitor has it: three steps of a layer."""
    rows = itertools.product(range(3), [layer], stages, ["singular_values"], (1, 2), [0.5])
    return pd.DataFrame(rows, columns=["step", "layer", "stage", "quantity", "index", "value"])


def watched(*quantities, seed=0):
    """The frame of a run "mine": three steps of a small network, and these quantities."""
    model, data = ov.models.digits_cnn(seed=seed), ov.datasets.load("digits")
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    with ov.watch(model, optimizer, quantities=quantities, run="mine", seed=seed) as monitor:
        ov.training.fit(model, optimizer, data, epochs=1, batch_size=600, monitor=monitor, progress=False)
    return monitor.frame()
