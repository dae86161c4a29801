"""Any torch optimiser, made orthogonal; most tests are named after a fault seen elsewhere."""

import copy
import io
import math
import pickle
import types
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.matrices import as_matrix, from_matrix
from tests.reference import polar
from tests.test_optim import HYPER, network, train
from tests.weights import near, same

OPTIMISERS = {
    ("torch.optim", "SGD"): dict(lr=0.02, momentum=0.9),
    ("torch.optim", "Adam"): dict(lr=1e-3),
    ("torch.optim", "AdamW"): dict(lr=1e-3),
    ("torch.optim", "NAdam"): dict(lr=1e-3),
    ("torch.optim", "RMSprop"): dict(lr=1e-3),
    ("torch.optim", "Adagrad"): dict(lr=1e-2),
    ("torch.optim", "Adadelta"): dict(lr=1.0),
    ("torch.optim", "Rprop"): dict(lr=1e-3),
    ("timm.optim", "Lamb"): dict(lr=1e-3),
    ("timm.optim", "NAdamW"): dict(lr=1e-3),
    ("pytorch_optimizer", "Lion"): dict(lr=1e-3),
    ("pytorch_optimizer", "AdaBelief"): dict(lr=1e-3),
}


def own(model, **options):
    return ov.OrthogonalSGD(ov.param_groups(model), **options)


def wrapped(model, kind=torch.optim.SGD, **options):
    optimizer = kind(ov.param_groups(model), **options)
    ov.orthogonalise(optimizer)
    return optimizer


def lars(model, **options):
    return ov.LARS(ov.param_groups(model), **options)


either_way = pytest.mark.parametrize("make", [own, wrapped])


def by_hand(model):
    """Replace the gradients as the paper does, for an optimiser that is not orthogonal."""
    for p in model.parameters():
        if p.ndim > 1:
            p.grad = ov.polar_factor(p.grad.flatten(1)).view_as(p)


@pytest.mark.parametrize(("module", "name"), OPTIMISERS)
def test_torchs_optimisers_and_others_see_polar_factors(module, name):
    """Patching classes made AdamW(orth=True) a no-op, because AdamW subclasses Adam."""
    kind = getattr(pytest.importorskip(module), name)
    torchs = module == "torch.optim"
    bounds = dict(rtol=1e-9, atol=1e-12) if torchs else dict(rtol=1e-4, atol=1e-6)
    ours, theirs = (network(torch.float64 if torchs else torch.float32) for _ in range(2))
    optimizers = [kind(m.parameters(), **OPTIMISERS[module, name]) for m in (ours, theirs)]
    ov.orthogonalise(optimizers[0], ours)
    train(ours, optimizers[0], 4)
    train(theirs, optimizers[1], 4, watch=lambda: by_hand(theirs))
    near(ours, theirs, **bounds)


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.2, "maximize": True}])
def test_orthogonal_sgd_is_sgd_made_orthogonal_bit_for_bit(options):
    a, b = network(torch.float32), network(torch.float32)
    ours = ov.OrthogonalSGD(ov.param_groups(a), **HYPER, **options)
    theirs = torch.optim.SGD(b.parameters(), **HYPER, **options)
    ov.orthogonalise(theirs, b)
    train(a, ours, 6)
    train(b, theirs, 6)
    assert same(a, b)


def closure_of(model, optimizer, seen=None):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 2, 5, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (16,), generator=generator)

    def closure():
        if seen is not None:
            seen.append(model[4].weight.grad)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    return closure


@either_way
def test_a_closures_fresh_gradients_are_orthogonal_and_its_loss_comes_back(make):
    """The paper's code drops the loss, and never orthogonalises what a closure computes."""
    model, twin = network(), network()
    optimizer, plain = make(model, lr=0.1), torch.optim.SGD(twin.parameters(), lr=0.1)
    loss = optimizer.step(closure_of(model, optimizer))
    right = closure_of(twin, plain)()
    assert loss.item() == pytest.approx(right.item())
    by_hand(twin)
    plain.step()
    near(model, twin)


