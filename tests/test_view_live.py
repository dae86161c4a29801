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
from tests.views import code, line, numbers, points, press, source

pytestmark = pytest.mark.slow

DATA = ov.datasets.load("digits")


@pytest.fixture
def race():
    view = ov.widgets.race(epochs=2)
    yield view
    view.close()


def endless(name):
    """A view whose work would take very long, so that it does not begin by itself."""
    return getattr(ov.widgets, name)(epochs=10_000)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "orthoviz-view"]


def work(view, label="start", until=lambda: False):
    """Press a button and wait until something is so, or to the end of the work."""
    press(view, label)
    while view.worker.working and not until():
        time.sleep(0.01)


def ends(view):
    """Final accuracies of the finished races, by optimiser, rate and seed."""
    return view.frame().groupby(["optimizer", "lr", "seed"]).test_accuracy.last().to_dict()


@pytest.mark.parametrize("name", ["race", "barlow"])
def test_work_goes_on_until_stop_and_closing_ends_the_thread(name):
    view, pictures = endless(name), set()
    assert line(view).startswith("Press start")
    torch.manual_seed(0)
    press(view, "start")
    work(view, until=lambda: pictures.add(source(view)) or len(pictures) > 3)  # one at a time
    assert view.worker.working
    assert len(threads()) == 1
    press(view, "stop")
    assert not view.worker.working
    assert line(view).startswith("Stopped")
    press(view, "start")
    view.close()
    view.worker.start()
    assert not threads()
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(0)))


def test_a_cell_that_runs_again_ends_its_earlier_work_and_no_other(monkeypatch):
    class Shell:
        cell, run = "a", 1

        def get_parent(self):
            return {"metadata": {"cellId": self.cell}, "header": {"msg_id": self.run}}

    shell = Shell()
    monkeypatch.setattr(module, "get_ipython", lambda: shell)
    first, beside = endless("race"), endless("barlow")  # two in the same cell
    shell.cell = "b"
    other = endless("race")
    for view in (first, beside, other):
        press(view, "start")
    assert len(threads()) == 3
    shell.cell, shell.run = "a", 2
    again = endless("race")
    assert (len(threads()), other.worker.working) == (1, True)
    for view in (again, other):
        view.close()
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_error_in_the_work_is_shown_and_the_view_can_start_again(error):
    errors = []

    class Breaks(nn.Flatten):
        def forward(self, images):
            if errors:
                raise errors.pop()
            return super().forward(images)

    view = ov.widgets.race(model=lambda seed: nn.Sequential(Breaks(), nn.Linear(64, 10)), epochs=2)
    errors.append(error("the road is closed"))
    work(view)
    assert "the road is closed" in line(view)
    assert 'role="alert"' in view._line.value
    work(view)
    assert "Best of 2 finished races" in line(view)
    view.close()


def test_races_are_kept_and_the_axis_can_be_seconds(race):
    race.set(lr_first=0.1)
    work(race)
    assert code(race) == "ov.widgets.race(lr_first=0.1, epochs=2)"
    assert list(ends(race)) == [("orthogonal_sgd", 0.01, 0), ("sgd", 0.01, 0), ("sgd", 0.1, 0)]
    assert "Best of 2 finished races: not separated by one run each" in line(race)
    steps = points(race, color=SGD, marker="None")
    np.testing.assert_array_equal(steps[0], [*range(13)] * 2)
    race.set(axis="seconds")
    seconds = points(race, color=SGD, marker="None")
    np.testing.assert_array_equal(seconds[1], steps[1])
    assert (np.diff(seconds[0].reshape(2, 13)) > 0).all()


def test_races_end_and_the_score_reads_as_in_a_comparison(race):
    race.set(seed=1)
    work(race)
    makers = {name: ov.optim.OPTIMIZERS[name] for name in ("sgd", "orthogonal_sgd")}
    how = dict(protocol="equal_lr", lrs=0.01, epochs=2, seeds=2, progress=False)
    right = ov.training.compare(lambda seed: ov.models.digits_cnn(seed=seed), DATA, makers, **how)
    theirs = right.frame[right.frame.epoch == 2].set_index(["optimizer", "lr", "seed"]).test_accuracy
    assert ends(race) == theirs.to_dict()
    assert f"SGD at lr 0.01: {theirs['sgd', 0.01, 1]:.3f} against orthogonal SGD at lr 0.01: " in line(race)
    assert f"Best of 2 finished races: {right.verdict.removeprefix('equal lr: ')}." in line(race)
    assert isinstance(ov.plots.compare(race.frame(), x="step"), Figure)


