"""ov.optim.translate: against lengths that are known without it, and against training."""

import copy
import math
from functools import partial
from itertools import chain, count, islice

import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.optim.translate import step_length

ADAMW = math.sqrt(0.1 / 1.9)
"""The root mean square of an average with beta 0.9 over independent terms of size 1."""


def with_gradients(model, size=1.0):
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = size * torch.randn(p.shape, generator=generator)
    return model


@pytest.fixture
def layer():
    return with_gradients(nn.Linear(96, 64))


@pytest.fixture(scope="module")
def digits():
    model = ov.models.digits_cnn(seed=0)
    images, labels = next(iter(ov.datasets.batches(ov.datasets.load("digits"), 64, seed=0, epoch=1)))
    nn.functional.cross_entropy(model(images), labels).backward()
    return model


orthogonal, muons = ov.OrthogonalSGD, partial(ov.OrthogonalSGD, order="after_momentum")
SUM = 1 / math.sqrt(1 - 0.9**2)
"""The same of a buffer with momentum 0.9."""


@pytest.mark.parametrize(
    ("make", "length"),
    [
        (torch.optim.AdamW, ADAMW),
        (torch.optim.SGD, None),  # the gradient's own
        (orthogonal, 1 / math.sqrt(96)),
        (partial(orthogonal, momentum=0.9), SUM / math.sqrt(96)),
        (partial(muons, momentum=0.9), 1 / math.sqrt(96)),
        (partial(muons, momentum=0.95, nesterov=True), 1 / math.sqrt(96)),
        (partial(muons, momentum=0.9, scale="rms"), 0.2),
        (partial(muons, momentum=0.9, scale="rms", weight_decay=3.0, decoupled=True), 0.2),
        (partial(orthogonal, scale="sqrt_ratio"), math.sqrt(64 / 96) / math.sqrt(96)),
        (ov.SWAN, 1.0),
    ],
)
def test_a_step_has_the_length_that_is_known_of_it(make, length, layer):
    length = layer.weight.grad.square().mean().sqrt().item() if length is None else length
    assert step_length(make, 0.01, layer) == pytest.approx(0.01 * length, rel=0.03)


def test_the_rate_is_that_of_steps_as_long_and_leads_back(layer):
    before = copy.deepcopy(layer.state_dict())
    muons = ov.optim.translate(0.01, of="adamw", to="muon_order_rms", model=layer)
    assert muons == pytest.approx(0.01 * ADAMW / 0.2, rel=0.03)
    small = with_gradients(nn.Linear(12, 8))
    for name in ov.optim.OPTIMIZERS:
        rate = ov.optim.translate(1e-3, of="adamw", to=name, model=small)
        assert ov.optim.translate(rate, of=name, to="adamw", model=small) == pytest.approx(1e-3, rel=0.01)
    assert all(torch.equal(p, before[name]) for name, p in layer.state_dict().items())
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    ov.optim.translate(1e-3, of="adamw", to="random_spectrum", model=layer)
    assert torch.rand(1) == drawn


def test_only_the_rate_of_what_follows_the_gradients_length_depends_on_it(layer):
    def rate(of, to, size):
        return ov.optim.translate(0.01, of=of, to=to, model=with_gradients(layer, size))

    assert rate("adamw", "sgd", 100) == pytest.approx(rate("adamw", "sgd", 1) / 100, rel=1e-3)
    assert rate("adamw", "orthogonal_sgd", 100) == pytest.approx(rate("adamw", "orthogonal_sgd", 1), rel=1e-3)


def test_only_matrices_with_gradients_count():
    model = nn.Sequential(nn.Linear(96, 64), nn.LayerNorm(24), nn.Conv2d(2, 4, 3), nn.Embedding(9, 3))
    with_gradients(model)
    model[2].weight.grad = None
    assert step_length(orthogonal, 1.0, model) == pytest.approx(1 / math.sqrt(96), rel=1e-4)


def test_half_precision_does_not_round_a_step_away(layer):
    right = ov.optim.translate(1e-4, of="adamw", to="sgd", model=layer)
    half = with_gradients(nn.Linear(96, 64)).bfloat16()
    half.weight.grad = layer.weight.grad.bfloat16()
    assert ov.optim.translate(1e-4, of="adamw", to="sgd", model=half) == pytest.approx(right, rel=0.01)


class Still(torch.optim.SGD):
    def step(self, closure=None):
        return None


class Signed(torch.optim.SGD):
    """Moves by the square of its rate."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr * lr)


def length_in_training(name, lr, steps=100):
    """The root mean square of a real step over the matrices, on average over a training."""
    model, data = ov.models.digits_cnn(seed=0), ov.datasets.load("digits")
    groups = ov.param_groups(model)
    matrices = [p for group in groups if group["layout"] for _, p in group["params"]]
    optimizer, squares = ov.optim.OPTIMIZERS[name](groups, lr), []
    options = dict(batch_size=64, seed=0)
    epochs = (ov.training.steps(model, optimizer, data, epoch=epoch, **options) for epoch in count(1))
    before = [p.detach().clone() for p in matrices]
    for _ in islice(chain.from_iterable(epochs), steps):
        after = [p.detach().clone() for p in matrices]
        squares.append(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))
        before = after
    return math.sqrt(sum(squares) / steps / sum(p.numel() for p in matrices))


@pytest.mark.slow
def test_in_training_steps_are_about_as_long(digits):
    """Their rates differ tenfold and more; what is left is how far gradients agree from step to step."""
    right, rates = length_in_training("adamw", 1e-3), {"adamw": 1e-3}
    for name in ("sgd", "orthogonal_sgd", "muon_order_rms", "muon", "lars"):
        rates[name] = ov.optim.translate(1e-3, of="adamw", to=name, model=digits)
        ratio = length_in_training(name, rates[name]) / right
        print(f"{name}: lr {rates[name]:.3g}, steps {ratio:.2f} times as long")
        assert 1 / 2 < ratio < 2
    assert max(rates.values()) > 20 * min(rates.values())
