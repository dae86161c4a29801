"""clipping: its lengths against NumPy's SVD, its buffer against a loop of its own."""

import numpy as np
import pytest
import torch

import orthoviz as ov
from tests.views import line, numbers, press

pytestmark = pytest.mark.slow

WIDTHS = (32, 128, 512)
LENGTHS = r"(\S+), (\S+), ([\d.]+\d)"


def random(width):
    return torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double().numpy()


def step(G):
    """A gradient's polar factor."""
    U, _, Vh = np.linalg.svd(G)
    return U @ Vh


@pytest.mark.parametrize("bound", [0.1, 10.0])
def test_a_gradient_that_is_clipped_makes_the_same_step_and_a_step_that_is_clipped_the_bound(bound):
    view = ov.widgets.clipping(bound=bound)
    whole = [np.linalg.norm(step(min(1, bound / np.linalg.norm(G)) * G)) for G in map(random, WIDTHS)]
    np.testing.assert_allclose(numbers(f"lengths {LENGTHS}", view), whole, rtol=5e-3)
    view.set(what="the step")
    np.testing.assert_allclose(numbers(f": {LENGTHS}", view), np.minimum(whole, bound), rtol=5e-3)
    assert "the bound has become the learning rate" in view.title


def test_a_bound_longer_than_every_step_is_said_to_do_nothing():
    assert "does nothing" in ov.widgets.clipping(bound=30.0, what="the step").title


def after_a_bad_gradient(bound):
    """How the step agrees with the signal five steps after a gradient that is 1,000 times too long."""
    generator = torch.Generator().manual_seed(1)

    def draw():
        G = torch.randn(32, 32, generator=generator).double().numpy()
        return G / np.linalg.norm(G)

    signal, buffer = draw(), 0
    for i in range(-25, 6):
        G = 1000 * draw() if i == 0 else signal + draw()
        buffer = 0.9 * buffer + G * min(1, bound / np.linalg.norm(G))
    return (step(buffer) * signal).sum() / np.linalg.svd(signal, compute_uv=False).sum()


@pytest.mark.parametrize(("bound", "helps"), [(1.0, True), (100.0, True), (1000.0, False)])
def test_in_a_buffer_clipping_first_helps_where_the_bound_is_small(bound, helps):
    view = ov.widgets.clipping(bound=bound)
    press(view, "make it lose")
    view.set(bound=bound)
    found = numbers(r"by (\d\.\d+); .*, by (\d\.\d+)\.", view)
    expected = [after_a_bad_gradient(np.inf), after_a_bad_gradient(bound)]
    np.testing.assert_allclose(found, expected, atol=6e-3)
    assert ("clipping before is what helps" in view.title) == helps, line(view)
