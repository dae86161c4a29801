"""The monitor: what it reports against a loop that measures by hand, and that nothing else changes."""

import copy
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import orthoviz as ov
from tests.reference import polar


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


def watched(model, optimizer, steps=0, **options):
    """The frame of some steps, and of the weights after them."""
    with ov.watch(model, optimizer, **options) as monitor:
        for step in range(steps):
            one_step(model, optimizer, step)
    return monitor.frame()


def orthogonal_sgd(model, **options):
    return ov.OrthogonalSGD(ov.param_groups(model), **{"lr": 0.05, "momentum": 0.9, **options})


def wrapped(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ov.orthogonalise(optimizer, model)
    return optimizer


def plain(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, **options)


def value(frame, quantity, stage, step=0, layer="0.weight"):
    rows = frame.query("quantity == @quantity and stage == @stage and step == @step and layer == @layer")
    return rows.sort_values("index")["value"].to_numpy()


def spectrum(tensor):
    return np.linalg.svd(tensor.detach().flatten(1).double().numpy(), compute_uv=False)


def gradient_of_first_batch(model):
    twin = copy.deepcopy(model)
    backward(twin)
    return twin[0].weight.grad


# What it reports


@pytest.mark.parametrize("make", [plain, orthogonal_sgd, wrapped])
def test_every_stage_is_what_a_loop_by_hand_sees(make):
    model = network()
    optimizer = make(model)
    weight = model[0].weight
    before, gradients = [], []
    wanted = ["singular_values", "update_ratio", "step_inflation"]
    with ov.watch(model, optimizer, quantities=wanted) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            backward(model, step)
            backward(model, step + 5)  # accumulated
            before.append(weight.detach().double().flatten(1).numpy().copy())
            gradients.append(weight.grad.double().flatten(1).numpy().copy())
            optimizer.step()
    before.append(weight.detach().double().flatten(1).numpy().copy())
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
    model = network()
    frame = watched(model, plain(model), 8, every=3, layers=["0", "5.w*"])
    assert sorted(set(frame[frame.stage == "raw"].step)) == [0, 3, 6]
    assert sorted(set(frame[frame.quantity == "mean_abs_cosine"].step)) == [0, 3, 6, 8]
    assert list(frame[frame.stage == "raw"].layer.unique()) == ["0.weight", "5.weight"]
    right = ov.measures.mean_abs_cosine(model[5].weight.detach()).item()
    assert value(frame, "mean_abs_cosine", "weight", 8, "5.weight").item() == right


def test_two_steps_in_a_row_are_compared_even_where_few_are_measured():
    model, twin = network(), network()
    frame = watched(model, plain(model), 6, every=4, quantities=["step_cosine"])
    other, weights = plain(twin), []
    for step in range(6):
        weights.append(twin[0].weight.detach().double().clone())
        one_step(twin, other, step)
    a, b = (weights[4] - weights[3]).flatten(), (weights[5] - weights[4]).flatten()
    found = frame.query("quantity == 'step_cosine' and layer == '0.weight'")
    assert found.step.tolist() == [4]
    assert found.value.item() == pytest.approx((a @ b / (a.norm() * b.norm())).item(), rel=1e-4)


@pytest.mark.parametrize("make", [plain, orthogonal_sgd, wrapped])
@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_a_closures_gradient_and_loss_are_seen(make, how):
    model = network()
    optimizer = make(model)
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = backward(model)
        losses.append(loss.item())
        return loss

    s = spectrum(gradient_of_first_batch(model))
    with ov.watch(model, optimizer, every=2, quantities=["raw.singular_values"]) as monitor:
        for _ in range(2):
            returned = optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)
    assert returned.item() == losses[1]
    frame = monitor.frame()
    np.testing.assert_allclose(value(frame, "singular_values", "raw"), s, rtol=1e-4)
    assert frame[frame.quantity == "loss"].value.tolist() == pytest.approx(losses)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_of_a_closure_that_runs_often_the_first_gradient_counts(orthogonal):
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    if orthogonal:
        ov.orthogonalise(optimizer, model)
    gradients = []

    def closure():
        optimizer.zero_grad()
        loss = backward(model)
        gradients.append(model[5].weight.grad.clone())
        return loss

    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        optimizer.step(closure)
    assert len(gradients) > 1
    found = value(monitor.frame(), "singular_values", "raw", 0, "5.weight")
    np.testing.assert_allclose(found, spectrum(gradients[0]), rtol=1e-4, atol=1e-9)
    assert (monitor.frame().quantity == "loss").sum() == 1


