"""polar_lab: its numbers and what it draws, against NumPy."""

import numpy as np
import pytest
import torch
from matplotlib.text import Annotation

import orthoviz as ov
from orthoviz.plots import INK, ORTHOGONAL, RANDOM
from tests.views import again, code, line, numbers, points, press

pytestmark = pytest.mark.slow

G = np.array([[1.6, 0.3], [1.2, 0.9]])


def powered(matrix, p):
    U, s, Vh = np.linalg.svd(matrix)
    return (U * s**p) @ Vh


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s], [-s, c]])


def between(rows):
    return np.degrees(np.arctan2(rows[1, 1], rows[1, 0]) - np.arctan2(rows[0, 1], rows[0, 0]))


def arrows(view, colour):
    """Where the arrows of a colour end that are seen."""
    seen = [a for a in view._canvas._layers[view._canvas.figure].moving if a.get_visible()]
    return np.array([a.xy for a in seen if isinstance(a, Annotation) and a.arrowprops["color"] == colour])


@pytest.mark.parametrize("p", [0.05, 0.5, 1.0, 0.0])
def test_it_draws_and_says_the_powers_that_numpy_finds(p):
    view = ov.widgets.polar_lab(p=p, show_factor=True)
    turn = np.linspace(0, 2 * np.pi, 181)
    ellipse = np.stack([np.cos(turn), np.sin(turn)]).T @ powered(G, p)
    np.testing.assert_allclose(points(view, color=ORTHOGONAL, linewidth=1.5), ellipse.T, atol=1e-6)
    np.testing.assert_allclose(arrows(view, INK), powered(G, p), atol=1e-6)
    # At p = 0 the rows themselves are the factor's
    np.testing.assert_allclose(arrows(view, RANDOM).reshape(-1, 2), powered(G, 0)[: 2 * (p > 0)], atol=1e-6)
    (a, b), (c, d) = (np.linalg.svd(G, compute_uv=False) ** power for power in (1, p))
    assert f"G has axes of {a:.2f} and {b:.2f}; with p = {p:.2f} they are {c:.2f} and {d:.2f}," in line(view)


@pytest.mark.parametrize("angle", [-135.0, -1.0, 0.0, 1.0, 40.0, 90.0])
def test_row_2_turns_until_it_has_the_angle(angle):
    drawn = arrows(ov.widgets.polar_lab(p=1.0, angle=angle), INK)
    rows = np.stack([G[0], G[1] @ turned(angle - between(G))])
    assert between(drawn) == pytest.approx(angle)
    np.testing.assert_allclose(drawn / np.linalg.norm(drawn), rows / np.linalg.norm(rows), atol=1e-9)


def test_the_angles_are_every_five_degrees_those_of_the_lessons_and_the_matrixs_own():
    for matrix in (G, powered(G, 0)):  # the second at 90, but for rounding
        angles = ov.widgets.polar_lab(torch.from_numpy(matrix))._controls["angle"].options
        assert list(angles) == sorted({*range(-180, 181, 5), -1, 1, round(between(matrix), 6)})


def test_the_game_knows_the_nearest_pair_and_is_about_the_matrix_as_it_is():
    view = ov.widgets.polar_lab(angle=90.0)
    press(view, "game: find it by hand")
    view.set(turn=-15, reveal=True)
    Q, R = np.linalg.qr(G.T)
    pairs = turned(-15), powered(G, 0), (Q * np.sign(np.diag(R))).T
    distances = [round(np.linalg.norm(G - pair), 3) for pair in pairs]
    said = numbers(r"is (\S+) from G\. The polar factor: (\S+), the .* Gram-Schmidt: (\S+)\.", view)
    assert said == distances == [1.267, 1.259, 1.522]
    view.set(flip=True)
    np.testing.assert_allclose(arrows(view, INK), [[1], [-1]] * pairs[0], atol=1e-6)
    assert code(view) == "ov.widgets.polar_lab(game=True, turn=-15, flip=True, reveal=True)"


@pytest.mark.parametrize(("matrix", "times"), [(np.eye(2), 81), (G, 11)])
def test_make_it_lose_one_degree_apart_the_difference_grows(matrix, times):
    view = ov.widgets.polar_lab(torch.from_numpy(matrix))
    press(view, "make it lose")
    rows = np.stack([matrix[0], matrix[1] @ turned(1 - between(matrix))])
    before, after = (np.linalg.norm(np.diff(pair, axis=0)) for pair in (rows, powered(rows, 0)))
    assert view.title == f"Two nearly equal gradients, 1° apart: their difference grows {times} times"
    assert numbers(r"is (\S+) times as long", view)[0] == pytest.approx(after / before, abs=0.06)


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_ones_own_gradient_is_shown_in_the_plane_of_its_rows(scale):
    rows = scale * torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    view = ov.widgets.polar_lab(rows, p=1.0)
    first, second = np.linalg.svd(rows.numpy(), compute_uv=False)
    assert f"{2.2 / first:.2g} times its size, which changes no direction. G has axes of 2.20" in line(view)
    assert f"2.20 and {2.2 * second / first:.2f}; with" in line(view)
    drawn = arrows(view, INK) * first / 2.2
    np.testing.assert_allclose(drawn @ drawn.T, (rows @ rows.T).numpy(), rtol=1e-5)  # lengths and angle
    assert view.image == again(view, matrix=rows).image


@pytest.mark.parametrize("options", [{"matrix": [[1, 0]] * 2}, {"angle": 0.0}, {"angle": 0.0, "p": 1.0}])
def test_parallel_rows_have_one_direction(options):
    view = ov.widgets.polar_lab(**options)
    assert view.title == "One direction only: there is nothing to make orthogonal"
    assert numbers(r"they are \S+ and (\S+),", view) == [0]
