"""LARS, the trust region and SWAN against their papers' formulas."""

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.reference import lars, polar, swan
from tests.test_optim import fed, gradients, network, train


@pytest.mark.parametrize("shape", [(4, 9), (3, 2, 3, 3), (7,)])
def test_lars_follows_its_papers_rule(shape):
    start, stream = torch.randn(*shape, dtype=torch.float64), gradients(*shape, count=8)
    p = nn.Parameter(start.clone())
    fed(p, ov.LARS([p], lr=0.2, weight_decay=0.01, trust_coefficient=0.02), stream)
    right = lars(start, stream, lr=0.2, momentum=0.9, weight_decay=0.01, trust=0.02)
    np.testing.assert_allclose(p.detach(), right, rtol=1e-12, atol=1e-12)


def test_lars_moves_a_zero_layer():
    p = nn.Parameter(torch.zeros(2, 3))
    assert fed(p, ov.LARS([p], lr=1.0), gradients(2, 3, count=1)).norm() > 0
    assert fed(p, ov.LARS([p], lr=1.0), [torch.zeros(2, 3)]).isfinite().all()


def test_orthogonal_lars_steps_along_the_factor_as_far_as_lars_would():
    model = nn.Linear(9, 4, bias=False).double()
    before = model.weight.detach().clone()
    optimizer = ov.LARS(model.parameters(), lr=1.0, trust_coefficient=0.02)
    ov.orthogonalise(optimizer, model)
    moved = before - fed(model.weight, optimizer, gradients(4, 9, count=1))
    assert moved.norm().item() == pytest.approx(0.02 * before.norm().item())
    np.testing.assert_allclose(moved / moved.norm(), polar(model.weight.grad) / 2, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_no_step_within_the_trust_region_goes_further_down(shape):
    """The definition: the least <m, theta> over the ball, against many points on its surface."""

    def size(x):
        return torch.linalg.matrix_norm(x, 2)

    start, stream = torch.randn(*shape, dtype=torch.float64), gradients(*shape, count=3)
    p = nn.Parameter(start.clone())
    make = ov.optim.optimizers(momentum=0.7, weight_decay=0.0)["trust_region"]
    optimizer = make([{"params": [p], "layout": ("rows", 1)}], 0.1)
    fed(p, optimizer, stream[:2])
    before = p.detach().clone()
    fed(p, optimizer, stream[2:])
    average = 0.7 * (0.7 * stream[0] + 0.3 * stream[1]) + 0.3 * stream[2]
    step = p.detach() - before
    assert size(step).item() == pytest.approx(0.1)
    depth = (average * step).sum()
    for other in gradients(*shape, count=200):
        assert (average * (-0.1 * other / size(other))).sum() > depth
        near = step + 0.01 * other
        assert (average * (0.1 * near / size(near))).sum() > depth


def test_the_trust_regions_decay_shrinks_the_weights_themselves():
    (G,) = gradients(4, 9, count=1)
    start = torch.randn(4, 9, dtype=torch.float64)
    p = nn.Parameter(start.clone())
    make = ov.optim.optimizers(weight_decay=0.2)["trust_region"]
    fed(p, make([{"params": [p], "layout": ("rows", 1)}], 0.1), [G])
    np.testing.assert_allclose(p.detach(), (0.98 * start).numpy() - 0.1 * polar(G), atol=1e-10)


def test_swan_follows_its_papers_formulas():
    (G,) = gradients(4, 9, count=1)
    start = torch.randn(4, 9, dtype=torch.float64)
    p = nn.Parameter(start.clone())
    optimizer = ov.SWAN([{"params": [p], "layout": ("rows", 1)}], lr=0.1, weight_decay=0.2)
    fed(p, optimizer, [G])
    np.testing.assert_allclose(p.detach(), (0.98 * start).numpy() - 0.1 * swan(G), atol=1e-10)
    assert p not in optimizer.state  # it needs no memory


def test_swans_rest_is_adamw_and_constant_rows_do_no_harm():
    model = network(torch.float32)
    optimizer = ov.SWAN(ov.param_groups(model), lr=1e-3, rest_lr=1e-2)
    train(model, optimizer, 3)
    assert set(optimizer.state[model[4].bias]) == {"step", "exp_avg", "exp_avg_sq"}
    p = nn.Parameter(torch.zeros(3, 5))
    G = torch.randn(3, 5)
    G[1] = 0.1  # whose mean is rounded
    moved = fed(p, ov.SWAN([{"params": [p], "layout": ("rows", 1)}], lr=1.0), [G])
    assert moved.isfinite().all()
    assert moved[1].abs().max() < 1e-4


def test_swan_learns():
    model = ov.models.digits_cnn(seed=0)
    optimizer = ov.SWAN(ov.param_groups(model), lr=5e-4)
    run = ov.training.fit(model, optimizer, ov.datasets.load("digits"), epochs=3, seed=0, progress=False)
    assert run.history.test_accuracy.iloc[-1] > 0.8
