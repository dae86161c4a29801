"""Real processes over gloo: each runs a case of tests/ranks.py."""

import os
import socket
import subprocess
import sys

import pytest
import torch

import orthoviz as ov
from orthoviz.optim.ranks import owners
from tests import ranks as cases

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def launch(case, count, result=""):
    """Run a case on so many ranks; what they print comes with a failure."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(count):
        environment = {
            **os.environ,
            **dict(RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)),
            **dict(RESULT=str(result), OMP_NUM_THREADS="1"),
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.ranks", case],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


def one_process(**options):
    model = cases.network()
    options = {"lr": 0.02, "momentum": 0.9, **options}
    cases.train(model, ov.OrthogonalSGD(ov.param_groups(model), **options), 0, 1)
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(
    ("case", "ranks", "options"),
    [
        ("shared", 1, {}),
        pytest.param("shared", 3, {}, marks=pytest.mark.full),  # one more than there are matrices
        ("after", 2, {"order": "after_momentum"}),
        ("wrapped", 2, {}),
    ],
)
def test_ranks_share_the_work_hold_the_same_bits_and_do_what_one_does(case, ranks, options, tmp_path):
    launch(case, ranks, tmp_path / "weights.pt")
    for a, b in zip(torch.load(tmp_path / "weights.pt"), one_process(**options), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_one_rank_watches_and_sees_what_one_process_sees(tmp_path):
    launch("watched", 2, tmp_path / "values.pt")
    model = cases.network()
    optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.02, momentum=0.9)
    probe = cases.batch(9, 0, 1)[0]
    with ov.watch(model, optimizer, quantities="research", probe=probe) as monitor:
        cases.train(model, optimizer, 0, 1, steps=2)
    torch.testing.assert_close(
        torch.tensor(torch.load(tmp_path / "values.pt")),
        torch.tensor(monitor.frame().value.tolist()),
        rtol=1e-3,
        atol=1e-4,
        equal_nan=True,
    )


def test_a_layer_without_a_gradient_hangs_nobody():
    launch("none", 2)


def test_ranks_with_other_parameters_are_refused():
    launch("strangers", 2)


def test_sharded_parameters_step_as_whole_ones(tmp_path):
    launch("sharded", 2, tmp_path / "weights.pt")
    right = one_process(weight_decay=1e-3, scale="rms")
    for a, b in zip(torch.load(tmp_path / "weights.pt"), right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_work_is_spread_by_cost(ranks):
    costs = [8.0, 7, 6, 5, 4, 3, 2, 1, 0.5]
    load = [0.0] * ranks
    for cost, owner in zip(costs, owners(costs, ranks), strict=True):
        load[owner] += cost
    best = max(max(costs), sum(costs) / ranks)  # no schedule can be shorter
    assert sum(load) == sum(costs)
    assert max(load) <= 4 / 3 * best  # Graham's bound for longest first
