"""newton_schulz: its curve and its dots against the iteration in NumPy."""

import numpy as np
import pytest
import torch

import orthoviz as ov
from orthoviz.plots import ORTHOGONAL
from tests.views import code, line, numbers, points, press

pytestmark = pytest.mark.slow

JORDAN = (3.4445, -4.7750, 2.0315)
NORMAL = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
ERRORS = r"Residual (\S+), alignment (\S+), relative error to the exact factor (\S+)\."


@pytest.fixture
def steps():
    view = ov.widgets.newton_schulz()
    yield view
    view.close()


def log_spaced(condition):
    return np.logspace(0, -np.log10(condition), 32)


def iterated(x, table):
    """Newton-Schulz on singular values, in float64."""
    for a, b, *c in table:
        x = a * x + b * x**3 + (c[0] * x**5 if c else 0)
    return x


def dots(view):
    """The dots, reached or not, by falling x."""
    found = np.concatenate([points(view, marker=marker) for marker in "ov"], axis=1)
    return found[:, np.argsort(-found[0])]


@pytest.mark.parametrize("count", range(11))
def test_curve_and_dots_are_the_iteration_as_numpy_computes_it(steps, count):
    steps.set(steps=count)
    s = log_spaced(1e3)
    np.testing.assert_allclose(dots(steps)[0], s, rtol=1e-4)
    np.testing.assert_allclose(dots(steps)[1], iterated(s / np.linalg.norm(s), [JORDAN] * count), atol=2e-3)
    x, curve = points(steps, color=ORTHOGONAL, marker="None")
    np.testing.assert_allclose(curve, iterated(x / np.linalg.norm(s), [JORDAN] * count), atol=1e-5)
    assert (x[0], x[-1]) == pytest.approx((1e-5, 1))
    assert steps.title.startswith("Before the first step") == (count == 0)


def test_five_jordan_steps_give_the_ranges_that_the_docstring_names():
    y = ov.polar.gain(ov.polar.JORDAN, torch.tensor([1e-4, 1e-3, *np.logspace(-2, 0, 20_001)])).numpy()
    assert y[:2].round(2).tolist() == pytest.approx([0.05, 0.47])
    assert (y[2:].min().round(2), y[2:].max().round(2)) == pytest.approx((0.68, 1.13))
    peak = ov.polar.gain(ov.polar.JORDAN, torch.logspace(-4, 0, 20_001, dtype=torch.float64)).max()
    assert round(peak.item(), 2) == 1.20


@pytest.mark.parametrize(("condition", "count", "missed"), [(1e3, 5, 3), (3e3, 5, 7), (1e3, 10, 0)])
def test_it_says_how_many_are_not_reached_and_how_wrong_the_factor_is(steps, condition, count, missed):
    steps.set(condition=condition, steps=count)
    s = log_spaced(condition)
    gains = iterated(s / np.linalg.norm(s), [JORDAN] * count)
    residual, error = (np.sqrt((wrong**2).mean()) for wrong in (gains**2 - 1, gains - 1))
    alignment = (gains * s).sum() / s.sum()
    np.testing.assert_allclose(numbers(ERRORS, steps), [residual, alignment, error], atol=1.5e-3)
    assert f"the gains are {gains.min():.2f} to {gains.max():.2f}" in line(steps)
    assert (gains < 0.5).sum() == missed
    shown = {text.get_text() for text in steps._canvas.figure.axes[0].texts}
    assert (f"{missed} of 32 not reached" in shown) == (missed > 0)
    assert (f"{missed} of 32 directions are not reached" in line(steps)) == (missed > 0)


@pytest.mark.parametrize("table", ["You", "Modula", "Polar Express", "cubic"])
@pytest.mark.parametrize("count", [3, 10])
def test_beyond_its_own_length_a_table_repeats_its_last_step(steps, table, count):
    steps.set(table=table, steps=count)
    own, s = getattr(ov.polar, table.replace(" ", "_").upper()), log_spaced(1e3)
    x = s / np.linalg.norm(s) / (1.01 if table == "Polar Express" else 1)
    gains = iterated(x, [*own, *[own[-1]] * 10][:count])
    np.testing.assert_allclose(dots(steps)[1], gains.clip(0, 1.3), atol=2e-3)
    assert ("arrives" in steps.title) == (abs(gains - 1).max() < 0.01)


def test_a_matrix_loses_that_looks_orthogonal_and_is_wrong(steps):
    press(steps, "make it lose")
    residual, alignment, error = numbers(ERRORS, steps)
    assert steps.title.startswith("Looks orthogonal, is wrong: residual 0.00")
    assert (residual, alignment) == (pytest.approx(0, abs=0.012), pytest.approx(1, abs=0.004))
    assert error == pytest.approx(0.5, abs=0.06)
    x, curve = points(steps, color=ORTHOGONAL, marker="None")
    assert curve[x > 2e-4].min() > 0.99  # without rounding the polynomials would have reached all of these
    assert dots(steps)[1, dots(steps)[0] < 5e-4].max() < 0.9
    steps.set(precision="float32")
    assert numbers(ERRORS, steps)[2] < 0.02


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_ones_own_matrix_is_shown_whatever_its_scale(scale):
    view = ov.widgets.newton_schulz(scale * NORMAL)
    s = np.linalg.svd(NORMAL.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(dots(view)[0], s / s[0], rtol=1e-4)
    np.testing.assert_allclose(dots(view)[1], iterated(s / np.linalg.norm(s), [JORDAN] * 5), atol=1e-3)
    assert code(view) == "ov.widgets.newton_schulz(matrix)"
    assert list(view.state) == ["steps", "table", "precision"]


def test_directions_that_do_not_count_are_left_out_and_weak_ones_lengthen_the_axis():
    G = NORMAL.clone()
    G[3] = G[4]
    assert dots(ov.widgets.newton_schulz(G)).shape == (2, 19)
    view = ov.widgets.newton_schulz(torch.diag(torch.tensor([1.0, 1e-2, 4e-6])))
    x, _ = points(view, color=ORTHOGONAL, marker="None")
    assert x[0] == pytest.approx(dots(view)[0, -1], rel=1e-3) == pytest.approx(4e-6, rel=1e-3)