def test_a_race_goes_step_by_step_and_then_on(race):
    for steps in (1, 2):
        work(race, "step")
        assert points(race, color=ORTHOGONAL, marker="None", alpha=1.0).shape == (2, 1 + steps)
    work(race)
    assert "Best of 2 finished races" in line(race)  # the same race, to its end
    race.worker.start(pieces=1)
    race.worker.stop()
    assert line(race).startswith("Stopped: this race does not count. ")
    assert "Best of 2 finished races" in line(race)
    assert len(threads()) == 1  # for all that it did


SHORT = ("orthogonal_sgd", "lars")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SHORT else pytest.mark.full) for n in ov.optim.OPTIMIZERS]
)
def test_every_optimiser_and_control_races_and_learns(name):
    view = ov.widgets.race(second=name, lr_second=0.003, epochs=1)
    accuracy = view.frame().query("optimizer == @name and lr == 0.003").test_accuracy
    assert accuracy.between(0, 1).all()
    assert accuracy.max() > accuracy.iloc[0] or name in ("sgd", "matched", "lars")
    assert f"second={name!r}" in code(view) or name == "orthogonal_sgd"
    assert view._inputs["lr_second"].description == f"lr of {ov.optim.LABELS[name]}"
    view.close()


def test_ones_own_network_races():
    def model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 10))

    view, network = ov.widgets.race(model=model, epochs=1, seed=3), model(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in ov.training.steps(network, optimizer, DATA, batch_size=256, seed=3, epoch=1):
        pass
    assert ends(view)["sgd", 0.01, 3] == ov.training.evaluate(network, DATA)["test_accuracy"]
    assert code(view) == "ov.widgets.race(epochs=1, seed=3, model=model)"
    view.close()


def dimensions(model, data):
    """RankMe of the test images' embeddings by its formula, batch-norm seeing these images."""
    images, _ = next(iter(ov.datasets.in_order(DATA, DATA.test)))
    with torch.no_grad():
        s = np.linalg.svd(copy.deepcopy(model).train()(images).double().numpy(), compute_uv=False)
    p = s / s.sum()
    return {"test_loss": 0.0, "test_accuracy": 0.0, "dimensions": float(np.exp(-(p * np.log(p)).sum()))}


def test_barlow_opens_with_a_run_whose_numbers_are_those_of_training():
    view = ov.widgets.barlow(epochs=4)
    model = barlow.twins("digits_cnn", width=32, seed=0)
    optimizer = ov.optim.OPTIMIZERS["lars"](ov.param_groups(model, convolutions_only=True), 0.1)
    how = dict(epochs=4, batch_size=256, loss=barlow.BarlowLoss(0.05), evaluation=dimensions, progress=False)
    run = ov.training.fit(model, optimizer, barlow.TwoViews(DATA), **how)
    steps, ranks = points(view, color=SGD)
    np.testing.assert_array_equal(steps, range(25))
    assert ranks[::6] == pytest.approx(run.history.dimensions.tolist(), rel=1e-3)
    C = view._canvas.figure.axes[0].images[0].get_array()
    off = np.sqrt((C[~np.eye(32, dtype=bool)] ** 2).mean())
    assert f"diagonal {C.diagonal().mean():.2f} on average, off the diagonal {off:.2f} (rms)" in line(view)
    assert C.diagonal().mean() > 0.5
    assert f"span {ranks[-1]:.1f} of 32 dimensions, {ranks[0]:.1f} before training" in line(view)
    view.close()


@pytest.mark.full
@pytest.mark.parametrize("optimizer", ["lars", "orthogonal_lars"])
def test_without_the_second_term_the_outputs_collapse_and_too_much_of_it_makes_views_differ(optimizer):
    said = r"diagonal (\S+) on average, off the diagonal (\S+) \(rms\); .* span (\S+) of 32 dimensions"
    view = ov.widgets.barlow(lam=0.0, optimizer=optimizer)
    diagonal, off, span = numbers(said, view)
    assert off > 0.9 * diagonal  # every feature is every other
    assert span < 2.5
    press(view, "too much of it")
    work(view)
    assert numbers(said, view)[0] < 0.3
    assert "lam=1" in code(view)
    view.close()
