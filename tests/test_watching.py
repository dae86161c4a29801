"""Models and loops of many kinds under watch, and what cannot be watched."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from torch import nn

import orthoviz as ov
from tests.test_monitor import backward, batch, network, one_step, orthogonal_sgd, pair, plain, value, watched


@pytest.mark.parametrize("how", ["whole", "in place"])
def test_a_compiled_model_is_watched_like_the_model(how):
    options = {"quantities": "research", "probe": batch(3)[0]}
    right = watched(*pair(orthogonal_sgd), 3, **options)
    model, optimizer = pair(orthogonal_sgd)
    if how == "whole":
        model = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
    pd.testing.assert_frame_equal(watched(model, optimizer, 3, **options), right)


@pytest.mark.slow
def test_a_compiled_step_is_watched_too():
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 4))  # a small one compiles fast
    optimizer = orthogonal_sgd(model, method="newton_schulz")
    compiled = torch.compile(one_step, backend="eager")
    frame = watched(model, optimizer, 3, compiled, quantities=["raw.singular_values"])
    assert sorted(set(frame[frame.stage == "raw"].step)) == [0, 1, 2]


def test_shared_skipped_and_frozen_layers():
    shared, frozen, skipped = (nn.Linear(4, 4) for _ in range(3))
    model = nn.Sequential(shared, nn.ReLU(), shared, frozen.requires_grad_(False), skipped)
    optimizer = plain(model)
    with ov.watch(model, optimizer, quantities=["stable_rank"]) as monitor:
        model[:4](torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
    frame = monitor.frame().query("quantity == 'stable_rank' and step == 0")
    layers = {stage: set(rows.layer) for stage, rows in frame.groupby("stage", observed=True)}
    assert layers["weight"] == {"0.weight", "3.weight", "4.weight"}
    assert layers["raw"] == layers["applied"] == {"0.weight"}


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
    model, optimizer = pair()
    with ov.watch(model, optimizer, quantities=["weight.stable_rank", "update_ratio"]) as monitor:
        monitor.collect()  # before the step that would measure the same weights
        one_step(model, optimizer)
        monitor.collect()
        monitor.collect()  # and the end of the block asks once more
    frame = monitor.frame()
    assert not frame.duplicated(["step", "layer", "stage", "quantity", "index"]).any()
    assert (frame.quantity == "stable_rank").sum() == 2 * 3  # before and after, three matrices
    assert (frame.quantity == "update_ratio").sum() == 3


def test_gradients_are_left_out_of_a_step_that_was_orthogonalised_while_watched():
    model, optimizer = pair()
    with ov.watch(model, optimizer, quantities=["raw.singular_values"]) as monitor:
        one_step(model, optimizer)
        ov.orthogonalise(optimizer, model)  # the monitor asked for no stage of step 1
        with pytest.warns(UserWarning, match="step 1's gradients were polar factors already"):
            one_step(model, optimizer)
        one_step(model, optimizer)
    frame = monitor.frame().query("quantity == 'singular_values'")
    assert set(frame.step) == {0, 2}
    assert frame.value.std() > 0.01  # polar factors would give ones


def test_numbers_are_kept_as_they_were():
    model, optimizer = pair()
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
    right = {"counter": [0, 1, 2], "exact": [0.1] * 3, "large": [2**24 + 1] * 3, "loss": [np.inf] * 3}
    assert {name: logged[name] for name in right} == right
    assert np.isnan(logged["stable_rank"]).all()
    assert value(frame, "rows", "weight").tolist() == [6]  # once, although a frame was made before


def test_fit_tells_the_monitor_loss_and_epoch():
    data = ov.datasets.load("digits").subset(120, 40)
    model = ov.models.digits_cnn(seed=0)
    optimizer = orthogonal_sgd(model)
    options = {"epochs": 2, "batch_size": 60, "progress": False}
    with ov.watch(model, optimizer, every=2) as monitor:
        run = ov.training.fit(model, optimizer, data, monitor=monitor, **options)
    frame = monitor.frame()
    losses = frame[frame.quantity == "loss"]
    assert losses.step.tolist() == [0, 1, 2, 3]
    assert losses.epoch.tolist() == [0, 0, 1, 1]
    means = losses.groupby("epoch").value.mean()
    np.testing.assert_allclose(means, run.history.train_loss[1:], rtol=1e-6)
    weights = frame[(frame.quantity == "mean_abs_cosine") & (frame.layer == "0.weight")]
    assert list(zip(weights.step, weights.epoch, strict=True)) == [(0, 0), (2, 1), (4, 2)]


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def transposed():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, stride=2)
    )


TORCHVISION = ("vgg11", "resnet18", "densenet121", "regnet_x_400mf", "mobilenet_v2")
TIMM = ("vit_tiny_patch16_224", "mixer_s32_224")
SHAPES = {
    transposed: (2, 3, 16, 16),
    Reader: (2, 7, 5),
    **dict.fromkeys(TORCHVISION, (2, 3, 32, 32)),
    **dict.fromkeys(TIMM, (2, 3, 224, 224)),
}
LONG = ("resnet18", "vit_tiny_patch16_224", "vgg11", "mixer_s32_224", "regnet_x_400mf", "densenet121")
MARKS = {kind: pytest.mark.full if kind in LONG else pytest.mark.slow for kind in SHAPES}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=MARKS[kind]) for kind in SHAPES],
    ids=lambda kind: getattr(kind, "__name__", kind),
)
def test_a_step_of_models_of_many_kinds(kind):
    torch.manual_seed(0)
    if kind in TIMM:
        model = pytest.importorskip("timm").create_model(kind, num_classes=10)
    else:
        model = torchvision.models.get_model(kind, num_classes=10) if kind in TORCHVISION else kind()
    inputs = torch.randn(SHAPES[kind])
    groups = ov.param_groups(model, overrides={"classifier.*": "skip"} if kind == "vgg11" else None)
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
    assert (frame.quantity == "dead_units").any() or kind is Reader


def test_a_monitor_is_started_once_and_says_what_it_cannot_measure():
    model, optimizer = pair()
    with pytest.warns(UserWarning, match="without a probe there is no dead_units, feature_cosine"):
        monitor = ov.watch(model, optimizer, quantities="research")
    with monitor, pytest.raises(RuntimeError, match="watching already"):
        monitor.start()
