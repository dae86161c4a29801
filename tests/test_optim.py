import copy
import io
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import orthoviz as ov
from tests.reference import MuonsRule, PapersRule, polar
from tests.weights import near, same

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

    # the head's tenth direction is rounding; in float64 it is cut as the package cuts it
    train(model, optimizer, steps, watch=lambda: [rule.step(p.grad) for p, rule in rules.items()])
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
    start, stream = torch.randn(5), gradients(5, count=8, dtype=torch.float32)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    right = fed(theirs, torch.optim.SGD([theirs], foreach=False, **options), stream)
    assert torch.equal(fed(ours, ov.OrthogonalSGD([ours], **options), stream), right)


def test_a_copy_goes_its_own_way_and_has_no_watchers():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    train(model, optimizer, 2)
    handle = optimizer.register_stage_hook(lambda *_: pytest.fail("a copy is not watched"))
    twins = copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))
    handle.remove()
    train(model, optimizer, 2, seed=3)
    for twin_model, twin in twins:
        assert not same(model, twin_model)
        train(twin_model, twin, 2, seed=3)
        assert same(model, twin_model)
        assert twin.register_stage_hook(print)


def test_bare_parameters_work_as_in_the_paper_with_one_warning():
    ours, bare = network(), network()
    train(ours, ov.OrthogonalSGD(ov.param_groups(ours), **HYPER), 2)
    with pytest.warns(UserWarning, match="param_groups"):
        optimizer = ov.OrthogonalSGD(bare.parameters(), **HYPER)
    train(bare, optimizer, 2)
    assert same(ours, bare)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(lr=-1.0), "lr must be at least 0, got -1"),
        (dict(lr=math.nan), "lr"),
        (dict(lr=torch.tensor([0.1, 0.2])), "lr must be a number or a tensor of one"),
        (dict(lr=0.1, momentum=-0.5), "momentum"),
        (dict(lr=0.1, weight_decay=-1.0), "weight_decay"),
        (dict(lr=0.1, nesterov=True), "nesterov"),
        (dict(lr=0.1, method="sideways"), "exact, fast, svd"),
        (dict(lr=0.1, tol=2.0), "tol"),
        (dict(lr=0.1, null="maybe"), "null"),
        (dict(lr=0.1, order="sideways"), "'before_momentum' or 'after_momentum' or 'both', got 'sideways'"),
        (dict(lr=0.1, rest="adam"), "rest must be 'sgd' or 'adamw'"),
        (dict(lr=0.1, scale="big"), "None, 'sqrt_max', 'sqrt_ratio', 'rms', 'match', got 'big'"),
        (dict(lr=0.1, betas=(0.9, 1.0)), "betas"),
        (dict(lr=0.1, eps=-1.0), "eps"),
        (dict(lr=0.1, method="per_layer"), "per_filter, half, random_spectrum, got 'per_layer'"),
        (dict(lr=0.1, method="per_filter", null="keep"), "per_filter is no polar factor"),
        (dict(lr=0.1, layout=("diagonal", 1)), "layout must be None"),
        (dict(lr=0.1, layout=("rows", 3)), "layout must be None"),
    ],
)
def test_bad_arguments_are_refused_at_once_and_in_a_later_group(options, words):
    with pytest.raises(ValueError, match=words):
        ov.OrthogonalSGD([{"params": [nn.Parameter(torch.zeros(2))], **options}], lr=0.1)
    optimizer = ov.OrthogonalSGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(ValueError, match=words):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], **options})
    assert len(optimizer.param_groups) == 1


def fed(p, optimizer, gradients):
    """p after a step along each gradient."""
    for gradient in gradients:
        p.grad = gradient.to(p.dtype)
        optimizer.step()
    return p.detach()


def gradients(*shape, count=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(count)]


def single(p, **options):
    return ov.OrthogonalSGD([{"params": [p], "layout": ("rows", 1)}], **options)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(6, 15), (15, 6)])