def test_lbfgs_sees_factors_at_each_evaluation_and_its_closure_its_own_gradients():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    ov.orthogonalise(optimizer, model)
    factors, own = [], []
    optimizer.register_stage_hook(lambda p, stage, m: factors.append(m) if stage == "orthogonal" else None)
    optimizer.step(closure_of(model, optimizer, own))
    assert len(own) >= 4
    assert len(factors) == 2 * len(own)
    for matrix in factors:
        values = torch.linalg.svdvals(matrix)
        assert all(min(abs(v), abs(v - 1)) < 1e-6 for v in values.tolist())
    for gradient in own[1:]:  # what the closure before left there, not its factor
        assert (torch.linalg.svdvals(gradient) - 1).abs().max() > 1e-2


@either_way
def test_the_gradient_is_raw_again_after_the_step(make):
    """The paper's code leaves O in p.grad, for whoever logs it."""
    model = network()
    optimizer = make(model, **HYPER)
    closure_of(model, optimizer)()
    before = {p: (p.grad, p.grad.clone()) for p in model.parameters()}
    optimizer.step()
    for p, (gradient, values) in before.items():
        assert p.grad is gradient
        assert torch.equal(gradient, values)


class Fails(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        raise KeyboardInterrupt


def test_the_gradient_is_raw_again_when_a_step_or_a_closure_raises():
    model = network()
    for optimizer in (Fails(model.parameters(), lr=0.1), torch.optim.SGD(model.parameters(), lr=0.1)):
        with ov.orthogonalise(optimizer, model):
            closure_of(model, optimizer)()
            before = [p.grad for p in model.parameters()]
            closure = None if isinstance(optimizer, Fails) else (lambda: {}["loss"])
            with pytest.raises((KeyboardInterrupt, KeyError)):
                optimizer.step(closure)
            assert all(p.grad is g for p, g in zip(model.parameters(), before, strict=True))


@either_way
def test_one_bad_gradient_leaves_no_other_raw(make):
    """In the paper's code one failed SVD returns, and every later tensor stays raw."""
    model = network()
    optimizer = make(model, lr=1.0)
    closure_of(model, optimizer)()
    model[0].weight.grad[0, 0, 0, 0] = math.nan
    head = model[4].weight
    before = head.detach().clone()
    optimizer.step()
    np.testing.assert_allclose(before - head.detach(), polar(head.grad, tol=1e-14), atol=1e-10)
    assert model[0].weight.isnan().all()


@pytest.mark.parametrize("make", [own, wrapped, lars])
def test_a_gradient_that_cannot_be_used_is_named_before_anything_moves(make):
    model = network()
    optimizer = make(model, lr=1.0)
    closure_of(model, optimizer)()
    model[4].weight.grad = model[4].weight.grad.to_sparse()
    before = copy.deepcopy(model)
    gradient = model[0].weight.grad
    with pytest.raises(TypeError, match=r"4\.weight is sparse"):
        optimizer.step()
    assert same(model, before)
    assert model[0].weight.grad is gradient


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_orthogonalised_and_not_left_raw(dtype):
    """There the paper's SVD raises, and nothing is orthogonalised, silently."""
    p = nn.Parameter(torch.zeros(4, 9, dtype=dtype))
    optimizer = torch.optim.SGD([{"params": [p], "layout": ("rows", 1)}], lr=1.0)
    ov.orthogonalise(optimizer)
    p.grad = torch.randn(4, 9).to(dtype)
    optimizer.step()
    np.testing.assert_allclose(-p.detach().float(), polar(p.grad.double()), atol=0.01)


def test_strides_come_as_the_gradients_were():
    """LBFGS views a gradient as a vector; the paper's code loses channels_last."""
    model = network(torch.float32).to(memory_format=torch.channels_last)
    seen = {}

    class Look(torch.optim.SGD):
        def step(self, closure=None):
            seen.update({p: p.grad.stride() for g in self.param_groups for p in g["params"]})

    optimizer = Look(model.parameters(), lr=0.1)
    ov.orthogonalise(optimizer, model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert all(p.grad.stride() == stride for p, stride in seen.items())


@either_way
def test_none_stays_none(make):
    """One optimiser elsewhere turns None into zeros, and then waits for other ranks for ever."""
    model = network()
    optimizer = make(model, lr=0.1, momentum=0.9, weight_decay=0.1)
    before = model[4].weight.detach().clone()
    model[0](torch.randn(2, 2, 5, 5, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert torch.equal(model[4].weight, before)
    assert model[4].weight.grad is None
    assert model[4].weight not in optimizer.state


def test_twice_is_refused_and_so_is_what_is_orthogonal_already():
    """Patching twice turns the paper's option off."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ov.orthogonalise(optimizer, model)
    for again in (optimizer, ov.OrthogonalSGD(ov.param_groups(model), lr=0.1)):
        with pytest.raises(ValueError, match="orthogonal already"):
            ov.orthogonalise(again, model)


def test_removing_gives_the_optimiser_back_and_it_can_be_made_orthogonal_again():
    ours, theirs = network(), network()
    optimizers = [torch.optim.SGD(m.parameters(), **HYPER) for m in (ours, theirs)]
    handle = ov.orthogonalise(optimizers[0], ours)
    handle.remove()
    handle.remove()
    assert "step" not in vars(optimizers[0])
    for model, optimizer in zip((ours, theirs), optimizers, strict=True):
        train(model, optimizer, 3)
    assert same(ours, theirs)
    with ov.orthogonalise(optimizers[0], ours):
        assert hasattr(optimizers[0], "register_stage_hook")
    assert not hasattr(optimizers[0], "register_stage_hook")


@pytest.mark.parametrize("scheduler_first", [True, False])
def test_it_gets_along_with_schedulers(scheduler_first, recwarn):
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.SGD([{"params": [p], "layout": ("rows", 1)}], lr=1.0)
    make = lambda: torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)  # noqa: E731
    scheduler = make() if scheduler_first else None
    handle = ov.orthogonalise(optimizer)
    scheduler = scheduler or make()
    p.grad = 3 * torch.eye(2)
    for right in (-1.0, -1.5, -1.75):
        optimizer.step()
        scheduler.step()
        torch.testing.assert_close(p.detach(), right * torch.eye(2))
    handle.remove()
    optimizer.step()
    torch.testing.assert_close(p.detach(), (-1.75 - 3 * 0.125) * torch.eye(2))
    assert not [w for w in recwarn if "lr_scheduler" in str(w.message)]


def test_a_copy_or_an_unpickled_one_is_plain_and_its_state_is_the_optimisers_own():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), **HYPER)
    plain = optimizer.state_dict()
    ov.orthogonalise(optimizer, model)
    assert optimizer.state_dict() == plain
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert not hasattr(copied, "register_stage_hook")
        assert "step" not in vars(copied)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (own, dict(HYPER, order="both")),
        (own, dict(HYPER, order="both", rest="adamw")),
        (partial(wrapped, kind=torch.optim.AdamW), dict(lr=1e-3)),
    ],
)
def test_it_resumes_bit_for_bit(make, options):
    straight, resumed = network(torch.float32), network(torch.float32)
    optimizer = make(straight, **options)
    train(straight, optimizer, 3, seed=1)
    file = io.BytesIO()
    torch.save([straight.state_dict(), optimizer.state_dict()], file)
    train(straight, optimizer, 3, seed=2)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again = make(resumed, lr=99.0)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    train(resumed, again, 3, seed=2)
    assert same(straight, resumed)


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_optimiser_under_a_grad_scaler_is_never_divided(fused):
    """The paper's polar factors were divided by the loss scale, 65,536."""
    model = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=fused)
    ov.orthogonalise(optimizer, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    before = model.weight.detach().clone()
    scaler.scale(model(torch.randn(4, 5)).square().sum()).backward()
    if fused:
        with pytest.raises(RuntimeError, match=r"scaler\.unscale_"):
            scaler.step(optimizer)
        assert torch.equal(model.weight, before)
        assert model.weight.grad.norm() > 1000  # its own gradient, still scaled
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose((before - model.weight).detach(), polar(model.weight.grad), atol=1e-5)


ORDERS = {
    "before_momentum": ["raw", "input", "orthogonal", "momentum", "applied"],
    "after_momentum": ["raw", "momentum", "input", "orthogonal", "applied"],
    "both": ["raw", "input", "orthogonal", "momentum", "input", "orthogonal", "applied"],
}


@pytest.mark.parametrize(
    ("make", "names"),
    [
        *((partial(own, order=order), names) for order, names in ORDERS.items()),
        (wrapped, ["raw", "orthogonal", "momentum", "applied"]),
    ],
)
def test_the_stages_are_what_they_are_called(make, names):
    model = network()
    optimizer = make(model, lr=0.1, momentum=0.9)
    seen = {}
    handle = optimizer.register_stage_hook(
        lambda p, stage, matrix: seen.setdefault(p, []).append((stage, matrix.clone()))
    )
    train(model, optimizer, 1)
    before = {p: p.detach().clone() for p in model.parameters()}
    seen.clear()
    train(model, optimizer, 1)
    assert set(seen) == {model[0].weight, model[4].weight}
    for p, stages in seen.items():
        assert [stage for stage, _ in stages] == names
        found = dict(reversed(stages))  # the first of each
        np.testing.assert_allclose(found["raw"], p.grad.flatten(1))
        np.testing.assert_allclose(found["momentum"], optimizer.state[p]["momentum_buffer"].flatten(1))
        into = found["momentum"] if names[1] == "momentum" else found["raw"]
        np.testing.assert_allclose(found.get("input", into), into)
        np.testing.assert_allclose(found["orthogonal"], polar(into, tol=1e-12), atol=1e-10)
        torch.testing.assert_close(found["applied"], (p.detach() - before[p]).flatten(1))
    handle.remove()
    seen.clear()
    train(model, optimizer, 1)
    assert not seen


@pytest.mark.parametrize("method", ["per_tensor", "per_filter", "fast", ov.polar.NewtonSchulz(ov.polar.YOU)])
def test_controls_and_method_objects_stand_behind_the_same_argument(method):
    models = network(), network()
    ours = torch.optim.SGD(models[0].parameters(), **HYPER)
    ov.orthogonalise(ours, models[0], method=method, scale="rms")
    theirs = ov.OrthogonalSGD(ov.param_groups(models[1]), **HYPER, method=method, scale="rms")
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        train(model, optimizer, 3)
    near(*models)


def test_a_refusal_leaves_the_optimiser_plain_and_without_a_model_a_guess_is_said():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="scale"):
        ov.orthogonalise(optimizer, model, scale="sideways")
    assert "step" not in vars(optimizer)
    with pytest.warns(UserWarning, match="param_groups"):
        ov.orthogonalise(optimizer)


def test_a_loaded_state_does_not_change_what_is_a_matrix():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    optimizer = torch.optim.AdamW(ov.param_groups(model), lr=0.1)
    ov.orthogonalise(optimizer)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["layout"]
    optimizer.load_state_dict(state)
    seen = []
    optimizer.register_stage_hook(lambda p, stage, matrix: seen.append(p))
    model(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert {id(p) for p in seen} == {id(model[1].weight)}


def test_an_optimiser_whose_step_takes_no_closure_can_be_given_back():
    class Plain(torch.optim.SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad)

    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = Plain([{"params": [p], "layout": ("rows", 1)}], lr=1.0)
    handle = ov.orthogonalise(optimizer)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    p.grad = 2 * torch.eye(2)
    optimizer.step()
    handle.remove()
    optimizer.step()
    torch.testing.assert_close(p.detach(), -3 * torch.eye(2))


class WithSpectrum(nn.Module):
    """A layer, an embedding whose gradients are sparse, and complex weights, as in a Fourier operator."""

    def __init__(self):
        super().__init__()
        self.tokens, self.dense = nn.Embedding(20, 8, sparse=True), nn.Linear(8, 8)
        self.spectrum = nn.Parameter(torch.randn(8, 5, dtype=torch.cfloat))

    def forward(self, tokens):
        x = self.dense(self.tokens(tokens).mean(1))
        return torch.fft.irfft(torch.fft.rfft(x) * self.spectrum.sum(0), n=8)


def test_what_is_no_matrix_is_left_to_the_optimiser_sparse_and_complex_too():
    torch.manual_seed(0)
    model = WithSpectrum()
    plain = copy.deepcopy(model)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, plain)]
    ov.orthogonalise(optimizers[0], model)
    for m, optimizer in zip((model, plain), optimizers, strict=True):
        m(torch.arange(12).reshape(4, 3)).square().mean().backward()
        optimizer.step()
    assert torch.equal(model.tokens.weight, plain.tokens.weight)
    assert torch.equal(model.spectrum, plain.spectrum)
    assert not torch.equal(model.dense.weight, plain.dense.weight)


def test_parameters_that_come_later_are_read_by_the_model_that_was_given():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), nn.ConvTranspose1d(8, 6, 3), nn.Conv1d(6, 6, 3, groups=3))
    optimizer = torch.optim.SGD(model[2].parameters(), lr=1.0)
    ov.orthogonalise(optimizer, model)
    optimizer.add_param_group({"params": [*model[:2].parameters()]})
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    layouts = {id(p): g["layout"] for g in ov.param_groups(model) for _, p in g["params"]}
    for p, old in zip(model.parameters(), before, strict=True):
        layout = layouts[id(p)]
        right = p.grad
        if layout is not None:
            U, _, Vh = torch.linalg.svd(as_matrix(p.grad.double(), layout), full_matrices=False)
            right = from_matrix(U @ Vh, layout, like=p)
        torch.testing.assert_close(old - p.detach(), right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("hook_first", [True, False])
def test_hooks_before_a_step_see_and_may_clip_the_gradient(hook_first):
    model, seen = nn.Linear(8, 6, bias=False), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def clip(*_):
        seen.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())

    if hook_first:
        optimizer.register_step_pre_hook(clip)
    ov.orthogonalise(optimizer, model)
    if not hook_first:
        optimizer.register_step_pre_hook(clip)
    before, gradient = model.weight.detach().clone(), torch.randn(6, 8)
    model.weight.grad = gradient.clone()
    optimizer.step()
    assert seen == [pytest.approx(gradient.norm().item())]
    assert model.weight.grad.norm() == pytest.approx(1)
    torch.testing.assert_close(torch.linalg.svdvals(before - model.weight.detach()), torch.ones(6))


