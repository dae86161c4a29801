"""What a GPU must do too: against float64 on the CPU, torch's own optimisers, and the run without a break.

    python -m pytest -m cuda tests/test_cuda.py

Without a GPU these run on the CPU where they can, and say why where not. They import no more than what a
machine with torch, torchvision, pandas, scikit-learn and pytest has.
"""

import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from tests import reference
from tests.reference import error, gaussian
from tests.test_training import interrupted_at, trained
from tests.weights import near, same

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # products that are the same in every run
pytestmark = pytest.mark.cuda
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
BOUNDS = {
    **dict.fromkeys(("exact", "svd", "eigh"), 0.0),
    **dict.fromkeys(("fast", "polar_express", "gram_newton_schulz", "rational"), 0.01),
    "newton_schulz": 0.25,  # Muon's quintic never arrives
}


@pytest.fixture
def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def repeatable():
    """Sums in the same order in every run, on a GPU too."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def never_waiting():
    """Whoever makes the CPU wait for the GPU in here fails."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def digits():
    return ov.datasets.load("digits")


# Polar factors


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("method", ov.polar.METHODS)
def test_every_method_is_near_the_float64_factor_in_every_dtype(device, method, dtype):
    for shape in ((64, 200), (200, 64), (3, 24, 60)):
        G = gaussian(*shape, dtype=dtype).to(device)
        O = ov.polar_factor(G, method)
        assert (O.shape, O.dtype, O.device) == (G.shape, dtype, G.device)
        assert error(O, G) <= BOUNDS[method] + ROUNDING[dtype], shape


@pytest.mark.parametrize("method", ["exact", "svd", "eigh"])
def test_weak_directions_come_out_and_lost_ones_stay_out(device, method):
    left, right = (torch.linalg.qr(gaussian(n, 40, seed=n)).Q for n in (96, 300))
    values = torch.logspace(0, -4, 40, dtype=torch.float64)
    values[-3:] = 0
    G = ((left * values) @ right.T).float()
    assert error(ov.polar_factor(G.to(device), method), G) < 1e-4


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("method", ov.polar.METHODS)
def test_zero_stays_zero_and_what_is_not_finite_stays_with_its_matrix(device, method, bad):
    for dtype in ROUNDING:
        G = gaussian(4, 8, 20, dtype=dtype).to(device)
        G[0] = 0
        whole = ov.polar_factor(G, method)
        G[1, 2, 3] = bad
        O = ov.polar_factor(G, method)
        assert not O[0].any()
        assert O[1].isnan().all()
        assert error(O[2:], G[2:]) <= BOUNDS[method] + ROUNDING[dtype]
        assert device == "cuda" or torch.equal(O[2:], whole[2:])


@pytest.mark.parametrize("method", ["exact", "fast"])
def test_a_models_matrices_come_back_in_their_order(device, method):
    shapes = [(4, 9), (200, 90), (4, 9), (2, 3, 8), (40, 9), (200, 90), (16, 144)]
    matrices = [gaussian(*shape, seed=i, dtype=torch.float32) for i, shape in enumerate(shapes)]
    matrices.append(gaussian(4, 9))
    factors = ov.polar.polar_factors([G.to(device) for G in matrices], method)
    for G, O in zip(matrices, factors, strict=True):
        assert (O.dtype, O.device.type) == (G.dtype, device)
        assert error(O, G) <= 2 * BOUNDS[method] + 1e-6
    assert ov.polar.polar_factors([]) == []


@pytest.mark.parametrize("memory", [lambda G: G.mT, lambda G: G[::2, ::3], lambda G: G[:9].expand(3, 9, 48)])
@pytest.mark.parametrize("method", ov.polar.METHODS)
def test_a_factor_has_the_memory_layout_of_its_matrix_which_stays_as_it_was(device, method, memory):
    G = memory(gaussian(60, 48, dtype=torch.float32).to(device))
    before = G.clone()
    O = ov.polar_factor(G, method)
    assert G.stride()[0] == 0 or O.stride() == torch.empty_like(G).stride()
    assert error(O, G) <= 2 * BOUNDS[method] + 1e-6
    assert torch.equal(G, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ov.polar.METHODS)
def test_autocast_changes_no_factor(device, method, dtype):
    G = gaussian(30, 90, dtype=torch.float32).to(device)
    with torch.autocast(device, dtype):
        O = ov.polar_factor(G, method)
    assert torch.equal(O, ov.polar_factor(G, method))


@pytest.mark.slow
def test_fast_compiles_as_one_graph(device):
    torch.compiler.reset()
    backend = "inductor" if device == "cuda" else "aot_eager"  # inductor wants a C++ compiler on a CPU
    compiled = torch.compile(lambda G: ov.polar_factor(G, "fast"), fullgraph=True, backend=backend)
    for shape in ((32, 96), (96, 32)):
        G = gaussian(*shape, dtype=torch.float32).to(device)
        assert error(compiled(G), G) <= 2 * BOUNDS["fast"]