def test_after_momentum_with_the_quintic_is_muon(shape, nesterov):
    options = dict(lr=0.05, momentum=0.95, weight_decay=0.1, nesterov=nesterov)
    start, stream = torch.randn(*shape), gradients(*shape, count=20, dtype=torch.float32)
    rule = MuonsRule(start, table=ov.polar.JORDAN, **options)
    for gradient in stream:
        rule.step(gradient)
    muons = dict(order="after_momentum", decoupled=True, scale="sqrt_max", method="newton_schulz")
    ours = nn.Parameter(start.clone())
    fed(ours, single(ours, **options, **muons), stream)
    assert np.abs(ours.detach().numpy() - rule.weight).max() < 1e-5


def test_the_buffer_is_never_overwritten_without_nesterov():
    """torch 2.14's Muon overwrites it in bfloat16."""
    p = nn.Parameter(torch.zeros(4, 9, dtype=torch.bfloat16))
    stream = gradients(4, 9, count=2)
    optimizer = single(p, lr=0.1, momentum=0.5, order="after_momentum", method="newton_schulz")
    fed(p, optimizer, stream)
    right = 0.5 * stream[0] + stream[1]
    torch.testing.assert_close(optimizer.state[p]["momentum_buffer"].double(), right, rtol=0.02, atol=0.02)


def test_decay_is_added_to_a_factor_and_never_enters_one():
    (G,) = gradients(3, 5, count=1)
    start = torch.randn(3, 5, dtype=torch.float64)
    for order, decoupled in itertools.product(("before_momentum", "after_momentum", "both"), (False, True)):
        p = nn.Parameter(start.clone())
        optimizer = single(p, lr=0.1, weight_decay=0.2, momentum=0.9, order=order, decoupled=decoupled)
        torch.testing.assert_close(fed(p, optimizer, [G]), 0.98 * start - 0.1 * torch.as_tensor(polar(G)))


@pytest.mark.parametrize(("m", "n"), [(4, 9), (9, 4)])
@pytest.mark.parametrize(
    ("name", "right"),
    [
        (None, lambda m, n, G: 1),
        ("sqrt_max", lambda m, n, G: max(1, m / n) ** 0.5),
        ("sqrt_ratio", lambda m, n, G: (m / n) ** 0.5),
        ("rms", lambda m, n, G: 0.2 * max(m, n) ** 0.5),
        ("match", lambda m, n, G: G.norm().item() / 2),  # of four singular values, each 1
    ],
)
def test_the_scale_of_a_direction(m, n, name, right):
    (G,) = gradients(m, n, count=1)
    p = nn.Parameter(torch.zeros(m, n, dtype=torch.float64))
    moved = -fed(p, single(p, lr=1.0, scale=name), [G])
    np.testing.assert_allclose(moved.numpy(), right(m, n, G) * polar(G), atol=1e-12)


