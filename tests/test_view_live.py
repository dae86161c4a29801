"""The views that train: their numbers against the training loop's, their threads, and what ends them."""

import copy
import threading
import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import orthoviz as ov
from orthoviz.plots import ORTHOGONAL, SGD
from orthoviz.training import barlow
from orthoviz.widgets import view as module
from tests.views import button, code, line, numbers, points, press, source

DATA = ov.datasets.load("digits")


@pytest.fixture
def race():
    view = ov.widgets.race(epochs=2)
    yield view
    view.close()


@pytest.fixture(params=["race", "barlow"])
def long(request):
    """A view whose work would take many minutes, so that it does not begin by itself."""
    view = getattr(ov.widgets, request.param)(epochs=10_000)
    yield view
    view.close()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "orthoviz-view"]


def wait(view, until=lambda: False):
    """Until this is so; without it, to the end of the work."""
    while view.worker.working and not until():
        time.sleep(0.01)
    assert until() or not view.worker.working


def work(view, label="start"):
    press(view, label)
    wait(view)


def ends(view):
    """Final accuracies of the finished races, by optimiser, rate and seed."""
    return view.frame().groupby(["optimizer", "lr", "seed"]).test_accuracy.last().to_dict()


class Breaks(nn.Module):
    """A network that raises an error in its third step of training, as long as there is one."""

    def __init__(self, errors):
        super().__init__()
        self.errors, self.steps, self.layer = errors, 0, nn.Linear(64, 10)

    def forward(self, images):
        self.steps += self.training
        if self.steps == 3 and self.errors:
            raise self.errors.pop()
        return self.layer(images.flatten(1))


def test_work_goes_on_until_stop(long):
    assert "Press start" in line(long)
    pictures = set()
    press(long, "start")
    press(long, "start")  # one at a time
    wait(long, lambda: pictures.add(source(long)) or len(pictures) > 3)
    assert len(threads()) == 1
    press(long, "stop")
    assert not long.worker.working
    assert line(long).startswith("Stopped")
    last = source(long)
    time.sleep(0.2)
    assert source(long) == last


def test_closing_ends_the_thread(long):
    press(long, "start")
    assert len(threads()) == 1
    long.close()
    long.worker.start()
    assert not threads()


def test_a_cell_that_runs_again_ends_its_earlier_work_and_no_other(monkeypatch):
    class Shell:
        cell, run = "a", 1

        def get_parent(self):
            return {"metadata": {"cellId": self.cell}, "header": {"msg_id": self.run}}

    shell = Shell()
    monkeypatch.setattr(module, "get_ipython", lambda: shell)
    first, beside = (ov.widgets.race(epochs=10_000) for _ in range(2))  # two in the same cell
    shell.cell = "b"
    other = ov.widgets.race(epochs=10_000)
    for view in (first, beside, other):
        press(view, "start")
    assert len(threads()) == 3
    shell.cell, shell.run = "a", 2
    again = ov.widgets.race(epochs=10_000)
    assert len(threads()) == 1
    assert other.worker.working
    for view in (again, other):
        view.close()
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_error_in_the_work_is_shown_and_the_view_can_start_again(error):
    errors = []
    view = ov.widgets.race(model=lambda seed: Breaks(errors), epochs=2)
    errors.append(error("the road is closed"))
    work(view)
    assert "the road is closed" in line(view)
    assert 'role="alert"' in view._line.value
    work(view)
    assert "Best of 2 finished races" in line(view)
    view.close()


@pytest.mark.parametrize("name", ["race", "barlow"])
def test_work_leaves_the_global_random_state_alone(name):
    view = getattr(ov.widgets, name)(epochs=1)
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    work(view)
    assert torch.equal(torch.rand(4), expected)
    view.close()


# race


def test_a_race_ends_where_the_training_loop_ends(race):
    for name, make in (("SGD", torch.optim.SGD), ("orthogonal SGD", ov.OrthogonalSGD)):
        model = ov.models.digits_cnn(seed=0)
        optimizer = make(ov.param_groups(model), lr=0.01, momentum=0.9, weight_decay=5e-4)
        run = ov.training.fit(model, optimizer, DATA, epochs=2, seed=0, progress=False)
        accuracy = run.history.test_accuracy.iloc[-1]
        assert ends(race)[name, 0.01, 0] == accuracy
        assert f"{name} at lr 0.01: {accuracy:.3f}" in line(race)


def test_races_are_kept_and_the_axis_can_be_seconds(race):
    race.set(lr_first=0.1)
    work(race)
    assert list(ends(race)) == [("SGD", 0.01, 0), ("SGD", 0.1, 0), ("orthogonal SGD", 0.01, 0)]
    assert "Best of 2 finished races: not separated by one run each" in line(race)
    steps = points(race, color=SGD, marker="None")
    assert steps.shape == (2, 2 * 13)
    race.set(axis="seconds")
    seconds = points(race, color=SGD, marker="None")
    np.testing.assert_array_equal(seconds[1], steps[1])
    assert (np.diff(seconds[0].reshape(2, 13)) > 0).all()


