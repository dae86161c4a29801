"""filter_gallery: its numbers against the stored weights and the measures."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from safetensors.torch import load_file

from orthoviz.training.stored import folder
from orthoviz.widgets import filter_gallery
from tests.views import again, code, line, numbers, presets, press, source, without_ghosts

pytestmark = pytest.mark.slow


def alike(matrix):
    """|cos| of every two rows, the most alike first."""
    cosine = np.corrcoef(np.hstack([matrix, -matrix]))  # of rows with mean 0
    return np.sort(np.abs(cosine[np.triu_indices(len(cosine), 1)]))[::-1]


def said(view):
    """The pair's cosine, and the band of random ones."""
    return numbers(r"cosine of (-?[\d.]+);.*\(([\d.]+) to ([\d.]+) in 90 %", view)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layer", ["conv 1", "conv 2", "conv 3", "head"])
def test_it_finds_the_pairs_of_the_stored_weights(layer):
    view = filter_gallery(layer=layer)
    weights = load_file(folder("filters") / "weights.safetensors")
    for run in ("SGD 0.01", "orthogonal SGD 0.03"):
        matrix = weights[f"{run}/{layer}"].float()
        for k in (1, 20):
            view.set(run=run, k=k)
            assert abs(said(view)[0]) == pytest.approx(alike(matrix)[k - 1], abs=6e-4)


def test_the_band_of_random_pairs():
    most = [alike(matrix)[0] for matrix in rand(400, 32, 27, seed=7)]
    _, low, high = said(filter_gallery())
    assert (low, high) == pytest.approx(tuple(np.quantile(most, (0.05, 0.95))), abs=0.02)
    assert (low, high) == pytest.approx((0.51, 0.67), abs=0.015)


def test_trained_filters_are_more_alike_than_chance_and_where_it_loses_they_are_not():
    view = filter_gallery()
    cosine, _, high = said(view)
    assert abs(cosine) > high
    assert view.title == "Alike, or just random? More alike than chance makes them"
    press(view, "make it lose")
    cosine, low, high = said(view)
    assert low <= abs(cosine) <= high
    assert view.title == "Alike, or just random? Just random: chance makes a pair as alike"
    press(view, "its random twin")
    cosine, low, high = said(view)
    assert low <= abs(cosine) <= high
    assert abs(cosine) == pytest.approx(alike(rand(32, 27, seed=2))[0], abs=6e-4)


def test_the_frames_stand_around_the_pair_that_is_drawn_large():
    weight = rand(12, 3, 4, 4)
    weight[7] = -2 * weight[3]
    view = filter_gallery(weight)
    axes = view._canvas.figure.axes
    sheet, cosines, *pair = (image.get_array() for ax in axes for image in ax.images)
    places = [[round(side) for side in mark.get_bbox().bounds] for ax in axes[:2] for mark in ax.patches]
    for (left, top, wide, tall), picture in zip(places[:2], pair, strict=True):
        inside = sheet[top + 1 : top + tall - 1, left + 1 : left + wide - 1]
        np.testing.assert_allclose(inside, np.kron(picture, np.ones((5, 5, 1))))
    for x, y, *_ in places[2:]:
        np.testing.assert_allclose(cosines[y, x], colormaps["RdBu_r"](0.0))  # -1 is the darkest blue
    assert "cos = -1.000, opposite" in [text.get_text() for text in view._canvas.figure.texts]


def test_ones_own_filters():
    weight = rand(12, 5, 3, 3)
    weight[7] = -2 * weight[3]
    weight[5] = 0
    view, flat = filter_gallery(weight), filter_gallery(weight.flatten(1))
    assert said(view)[0] == said(flat)[0] == -1
    view.set(k=2)
    present = weight.flatten(1)[torch.arange(12) != 5]
    assert abs(said(view)[0]) == pytest.approx(alike(present)[1], abs=6e-4)
    assert code(view) == "ov.widgets.filter_gallery(weight, k=2)"
    assert source(again(view, weight=weight)) == without_ghosts(view)
    assert view.state.keys() == {"k", "filters"}
    assert max(view._controls["k"].options) == 50
    assert presets(view) == ["most alike", "make it lose"]
    press(view, "make it lose")
    assert view.state == {"k": 1, "filters": "random twin"}


def test_of_many_filters_the_first_are_shown_and_small_layers_have_fewer_pairs():
    weight = rand(100, 20)
    assert abs(said(filter_gallery(weight))[0]) == pytest.approx(alike(weight[:64])[0], abs=6e-4)
    assert line(filter_gallery(layer="head", k=200)).startswith("The 45th most alike pair of head's filters")
