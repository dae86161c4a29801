"""The plots: what stands in a figure against numbers computed directly, and what is refused."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

import orthoviz as ov
from tests.test_monitor import batch, orthogonal_sgd, plain, value, watched

P = ov.plots


@pytest.fixture(scope="module")
def frame():
    """Two optimisers, two seeds each, everything."""
    frames = []
    for seed in (0, 1):
        for make in (plain, orthogonal_sgd):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4))
            optimizer = make(model)
            options = {"quantities": "everything", "probe": batch(9)[0], "seed": seed}
            frames.append(watched(model, optimizer, 4, **options))
    return ov.monitor.join(*frames)


@pytest.fixture(scope="module")
def history():
    rows = [
        {"optimizer": name, "lr": lr, "seed": seed, "epoch": epoch, "batch_size": 64 if lr < 0.05 else 256,
         "train_loss": 2 - epoch * lr,
         "test_loss": 2 - epoch * lr + 0.01 * seed + 0.001 * lr * ("orth" in name),
         "test_accuracy": 0.2 + epoch * lr + 0.01 * seed + (0.2 + 0.0001 * seed) * ("orth" in name)}
        for name in ("SGD", "orthogonal SGD") for lr in (0.01, 0.1) for seed in (0, 1) for epoch in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def drawn(figure, panel=0):
    """The lines of a panel that are data, by label or colour."""
    return [line for line in figure.axes[panel].get_lines() if len(line.get_xdata()) > 2]


def title(figure):
    return figure.get_suptitle() or figure.axes[0].get_title()


STEPS = {
    "filter_cosine": ("mean_abs_cosine", "weight"),
    "feature_cosine": ("feature_cosine", "activation"),
    "dead_units": ("dead_units", "activation"),
    "rank": ("effective_rank", "raw"),
    "update_ratio": ("update_ratio", "applied"),
}


@pytest.mark.parametrize("name", STEPS)
def test_lines_are_means_over_seeds_beside_a_grey_baseline(frame, name):
    quantity, stage = STEPS[name]
    figure = getattr(P, name)(frame, layer="0.weight")
    rows = frame[(frame.quantity == quantity) & (frame.stage == stage) & (frame.layer == "0.weight")]
    right = rows.groupby(["optimizer", "step"], observed=True).value.mean()
    for line, optimizer in zip(drawn(figure), ("SGD", "orthogonal SGD"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), right[optimizer], rtol=1e-9)
        assert line.get_color() == P.COLOURS[optimizer]
    grey = [line for line in figure.axes[0].get_lines() if line.get_color() == P.RANDOM]
    assert grey
    assert "SGD" in title(figure)
    assert figure.axes[0].get_xlabel() == "step"
    assert figure.axes[0].get_ylabel()


def test_filters_are_drawn_over_the_band_of_random_ones(frame):
    ax = P.filter_cosine(frame, layer="0.weight").axes[0]
    chance = ov.measures.random_cosine(6, 18)
    (band,) = [p for p in ax.patches if p.get_alpha() == 0.3]
    low, high = band.get_extents().transformed(ax.transData.inverted()).get_points()[:, 1]
    half = 2 * chance.deviation
    assert (low, high) == pytest.approx((chance.mean - half, chance.mean + half))
    assert [text.get_text() for text in ax.texts] == ["random"]


def test_welchs_floor_is_drawn_with_the_rms_alone():
    model = nn.Linear(3, 8)
    frame = watched(model, plain(model), quantities=["weight.rms_cosine", "weight.mean_abs_cosine"])
    texts = [[t.get_text() for t in P.filter_cosine(frame, rms=rms).axes[0].texts] for rms in (True, False)]
    assert texts == [["random", "Welch's floor"], ["random"]]


def test_every_layer_gets_a_panel_and_of_many_six_evenly_spaced(frame):
    assert len(P.filter_cosine(frame).axes) == 2
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(11)))
    figure = P.filter_cosine(watched(model, plain(model)))
    assert [ax.get_title() for ax in figure.axes] == [f"{i}.weight" for i in (0, 2, 4, 6, 8, 10)]
    assert "6 of 11 layers" in title(figure)


def test_any_quantity_over_steps_or_epochs(frame):
    loss = frame[frame.quantity == "loss"]
    figure = P.over_steps(loss)
    right = loss.groupby(["optimizer", "step"], observed=True).value.mean()
    np.testing.assert_allclose(drawn(figure)[0].get_ydata(), right["SGD"], rtol=1e-9)
    assert title(figure).startswith("Loss (nats) at the end: SGD")


def test_a_single_panel_can_be_drawn_on_given_axes(frame, history):
    before = plt.get_fignums()
    calls = [
        lambda ax: P.filter_cosine(frame, layer="0.weight", ax=ax),
        lambda ax: P.over_steps(frame, "loss", ax=ax),
        lambda ax: P.lr_flatness(history, ax=ax),
        lambda ax: P.compare(history, ax=ax),
        lambda ax: P.stage_spectra(one(frame), ax=ax),
        lambda ax: P.gain_per_direction(torch.eye(4), torch.randn(4, 4), ax=ax),
        lambda ax: P.paper_figure("batch_size", history, ax=ax),
    ]
    for call in calls:
        figure, (left, right) = P.new_figure(8, 3, (1, 1))
        assert call(left) is figure
        assert left.has_data()
        assert left.get_title()
        assert not right.has_data()
    assert plt.get_fignums() == before  # figures stay out of pyplot's memory


def one(frame):
    return frame[(frame.optimizer == "orthogonal SGD") & (frame.seed == 0)]


def test_a_waterfall_is_the_spectrum_relative_to_its_largest(frame):
    figure = P.spectra(one(frame), layer="0.weight")
    first = value(one(frame), "singular_values", "raw")
    np.testing.assert_allclose(drawn(figure)[0].get_ydata(), first / first[0], rtol=1e-9)
    image = figure.axes[1].get_images()[0].get_array()
    np.testing.assert_allclose(image[:, 0], np.log10(first / first[0]), atol=1e-6)
    (gaussian,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "random matrix"]
    assert gaussian.get_color() == P.RANDOM
    energy = np.cumsum(first**2) / (first**2).sum()
    assert f"half of the energy in {int((energy < 0.5).sum()) + 1} of 6" in title(figure)


def test_of_a_layer_with_several_matrices_the_first_is_drawn():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4))
    optimizer = plain(model)
    with ov.watch(model, optimizer, quantities=["singular_values"]) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 4, 5, 5)).square().mean().backward()
            if step == 0:
                first = model[0].weight.grad[:3].flatten(1).double()
            optimizer.step()
    data = monitor.frame()
    right = torch.linalg.svdvals(first).numpy()
    for figure in (P.spectra(data, layer="0.weight"), P.stage_spectra(data, layer="0.weight", step=0)):
        assert drawn(figure)[0].get_ydata() == pytest.approx(right / right[0], rel=1e-5)
        assert "first of 2 matrices" in title(figure)


def test_runs_without_seeds_have_a_band_too(history):
    rows = history[history.lr == 0.1].drop(columns="seed")
    rows = rows.assign(run=history[history.lr == 0.1].seed.astype(str))
    figure = P.compare(rows)
    assert len(figure.axes[0].collections) == 2  # one a hue


def test_the_marks_of_the_momentum_meter(frame):
    lines = P.stage_spectra(one(frame), layer="0.weight", step=2, momentum=0.9).axes[0].get_lines()
    heights = sorted(line.get_ydata()[0] for line in lines if line.get_color() == P.RANDOM)
    np.testing.assert_allclose(heights, [1, 1 / math.sqrt(1 - 0.81), 10], rtol=1e-9)
    (buffer,) = [line for line in lines if line.get_label() == "momentum"]
    right = value(one(frame), "singular_values", "momentum", 2)
    np.testing.assert_allclose(buffer.get_ydata(), right, rtol=1e-9)


def test_clustering_puts_alike_rows_side_by_side():
    a, b = torch.randn(2, 30)
    noise = 0.01 * torch.randn(4, 30)
    W = torch.stack([a, b, a, -b]) + noise
    image = P.cosine_matrix(W, cluster=True).axes[0].get_images()[0].get_array()
    assert abs(image[0, 1]) > 0.9
    assert abs(image[2, 3]) > 0.9
    plain_order = P.cosine_matrix(W).axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(plain_order, ov.measures.cosine_matrix(W), atol=1e-6)


def test_likeness_of_layers_stands_beside_chance():
    X, Y = torch.randn(60, 5), torch.randn(60, 8)
    figure = P.cka_matrix({"x": X, "y": Y}, {"x": X, "z": Y + 0.1})
    own, chance = (ax.get_images()[0].get_array() for ax in figure.axes[:2])
    assert own[0, 0] == pytest.approx(1)
    assert own[1, 1] == pytest.approx(1)
    assert own[0, 1] == pytest.approx(ov.measures.minibatch_cka([(X, Y + 0.1)]).item())
    assert np.abs(chance).max() < 0.2


def test_the_gain_of_each_direction_beside_the_gradient_stretched_to_the_factors_length():
    G = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0]))
    figure = P.gain_per_direction({"exact": ov.polar_factor(G), "half": ov.polar_factor(G) / 2}, G)
    by_label = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(by_label["exact"].get_ydata(), 1, rtol=1e-6)
    np.testing.assert_allclose(by_label["half"].get_ydata(), 0.5, rtol=1e-6)
    stretched = np.array([4, 2, 1]) * math.sqrt(3 / 21)
    np.testing.assert_allclose(by_label["gradient, stretched"].get_ydata(), stretched, rtol=1e-6)


def test_a_gallery_shows_every_filter_once():
    weight = torch.randn(7, 3, 2, 2)
    sheet = P.filters(weight).axes[0].get_images()[0].get_array()
    shown = sheet.shape[0] * sheet.shape[1] - (np.asarray(sheet) == 1).all(-1).sum()
    assert shown == 7 * 4
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        P.filters(torch.ones(3, 4))


def test_better_is_said_only_where_pairs_are_apart(history):
    small = history[history.lr == 0.01]
    assert title(P.compare(small)).startswith("Orthogonal SGD better: orthogonal SGD 0.425, SGD 0.225")
    mixed = small.assign(test_accuracy=small.test_accuracy.where(small.seed == 0, 0.9 - small.test_accuracy))
    assert title(P.compare(mixed)).startswith("Not separated")
    assert "one run each" in title(P.compare(small[small.seed == 0]))
    one_each = history[history.seed == 0].rename(columns={"lr": "hue"})
    assert title(P.compare(one_each, "test_loss", hue="hue")).startswith("0.1 better")


def test_each_is_compared_with_the_first(history):
    first, second = (
        history[(history.lr == 0.01) & (history.optimizer == name)] for name in ("SGD", "orthogonal SGD")
    )
    wild = first.assign(optimizer="wild", test_accuracy=first.test_accuracy.where(first.seed == 0, 0.9))
    low = first.assign(optimizer="low", test_accuracy=0.1)
    best = second.assign(test_accuracy=0.8 + second.seed / 1e4)
    words = title(P.compare(pd.concat([best, wild, low])))
    assert words.startswith("Low worse than orthogonal SGD, wild not separated from orthogonal SGD")


def test_a_best_rate_at_the_end_of_its_grid_is_hollow():
    def hollow(best):
        rows = [
            (name, lr, seed, 0.9 - 0.1 * (lr != best[name]))
            for name in best for lr in (0.1, 0.2, 0.4) for seed in range(2)
        ]  # fmt: skip
        table = pd.DataFrame(rows, columns=["optimizer", "lr", "seed", "test_accuracy"])
        panel = P.lr_flatness(table).axes[0]
        found = [tuple(line.get_xdata()) for line in panel.lines if line.get_markerfacecolor() == "white"]
        return found, "hollow" in panel.get_xlabel()

    assert hollow({"SGD": 0.2, "AdamW": 0.2}) == ([], False)
    assert hollow({"SGD": 0.4, "AdamW": 0.2}) == ([(0.4,)], True)


def test_steps_of_one_run_are_no_seeds(frame):
    loss = frame[(frame["quantity"] == "loss") & (frame.seed == 0)].assign(epoch=0)
    assert "one run each" in title(P.compare(loss, "loss"))
    with pytest.raises(ValueError, match="values of stage"):
        P.compare(frame, "stable_rank", x="step")


def test_by_seconds_every_run_ends_at_its_own_time(history):
    small = history[history.lr == 0.01]
    timed = small.assign(seconds=small.epoch * (1 + 0.1 * small.seed))
    assert title(P.compare(timed, x="seconds")) == title(P.compare(small))


def test_a_rate_that_diverged_early_is_still_drawn(history):
    diverged = history[(history.lr == 0.1) & (history.epoch < 2)].assign(lr=10.0, test_accuracy=0.1)
    figure = P.lr_flatness(pd.concat([history, diverged]))
    assert drawn(figure)[0].get_xdata().tolist() == [0.01, 0.1, 10]


def test_flatness_and_curves_name_their_best(history):
    assert "orthogonal SGD 0.605 (lr 0.1) … SGD 0.405 (lr 0.1)" in title(P.lr_flatness(history))
    assert P.training_curves(history, hue="lr").axes
    figure = P.training_curves(history[history.lr == 0.1])
    assert len(figure.axes) == 2
    assert "SGD 0.405" in title(figure)


WATCHED = ("filter_cosine", "feature_cosine", "dead_parameters")


@pytest.mark.parametrize("name", ["speedup", "imagenet", "barlow", "batch_size", *WATCHED])
def test_the_papers_figures(frame, history, name):
    runs = history if name == "batch_size" else history[history.lr == 0.1]
    assert P.paper_figure(name, frame if name in WATCHED else runs).axes[0].has_data()


def test_names_keep_their_look_and_others_differ():
    look = P.look(["SGD", "orthogonal SGD", "Adam", "SGD, lr 0.1"])
    assert look["palette"]["SGD"] == P.SGD
    assert len({str(v) for v in look["palette"].values()}) == 4
    assert len({str(v) for v in look["dashes"].values()}) == 4
    assert len(P.look([f"run {i}" for i in range(9)])["palette"]) == 9
    look = P.look(["AdamW", "Muon's order", "SWAN"])
    assert len({(look["palette"][name], look["dashes"][name]) for name in look["palette"]}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, h: P.over_steps(f, "nonsense"), "no nonsense in the frame; there is: .*mean_abs_cosine"),
        (lambda f, h: P.filter_cosine(f, layer="conv"), "layer 'conv' in the frame; there is: 0.weight, 3"),
        (lambda f, h: P.over_steps(f, "stable_rank"), "5 values of stage, .*: choose one with stage="),
        (lambda f, h: P.over_steps(f), "choose one with quantity="),
        (lambda f, h: P.filter_cosine(f, ax=P.new_figure(3, 3)[1][0]), "ax takes one layer"),
        (lambda f, h: P.spectra(f), "several runs"),
        (lambda f, h: P.stage_spectra(one(f), step=99), "step must be one of 0, 1, 2, 3, got 99"),
        (lambda f, h: P.paper_figure("figure 1", h), "name must be one of speedup"),
        (lambda f, h: P.filter_cosine(f.drop(columns="optimizer")), "needs a column optimizer"),
        (lambda f, h: P.filter_cosine(h), "needs a column quantity, value, layer, stage"),
    ],
)
def test_what_cannot_be_drawn_is_refused(frame, history, call, words):
    with pytest.raises(ValueError, match=words):
        call(frame, history)
