"""What lessons 00 to 02 say in their text: their own functions, run over five seeds."""

import jupytext
import pytest
import torch

import orthoviz as ov
from tests.test_project import ROOT

SEEDS = range(5)


@pytest.fixture(scope="module")
def lesson():
    """What a lesson's cells define, without the cells that show something."""

    def define(name, *wanted):
        space = {}
        for cell in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells:
            if cell.cell_type == "code" and not set(wanted) <= space.keys():
                exec(cell.source, space)
        return space

    return define


@pytest.fixture(scope="module")
def network(lesson):
    """Lesson 00's final accuracy of a rule at a rate, with or without batch-norm."""
    space = lesson("00_start_here", "train", "step", "descent")

    def final(rule, lr, seed, norm=False):
        model = ov.models.digits_mlp(seed=seed, norm=norm)
        return space["train"](model, space[rule], lr)[-1]

    return final


@pytest.mark.parametrize("seed", SEEDS)
def test_most_of_the_lead_on_digits_is_the_ruler(network, seed):
    lead = network("step", 0.02, seed) - network("descent", 0.02, seed)
    assert lead > 0.4  # by a mile
    left = network("step", 0.02, seed) - network("descent", 0.1, seed)
    assert 0.1 < left / lead < 0.4  # far less than half
    normed = network("step", 0.02, seed, norm=True) - network("descent", 0.1, seed, norm=True)
    assert abs(normed) < 0.03


def test_the_first_seed_is_as_the_lecturer_says(network):
    yours, sgd, faster = network("step", 0.02, 0), network("descent", 0.02, 0), network("descent", 0.1, 0)
    assert (yours, sgd) == (pytest.approx(0.956, abs=0.006), pytest.approx(0.483, abs=0.01))
    assert (yours - faster) / (yours - sgd) == pytest.approx(0.18, abs=0.03)


def test_the_lead_is_small_for_small_batches_and_grows():
    """The answer to lesson 00's open question."""
    source = jupytext.read(ROOT / "notebooks" / "solutions" / "00_start_here.py").cells
    space = {}
    for cell in source:
        if cell.cell_type == "code" and "for batch_size" not in cell.source:
            exec(cell.source, space)
    descend = lambda model, lr: torch.optim.SGD(model.parameters(), lr).step()  # noqa: E731
    leads = []
    for batch_size in (8, 32, 128):
        ends = [
            space["train"](ov.models.digits_mlp(seed=0), rule, 0.02, batch_size)[-1]
            for rule in (space["step"], descend)
        ]
        leads.append(ends[0] - ends[1])
    assert 0 < leads[0] < 0.05 < leads[1] < 0.2 < 0.4 < leads[2]


def hooked(change, lr, seed):
    """Final accuracy of lesson 02's network with each matrix's gradient changed."""
    model = ov.models.digits_mlp(seed=seed)
    for p in model.parameters():
        if p.ndim == 2:
            p.register_hook(change)
    data, optimizer = ov.datasets.load("digits"), torch.optim.SGD(model.parameters(), lr)
    run = ov.training.fit(model, optimizer, data, epochs=5, batch_size=128, progress=False)
    return run.history.test_accuracy.iloc[-1]


def match(gradient):
    factor = ov.polar_factor(gradient)
    return factor * gradient.norm() / factor.norm()


@pytest.mark.parametrize("seed", SEEDS)
def test_at_equal_length_the_shape_alone_brings_a_lead(seed):
    assert hooked(match, 0.8, seed) > hooked(lambda G: G, 0.8, seed)


@pytest.mark.full
def test_sgd_is_near_its_best_rate_there():
    mean = {lr: sum(hooked(lambda G: G, lr, seed) for seed in SEEDS) / 5 for lr in (0.2, 0.4, 0.8, 1.6)}
    assert mean[0.8] > max(mean.values()) - 0.005
    assert mean[1.6] < 0.3  # a larger one does not train


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shape_sets_the_order_and_the_length_the_waiting(seed):
    toy = ov.toys.DeepLinear(seed=seed)
    optimizer = ov.OrthogonalSGD(ov.param_groups(toy), lr=0.03, scale="match")
    run = ov.toys.descend(toy, optimizer, 250)
    half = [int((run[mode] >= 0.5).idxmax()) for mode in ov.plots.MODES]
    assert half == sorted(half, reverse=True)  # the strong mode last
    assert half[-1] > 100  # after a long time in which nothing moves


@pytest.mark.full
@pytest.mark.parametrize("seed", SEEDS)
def test_momentum_is_nearly_enough_on_a_quadratic(seed):
    def steps(make, limit, **options):
        toy = ov.toys.MatrixQuadratic(seed=seed)
        run = ov.toys.descend(toy, make(ov.param_groups(toy), **options), limit)
        return ov.toys.steps_until(run.error / run.error[0], high=1e-4)

    sgd = steps(torch.optim.SGD, 300, lr=3.3, momentum=0.9)
    ours = steps(ov.OrthogonalSGD, 300, lr=0.006, momentum=0.9)
    assert not steps(ov.OrthogonalSGD, 400, lr=0.01) < 2 * sgd  # or never
    assert 0.75 < ours / sgd < 1.1