@pytest.mark.parametrize(
    "make", [plain, orthogonal_sgd, wrapped, lambda model: plain(model, fused=True)],
    ids=["plain", "orthogonal_sgd", "wrapped", "fused"],
)  # fmt: skip
def test_a_scaled_loss_is_reported_unscaled(make):
    model = network()
    optimizer = make(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    images, labels = batch()
    s = spectrum(gradient_of_first_batch(model))
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        scaler.scale(cross_entropy(model(images), labels)).backward()
        scaler.step(optimizer)
    np.testing.assert_allclose(value(monitor.frame(), "singular_values", "raw"), s, rtol=1e-4)


@pytest.mark.parametrize("order", ["before_momentum", "after_momentum", "both"])
@pytest.mark.parametrize(
    "options", [{}, {"nesterov": True}, {"maximize": True, "weight_decay": 0.1}], ids=str
)
def test_an_exact_factor_is_exact_of_what_it_was_made_from(order, options):
    model = network()
    optimizer = orthogonal_sgd(model, order=order, **options)
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


def test_a_pair_of_indices_counts_row_by_row():
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0, 0], [1.0, 1.0, 0]]))
    frame = watched(model, plain(model), quantities=["weight.cosine_matrix"])
    found = value(frame, "cosine_matrix", "weight", 0, "weight")
    np.testing.assert_allclose(found, [1, 0.5**0.5, 0.5**0.5, 1], rtol=1e-6)


# Activations


def test_activations_are_what_the_model_computes_in_eval_mode():
    model = network(dropout=0.5)
    probe, _ = batch(7)
    quantities = ["dead_units", "feature_cosine", "activation_participation_ratio", "incoming_stable_rank"]
    frame = watched(model, plain(model), quantities=quantities, probe=probe)

    def found(quantity, layer="0.weight"):
        return value(frame, quantity, "activation", 0, layer).tolist()

    model.eval()
    maps, hidden = model[:3](probe).detach(), model[:7](probe).detach()
    assert found("dead_units") == (maps.amax((0, 2, 3)) == 0).float().tolist()
    assert found("dead_units", "5.weight") == (hidden.amax(0) == 0).float().tolist()
    assert found("dead_units", "7.weight") == []  # nothing fires after the head
    assert found("feature_cosine") == pytest.approx([ov.measures.feature_cosine(maps).item()])
    assert found("feature_cosine", "5.weight") == []  # units have no map
    l = np.linalg.eigvalsh(np.cov(hidden.double().numpy().T))
    right = l.sum() ** 2 / (l**2).sum()
    assert found("activation_participation_ratio", "5.weight") == pytest.approx([right], rel=1e-4)
    s = spectrum(hidden)
    assert found("incoming_stable_rank", "7.weight") == pytest.approx([(s**2).sum() / s[0] ** 2], rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"padding": "same"}, {"padding": "valid"}, {"padding": 2, "padding_mode": "reflect"},
     {"padding": (1, 0)}],
    ids=str,
)  # fmt: skip
def test_what_enters_a_convolution_is_what_its_weight_is_multiplied_with(options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, bias=False, **options), nn.Flatten(), nn.LazyLinear(3))
    images = torch.randn(4, 2, 7, 7)
    model(images)
    frame = watched(model, plain(model), quantities=["incoming_stable_rank"], layers="0", probe=images)
    # patches by another way: the response to a filter that is 1 in one place is that place's input
    eye = copy.deepcopy(model[0])
    with torch.no_grad():
        eye.weight = nn.Parameter(torch.eye(18).reshape(18, 2, 3, 3))
        patches = eye(images).movedim(1, -1).flatten(0, -2)
    right = ov.measures.stable_rank(patches.double()).item()
    assert value(frame, "incoming_stable_rank", "activation") == pytest.approx(right, rel=1e-5)


def test_an_activation_that_is_a_plain_call_behind_a_shortcut_is_found():
    """resnet20 calls relu itself, after normalisation and sum."""
    model = ov.models.resnet20(seed=0)
    frame = watched(model, plain(model), quantities=["dead_units"], probe=torch.randn(4, 3, 32, 32))
    layers = set(frame.query("quantity == 'dead_units'").layer)
    assert layers == {name for name, p in model.named_parameters() if p.ndim == 4}


