"""step_size_lens: its lengths against the gradients themselves and the exact factor."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.views import code, line, numbers, points, press

RATIO = r"times as long as SGD's .* by up to (\S+)% of"


@pytest.fixture
def network():
    model = ov.models.digits_cnn(seed=0)
    images, labels = next(iter(ov.datasets.batches(ov.datasets.load("digits"), 64, seed=0, epoch=1)))
    nn.functional.cross_entropy(model(images), labels).backward()
    return model


def gradients(network):
    return [p.grad.flatten(1) for p in network.parameters() if p.ndim > 1]


def test_the_lens_measures_real_steps(network):
    before, first = copy.deepcopy(network.state_dict()), [p.grad.clone() for p in network.parameters()]
    view = ov.widgets.step_size_lens(network)
    lengths = np.array([G.norm().item() for G in gradients(network)])
    factors = np.array([ov.polar_factor(G).norm().item() for G in gradients(network)])
    np.testing.assert_allclose(points(view, marker="o", alpha=None), [lengths, 0.01 * lengths], rtol=1e-3)
    np.testing.assert_allclose(points(view, marker="s", alpha=None), [lengths, 0.01 * factors], rtol=1e-3)
    longer = factors / lengths
    assert f"{longer.min():.3g} to {longer.max():.3g} times as long" in line(view)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(network.parameters(), first, strict=True))


def test_a_larger_loss_moves_sgd_alone(network):
    view = ov.widgets.step_size_lens(network)
    descent, orthogonal, ratio = (
        points(view, marker="o", alpha=None),
        points(view, marker="s", alpha=None),
        numbers(RATIO, view),
    )
    for scale in (1e3, 1e-3):
        view.set(scale=scale)
        np.testing.assert_allclose(points(view, marker="o", alpha=None), scale * descent, rtol=1e-3)
        np.testing.assert_allclose(points(view, marker="s", alpha=None)[1], orthogonal[1], rtol=1e-3)
        assert numbers(RATIO, view) == ratio
    press(view, "reset")
    press(view, "make it lose")
    assert view.state == {"scale": 1e-3, "match": False}


def test_matched_steps_are_equally_long(network):
    view = ov.widgets.step_size_lens(network, match=True)
    np.testing.assert_allclose(
        points(view, marker="o", alpha=None), points(view, marker="s", alpha=None), rtol=1e-3
    )
    assert code(view) == "ov.widgets.step_size_lens(model, match=True)"


def test_a_lens_without_gradients_is_refused():
    with pytest.raises(ValueError, match=r"call loss\.backward\(\) first"):
        ov.widgets.step_size_lens(nn.Linear(3, 2))
