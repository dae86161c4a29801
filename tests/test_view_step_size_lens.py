"""step_size_lens: its lengths against the gradients themselves and the exact factor."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.views import code, line, numbers, points, press

pytestmark = pytest.mark.slow


@pytest.fixture
def network():
    model = ov.models.digits_cnn(seed=0)
    images, labels = next(iter(ov.datasets.batches(ov.datasets.load("digits"), 64, seed=0, epoch=1)))
    nn.functional.cross_entropy(model(images), labels).backward()
    return model


def drawn(view):
    """Lengths of the gradients and of both optimisers' steps, a layer a column."""
    descent, orthogonal = (points(view, marker=marker, alpha=None) for marker in "os")
    np.testing.assert_array_equal(descent[0], orthogonal[0])
    return np.array([*descent, orthogonal[1]])


def test_the_lens_measures_real_steps(network):
    before = copy.deepcopy([(p.data, p.grad) for p in network.parameters()])
    view = ov.widgets.step_size_lens(network)
    gradients = [p.grad.flatten(1) for p in network.parameters() if p.ndim > 1]
    lengths = np.array([[G.norm().item(), ov.polar_factor(G).norm().item()] for G in gradients]).T
    np.testing.assert_allclose(drawn(view), [lengths[0], *(0.01 * lengths)], rtol=1e-3)
    longer = lengths[1] / lengths[0]
    assert f"{longer.min():.3g} to {longer.max():.3g} times as long" in line(view)
    after = [(p.data, p.grad) for p in network.parameters()]
    assert all(
        torch.equal(a, b) for pairs in zip(before, after, strict=True) for a, b in zip(*pairs, strict=True)
    )


def test_a_larger_loss_moves_sgd_alone_and_matched_steps_are_equally_long(network):
    view = ov.widgets.step_size_lens(network)
    first, ratio = drawn(view), numbers(r"by up to (\S+)% of", view)
    press(view, "make it lose")
    assert view.state["scale"] == 1e-3
    np.testing.assert_allclose(drawn(view), [*(1e-3 * first[:2]), first[2]], rtol=1e-3)
    assert numbers(r"by up to (\S+)% of", view) == ratio
    view.set(match=True)
    np.testing.assert_allclose(drawn(view)[2], drawn(view)[1], rtol=1e-3)
    assert code(view) == "ov.widgets.step_size_lens(model, scale=0.001, match=True)"


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_rates_are_those_that_the_package_translates(network, scale):
    view = ov.widgets.step_size_lens(network, show="rates", scale=scale, like="SGD at 0.1")
    for p in network.parameters():
        p.grad *= scale
    ours = partial(ov.OrthogonalSGD, momentum=0.9, scale="rms")
    for name, to in {"AdamW": "adamw", "Muon": "muon", "scale rms": ours, "scale match": "matched"}.items():
        right = ov.optim.translate(0.1, of="sgd", to=to, model=network)
        assert numbers(rf"{name} ([\d.e-]+\d)", view) == [pytest.approx(right, rel=0.06)]  # of two digits
    assert ("loss" in view.title) == (scale != 1)
    assert list(view.state) == ["show", "scale", "match", "like"]


def test_gradients_of_zero_have_no_rate(network):
    for p in network.parameters():
        p.grad.zero_()
    view = ov.widgets.step_size_lens(network)
    press(view, "which rate?")
    assert "the model's gradients are zero" in line(view)
