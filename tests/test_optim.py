import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from tests.reference import PapersRule

HYPER = dict(lr=0.02, momentum=0.9, weight_decay=5e-4)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 7)
    ).to(dtype)


def train(model, optimizer, steps, seed=1, watch=None):
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        images = torch.randn(16, 2, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
        labels = torch.randint(7, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        if watch:
            watch()
        optimizer.step()


@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance"), [(torch.float64, 100, 1e-10), (torch.float32, 12, 1e-5)]
)
def test_it_follows_the_papers_rule(dtype, steps, tolerance):
    model = network(dtype)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    rules = {p: PapersRule(p.detach(), **HYPER) for p in model.parameters() if p.ndim > 1}

    def watch():
        for p, rule in rules.items():
            # the head's tenth direction is rounding; in float64 it is cut as the package cuts it
            rule.step(p.grad)

    train(model, optimizer, steps, watch=watch)
    for p, rule in rules.items():
        assert np.abs(p.detach().numpy() - rule.weight).max() <= tolerance


@pytest.mark.parametrize(
    "options",
    [
        dict(lr=0.1),
        dict(lr=0.1, momentum=0.9),
        dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
        dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ],
)
def test_what_is_no_matrix_follows_torchs_sgd_bit_for_bit(options):
    ours, theirs = nn.Parameter(torch.randn(5)), nn.Parameter(torch.empty(5))
    theirs.data.copy_(ours.data)
    optimizers = ov.OrthogonalSGD([ours], **options), torch.optim.SGD([theirs], foreach=False, **options)
    for seed in range(8):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.randn(5, generator=torch.Generator().manual_seed(seed))
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_feeding_torchs_sgd_with_polar_factors_is_the_same():
    ours, theirs = network(torch.float32), network(torch.float32)
    options = dict(lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    train(ours, ov.OrthogonalSGD(ov.param_groups(ours), **options), 5)
    sgd = torch.optim.SGD(theirs.parameters(), foreach=False, **options)

    def orthogonalise():
        for p in theirs.parameters():
            if p.ndim > 1:
                p.grad = ov.polar_factor(p.grad.flatten(1)).view_as(p)

    train(theirs, sgd, 5, watch=orthogonalise)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_step_has_length_root_rank_whatever_the_gradient():
    for scale in (1e-6, 1.0, 1e6):
        p = nn.Parameter(torch.zeros(4, 10))
        p.grad = scale * torch.randn(4, 10)
        ov.OrthogonalSGD([{"params": [p], "matrix": ("rows", 1)}], lr=0.5).step()
        assert p.norm().item() == pytest.approx(0.5 * 2, rel=1e-5)


def test_a_parameter_without_a_gradient_stays_and_gets_no_state():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    frozen = model[4].weight
    before = frozen.detach().clone()
    generator = torch.Generator().manual_seed(0)
    model[0](torch.randn(2, 2, 5, 5, generator=generator, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert torch.equal(frozen, before)
    assert frozen.grad is None
    assert frozen not in optimizer.state


def test_the_gradient_is_left_as_it_was():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    train(model, optimizer, 1)
    grads = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert torch.equal(p.grad, grad)


def test_a_closures_loss_is_returned_and_its_gradient_used():
    p = nn.Parameter(torch.eye(3))
    optimizer = ov.OrthogonalSGD([{"params": [p], "matrix": ("rows", 1)}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    torch.testing.assert_close(p.detach(), 0.9 * torch.eye(3))


def test_it_resumes_bit_for_bit_from_its_state():
    straight, resumed = network(torch.float32), network(torch.float32)
    optimizer = ov.OrthogonalSGD(ov.param_groups(straight), **HYPER)
    train(straight, optimizer, 3, seed=1)
    file = io.BytesIO()
    torch.save({"model": straight.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(straight, optimizer, 3, seed=2)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["model"])
    again = ov.OrthogonalSGD(ov.param_groups(resumed), lr=99.0)
    again.load_state_dict(saved["optimizer"])
    train(resumed, again, 3, seed=2)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_scheduler_sets_the_rate():
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = ov.OrthogonalSGD([{"params": [p], "matrix": ("rows", 1)}], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    p.grad = torch.eye(2)
    for right in (-1.0, -1.5, -1.75):
        optimizer.step()
        scheduler.step()
        torch.testing.assert_close(p.detach(), right * torch.eye(2))


def test_a_copied_optimiser_goes_its_own_way():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    train(model, optimizer, 2)
    twin_model, twin = copy.deepcopy((model, optimizer))
    train(model, optimizer, 2, seed=3)
    train(twin_model, twin, 2, seed=3)
    for a, b in zip(model.parameters(), twin_model.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


def test_channels_last_stays_channels_last():
    model = network(torch.float32).to(memory_format=torch.channels_last)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    train(model, optimizer, 2)
    weight = model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert optimizer.state[weight]["momentum_buffer"].stride() == weight.stride()


def test_bare_parameters_work_as_in_the_paper_with_one_warning():
    ours, bare = network(), network()
    train(ours, ov.OrthogonalSGD(ov.param_groups(ours), **HYPER), 2)
    with pytest.warns(UserWarning, match="param_groups"):
        optimizer = ov.OrthogonalSGD(bare.parameters(), **HYPER)
    train(bare, optimizer, 2)
    for a, b in zip(ours.parameters(), bare.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_gradient_that_is_not_finite_is_named_before_anything_moves():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), error_if_nonfinite=True, **HYPER)
    before = copy.deepcopy(model.state_dict())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[4].weight.grad[2, 3] = math.nan
    with pytest.raises(RuntimeError, match=r"4\.weight"):
        optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_sparse_gradient_is_refused():
    p = nn.Parameter(torch.zeros(3, 3))
    p.grad = torch.eye(3).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        ov.OrthogonalSGD([{"params": [p], "matrix": ("rows", 1)}], lr=0.1).step()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(lr=-1.0), "lr must be at least 0, got -1"),
        (dict(lr=math.nan), "lr"),
        (dict(lr=0.1, momentum=-0.5), "momentum"),
        (dict(lr=0.1, weight_decay=-1.0), "weight_decay"),
        (dict(lr=0.1, nesterov=True), "nesterov"),
        (dict(lr=0.1, method="sideways"), "exact, fast, svd"),
        (dict(lr=0.1, tol=2.0), "tol"),
        (dict(lr=0.1, null="maybe"), "null"),
        (dict(lr=0.1, matrix=("colums", 1)), "matrix must be None"),
        (dict(lr=0.1, matrix=("rows", 3)), "matrix must be None"),
    ],
)
def test_bad_arguments_are_refused_at_once_and_in_a_later_group(options, words):
    with pytest.raises(ValueError, match=words):
        ov.OrthogonalSGD([{"params": [nn.Parameter(torch.zeros(2))], **options}], lr=0.1)
    optimizer = ov.OrthogonalSGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(ValueError, match=words):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], **options})
    assert len(optimizer.param_groups) == 1
