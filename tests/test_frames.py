"""Frames, and the files that a monitor streams them to."""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

import orthoviz as ov
from tests.test_monitor import batch, monitored, one_step, orthogonal_sgd, pair, watched, wrapped


@pytest.fixture
def monitor():
    model, optimizer = pair(orthogonal_sgd)
    with ov.watch(model, optimizer, quantities="research", probe=batch()[0], run="a", seed=4) as monitor:
        for step in range(3):
            monitor.log(loss=[0.1, float("nan"), float("-inf")][step])
            one_step(model, optimizer, step)
            monitor.epoch = step
    return monitor


def test_frames_are_tidy_and_are_joined_with_their_labels(monitor):
    frames = [monitor.frame(), watched(*pair(), run="b"), watched(*pair(wrapped), run="c")]
    for frame in (frames[0], ov.monitor.join(*frames)):
        assert tuple(frame.columns) == ov.monitor.COLUMNS
        for key in ("run", "optimizer", "layer", "stage", "quantity"):
            assert isinstance(frame[key].dtype, pd.CategoricalDtype)
        assert not frame.duplicated(["run", "step", "layer", "stage", "quantity", "index"]).any()
    assert frames[0].step.is_monotonic_increasing
    assert frames[0].epoch.isna().sum() == (frames[0].step == 0).sum()
    assert set(frames[0].seed) == {4}
    names = frame.groupby("run", observed=True).optimizer.unique().map(list)
    assert names.to_dict() == {"a": ["orthogonal SGD"], "b": ["SGD"], "c": ["orthogonal SGD"]}
    assert len(frame) == sum(map(len, frames))


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="is not empty"):
        ov.watch(*pair(), stream=tmp_path / "run").start()


def test_a_stream_is_the_frame_and_does_not_stay_in_memory(tmp_path):
    kept, streamed = (monitored(*pair(), 3, stream=stream) for stream in (None, tmp_path / "run"))
    pd.testing.assert_frame_equal(kept.frame(), streamed.frame(), check_exact=True)
    assert kept.recorder.records
    assert not streamed.recorder.records


def test_a_folder_that_goes_away_ends_the_stream_and_not_the_training(tmp_path):
    model, optimizer = pair()
    with ov.watch(model, optimizer, stream=tmp_path / "run"):
        one_step(model, optimizer)
        (tmp_path / "run").rename(tmp_path / "elsewhere")  # no chmod would stop root
        with pytest.warns(UserWarning, match="stopped watching at step 1"):
            one_step(model, optimizer)
        one_step(model, optimizer)
    assert set(ov.monitor.read(tmp_path / "elsewhere").step) == {0}


def test_tensorboard_reads_what_was_written(monitor, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monitor.to_tensorboard(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path), {"histograms": 0}).Reload()
    scalars = events.Scalars("update_ratio/applied/0.weight")
    right = monitor.frame().query("quantity == 'update_ratio' and layer == '0.weight'")
    assert [event.step for event in scalars] == right.step.tolist()
    np.testing.assert_allclose([event.value for event in scalars], right.value, rtol=1e-6)
    assert len(events.Histograms("singular_values/raw/5.weight")) == 3