class Twice(nn.Module):
    """A layer that runs twice, and an argument that is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x, scale):
        return torch.relu(self.layer(torch.relu(self.layer(x * scale))))


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_a_layer_that_runs_twice_has_the_mean_of_both_and_a_probe_may_be_arguments(kind):
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(3, 5)
    once = torch.relu(model.layer(2 * x))
    both = torch.stack([(h.amax(0) == 0).float() for h in (once, torch.relu(model.layer(once)))]).mean(0)
    probe = (x, 2.0) if kind == "tuple" else {"x": x, "scale": 2.0}
    frame = watched(model, plain(model), quantities=["dead_units"], probe=probe)
    assert value(frame, "dead_units", "activation", 0, "layer.weight").tolist() == both.tolist()


def test_activations_are_those_before_the_step():
    model = network()
    optimizer = plain(model)
    probe, right = batch(7)[0], []
    with ov.watch(model, optimizer, quantities=["feature_cosine"], probe=probe) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            backward(model, step)
            right.append(ov.measures.feature_cosine(copy.deepcopy(model).eval()[:3](probe).detach()).item())
            optimizer.step()
    found = [value(monitor.frame(), "feature_cosine", "activation", step).item() for step in range(3)]
    assert found == pytest.approx(right, rel=1e-6)
    assert len(set(found)) == 3


# Training is the same to the last bit


def state_after(make, train, watch):
    """Everything that training leaves, watched or not."""
    model = network(dropout=0.3)
    model.train(train)
    optimizer = make(model)
    torch.manual_seed(5)
    if watch:
        monitor = ov.watch(model, optimizer, quantities="everything", probe=batch(9)[0], every=2).start()
    for step in range(5):
        one_step(model, optimizer, step)
    if watch:
        monitor.collect()
        monitor.stop()
        assert monitor.step == 5
    assert all(module.training == train for module in model.modules())
    buffers = [b for state in optimizer.state.values() for b in state.values() if isinstance(b, torch.Tensor)]
    gradients = [p.grad for p in model.parameters()]
    return [*model.state_dict().values(), *buffers, *gradients, torch.get_rng_state()]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "make",
    [plain, orthogonal_sgd, wrapped, lambda model: torch.optim.AdamW(model.parameters()),
     lambda model: orthogonal_sgd(model, order="both", weight_decay=0.1),
     lambda model: ov.SWAN(ov.param_groups(model), lr=0.01)],
    ids=["plain", "orthogonal_sgd", "wrapped", "adamw", "both", "swan"],
)  # fmt: skip
def test_watching_changes_no_bit(make, train):
    pairs = zip(state_after(make, train, watch=False), state_after(make, train, watch=True), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_probe_leaves_statistics_that_a_model_keeps_even_in_eval_mode():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x + 0.1 * torch.rand_like(x)).relu()

    model = Counts()
    state = torch.get_rng_state()
    assert len(watched(model, plain(model), quantities=["dead_units"], probe=torch.ones(2, 3)))
    assert model.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


def hooks(model, optimizer):
    found = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    return sum(found) + steps + (len(optimizer._stages.hooks) if hasattr(optimizer, "_stages") else 0)


@pytest.mark.parametrize("how", ["stop", "leave", "exception in the block", "failing probe"])
def test_nothing_is_left_hanging(how):
    model = network()
    optimizer = orthogonal_sgd(model)
    options = {"quantities": "research", "probe": batch()[0]}
    if how == "stop":
        monitor = ov.watch(model, optimizer, **options).start()
        one_step(model, optimizer)
        assert hooks(model, optimizer) > 0
        monitor.stop()
        monitor.stop()
    elif how == "leave":
        watched(model, optimizer, 1, **options)
    elif how == "exception in the block":
        with pytest.raises(ZeroDivisionError), ov.watch(model, optimizer, **options):
            1 / 0  # noqa: B018
    else:
        with pytest.raises(ValueError, match="does not take the probe"):
            ov.watch(model, optimizer, quantities="research", probe=torch.ones(2, 3)).start()
    assert hooks(model, optimizer) == 0
    assert all(module.training for module in model.modules())


def test_a_step_that_raised_is_measured_when_it_is_repeated():
    model = network()
    optimizer = orthogonal_sgd(model)
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


def test_a_measurement_that_fails_ends_the_watching_and_neither_training_nor_other_hooks():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if not self.training and self.calls > 2:
                raise RuntimeError("not today")
            return self.layer(x).relu()

    def train():
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()

    model = Moody()
    optimizer = plain(model)
    monitor = ov.watch(model, optimizer, quantities=["dead_units"], probe=torch.ones(2, 3)).start()
    calls = []
    others = [
        register(lambda *_: calls.append(1))
        for register in (optimizer.register_step_pre_hook, optimizer.register_step_post_hook)
    ]
    with pytest.warns(UserWarning, match=r"stopped watching at step 0: .*not today"):
        train()
    assert len(calls) == 6
    assert model.training
    for handle in others:
        handle.remove()
    monitor.stop()
    assert hooks(model, optimizer) == 0
    assert monitor.frame().empty


# Models and loops of many kinds


@pytest.mark.parametrize("how", ["whole", "in place"])
def test_a_compiled_model_is_watched_like_the_model(how):
    model, twin, options = network(), network(), {"quantities": "research", "probe": batch(3)[0]}
    compiled = torch.compile(model, backend="eager") if how == "whole" else model
    if how == "in place":
        model.compile(backend="eager")
    found = watched(compiled, orthogonal_sgd(model), 3, **options)
    pd.testing.assert_frame_equal(found, watched(twin, orthogonal_sgd(twin), 3, **options))


def test_a_compiled_step_is_watched_too():
    model = network()
    optimizer = orthogonal_sgd(model, method="newton_schulz")
    compiled = torch.compile(lambda: one_step(model, optimizer), backend="eager")
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        for _ in range(3):
            compiled()
    assert sorted(set(monitor.frame().query("stage == 'raw'").step)) == [0, 1, 2]


def test_shared_skipped_and_frozen_layers():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(4, 4)
            self.again = self.shared
            self.skipped = nn.Linear(4, 4)
            self.frozen = nn.Linear(4, 4).requires_grad_(False)

        def forward(self, x):
            return self.frozen(self.again(self.shared(x).relu()))

    model = Odd()
    optimizer = plain(model)
    with ov.watch(model, optimizer, quantities=["stable_rank"]) as monitor:
        model(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
    frame = monitor.frame().query("quantity == 'stable_rank' and step == 0")
    layers = {stage: set(rows.layer) for stage, rows in frame.groupby("stage", observed=True)}
    assert layers["weight"] == {"shared.weight", "skipped.weight", "frozen.weight"}
    assert layers["raw"] == layers["applied"] == {"shared.weight"}


def test_without_an_optimiser_one_asks():
    model = network()
    monitor = ov.watch(model, quantities=["raw.stable_rank", "weight.stable_rank"])
    monitor.collect()
    backward(model)
    monitor.step, monitor.epoch = 10, 2
    monitor.collect()
    with pytest.raises(ValueError, match="step 10 is collected already"):
        monitor.collect()
    frame = monitor.frame().query("quantity == 'stable_rank'")
    assert set(frame[frame.step == 0].stage) == {"weight"}
    assert set(frame[frame.step == 10].stage) == {"weight", "raw"}
    assert set(frame[frame.step == 10].epoch) == {2}


def test_a_step_is_collected_once():
    model = network()
    optimizer = plain(model)
    with ov.watch(model, optimizer, quantities=["weight.stable_rank", "update_ratio"]) as monitor:
        monitor.collect()  # before the step that would measure the same weights
        one_step(model, optimizer)
        monitor.collect()
        monitor.collect()  # and the end of the block asks once more
    frame = monitor.frame()
    assert not frame.duplicated(["step", "layer", "stage", "quantity", "index"]).any()
    assert len(frame.query("quantity == 'stable_rank'")) == 2 * 3  # before and after, three matrices
    assert len(frame.query("quantity == 'update_ratio'")) == 3


def test_gradients_are_left_out_of_a_step_that_was_orthogonalised_while_watched():
    model = network()
    optimizer = plain(model)
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        one_step(model, optimizer)
        ov.orthogonalise(optimizer, model)  # the monitor listened for no stage of step 1
        with pytest.warns(UserWarning, match="step 1's gradients were polar factors already"):
            one_step(model, optimizer)
        one_step(model, optimizer)
    frame = monitor.frame().query("quantity == 'singular_values'")
    assert set(frame.step) == {0, 2}
    assert frame.value.std() > 0.01  # polar factors would give ones


def test_numbers_are_kept_as_they_were():
    model = network()
    optimizer = plain(model)
    counter = torch.zeros(())
    with ov.watch(model, optimizer, quantities=["raw.stable_rank"]) as monitor:
        for p in model.parameters():
            p.grad = torch.full_like(p, torch.nan)
        for step in range(3):
            monitor.log(counter=counter, exact=0.1, large=2**24 + 1, loss=torch.inf)
            counter += 1
            assert len(monitor.frame()) > 3 * step
            optimizer.step()
    frame = monitor.frame()
    logged = {name: rows.value.tolist() for name, rows in frame.groupby("quantity", observed=True)}
    assert logged["counter"] == [0, 1, 2]
    assert logged["exact"] == [0.1] * 3
    assert logged["large"] == [2**24 + 1] * 3
    assert logged["loss"] == [np.inf] * 3
    assert np.isnan(logged["stable_rank"]).all()
    assert value(frame, "rows", "weight").tolist() == [6]  # once, although a frame was made before


def test_fit_tells_the_monitor_loss_and_epoch():
    data = ov.datasets.load("digits").subset(120, 40)
    model = ov.models.digits_cnn(seed=0)
    optimizer = orthogonal_sgd(model)
    with ov.watch(model, optimizer, every=2) as monitor:
        run = ov.training.fit(
            model, optimizer, data, epochs=2, batch_size=60, monitor=monitor, progress=False
        )
    frame = monitor.frame()
    losses = frame[frame.quantity == "loss"]
    assert losses.step.tolist() == [0, 1, 2, 3]
    assert losses.epoch.tolist() == [0, 0, 1, 1]
    means = losses.groupby("epoch").value.mean()
    np.testing.assert_allclose(means, run.history.train_loss[1:], rtol=1e-6)
    weights = frame[(frame.quantity == "mean_abs_cosine") & (frame.layer == "0.weight")]
    assert list(zip(weights.step, weights.epoch, strict=True)) == [(0, 0), (2, 1), (4, 2)]


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.up, self.out = nn.ConvTranspose2d(12, 8, 2, stride=2), nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, x):
        h = self.down(x).relu()
        return self.out((self.up(self.deep(h).relu()) + h).relu()).mean((2, 3))


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


OWN = {"UNet": (UNet, (2, 3, 16, 16)), "LSTM": (Reader, (2, 7, 5))}
TORCHVISION = ("vgg11", "resnet18", "densenet121", "regnet_x_400mf", "mobilenet_v2")
TIMM = ("vit_tiny_patch16_224", "mixer_s32_224")
KINDS = (*OWN, *TORCHVISION, *TIMM)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.full if name == "vgg11" else pytest.mark.slow) for name in KINDS],
)
def test_a_step_of_models_of_many_kinds(name):
    torch.manual_seed(0)
    if name in OWN:
        make, shape = OWN[name]
        model, inputs = make(), torch.randn(shape)
    elif name in TIMM:
        model = pytest.importorskip("timm").create_model(name, num_classes=10)
        inputs = torch.randn(2, 3, 224, 224)
    else:
        model = getattr(pytest.importorskip("torchvision").models, name)(num_classes=10)
        inputs = torch.randn(2, 3, 32, 32)
    groups = ov.param_groups(model, overrides={"classifier.*": "skip"} if "vgg" in name else None)
    optimizer = ov.OrthogonalSGD(groups, lr=0.01, momentum=0.9, method="fast")
    matrices = [d.name for d in groups.decisions if d.layout]
    with (
        ov.watch(model, optimizer, quantities="research", probe=inputs, layers=matrices) as monitor,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        model(inputs).square().mean().backward()
        optimizer.step()
    frame = monitor.frame().query("step == 0")
    trained = [layer for layer in matrices if model.get_parameter(layer).grad is not None]
    for stage in ("raw", "orthogonal", "momentum", "applied"):
        rows = frame[(frame.stage == stage) & (frame.quantity == "singular_values")]
        assert list(dict.fromkeys(rows.layer)) == trained
        assert rows.value.notna().all()
    assert (frame.quantity == "dead_units").any() or name == "LSTM"


# Frames and files


@pytest.fixture
def monitored():
    model = network()
    optimizer = orthogonal_sgd(model)
    with ov.watch(model, optimizer, quantities="research", probe=batch()[0], run="a", seed=4) as monitor:
        for step in range(3):
            monitor.log(loss=[0.1, float("nan"), float("-inf")][step])
            one_step(model, optimizer, step)
            monitor.epoch = step
    return monitor


def test_the_frame_is_tidy(monitored):
    frame = monitored.frame()
    assert tuple(frame.columns) == ov.monitor.COLUMNS
    for key in ("run", "optimizer", "layer", "stage", "quantity"):
        assert isinstance(frame[key].dtype, pd.CategoricalDtype)
    assert frame.step.is_monotonic_increasing
    assert frame.epoch.isna().sum() == (frame.step == 0).sum()
    assert set(frame.seed) == {4}
    assert not frame.duplicated(["step", "layer", "stage", "quantity", "index"]).any()


def test_frames_are_joined_with_their_labels():
    model = network()
    makes = {"a": plain, "b": orthogonal_sgd, "c": wrapped}
    frames = [watched(model, make(model), run=run, seed=3) for run, make in makes.items()]
    frame = ov.monitor.join(*frames)
    assert list(frame.run.unique()) == ["a", "b", "c"]
    assert [set(part.optimizer) for part in frames] == [{"SGD"}, {"orthogonal SGD"}, {"orthogonal SGD"}]
    assert isinstance(frame.layer.dtype, pd.CategoricalDtype)
    assert len(frame) == sum(map(len, frames))


def test_a_killed_run_keeps_what_it_had(tmp_path):
    script = textwrap.dedent("""
        import os, sys, signal, torch, orthoviz as ov
        model = torch.nn.Linear(5, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ov.watch(model, optimizer, every=2, stream=sys.argv[1], run="killed") as monitor:
            for step in range(100):
                optimizer.zero_grad()
                monitor.log(loss=float(step))
                model(torch.ones(2, 5)).square().sum().backward()
                optimizer.step()
                if step == 8:
                    os.kill(os.getpid(), signal.SIGKILL)
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    frame = ov.monitor.read(tmp_path / "run")
    assert sorted(set(frame[frame.stage == "raw"].step)) == [0, 2, 4, 6, 8]
    assert frame[frame.quantity == "loss"].value.tolist() == [float(i) for i in range(9)]
    assert set(frame.run) == {"killed"}
    model = network()
    with pytest.raises(ValueError, match="is not empty"):
        ov.watch(model, plain(model), stream=tmp_path / "run").start()


def test_a_stream_is_the_frame_and_does_not_stay_in_memory(tmp_path):
    frames = []
    for stream in (None, tmp_path / "run"):
        model = network()
        optimizer = plain(model)
        with ov.watch(model, optimizer, stream=stream) as monitor:
            for step in range(3):
                monitor.log(loss=one_step(model, optimizer, step))
        frames.append(monitor.frame())
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert not monitor._records


def test_a_folder_that_goes_away_ends_the_stream_and_not_the_training(tmp_path):
    model = network()
    optimizer = plain(model)
    with ov.watch(model, optimizer, stream=tmp_path / "run"):
        one_step(model, optimizer)
        (tmp_path / "run").rename(tmp_path / "elsewhere")  # no chmod would stop root
        with pytest.warns(UserWarning, match="stopped watching at step 1"):
            one_step(model, optimizer)
        one_step(model, optimizer)
    assert set(ov.monitor.read(tmp_path / "elsewhere").step) == {0}


def test_tensorboard_reads_what_was_written(monitored, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monitored.to_tensorboard(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path), {"histograms": 0}).Reload()
    scalars = events.Scalars("update_ratio/applied/0.weight")
    right = monitored.frame().query("quantity == 'update_ratio' and layer == '0.weight'")
    assert [event.step for event in scalars] == right.step.tolist()
    np.testing.assert_allclose([event.value for event in scalars], right.value, rtol=1e-6)
    assert len(events.Histograms("singular_values/raw/5.weight")) == 3


# What cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"quantities": "all"}, "'lecture', 'research', 'everything'"),
        ({"quantities": ["stable_ranks"]}, "no quantity 'stable_ranks'; there is: stable_rank"),
        ({"quantities": ["raw.dead_units"]}, r"no quantity 'raw\.dead_units'"),
        ({"layers": "conv*"}, r"'conv\*' fits no matrix; there is, for example"),
        ({"optimizer": plain(network())}, "none of the model's parameters"),
        ({"model": nn.LayerNorm(3)}, "no weight matrix"),
    ],
)
def test_what_cannot_be_watched_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ov.watch(**{"model": network(), **options})


def test_what_a_monitor_refuses():
    model = network()
    with pytest.warns(UserWarning, match="without a probe there is no dead_units, feature_cosine"):
        monitor = ov.watch(model, plain(model), quantities="research")
    with monitor, pytest.raises(RuntimeError, match="watching already"):
        monitor.start()
    with pytest.raises(ValueError, match=r"loss must be a single number, got shape \(2,\)"):
        monitor.log(loss=torch.ones(2))
    with pytest.raises(ValueError, match="stable_rank is measured by the monitor"):
        monitor.log(stable_rank=1)
