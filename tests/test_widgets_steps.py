"""loss_valley and step_size_lens: their numbers against runs of the optimisers themselves."""

import copy

import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.test_widgets import line, press, source


@pytest.fixture(scope="module")
def valley():
    return ov.widgets.loss_valley()


def test_the_valley_tells_what_the_optimisers_do(valley):
    press(valley, "reset")
    shares = []
    for make in (torch.optim.SGD, ov.OrthogonalSGD):
        toy = ov.toys.DeepLinear()
        optimizer = make(ov.param_groups(toy), lr=0.03)
        for _ in range(45):
            optimizer.zero_grad()
            toy.loss().backward()
            optimizer.step()
        shares += [f"{toy.readings()[10.0]:.0%} of the strong", f"{toy.readings()[1.0]:.0%} of the weak"]
    assert "gradient descent has learnt" in line(valley)
    assert all(share in line(valley) for share in shares)


def test_gradient_descent_goes_right_then_up_and_the_orthogonal_step_up_then_right(valley):
    press(valley, "strong first, weak first")
    words = [int(part.split()[-1]) for part in line(valley).split("%")[:-1]]
    strong_descent, weak_descent, strong_orthogonal, weak_orthogonal = words
    assert strong_descent > 90 > 10 > weak_descent
    assert weak_orthogonal > 90 > 50 > strong_orthogonal


def test_the_valley_can_lose(valley):
    press(valley, "make it lose")
    assert valley.state["problem"] == "dense quadratic"
    descent, orthogonal = (
        int(w) for w in line(valley).split("they need ")[1].split(" steps")[0].split(" and ")
    )
    assert 2 * descent < orthogonal + 20
    press(valley, "reset")


def test_a_rate_too_large_for_gradient_descent_is_capped_and_said(valley):
    press(valley, "too large for SGD")
    assert "does not settle above lr 0.03" in line(valley)
    press(valley, "reset")


def test_each_step_of_the_valley_is_another_picture(valley):
    press(valley, "reset")
    before = source(valley)
    valley.set(step=30)
    assert source(valley) != before
    assert "Step 30:" in line(valley)
    assert "ov.widgets.loss_valley(step=30)" in valley._call.value


@pytest.mark.parametrize(
    "options", [dict(problem="hill"), dict(lr=0.5), dict(step=-1), dict(step=5000)], ids=str
)
def test_a_valley_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ov.widgets.loss_valley(**options)


@pytest.fixture
def network():
    model = ov.models.digits_cnn(seed=0)
    images, labels = next(iter(ov.datasets.batches(ov.datasets.load("digits"), 64, seed=0, epoch=1)))
    nn.functional.cross_entropy(model(images), labels).backward()
    return model


def test_the_lens_measures_real_steps(network):
    before = copy.deepcopy(network.state_dict())
    gradients = [p.grad.clone() for p in network.parameters()]
    view = ov.widgets.step_size_lens(network)
    inflation = [
        (ov.polar_factor(p.grad.flatten(1)).norm() / p.grad.norm()).item()
        for p in network.parameters()
        if p.ndim > 1
    ]
    assert f"{min(inflation):.3g} to {max(inflation):.3g} times as long" in line(view)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(network.parameters(), gradients, strict=True))


def test_a_larger_loss_moves_sgd_alone(network):
    view = ov.widgets.step_size_lens(network)
    ratio = line(view).split("by up to ")[1]
    first = source(view)
    view.set(scale=1000.0)
    assert line(view).split("by up to ")[1] == ratio
    assert source(view) != first
    press(view, "make it lose")
    assert view.state["scale"] == 1e-3
    assert line(view).split("by up to ")[1] == ratio


def test_matched_steps_are_equally_long(network):
    view = ov.widgets.step_size_lens(network, match=True)
    assert "equally long" in line(view)
    assert "match=True" in view._call.value


def test_a_lens_without_gradients_is_refused():
    with pytest.raises(ValueError, match=r"call loss\.backward\(\) first"):
        ov.widgets.step_size_lens(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="scale must be one of"):
        ov.widgets.step_size_lens(scale=2.0)