def test_the_scale_is_that_of_the_modules_matrix_and_not_of_the_kernel():
    """One implementation reads it from the kernel's height and width: five times too small."""
    layer = nn.ConvTranspose2d(4, 36, 3)  # 36 components with 4 * 9 entries
    layer.weight.grad = torch.randn_like(layer.weight)
    before = layer.weight.detach().clone()
    ov.OrthogonalSGD(ov.param_groups(layer), lr=1.0, scale="rms").step()
    assert (layer.weight - before).norm().item() == pytest.approx(0.2 * 6 * 6, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_controls_have_the_factors_length_without_its_shape(scale):
    for m, n in ((4, 9), (9, 4)):
        G = scale * gradients(m, n, count=1, dtype=torch.float32)[0]
        for method in ("per_tensor", "per_filter"):
            p = nn.Parameter(torch.zeros(m, n))
            moved = -fed(p, single(p, lr=1.0, method=method), [G])
            assert moved.norm().item() == pytest.approx(2, rel=1e-5)
            rows = nn.functional.cosine_similarity(moved.double(), (G / scale).double())
            torch.testing.assert_close(rows, torch.ones(m, dtype=torch.float64))
            if method == "per_filter":
                torch.testing.assert_close(moved.norm(dim=1), torch.full((m,), (4 / m) ** 0.5))
            else:
                torch.testing.assert_close(moved / moved.norm(), (G / scale) / (G / scale).norm())


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_other_spectra_keep_the_directions_and_the_factors_length(shape, scale):
    """A hand-made spectrum with a null direction: what comes out is U s V^T, s as the control says."""
    U, _, Vh = np.linalg.svd(gradients(*shape, count=1)[0].numpy(), full_matrices=False)
    made = np.array([8.0, 4.0, 1.0, 0.0])
    G = torch.as_tensor(scale * (U * made) @ Vh, dtype=torch.float32)
    seen = {}
    for method in ("random_spectrum", "half", ("power", 1.0), ("power", 0), ("power", -0.5)):
        p = nn.Parameter(torch.zeros(shape))
        moved = -fed(p, single(p, lr=1.0, method=method), [G]).numpy()
        inner = U.T @ moved @ Vh.T
        np.testing.assert_allclose(inner, np.diag(inner.diagonal()), atol=1e-5)
        seen[method] = inner.diagonal()
        assert seen[method][3] == pytest.approx(0, abs=1e-5)
        assert np.linalg.norm(moved) == pytest.approx(3**0.5, rel=1e-5)
        if isinstance(method, tuple) or method == "half":
            right = np.append(made[:3] ** (0.5 if method == "half" else method[1]), 0)
            np.testing.assert_allclose(seen[method], right * 3**0.5 / np.linalg.norm(right), atol=1e-5)
    p = nn.Parameter(torch.zeros(shape))
    again = -fed(p, single(p, lr=1.0, method="random_spectrum"), [G]).numpy()
    np.testing.assert_array_equal((U.T @ again @ Vh.T).diagonal(), seen["random_spectrum"])


def test_a_random_spectrum_is_uniform():
    draws = []
    for G in gradients(3, 8, count=1500):
        s = np.linalg.svd(ov.optim.CONTROLS["random_spectrum"](G).numpy(), compute_uv=False)
        draws.append(s[1:] / s[0])
    # of three uniform numbers over their largest, the others are uniform too: mean 1/2, variance 1/12
    draws = np.array(draws).ravel()
    assert abs(draws.mean() - 0.5) < 5 * (1 / 12 / len(draws)) ** 0.5
    assert draws.var() == pytest.approx(1 / 12, rel=0.1)


def test_muon_as_people_use_it_is_muons_rule_with_adamw_beside():
    model, twin = network(torch.float32), network(torch.float32)
    ours = ov.optim.OPTIMIZERS["muon"](ov.param_groups(model), 0.02)
    options = dict(lr=0.02, momentum=0.95, nesterov=True, weight_decay=0.01, table=ov.polar.JORDAN)
    rules = {p: MuonsRule(p.detach().flatten(1), **options) for p in twin.parameters() if p.ndim > 1}
    rest = [p for p in twin.parameters() if p.ndim < 2]
    beside = torch.optim.AdamW(rest, lr=0.003, weight_decay=0.01)
    for seed in range(3):
        train(model, ours, 1, seed=seed)
        for p, q in zip(twin.parameters(), model.parameters(), strict=True):
            p.grad = q.grad.clone()
            if p in rules:
                rules[p].step(q.grad.flatten(1))
        beside.step()
    for p, q in zip(twin.parameters(), model.parameters(), strict=True):
        if p in rules:
            np.testing.assert_allclose(q.detach().flatten(1).numpy(), rules[p].weight, atol=1e-5)
        else:
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("method", ["exact", "per_tensor", "per_filter", "random_spectrum", "half"])
@pytest.mark.parametrize("scale", [None, "match"])
def test_a_dead_filter_and_a_dead_layer_stay(method, scale):
    for G in (torch.zeros(3, 5), torch.tensor([[0.0] * 5, [1.0, 2, 3, 4, 5], [5.0, 1, 0, 2, 1]])):
        p = nn.Parameter(torch.zeros(3, 5))
        moved = fed(p, single(p, lr=1.0, method=method, scale=scale), [G])
        assert moved.isfinite().all()
        assert torch.equal(moved[0], torch.zeros(5))


def test_the_rest_follows_torchs_adamw_bit_for_bit_at_its_own_rate():
    model, twin = network(torch.float32), network(torch.float32)
    options = dict(rest="adamw", rest_lr=3e-3, betas=(0.8, 0.9), weight_decay=0.05, decoupled=True)
    ours = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9, **options)
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    theirs = [
        ov.OrthogonalSGD(ov.param_groups(twin)[:1], lr=0.02, momentum=0.9, weight_decay=0.05, decoupled=True),
        torch.optim.AdamW([p for p in twin.parameters() if p.ndim < 2], 3e-3, (0.8, 0.9), weight_decay=0.05),
    ]
    assert {id(p) for p in theirs[0].param_groups[0]["params"]} == {id(p) for p in matrices}
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, 0.1) for o in (ours, *theirs)]
    for seed in range(4):
        train(model, ours, 1, seed=seed)
        train(twin, theirs[0], 1, seed=seed, watch=theirs[1].step)
        for schedule in schedules:
            schedule.step()
        twin.zero_grad()
    assert same(model, twin)


