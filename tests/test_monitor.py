"""The monitor: what it reports against a loop that measures by hand, and that nothing else changes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from tests.reference import polar
from tests.weights import same


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(6 * 9, 8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip


def batch(seed=0, count=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 5, 5, generator=generator), torch.randint(4, (count,), generator=generator)


def backward(model, seed=0):
    images, labels = batch(seed)
    loss = cross_entropy(model(images), labels)
    loss.backward()
    return loss.detach()


def one_step(model, optimizer, seed=0):
    optimizer.zero_grad()
    loss = backward(model, seed)
    optimizer.step()
    return loss


def monitored(model, optimizer, steps=0, step=one_step, **options):
    """The monitor of some steps, which knows their losses too, and of the weights after them."""
    with ov.watch(model, optimizer, **options) as monitor:
        for i in range(steps):
            monitor.log(loss=step(model, optimizer, i))
    return monitor


def watched(*args, **options):
    return monitored(*args, **options).frame()


def orthogonal_sgd(model, **options):
    return ov.OrthogonalSGD(ov.param_groups(model), **{"lr": 0.05, "momentum": 0.9, **options})


def plain(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, **options)


def lbfgs(model):
    return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)


def wrapped(model, make=plain):
    optimizer = make(model)
    ov.orthogonalise(optimizer, model)
    return optimizer


def pair(make=plain, **options):
    """The network, and an optimiser of its weights."""
    model = network()
    return model, make(model, **options)


def value(frame, quantity, stage, step=0, layer="0.weight"):
    rows = frame.query("quantity == @quantity and stage == @stage and step == @step and layer == @layer")
    return rows.sort_values("index")["value"].to_numpy()


def as_rows(tensor):
    return tensor.detach().flatten(1).double().numpy().copy()


def spectrum(tensor):
    return np.linalg.svd(as_rows(tensor), compute_uv=False)


# What it reports


@pytest.mark.parametrize("make", [plain, orthogonal_sgd, wrapped])
def test_every_stage_is_what_a_loop_by_hand_sees(make):
    model, optimizer = pair(make)
    weight = model[0].weight
    before, gradients = [], []
    wanted = ["singular_values", "update_ratio", "step_inflation"]
    with ov.watch(model, optimizer, quantities=wanted) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            backward(model, step)
            backward(model, step + 5)  # accumulated
            before.append(as_rows(weight))
            gradients.append(as_rows(weight.grad))
            optimizer.step()
    before.append(as_rows(weight))
    frame = monitor.frame()
    velocity = 0
    for step in range(3):
        factor = polar(gradients[step])
        change = before[step + 1] - before[step]
        velocity = 0.9 * velocity + (gradients[step] if make is plain else factor)
        right = {"raw": gradients[step], "weight": before[step], "applied": change, "momentum": velocity}
        if make is not plain:
            right["orthogonal"] = factor
            inflation = np.linalg.norm(factor) / np.linalg.norm(gradients[step])
            found = value(frame, "step_inflation", "orthogonal", step)
            np.testing.assert_allclose(found, inflation, rtol=1e-5)
        for stage, matrix in right.items():
            s = np.linalg.svd(matrix, compute_uv=False)
            found = value(frame, "singular_values", stage, step)
            np.testing.assert_allclose(found, s, rtol=1e-4, err_msg=stage)
        ratio = np.linalg.norm(change) / np.linalg.norm(before[step])
        np.testing.assert_allclose(value(frame, "update_ratio", "applied", step), ratio, rtol=1e-5)
    assert set(frame.query("quantity == 'singular_values'").stage) == set(right)


def test_a_watched_layer_that_the_optimiser_leaves_alone_has_its_raw_stage_too():
    model = network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model, convolutions_only=True), lr=0.05)
    frame = watched(model, optimizer, 1, quantities=["raw.stable_rank", "orthogonal.stable_rank"])
    rows = frame[frame.quantity == "stable_rank"]
    assert set(rows[rows.stage == "orthogonal"].layer) == {"0.weight"}
    assert set(rows[rows.stage == "raw"].layer) == {"0.weight", "5.weight", "7.weight"}


def test_steps_are_counted_and_the_last_weights_seen():
    model, optimizer = pair()
    frame = watched(model, optimizer, 8, every=3, layers=["0", "5.w*"])
    assert sorted(set(frame[frame.stage == "raw"].step)) == [0, 3, 6]
    assert sorted(set(frame[frame.quantity == "mean_abs_cosine"].step)) == [0, 3, 6, 8]
    assert list(frame[frame.stage == "raw"].layer.unique()) == ["0.weight", "5.weight"]
    right = ov.measures.mean_abs_cosine(model[5].weight.detach()).item()
    assert value(frame, "mean_abs_cosine", "weight", 8, "5.weight").item() == right


def test_two_steps_in_a_row_are_compared_even_where_few_are_measured():
    frame = watched(*pair(), 6, every=4, quantities=["step_cosine"])
    twin, other = pair()
    weights = []
    for step in range(6):
        weights.append(twin[0].weight.detach().double().clone())
        one_step(twin, other, step)
    a, b = (weights[4] - weights[3]).flatten(), (weights[5] - weights[4]).flatten()
    found = frame.query("quantity == 'step_cosine' and layer == '0.weight'")
    assert found.step.tolist() == [4]
    assert found.value.item() == pytest.approx((a @ b / (a.norm() * b.norm())).item(), rel=1e-4)


@pytest.mark.parametrize("make", [plain, orthogonal_sgd, wrapped, lbfgs, lambda model: wrapped(model, lbfgs)])
@pytest.mark.parametrize("keyword", [False, True])
def test_of_a_closure_the_first_gradient_and_loss_count(make, keyword):
    model, optimizer = pair(make)
    gradients, losses, first = [], [], []

    def closure():
        optimizer.zero_grad()
        losses.append(backward(model))
        gradients.append(model[5].weight.grad.clone())
        return losses[-1]

    with ov.watch(model, optimizer, every=2, quantities=["raw.singular_values"]) as monitor:
        for _ in range(2):
            first.append(len(losses))
            returned = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    assert returned == losses[first[1]]
    assert (len(losses) > 2) == isinstance(optimizer, torch.optim.LBFGS)
    frame = monitor.frame()
    found = value(frame, "singular_values", "raw", 0, "5.weight")
    np.testing.assert_allclose(found, spectrum(gradients[0]), rtol=1e-4, atol=1e-9)
    assert frame[frame.quantity == "loss"].value.tolist() == [losses[i].item() for i in first]


@pytest.mark.parametrize("make", [plain, orthogonal_sgd, wrapped, lambda model: plain(model, fused=True)])
def test_a_scaled_loss_is_reported_unscaled(make):
    model, optimizer = pair(make)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    images, labels = batch()
    backward(twin := copy.deepcopy(model))
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        scaler.scale(cross_entropy(model(images), labels)).backward()
        scaler.step(optimizer)
    right = spectrum(twin[0].weight.grad)
    np.testing.assert_allclose(value(monitor.frame(), "singular_values", "raw"), right, rtol=1e-4)


@pytest.mark.parametrize("order", ["before_momentum", "after_momentum", "both"])
@pytest.mark.parametrize(
    "options", [{}, {"nesterov": True}, {"maximize": True, "weight_decay": 0.1}], ids=str
)
def test_an_exact_factor_is_exact_of_what_it_was_made_from(order, options):
    model, optimizer = pair(orthogonal_sgd, order=order, **options)
    frame = watched(model, optimizer, 3, quantities=["alignment", "direction_gain"])
    found = frame[frame["quantity"].isin(["alignment", "direction_gain"])].value.dropna()
    assert len(found) > 40
    np.testing.assert_allclose(found, 1, atol=1e-4)


def test_grouped_layers_report_every_group_and_go_on_counting():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 9, 3))
    wanted = ["weight.singular_values", "weight.stable_rank"]
    frame = watched(model, orthogonal_sgd(model), quantities=wanted)
    right = np.concatenate([spectrum(W) for W in model[0].weight.split(3)])
    np.testing.assert_allclose(value(frame, "singular_values", "weight"), right, rtol=1e-5)
    assert len(value(frame, "stable_rank", "weight")) == 2


# Training is the same to the last bit


class Counts(nn.Module):
    """Keeps statistics and draws at random, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + 0.1 * torch.rand_like(x)