def test_an_instances_own_step_without_hooks_does_not_pass_for_an_orthogonal_one():
    model = nn.Linear(8, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.step = types.MethodType(lambda self: None, optimizer)
    ov.orthogonalise(optimizer, model)
    with pytest.raises(RuntimeError, match="SGD took a plain step"):
        optimizer.step()


class CallsItsParent(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


def test_a_step_that_calls_its_parents_step_is_orthogonal_once_and_gives_the_gradient_back():
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)  # torch then runs hooks in the parent's step too
    model, gradient = nn.Linear(8, 6, bias=False), torch.randn(6, 8)
    optimizer = CallsItsParent(model.parameters(), lr=1.0)
    ov.orthogonalise(optimizer, model)
    before, model.weight.grad = model.weight.detach().clone(), gradient.clone()
    optimizer.step()
    assert torch.equal(model.weight.grad, gradient)
    torch.testing.assert_close(torch.linalg.svdvals(before - model.weight.detach()), torch.ones(6))


def test_what_comes_later_without_a_model_is_guessed_and_said_so_once():
    head, up, words = nn.Linear(6, 5), nn.ConvTranspose1d(4, 6, 3), nn.Embedding(9, 4)
    optimizer = torch.optim.SGD(ov.param_groups(head), lr=0.1)
    ov.orthogonalise(optimizer)
    optimizer.add_param_group(ov.param_groups(up)[0])
    optimizer.add_param_group({"params": list(words.named_parameters())})
    up(words(torch.arange(9)).mT).sum().backward()
    gradient, before = up.weight.grad.clone(), up.weight.detach().clone()
    with pytest.warns(UserWarning, match="pass ov.param_groups") as caught:
        optimizer.step()
    assert len(caught) == 1
    right = ov.polar_factor(as_matrix(gradient, ("columns", 1)))
    moved = (before - up.weight.detach()) / 0.1
    torch.testing.assert_close(as_matrix(moved, ("columns", 1)), right, rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