def test_the_score_is_a_comparisons_sentence_once_there_are_two_seeds(race):
    race.set(seed=1)
    work(race)
    right = ov.training.compare(
        lambda seed: ov.models.digits_cnn(seed=seed), DATA,
        {name: ov.optim.OPTIMIZERS[name] for name in ("SGD", "orthogonal SGD")},
        protocol="equal_lr", lrs=0.01, epochs=2, seeds=2, progress=False,
    )  # fmt: skip
    assert f"Best of 2 finished races: {right.verdict.removeprefix('equal lr: ')}." in line(race)
    theirs = right.frame[right.frame.epoch == 2].set_index(["optimizer", "lr", "seed"])
    assert ends(race) == theirs.test_accuracy.to_dict()
    assert isinstance(ov.plots.compare(race.frame(), x="step"), Figure)


@pytest.mark.parametrize("options", [dict(epochs=0), dict(batch_size=0)], ids=str)
def test_a_race_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1"):
        ov.widgets.race(**options)


def test_a_races_code_names_what_differs_from_the_default(race):
    assert code(race) == "ov.widgets.race(epochs=2)"
    press(race, "make it lose")
    assert code(race) == "ov.widgets.race(lr_first=0.1, lr_second=0.1, epochs=2)"


@pytest.mark.parametrize("name", ov.optim.OPTIMIZERS)
def test_every_optimiser_and_control_races_and_learns(name):
    view = ov.widgets.race(second=name, lr_second=0.003, epochs=1)
    frame = view.frame()
    accuracy = frame[(frame.optimizer == name) & (frame.lr == 0.003)].test_accuracy
    assert accuracy.between(0, 1).all()
    assert accuracy.max() > accuracy.iloc[0] or name in ("SGD", "norm-matched", "LARS")
    assert f"second={name!r}" in code(view) or name == "orthogonal SGD"
    assert button(view, f"lr of {name}").value == 0.003
    view.close()


def test_a_race_goes_step_by_step_and_then_on(race):
    for steps in (1, 2):
        race.worker.start(pieces=1)
        wait(race)
        assert points(race, color=ORTHOGONAL, marker="None", alpha=1.0).shape == (2, 1 + steps)
    work(race)
    assert "Best of 2 finished races" in line(race)  # the same race, to its end
    work(race, "step")
    race.worker.stop()
    assert line(race).startswith("Stopped: this race does not count")
    assert "Best of 2 finished races" in line(race)
    assert len(threads()) == 1  # for all that it did


def test_ones_own_network_races():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 10))

    view = ov.widgets.race(model=model, epochs=2, seed=3)
    network = model(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in (1, 2):
        for _ in ov.training.steps(network, optimizer, DATA, batch_size=256, seed=3, epoch=epoch):
            pass
    images, labels = next(iter(ov.datasets.whole(DATA, DATA.test)))
    expected = (network(images).argmax(1) == labels).double().mean().item()
    assert ends(view)["SGD", 0.01, 3] == pytest.approx(expected)
    assert code(view) == "ov.widgets.race(epochs=2, seed=3, model=model)"
    view.close()
    with pytest.raises(ValueError, match=r"classes|logits"):
        ov.widgets.race(model=lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


# barlow

NUMBERS = (
    r"diagonal (\S+) on average, off the diagonal (\S+) \(rms\); the features of test images span (\S+) of"
)


def dimensions(model, data):
    """RankMe of the test images' embeddings by its formula, batch-norm seeing these images."""
    twin = copy.deepcopy(model).train()
    images, _ = next(iter(ov.datasets.whole(DATA, DATA.test)))
    with torch.no_grad():
        s = np.linalg.svd(twin(images).double().numpy(), compute_uv=False)
    p = s / s.sum()
    return {"test_loss": 0.0, "test_accuracy": 0.0, "dimensions": float(np.exp(-(p * np.log(p)).sum()))}


def test_barlow_opens_with_a_run_whose_numbers_are_those_of_training():
    view = ov.widgets.barlow()
    model = barlow.twins("digits_cnn", width=32, seed=0)
    optimizer = ov.optim.OPTIMIZERS["LARS"](ov.param_groups(model, convolutions_only=True), 0.1)
    run = ov.training.fit(
        model, optimizer, barlow.TwoViews(DATA), epochs=15, batch_size=256, loss=barlow.BarlowLoss(0.05),
        evaluation=dimensions, progress=False,
    )  # fmt: skip
    steps, ranks = points(view, color=SGD)
    np.testing.assert_array_equal(steps, range(91))
    assert ranks[::6] == pytest.approx(run.history.dimensions.tolist(), rel=1e-3)
    diagonal, _, span = numbers(NUMBERS, view)
    assert span == ranks[-1].round(1)
    C = torch.from_numpy(...)
    assert diagonal > 0.5
    view.close()


@pytest.mark.parametrize("optimizer", ["LARS", "orthogonal LARS"])
def test_without_the_second_term_the_outputs_collapse_orthogonal_gradients_or_not(optimizer):
    view = ov.widgets.barlow(lam=0.0, optimizer=optimizer)
    diagonal, off, span = numbers(NUMBERS, view)
    assert off > 0.9 * diagonal  # every feature is every other
    assert span < 2.5
    assert code(view) == ...
    view.close()


def test_too_much_of_the_second_term_makes_views_differ():
    assert numbers(NUMBERS, ov.widgets.barlow(lam=1.0))[0] < 0.3