def state_after(make, train, watch):
    """Everything that training leaves, watched or not."""
    model = nn.Sequential(Counts(), *network(dropout=0.3)).train(train)
    optimizer = make(model)
    torch.manual_seed(5)
    monitor = ov.watch(model, optimizer, quantities="everything", probe=batch(9)[0], every=2)
    if watch:
        monitor.start()
    for step in range(5):
        one_step(model, optimizer, step)
    if watch:
        monitor.collect()
        monitor.stop()
        assert monitor.step == 5
        assert set(monitor.frame().query("quantity == 'dead_units'").step) == {0, 2, 4, 5}
    assert all(module.training == train for module in model.modules())
    buffers = [b for state in optimizer.state.values() for b in state.values() if isinstance(b, torch.Tensor)]
    gradients = [p.grad for p in model.parameters()]
    return [*model.state_dict().values(), *buffers, *gradients, torch.get_rng_state()]


OPTIMIZERS = {
    "plain": plain,
    "orthogonal_sgd": orthogonal_sgd,
    "wrapped": wrapped,
    "adamw": lambda model: torch.optim.AdamW(model.parameters()),
    "both": lambda model: orthogonal_sgd(model, order="both", weight_decay=0.1),
    "swan": lambda model: ov.SWAN(ov.param_groups(model), lr=0.01),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_watching_changes_no_bit(name, train):
    assert same(*(state_after(OPTIMIZERS[name], train, watch) for watch in (False, True)))


def hooks(model, optimizer):
    found = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    return sum(found) + steps + (len(optimizer._stages.hooks) if hasattr(optimizer, "_stages") else 0)


@pytest.mark.parametrize("how", ["stop", "leave", "exception in the block", "failing probe"])
def test_nothing_is_left_hanging(how):
    model, optimizer = pair(orthogonal_sgd)
    probe = torch.ones(2, 3) if how == "failing probe" else batch()[0]
    monitor = ov.watch(model, optimizer, quantities="research", probe=probe)
    if how == "failing probe":
        with pytest.raises(ValueError, match="does not take the probe"):
            monitor.start()
    elif how == "exception in the block":
        with pytest.raises(ZeroDivisionError), monitor:
            1 / 0  # noqa: B018
    else:
        monitor.start()
        one_step(model, optimizer)
        assert hooks(model, optimizer) > 0
        monitor.stop() if how == "stop" else monitor.__exit__(None)
        monitor.stop()
    assert hooks(model, optimizer) == 0
    assert all(module.training for module in model.modules())


def test_a_step_that_raised_is_measured_when_it_is_repeated():
    model, optimizer = pair(orthogonal_sgd)
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        backward(model)
        good = model[0].weight.grad.clone()
        model[0].weight.grad = good.to_sparse()
        with pytest.raises(TypeError, match="sparse"):
            optimizer.step()
        model[0].weight.grad = good
        optimizer.step()
    assert monitor.step == 1
    assert hooks(model, optimizer) == 0
    np.testing.assert_allclose(value(monitor.frame(), "singular_values", "raw"), spectrum(good), rtol=1e-4)


class Moody(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        if not self.training and self.calls > 2:
            raise RuntimeError("not today")
        return super().forward(x).relu()


def test_a_measurement_that_fails_ends_the_watching_and_neither_training_nor_other_hooks():
    model = Moody(3, 4)
    optimizer = plain(model)
    monitor = ov.watch(model, optimizer, quantities=["dead_units"], probe=torch.ones(2, 3)).start()
    calls = []
    for register in (optimizer.register_step_pre_hook, optimizer.register_step_post_hook):
        register(lambda *_: calls.append(1))
    model(torch.ones(2, 3)).sum().backward()
    with pytest.warns(UserWarning, match=r"stopped watching at step 0: .*not today"):
        optimizer.step()
    optimizer.step()
    assert len(calls) == 4
    assert model.training
    monitor.stop()
    assert hooks(model, optimizer) == 2  # those others
    assert monitor.frame().empty


def test_of_two_optimisers_each_monitor_sees_its_own_layers_and_those_that_come_later():
    model = network()
    hidden = ov.OrthogonalSGD(ov.param_groups(model[0]), lr=0.02)
    rest = torch.optim.AdamW([*model[5].parameters()], lr=1e-3)
    quantities = ["update_ratio", "raw.stable_rank"]
    both = [ov.watch(model, optimizer, quantities=quantities).start() for optimizer in (hidden, rest)]
    for step in range(3):
        if step == 1:
            rest.add_param_group({"params": [*model[7].parameters()]})
        model.zero_grad()
        backward(model)
        hidden.step()
        rest.step()
    first, second = (monitor.frame().query("quantity == 'update_ratio'") for monitor in both)
    assert set(first.layer) == {"0.weight"}
    steps = second.groupby("layer", observed=True).step.agg(list).to_dict()
    assert steps == {"5.weight": [0, 1, 2], "7.weight": [1, 2]}
    assert (first.value > 0).all()
    assert (second.value > 0).all()
    sizes = both[1].frame().query("quantity == 'rows'")
    assert sizes.layer.tolist() == ["5.weight", "7.weight"]