def test_a_group_may_differ_in_everything():
    a, b = (nn.Parameter(torch.zeros(3, 5, dtype=torch.float64)) for _ in range(2))
    matrix = {"layout": ("rows", 1)}
    optimizer = ov.OrthogonalSGD(
        [{"params": [a], **matrix}, {"params": [b], "lr": 2.0, "method": "per_tensor", **matrix}], lr=1.0
    )
    (G,) = gradients(3, 5, count=1)
    a.grad = b.grad = G
    optimizer.step()
    np.testing.assert_allclose(-a.detach(), polar(G), atol=1e-12)
    torch.testing.assert_close(-b.detach(), 2 * 3**0.5 * G / G.norm())


def test_a_group_that_comes_later_is_read():
    backbone = nn.ModuleDict({"up": nn.ConvTranspose1d(4, 6, 3), "words": nn.Embedding(9, 4)})
    optimizer = ov.OrthogonalSGD(ov.param_groups(nn.Linear(6, 5)), lr=0.1)
    with pytest.warns(UserWarning, match="pass ov.param_groups"):
        optimizer.add_param_group({"params": list(backbone["words"].named_parameters())})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for group in ov.param_groups(backbone["up"]):
            optimizer.add_param_group(group)
    assert [group["layout"] for group in optimizer.param_groups[-2:]] == [("columns", 1), None]


def test_a_state_whose_step_is_a_number_goes_on_as_adamw_does():
    layer, twin = (network(torch.float32) for _ in range(2))
    ours = ov.OrthogonalSGD(ov.param_groups(layer), lr=0.1, rest="adamw", rest_lr=0.01)
    other = ov.OrthogonalSGD(ov.param_groups(twin), lr=0.1, rest="adamw", rest_lr=0.01)
    train(layer, ours, 2)
    train(twin, other, 2)
    state = ours.state_dict()
    for one in state["state"].values():
        one |= {"step": float(one["step"])} if "step" in one else {}
    ours.load_state_dict(state)
    train(layer, ours, 1, seed=2)
    train(twin, other, 1, seed=2)
    assert same(layer, twin)


