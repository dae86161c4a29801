"""dead_filters: its numbers against NumPy."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

import orthoviz as ov
from tests.views import code, line, points, press, without_ghosts

pytestmark = pytest.mark.slow

COLOURS = {"drop": "#0072B2", "keep": "#CC79A7", "Jordan": "#E69F00", "fast": "#009E73"}
OTHERS = np.arange(16) != 3


@pytest.fixture
def dead():
    view = ov.widgets.dead_filters()
    yield view
    view.close()


def decompose(size):
    """The built-in gradient, with a faded row 3, in NumPy."""
    G = torch.randn(16, 60, generator=torch.Generator().manual_seed(0)).double().numpy()
    G[3] *= size
    return np.linalg.svd(G, full_matrices=False)


def bars(view):
    moving = view._canvas._layers[view._canvas.figure].moving
    return np.array([artist.get_height() for artist in moving if isinstance(artist, Rectangle)])


def test_the_bars_are_the_row_lengths_that_numpy_finds_and_drop_cuts_at_ten_epsilons(dead):
    for size in (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 0.0):
        dead.set(size=size, method="drop")
        U, s, Vh = decompose(size)
        kept = s > 10 * np.finfo(np.float32).eps * s[0]
        np.testing.assert_allclose(bars(dead), np.linalg.norm(U * kept @ Vh, axis=1), atol=1e-5)
        assert kept[-1] == (size >= 1e-5)
        dead.set(method="Jordan")
        x = s / np.linalg.norm(s)
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
        np.testing.assert_allclose(bars(dead), np.linalg.norm(U * x @ Vh, axis=1), atol=2e-3)


def test_at_exactly_zero_keep_still_takes_a_full_step(dead):
    press(dead, "exactly 0, keep")
    assert bars(dead)[3] > 0.9
    assert dead.title == "No gradient at all, and still a step of full length, in a made-up direction"
    press(dead, "exactly 0, drop")
    assert "exactly 0: with drop its step has length 0," in line(dead)


def test_the_dot_stands_on_its_methods_line_also_at_exactly_zero(dead):
    axes = dead._canvas.figure.axes[0]
    still = [curve for curve in axes.lines if not curve.get_animated()]
    for method, colour in COLOURS.items():
        path = np.concatenate([curve.get_xydata() for curve in still if curve.get_color() == colour])
        for size in dead._controls["size"].options:
            dead.set(size=size, method=method)
            without_ghosts(dead)
            (x,), (y,) = points(dead, marker="o", color=colour)
            assert y == pytest.approx(bars(dead)[3])
            assert np.isclose(path, (x, y), atol=1e-6).all(1).any(), (method, size)
            assert axes.get_xlim()[0] < x < -9 + 0.3 if size == 0 else x == pytest.approx(np.log10(size))


def test_a_mini_batch_supports_the_stored_number_of_directions(dead):
    press(dead, "a mini-batch")
    stored = ov.training.results("rank_budget").set_index("batch_size")
    assert stored.possible.unique() == sum(  # the smaller sides of the network's matrices
        [8, *[8] * 4, *[16] * 4, 8, *[32] * 4, 16, *[64] * 4, 32, 10]
    )
    for size in stored.index:
        dead.set(batch_size=int(size))
        given, possible = stored.loc[size, ["supported", "possible"]]
        assert f"have {given:.0f} of {possible:.0f} directions" in line(dead)
        assert f"the other {possible - given:.0f}" in line(dead)
    np.testing.assert_allclose(bars(dead), [*stored.supported, *(stored.possible - stored.supported)])
    assert code(dead) == "ov.widgets.dead_filters(show='a mini-batch', batch_size=256)"


def test_ones_own_gradient_fades_and_its_steps_are_those_of_numpy():
    gradient = torch.randn(16, 9, generator=torch.Generator().manual_seed(3))  # not all rows get length 1
    gradient[3] *= 1e4  # another length than the others
    G = gradient.double().numpy()
    view = ov.widgets.dead_filters(gradient, size=1e-2)
    np.testing.assert_array_equal(gradient, G)  # the caller's stays as it is
    lengths = np.linalg.norm(G, axis=1)
    G[3] *= 1e-2 * lengths[OTHERS].mean() / lengths[3]
    U, _, Vh = np.linalg.svd(G, full_matrices=False)
    np.testing.assert_allclose(bars(view), steps := np.linalg.norm(U @ Vh, axis=1), atol=1e-5)
    assert f"with drop its step has length {steps[3]:.2f}" in line(view)
    assert f"{steps[OTHERS].min():.2f} to {steps[OTHERS].max():.2f}" in line(view)