@needs_gpu
@pytest.mark.parametrize("driver", ["gesvd", "gesvdj", "gesvda"])
def test_every_driver_of_the_svd_finds_the_factor(driver):
    G = gaussian(2, 60, 24, dtype=torch.float32)
    assert error(ov.polar_factor(G.cuda(), ov.polar.SVD(driver=driver)), G) < 1e-4


@needs_gpu
def test_fast_replays_in_a_graph_with_new_numbers():
    matrices = [gaussian(*shape, dtype=torch.float32).cuda() for shape in ((64, 200), (64, 200), (9, 4))]
    ov.polar.polar_factors(matrices, "fast")  # torch's own workspaces are made outside of the graph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        factors = ov.polar.polar_factors(matrices, "fast")
    for i, G in enumerate(matrices):
        G.copy_(gaussian(*G.shape, seed=i + 1))
    graph.replay()
    for G, O in zip(matrices, factors, strict=True):
        assert error(O, G) <= 2 * BOUNDS["fast"]


@needs_gpu
def test_fast_never_waits_for_the_gpu(never_waiting):
    G = torch.ones(64, 200, device="cuda")
    ov.polar.polar_factors([G, G, G.mT, G[:4, :9]], "fast")


@needs_gpu
@pytest.mark.parametrize("method", ["exact", "fast"])
def test_a_stack_needs_at_most_four_times_its_own_memory(method):
    G = torch.randn(96, 256, 1024, device="cuda")
    ov.polar_factor(G[:2], method)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ov.polar_factor(G, method)
    assert torch.cuda.max_memory_allocated() - before <= 5 * G.nbytes  # and the result


# Optimisers


def layers(device, dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 6, 2, groups=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(6 * 49, 10)),
    )
    return model.to(device, dtype)


def stepped(model, optimizer, steps=4):
    """Its weights after steps along gradients that are the same on every device."""
    for step in range(steps):
        for i, p in enumerate(model.parameters()):
            p.grad = torch.empty_like(p).copy_(gaussian(*p.shape, seed=100 * step + i))
        optimizer.step()
    return [p.detach().cpu().double() for p in model.parameters()]


# without the random spectrum, which is drawn from the gradient's own bits
@pytest.mark.parametrize("name", [name for name in ov.optim.OPTIMIZERS if name != "random_spectrum"])
def test_an_optimiser_steps_as_in_float64_on_the_cpu(device, name):
    weights = []
    for model in (layers(device), layers("cpu", torch.float64)):
        weights.append(stepped(model, ov.optim.OPTIMIZERS[name](ov.param_groups(model), 0.05)))
    near(*weights, rtol=1e-3, atol=1e-4)


def test_it_follows_the_papers_rule(device):
    p = nn.Parameter(gaussian(12, 40).to(device))
    options = dict(lr=0.02, momentum=0.9, weight_decay=5e-4)
    rule = reference.PapersRule(p.detach().cpu(), **options)
    optimizer = ov.OrthogonalSGD(ov.param_groups(nn.ParameterList([p])), **options)
    for seed in range(1, 30):
        p.grad = gaussian(12, 40, seed=seed).to(device)
        rule.step(p.grad.cpu())
        optimizer.step()
    assert np.abs(p.detach().cpu().numpy() - rule.weight).max() < 1e-10


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_after_momentum_with_the_quintic_is_torchs_muon(device):
    start = gaussian(16, 48, dtype=torch.float32)
    options = dict(lr=0.05, momentum=0.95, weight_decay=0.1, nesterov=True)
    ours, theirs = (nn.ParameterList([nn.Parameter(start.clone().to(device))]) for _ in range(2))
    more = dict(order="after_momentum", decoupled=True, method="newton_schulz")
    (a,) = stepped(ours, ov.OrthogonalSGD(ov.param_groups(ours), **options, **more), 10)
    (b,) = stepped(theirs, torch.optim.Muon(theirs.parameters(), **options), 10)
    assert (a - b).norm() / (b - start).norm() < 0.02  # torch's computes in bfloat16