@pytest.mark.parametrize("rest", ["sgd", "adamw"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_rate_may_be_a_tensor(rest, shape):
    models = network(), network()
    for model, lr in zip(models, (0.3, torch.full(shape, 0.3, dtype=torch.float64)), strict=True):
        options = dict(weight_decay=0.1, decoupled=True, rest=rest)
        train(model, ov.OrthogonalSGD(ov.param_groups(model), lr=lr, **options), 2)
    near(*models)


def test_a_gradient_of_another_dtype_than_its_parameter():
    p = nn.Parameter(torch.zeros(3, 5, dtype=torch.bfloat16))
    if not hasattr(p, "grad_dtype"):
        pytest.skip("this torch allows no such gradient")
    p.grad_dtype = torch.float32
    (G,) = gradients(3, 5, count=1, dtype=torch.float32)
    optimizer = single(p, lr=1.0, momentum=0.9)
    for _ in range(2):
        p.grad = G
        optimizer.step()
    assert p.dtype == torch.bfloat16
    assert optimizer.state[p]["momentum_buffer"].dtype == torch.float32
    np.testing.assert_allclose(-p.detach().float(), 2.9 * polar(G), atol=0.02)


DIMENSIONS = st.integers(1, 6)


@given(data=st.data(), order=st.sampled_from(["before_momentum", "after_momentum", "both"]))
@settings(max_examples=60, deadline=None)
def test_any_shape_and_layout_steps_as_the_reference_does(data, order):
    """Shapes, layouts and memory formats, against NumPy; two steps, so that the buffer counts."""
    kind = data.draw(st.sampled_from(["rows", "columns", "stack"]))
    parts, rows, columns = (data.draw(DIMENSIONS) for _ in range(3))
    kernel = data.draw(st.sampled_from([(), (2,), (3, 2), (1, 1)]))
    shape = {
        "rows": (parts * rows, columns),
        "columns": (parts * columns, rows),
        "stack": (parts, rows, columns),
    }
    stored = kind == "columns" and not kernel  # (in, parts * out), with no kernel to say whose it is
    shape = (columns, parts * rows) if stored else (*shape[kind], *kernel)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    stream = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    if data.draw(st.booleans()):  # other strides, as after a transposition
        stream = [G.mT.contiguous().mT for G in stream]

    def factors(G):
        if stored:
            return np.concatenate([polar(matrix) for matrix in G.T.reshape(parts, rows, columns)]).T
        if kind == "columns":  # (parts * in, out, ...) to (parts, out, in * ...)
            G = G.reshape(parts, columns, rows, -1).transpose(0, 2, 1, 3)
        found = np.stack([polar(matrix) for matrix in G.reshape(parts, rows, -1)])
        if kind == "columns":
            found = found.reshape(parts, rows, columns, -1).transpose(0, 2, 1, 3)
        return found.reshape(shape)

    p = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = ov.OrthogonalSGD(
        [{"params": [p], "layout": (kind, parts)}], lr=0.1, momentum=0.5, order=order
    )
    fed(p, optimizer, stream)
    buffer, right = np.zeros(shape), np.zeros(shape)
    for G in stream:
        buffer = 0.5 * buffer + (G.numpy() if order == "after_momentum" else factors(G.numpy()))
        right = right - 0.1 * (buffer if order == "before_momentum" else factors(buffer))
    np.testing.assert_allclose(p.detach().numpy(), right, atol=1e-8)


def test_a_model_may_move_after_construction():
    model = network(torch.float32)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER)
    model.to(torch.float64)  # as .to(device): the same parameters with other data
    train(model, optimizer, 2)
    assert all(p.isfinite().all() and p.dtype == torch.float64 for p in model.parameters())


@pytest.mark.parametrize("kind", ["bare", "grouped", "of named parameters, with a schedule"])
def test_a_checkpoint_of_plain_sgd_loads_and_leaves_the_rest_its_own_rate(kind):
    old, new = network(), network()
    named = old.named_parameters() if kind.startswith("of named") else old.parameters()
    sgd = torch.optim.SGD(named, lr=0.02, momentum=0.9)
    if kind.startswith("of named"):
        torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 100)
    train(old, sgd, 3)
    new.load_state_dict(old.state_dict())
    options = dict(lr=9.0, order="after_momentum", method="fast")
    if kind == "bare":
        with pytest.warns(UserWarning, match="param_groups"):
            optimizer = ov.OrthogonalSGD(new.parameters(), **options)
    else:
        optimizer = ov.OrthogonalSGD(ov.param_groups(new), **options, rest="adamw", rest_lr=1e-3)
    optimizer.load_state_dict(sgd.state_dict())
    for a, b in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.equal(sgd.state[a]["momentum_buffer"], optimizer.state[b]["momentum_buffer"])
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)  # which starts at "initial_lr"
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"]) == (1e-3 if group["layout"] is None else 0.02, 0.9)
        assert (group["order"], group["method"]) == ("after_momentum", "fast")
    train(new, optimizer, 1)


