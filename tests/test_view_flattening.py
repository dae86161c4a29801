"""flattening: what it draws and says, against NumPy."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.image import AxesImage
from matplotlib.patches import StepPatch
from matplotlib.text import Annotation, Text

import orthoviz as ov
from orthoviz.models import basic_cnn
from orthoviz.plots import ORTHOGONAL, PALE
from tests.views import again, code, line, numbers, points, press

pytestmark = pytest.mark.slow


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def drawn(view, kind):
    """The artists of a kind that are drawn over the background."""
    layers = view._canvas._layers[view._canvas.figure]
    return [a for a in (*layers.moving, *layers.passing) if type(a) is kind]


def products(view):
    """O O^T and O^T O as they are drawn."""
    return [np.array(image.get_array()) for image in drawn(view, AxesImage)]


def tips(view):
    """Where the arrows end: the gradient's rows, and the step's."""
    arrows = drawn(view, Annotation)
    return [np.array([a.xy for a in arrows if a.arrowprops["color"] == c]) for c in (PALE, ORTHOGONAL)]


def nearest(matrix):
    U, _, Vh = np.linalg.svd(matrix, full_matrices=False)
    return U @ Vh


def cosines(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(matrix), dtype=bool)]


@pytest.mark.parametrize("rows", range(1, 9))
def test_the_arrows_and_the_maps_are_those_that_numpy_finds(rows):
    view = ov.widgets.flattening(rows=rows)
    gradient, step = tips(view)
    assert len(gradient) == len(step) == rows
    np.testing.assert_allclose(np.linalg.norm(gradient, axis=1).max(), 1, rtol=1e-6)
    np.testing.assert_allclose(step, nearest(gradient), atol=1e-6)
    expected = step @ step.T, step.T @ step
    for found, product in zip(products(view), expected, strict=True):
        np.testing.assert_allclose(found, product, atol=1e-6)
    away = numbers(r"up to (\S+) away from the identity, O\^T O (\S+)\.", view)
    assert away == pytest.approx([abs(E - np.eye(len(E))).max() for E in expected], abs=6e-3)


def test_from_two_to_three_filters_the_right_angle_breaks_and_stays_as_a_ghost():
    view = ov.widgets.flattening(rows=2)
    right = tips(view)[1]
    np.testing.assert_allclose(right, nearest([[1.6, 0.3], [1.2, 0.9]]), atol=1e-6)
    press(view, "3 filters: it breaks")
    assert view.title == "More filters than dimensions: the rows cannot be orthogonal, so the columns are"
    np.testing.assert_allclose(points(view, alpha=0.25).T[1::2], right, atol=1e-6)


def test_make_it_lose_eight_filters_stay_as_alike_as_they_were():
    view = ov.widgets.flattening()
    press(view, "make it lose")
    before, after = (np.abs(cosines(rows)).mean() for rows in tips(view))
    assert after > 0.95 * before > 0.5
    assert f"rows: {before:.2f} in the gradient, {after:.2f} in the step" in line(view)
    assert view.title.endswith(f"as alike as they were: mean |cos| {before:.2f}, then {after:.2f}")


def test_the_shorter_side_of_a_layers_matrix_is_orthonormal():
    first = basic_cnn(seed=0)[0].weight.flatten(1).shape
    others = ("1 x 1 expansion", 64, 16), ("transposed", 3, 64), ("grouped", 32, 144)
    for layer, m, n in (("BasicCNN's first", *first), *others):
        rows, columns = products(ov.widgets.flattening(layer=layer))
        assert np.allclose(rows, np.eye(m), atol=1e-5) == (m < n)
        assert np.allclose(columns, np.eye(n), atol=1e-5) == (n < m)


def test_a_group_is_a_matrix_of_its_own():
    view = ov.widgets.flattening(layer="grouped")
    assert np.abs(products(view)[1][np.kron(np.eye(8), np.ones((18, 18))) == 0]).max() == 0
    assert "4 rows in 18 dimensions, in each of 8 groups" in line(view)


def test_one_filter_is_left_alone_as_param_groups_says():
    assert [g["layout"] for g in ov.param_groups(torch.nn.Linear(2, 1, bias=False))] == [None]
    assert "ov.param_groups leaves such a weight alone" in line(ov.widgets.flattening(rows=1))


def test_the_cosines_of_rows_with_many_weights_are_counted():
    weight = random(20, 9).numpy()
    steps = drawn(ov.widgets.flattening(torch.from_numpy(weight)), StepPatch)
    for matrix, step in zip((weight, nearest(weight)), steps, strict=True):
        counts, _ = np.histogram(cosines(matrix), np.linspace(-1, 1, 42))
        np.testing.assert_allclose(step.get_data().values, counts / 380, atol=1e-9)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (8, 20), (4, 5, 7), (4, 2, 2, 3, 3), (64, 512)])
def test_a_filters_weights_are_bricks_and_then_a_row_in_the_same_order(shape):
    [both] = drawn(ov.widgets.flattening(random(*shape)), PolyCollection)
    colours, x = both.get_facecolor(), np.array([path.vertices[:, 0] for path in both.get_paths()])
    bricks = min(64, np.prod(shape[1:]))
    assert len(x) == 2 * bricks
    np.testing.assert_array_equal(colours[:bricks], colours[bricks:])
    assert (np.diff(x[bricks:].min(axis=1)) > 0).all()
    assert x.max() <= 100


def test_a_module_brings_its_gradient_and_its_matrix():
    module = torch.nn.ConvTranspose2d(6, 4, 2, groups=2)
    module(torch.randn(2, 6, 5, 5)).square().sum().backward()
    view = ov.widgets.flattening(module)
    # inputs (2 groups of 3), outputs of a group, kernel -> group, output, (input, kernel)
    groups = module.weight.grad.numpy().reshape(2, 3, 2, 4).transpose(0, 2, 1, 3).reshape(2, 2, 12)
    expected = torch.block_diag(*(torch.from_numpy(nearest(group).T @ nearest(group)) for group in groups))
    np.testing.assert_allclose(products(view)[1], expected, atol=1e-5)
    assert again(view, weight=module).image == view.image


def test_ones_own_weight_comes_first_and_the_built_in_layers_stay_at_hand():
    view = ov.widgets.flattening(torch.eye(3, 5))
    assert (code(view), view.text[:22]) == ("ov.widgets.flattening(weight)", "3 rows in 5 dimensions")
    alone = view.image
    press(view, "make it lose")
    assert code(view) == "ov.widgets.flattening(weight, rows=8, layer='toy')"
    view.set(layer="yours")
    assert view.image == alone  # arrows leave no ghosts among cosines


def test_a_gradient_without_enough_directions_makes_neither_side_orthonormal():
    view = ov.widgets.flattening(random(1, 9).expand(6, 9))
    assert view.title == "The gradient has too few directions: neither rows nor columns are orthonormal"


def test_of_a_large_matrix_the_first_rows_and_columns_are_shown():
    view = ov.widgets.flattening(random(300, 700))
    assert [found.shape for found in products(view)] == [(256, 256)] * 2
    labels = "; ".join(text.get_text() for text in drawn(view, Text))
    assert "first 256 of 300, up to 0.00 from I; first 256 of 700, up to " in labels