def test_an_orthogonalised_adamw_is_adamw_fed_with_numpys_factors(device):
    p, q = nn.Parameter(gaussian(8, 30).to(device)), nn.Parameter(gaussian(8, 30))
    ours, theirs = torch.optim.AdamW([p], lr=0.01), torch.optim.AdamW([q], lr=0.01)
    ov.orthogonalise(ours, nn.ParameterList([p]))
    for seed in range(1, 10):
        p.grad = gaussian(8, 30, seed=seed).to(device)
        q.grad = torch.as_tensor(reference.polar(p.grad.cpu()))
        ours.step()
        theirs.step()
    torch.testing.assert_close(p.detach().cpu(), q.detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", ["before_momentum", "after_momentum", "both"])
def test_channels_last_steps_as_contiguous_does_and_stays(device, order):
    models = layers(device), layers(device).to(memory_format=torch.channels_last)
    optimizers = [ov.OrthogonalSGD(ov.param_groups(m), lr=0.1, momentum=0.9, order=order) for m in models]
    stages = [], []
    for optimizer, seen in zip(optimizers, stages, strict=True):
        optimizer.register_stage_hook(lambda p, stage, matrix, seen=seen: seen.append(matrix.clone()))
    near(*map(stepped, models, optimizers), rtol=0, atol=1e-5, check_stride=False)
    near(*stages, rtol=0, atol=1e-4)  # all in the order of flatten(1)
    weight = models[1][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert optimizers[1].state[weight]["momentum_buffer"].stride() == weight.stride()


def test_a_scaled_loss_steps_as_the_loss_does_and_an_overflow_does_not_step(device):
    models = layers(device), layers(device)
    images, labels = gaussian(16, 3, 8, 8, dtype=torch.float32).to(device), torch.arange(16).to(device) % 10
    for model, enabled in zip(models, (False, True), strict=True):
        scaler = torch.amp.GradScaler(device, init_scale=2.0**10, enabled=enabled)
        optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
        scaler.scale(cross_entropy(model(images), labels)).backward()
        scaler.step(optimizer)
        scaler.update()
    near(*models, rtol=0, atol=1e-5)
    before = [p.detach().clone() for p in model.parameters()]
    scaler.scale(model(images).sum() * torch.inf).backward()
    scaler.step(optimizer)
    assert same(model, before)


@needs_gpu
def test_a_fast_step_never_waits_for_the_gpu(never_waiting):
    model = layers("cuda")
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.1, momentum=0.9, method="fast")
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


# Batches, training, watching


def test_batches_are_the_cpus(device, digits):
    data = ov.datasets.Dataset(**{**vars(digits), "augment": True})
    pairs = zip(
        *(ov.datasets.batches(data, 500, seed=0, epoch=1, device=d) for d in (device, "cpu")), strict=True
    )
    for (images, labels), (others, answers) in pairs:
        assert torch.equal(labels.cpu(), answers)
        torch.testing.assert_close(images.cpu(), others)


@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_training_learns_digits_in_every_precision(device, digits, precision):
    run = trained(digits, epochs=3, precision=precision)
    assert next(run.model.parameters()).device.type == device
    assert run.history.test_accuracy.iloc[-1] > 0.9


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(repeatable, digits, tmp_path, capsys):
    whole = trained(digits, epochs=4)
    part = trained(digits, epochs=4, make=interrupted_at(15), out=tmp_path)
    assert str(part.stopped) == "interrupted in epoch 3, at step 3 of 6"
    assert str(part.stopped) in capsys.readouterr().out
    rest = trained(digits, epochs=4, out=tmp_path, resume=True)
    columns = ["epoch", "step", "train_loss", "test_loss", "test_accuracy"]
    assert rest.history[columns].equals(whole.history[columns])
    assert same(whole.model, rest.model)


def watched(device, dtype, watch=True):
    """A model after three steps, and what a monitor saw of them."""
    model = layers(device, dtype)
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)
    images, labels = gaussian(40, 3, 8, 8, dtype=dtype).to(device), torch.arange(40).to(device) % 10
    monitor = ov.watch(model, optimizer, quantities="research", probe=images)
    if watch:
        monitor.start()
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    monitor.stop()
    return model, monitor.frame() if watch else None


def test_a_monitor_sees_what_it_sees_on_the_cpu(device):
    (_, frame), (_, right) = watched(device, torch.float32), watched("cpu", torch.float64)
    keys = ["step", "layer", "stage", "quantity", "index"]
    assert frame[keys].astype(str).equals(right[keys].astype(str))
    some = frame.quantity.isin(["stable_rank", "effective_rank", "update_ratio", "mean_abs_cosine"])
    assert len(set(frame[some].quantity)) == 4
    np.testing.assert_allclose(frame[some].value, right[some].value, rtol=0.01)


def test_watching_changes_no_bit(repeatable, device):
    states = [watched(device, torch.float32, watch)[0].state_dict().values() for watch in (True, False)]
    assert same(*states)


@needs_gpu  # last: it takes longest
def test_a_compiled_run_learns_digits(digits):
    assert trained(digits, epochs=3, compile=True).history.test_accuracy.iloc[-1] > 0.9