def test_a_checkpoint_of_version_0_1_loads_with_defaults_for_what_is_new():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER, scale="match")
    train(model, optimizer, 2)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        group["lr_scale"], group["matrix"] = "match_norm", group.pop("layout")
        group["foreach"], group["error_if_nonfinite"] = None, False
        for name in ("scale", "order", "rest", "rest_lr", "decoupled", "positions"):
            del group[name]
    twin = copy.deepcopy(model)
    again = ov.OrthogonalSGD(ov.param_groups(twin), lr=1.0)
    again.load_state_dict(state)
    for ours, theirs in zip(again.param_groups, optimizer.param_groups, strict=True):
        assert {**ours, "params": []} == {**theirs, "params": []}
    for net, opt in ((model, optimizer), (twin, again)):
        train(net, opt, 1)
    assert same(model, twin)


def test_a_method_object_is_stored_as_its_name_and_arguments():
    method = ov.polar.NewtonSchulz(ov.polar.YOU[:2], precision=torch.bfloat16)
    p, file = nn.Parameter(torch.zeros(4, 9)), io.BytesIO()
    torch.save(single(p, lr=0.1, method=method).state_dict(), file)
    file.seek(0)
    again = single(p, lr=0.1)
    again.load_state_dict(torch.load(file, weights_only=True))
    (G,) = gradients(4, 9, count=1, dtype=torch.float32)
    torch.testing.assert_close(fed(p, again, [G]), -0.1 * ov.polar_factor(G, method))


@pytest.mark.full  # examples/compiled_step.py has one
def test_a_whole_step_compiles():
    model, twin = network(torch.float32), network(torch.float32)
    options = dict(lr=torch.tensor(0.02), momentum=0.9, method="newton_schulz", order="after_momentum")
    ours, theirs = (ov.OrthogonalSGD(ov.param_groups(m), **options) for m in (model, twin))
    compiled = torch.compile(ours.step)
    for seed in range(3):
        for m in (model, twin):
            generator = torch.Generator().manual_seed(seed)
            for p in m.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
        compiled()
        theirs.step()
    near(model, twin, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=8),
        lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 0.1, 0.2, step_size_up=3),
    ],
)
def test_a_scheduler_of_momentum_cycles_momentum(schedule):
    makers, p = (torch.optim.SGD, ov.OrthogonalSGD), nn.Parameter(torch.zeros(2))
    optimizers = [make([p], lr=0.1, momentum=0.9) for make in makers]
    schedules, momenta = list(map(schedule, optimizers)), set()
    for _ in range(5):
        for each in (*optimizers, *schedules):
            each.step()
        ours, theirs = (optimizer.param_groups[0]["momentum"] for optimizer in optimizers)
        assert ours == theirs
        momenta.add(ours)
    assert len(momenta) > 2


def test_a_state_of_other_parameters_is_refused_before_anything_is_loaded():
    def optimizer(*models, **options):
        groups = [group for model in models for group in ov.param_groups(model, **options)]
        return ov.OrthogonalSGD(groups, lr=0.1, momentum=0.9)

    one, two, wide, tall = (nn.Linear(*size, bias=False) for size in ((4, 4), (4, 4), (3, 5), (5, 3)))
    both = torch.optim.SGD([one.weight, two.weight], lr=0.1)
    sgd = torch.optim.SGD(wide.parameters(), lr=0.1, momentum=0.9)
    fed(wide.weight, sgd, [torch.randn(5, 3)])
    pair = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    first, second = (optimizer(pair, overrides={f"{i}.*": "skip"}) for i in (0, 1))
    sideways = first.state_dict()
    sideways["param_groups"][0]["order"] = "sideways"
    for into, state, words in (
        (optimizer(one, two), both.state_dict(), "parameter groups"),
        (single(tall.weight, lr=0.1), sgd.state_dict(), r"has shape \(5, 3\), its parameter \(3, 5\)"),
        (second, first.state_dict(), "of other parameters"),
        (first, sideways, "order must be"),
    ):
        before = copy.deepcopy(into.state_dict())
        with pytest.raises(ValueError, match=words):
            into.load_state_dict(state)
        assert into.state_dict() == before


