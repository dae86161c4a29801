"""The view barlow: its numbers computed another way, and that its thread ends."""

import copy
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.datasets import whole
from orthoviz.training import barlow

DATA = ov.datasets.load("digits")


@pytest.fixture(scope="module")
def view():
    view = ov.widgets.barlow()
    yield view
    view.close()


def again(view, **state):
    view.set(**state)
    view.run()
    return view.state["traces"][-1]


def dimensions(model, data):
    """RankMe of the test images' embeddings by its formula, batch-norm seeing these images."""
    twin = copy.deepcopy(model).train()
    images, _ = next(iter(whole(DATA, DATA.test)))
    with torch.no_grad():
        s = np.linalg.svd(twin(images).double().numpy(), compute_uv=False)
    p = s / s.sum()
    return {"test_loss": 0.0, "test_accuracy": 0.0, "dimensions": float(np.exp(-(p * np.log(p)).sum()))}


def test_it_opens_with_a_run_whose_numbers_are_those_of_training(view):
    trace = view.state["traces"][0]
    model = barlow.twins("digits_cnn", width=32, seed=0)
    optimizer = ov.optim.OPTIMIZERS["LARS"](ov.param_groups(model, convolutions_only=True), 0.1)
    run = ov.training.fit(
        model, optimizer, barlow.TwoViews(DATA), epochs=15, batch_size=256, loss=barlow.BarlowLoss(0.05),
        evaluation=dimensions, progress=False,
    )  # fmt: skip
    assert trace.ranks[::6] == pytest.approx(run.history.dimensions.tolist(), rel=1e-3)
    assert f"span {trace.ranks[-1]:.1f} of 32 dimensions" in view._line.value
    diagonal = torch.from_numpy(trace.correlation).diagonal().mean().item()
    assert f"diagonal {diagonal:.2f}" in view._line.value
    assert diagonal > 0.5


def test_without_the_second_term_the_outputs_collapse_orthogonal_gradients_or_not(view):
    for optimizer in ("LARS", "orthogonal LARS"):
        trace = again(view, lam=0.0, optimizer=optimizer)
        C = torch.from_numpy(trace.correlation)
        off = C[~torch.eye(32, dtype=torch.bool)].square().mean().sqrt()
        assert off > 0.9 * C.diagonal().mean()  # every feature is every other
        assert trace.ranks[-1] < 2.5


def test_too_much_of_the_second_term_makes_views_differ(view):
    trace = again(view, lam=1.0, optimizer="LARS")
    assert torch.from_numpy(trace.correlation).diagonal().mean() < 0.3


def test_stop_ends_it_within_a_second_and_close_leaves_nothing():
    before = threading.active_count()
    hooks = len(nn.modules.module._global_forward_hooks)
    view = ov.widgets.barlow(epochs=1000)  # too long to run before it opens
    assert view.state["traces"] == []
    assert "Press start" in view._line.value
    view.start()
    view.start()  # one at a time
    while not (view.state["traces"] and len(view.state["traces"][0].ranks) > 3):
        time.sleep(0.02)
    began = time.monotonic()
    view.stop()
    assert time.monotonic() - began < 1
    assert view.state["status"] == "Stopped. "
    assert len(view.state["traces"]) == 1
    view.start()
    view.close()
    assert threading.active_count() == before
    assert len(nn.modules.module._global_forward_hooks) == hooks


def test_an_error_in_training_is_shown(view, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such view")

    monkeypatch.setattr("orthoviz.training.barlow.random_view", broken)
    view.run()
    assert "no such view" in view._line.value
    assert 'role="alert"' in view._line.value


def test_the_code_makes_the_state(view):
    view.set(lam=0.2, optimizer="orthogonal LARS")
    assert view._call.value.replace("&#x27;", "'") == (
        "<code>ov.widgets.barlow(lam=0.2, optimizer='orthogonal LARS')</code>"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [({"lam": 7}, "lam must be one of"), ({"optimizer": "SGD"}, "optimizer must be one of")],
)
def test_what_it_does_not_offer_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ov.widgets.barlow(**options)
