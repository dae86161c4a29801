"""Real processes over gloo: they run the cases of tests/ranks.py."""

import pytest
import torch

import orthoviz as ov
from orthoviz.optim.ranks import owners
from orthoviz.training.barlow import barlow_loss
from tests import ranks as cases
from tests.processes import start_ranks
from tests.test_barlow import embeddings
from tests.weights import near

CLOSE = dict(rtol=1e-4, atol=1e-5)
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def launch(folder, count, *cases):
    """Run cases on so many ranks, one after the other; what they print comes with a failure."""
    processes = start_ranks(count, "tests.ranks", folder, *cases)
    try:
        outputs = [process.communicate(timeout=1200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return {case: torch.load(folder / f"{case}.pt") for case in cases if (folder / f"{case}.pt").exists()}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two ranks find, by case.

    They also check by themselves: all hold the same bits, each works on its part of the matrices, a layer
    without a gradient hangs nobody, ranks with other parameters are refused.
    """
    cases = ("after", "wrapped", "watched", "barlow", "none", "strangers")
    return launch(tmp_path_factory.mktemp("ranks"), 2, *cases)


def one_process(**options):
    model = cases.network()
    options = {"lr": 0.02, "momentum": 0.9, **options}
    cases.train(model, ov.OrthogonalSGD(ov.param_groups(model), **options), 0, 1)
    return [p.detach() for p in model.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "options"), [("after", {"order": "after_momentum"}), ("wrapped", {})])
def test_two_ranks_do_what_one_process_does(found, case, options):
    near(found[case], one_process(**options), **CLOSE)


@pytest.mark.full
@pytest.mark.parametrize("ranks", [1, 3])  # three are one more than there are matrices
def test_one_rank_and_three_do_what_one_process_does(ranks, tmp_path):
    near(launch(tmp_path, ranks, "shared")["shared"], one_process(), **CLOSE)


@pytest.mark.slow
def test_one_rank_watches_and_sees_what_one_process_sees(found):
    model = cases.network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9)
    probe = cases.batch(9, 0, 1)[0]
    with ov.watch(model, optimizer, quantities="research", probe=probe) as monitor:
        cases.train(model, optimizer, 0, 1, steps=2)
    values, right = torch.tensor(found["watched"]), torch.tensor(monitor.frame().value.tolist())
    torch.testing.assert_close(values, right, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.slow
def test_two_ranks_have_the_barlow_loss_and_gradient_of_one_process(found):
    loss, gradient = found["barlow"]
    torch.manual_seed(0)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    first, second = embeddings(count=12, size=5)
    right = barlow_loss(first @ weight, second @ weight, lam=0.1)
    right.backward()
    assert loss == pytest.approx(right.item(), rel=1e-9)
    torch.testing.assert_close(gradient, weight.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.full
def test_sharded_parameters_step_as_whole_ones(tmp_path):
    near(launch(tmp_path, 2, "sharded")["sharded"], one_process(weight_decay=1e-3, scale="rms"), **CLOSE)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_work_is_spread_by_cost(ranks):
    costs = [8.0, 7, 6, 5, 4, 3, 2, 1, 0.5]
    load = [0.0] * ranks
    for cost, owner in zip(costs, owners(costs, ranks), strict=True):
        load[owner] += cost
    best = max(max(costs), sum(costs) / ranks)  # no schedule can be shorter
    assert sum(load) == sum(costs)
    assert max(load) <= 4 / 3 * best  # Graham's bound for longest first