def test_an_empty_parameter_is_left_out():
    empty = nn.Parameter(torch.zeros(0))
    empty.grad = torch.zeros(0)
    for make in (ov.OrthogonalSGD, ov.SWAN):
        make([{"params": [empty], "layout": None}], lr=0.1).step()


@pytest.mark.parametrize("make", [ov.OrthogonalSGD, ov.optim.SWAN])
def test_the_callers_groups_stay_as_they_are(make):
    first, second = ({"params": [nn.Parameter(torch.ones(2, 3))], "layout": ("rows", 1)} for _ in range(2))
    optimizer = make([first], lr=0.1)
    optimizer.add_param_group(second)
    assert set(first) == set(second) == {"params", "layout"}


class Inside(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.mark.parametrize(
    "wrap",
    [
        Inside,
        lambda model: torch.compile(Inside(model), backend="eager"),
        lambda model: nn.Sequential(torch.compile(model[0], backend="eager"), *model[1:]),
        lambda model: nn.Sequential(checkpoint_wrapper(model[0]), *model[1:]),
    ],
    ids=["parallel", "compiled and parallel", "a compiled layer", "a checkpointed layer"],
)
def test_a_state_is_loaded_whatever_wraps_the_model_or_a_layer(wrap):
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    saved = ov.OrthogonalSGD(ov.param_groups(plain), lr=0.1, momentum=0.9)
    saved.load_state_dict(ov.OrthogonalSGD(ov.param_groups(wrap(plain)), lr=0.3).state_dict())
    assert saved.param_groups[0]["lr"] == 0.3


def test_a_hook_before_loading_sees_the_state_as_it_was_given_and_can_rename_it():
    inner, outer = nn.Linear(6, 5), nn.ModuleDict({"backbone": nn.Linear(6, 5)})
    state = ov.OrthogonalSGD(ov.param_groups(inner), lr=0.3).state_dict()
    optimizer, seen = ov.OrthogonalSGD(ov.param_groups(outer), lr=0.1), []

    def rename(_, state):
        seen.append(state)
        names = [[f"backbone.{name}" for name in group["param_names"]] for group in state["param_groups"]]
        groups = zip(state["param_groups"], names, strict=True)
        return {**state, "param_groups": [{**group, "param_names": new} for group, new in groups]}

    optimizer.register_load_state_dict_pre_hook(rename)
    optimizer.load_state_dict(state)
    assert seen[0]["param_groups"] == state["param_groups"]
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert len(optimizer._optimizer_load_state_dict_pre_hooks) == 1


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_spoilt_state_is_loaded_or_refused_and_never_half_loaded(data):
    """Keys that lack or are new, lists that are shorter, values of other kinds; then a step still works."""
    model = network(torch.float32)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), **HYPER, rest="adamw", rest_lr=0.01)
    train(model, optimizer, 1)
    before = copy.deepcopy(optimizer.state_dict())
    state = copy.deepcopy(before)
    for _ in range(data.draw(st.integers(1, 3))):
        places = [state, *state["param_groups"], *state["state"].values()]
        place = places[data.draw(st.integers(0, len(places) - 1))]
        if not place:
            continue
        key = data.draw(st.sampled_from(sorted(place, key=str)))
        values = [None, -1, "x", [], {}, torch.zeros(2), math.nan]
        if data.draw(st.booleans()):
            place.pop(key)
        else:
            place[key] = data.draw(st.sampled_from(values))
        if not isinstance(state.get("param_groups"), list) or not isinstance(state.get("state"), dict):
            break
    try:
        optimizer.load_state_dict(state)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        after = optimizer.state_dict()
        assert str(after["param_groups"]) == str(before["param_groups"])
        for number, one in before["state"].items():
            for key, value in one.items():
                assert torch.equal(torch.as_tensor(after["state"][number][key]), torch.as_tensor(value))
