"""Nothing lost: runs that are stopped, killed, damaged, shared, or out of room."""

import functools
import itertools
import json
import os
import random
import re
import signal
import subprocess
import time
import warnings
from contextlib import nullcontext

import pandas as pd
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, StepLR

import orthoviz as ov
from orthoviz.training import checkpoints
from tests import a_run
from tests.processes import start, start_ranks
from tests.test_training import interrupted_at
from tests.weights import near


def history(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def weights(folder):
    return checkpoints.newest(folder)["model"]


def process(folder, epochs, *how):
    return start("tests.a_run", folder, epochs, *how)


def ranks(count, folder, epochs, *how):
    return start_ranks(count, "tests.a_run", folder, epochs, *how)


equal = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture
def stopping(monkeypatch):
    """Runs that a signal stops within an epoch."""

    def stopped(folder, epochs, step, number=signal.SIGINT):
        with monkeypatch.context() as m:
            m.setattr(ov, "OrthogonalSGD", interrupted_at(step, number))
            return a_run.start(folder, epochs)

    return stopped


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_stopped_run_goes_on_in_the_middle_of_an_epoch_bit_for_bit(tmp_path, stopping, number, word):
    whole = a_run.start(tmp_path / "whole", 4)
    run = stopping(tmp_path / "parts", 4, step=30, number=number)
    assert str(run.stopped) == f"{word} in epoch 2, at step 9 of 21"
    assert run.history.epoch.tolist() == [0, 1]
    run = stopping(tmp_path / "parts", 4, step=50 - 30)  # in the third epoch, of a run that went on
    assert str(run.stopped) == "interrupted in epoch 3, at step 8 of 21"
    run = a_run.start(tmp_path / "parts", 4)
    assert run.stopped is None
    columns = [c for c in run.history if c != "seconds"]
    assert run.history[columns].equals(whole.history[columns])
    assert run.history.seconds.is_monotonic_increasing
    assert history(tmp_path / "parts").equals(history(tmp_path / "whole"))
    equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    equal(run.model.state_dict(), whole.model.state_dict())


def test_a_finished_run_is_not_done_again_and_may_go_further(tmp_path):
    place = tmp_path / "run"
    first = a_run.start(place, 2)
    before = (place / "provenance.json").read_bytes()
    again = a_run.start(place, 2)
    assert again.history.equals(first.history)
    assert (place / "provenance.json").read_bytes() == before
    equal(again.model.state_dict(), first.model.state_dict())
    further = a_run.start(place, 4)
    whole = a_run.start(tmp_path / "whole", 4)
    assert further.history.test_loss.equals(whole.history.test_loss)
    assert [path.name for path in checkpoints.find(place)] == ["step-000000084.pt", "step-000000063.pt"]
    assert not list(place.rglob(".*step*"))
    with pytest.raises(ValueError, match="holds a run: go on with it"):
        a_run.start(place, 4, resume=False)
    with pytest.raises(ValueError, match=r"has seed 0, not 1: it cannot go on otherwise"):
        a_run.start(place, 4, seed=1)


def smoothed(logits, labels, by=0.1):
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=by)


CLASS, PART = torch.nn.CrossEntropyLoss(label_smoothing=0.5), functools.partial(smoothed, by=0.2)
OTHERS = {
    "orthogonalised": (dict(orthogonal=True), r"orthogonalised None, not \{'method': 'exact'"),
    "group": (dict(lr=0.02), r"groups: group 0: lr 0.003, not 0.02"),
    "loss": (dict(loss=CLASS), r"'cross_entropy', not .CrossEnt.*0.5"),
    "partial": (dict(loss=PART), r"loss 'cross_entropy', not 'smoothed\(by=0.2\)'"),
    "schedule": (dict(schedule=lambda o: StepLR(o, 4)), r"'', not 'StepLR\(step_size=4, gamma=0.1\)'"),
}


def small_run(out, epochs=1, *, orthogonal=False, lr=0.003, loss=None, schedule=None, resume=False):
    data = ov.datasets.load("digits").subset(train=128, test=50)
    model = ov.models.digits_cnn(seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    if orthogonal:
        ov.orthogonalise(optimizer, model)
    more = {"loss": loss} if loss else {}
    more |= {"scheduler": schedule(optimizer)} if schedule else {}
    return ov.training.fit(
        model, optimizer, data, epochs=epochs, batch_size=64, out=out, resume=resume, progress=False, **more
    )


@pytest.mark.parametrize("what", OTHERS)
def test_another_run_does_not_go_on_in_a_runs_folder(tmp_path, what):
    change, words = OTHERS[what]
    small_run(tmp_path / "a")
    with pytest.raises(ValueError, match=words):
        small_run(tmp_path / "a", 2, resume=True, **change)
    small_run(tmp_path / "b", **change)
    with pytest.raises(ValueError, match="it cannot go on otherwise"):
        small_run(tmp_path / "b", 2, resume=True)
    assert len(small_run(tmp_path / "b", 2, resume=True, **change).history) == 3  # the same goes on


def test_the_same_run_goes_on_in_the_process_whose_schedule_has_moved_its_rate(tmp_path):
    model = ov.models.digits_cnn(seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    data = ov.datasets.load("digits").subset(train=128, test=50)
    options = dict(batch_size=64, scheduler=StepLR(optimizer, 1, 0.5), out=tmp_path, progress=False)
    ov.training.fit(model, optimizer, data, epochs=1, **options)
    assert optimizer.param_groups[0]["lr"] < 0.1
    assert len(ov.training.fit(model, optimizer, data, epochs=2, resume=True, **options).history) == 3


@pytest.mark.parametrize(
    "make", [lambda o, n: MultiStepLR(o, [n // 2]), lambda o, n: LambdaLR(o, lambda i: 1 - i / n)]
)
def test_a_schedule_for_another_length_is_another_run(tmp_path, make):
    """A trial of two epochs, then twelve in the same folder: the milestones were those of two."""
    for epochs, words in ((2, ""), (12, "it cannot go on otherwise")):
        with pytest.raises(ValueError, match=words) if words else nullcontext():
            small_run(tmp_path, epochs, schedule=functools.partial(make, n=2 * epochs), resume=True)


def test_a_run_of_version_0_1_goes_on_unless_its_rule_was_another(tmp_path):
    """It wrote ``lr_scale`` and ``matrix`` where ``scale`` and ``layout`` stand now, and knew less."""
    file = tmp_path / "run" / "config.json"
    a_run.start(tmp_path / "run", 2)

    def with_old_names(group):
        return {{"scale": "lr_scale", "layout": "matrix"}.get(key, key): group[key] for key in group}

    old = json.loads(file.read_text())
    old = {key: old[key] for key in old if key not in ("loss", "schedule", "groups", "orthogonalised")}
    old["optimizer_options"] = with_old_names(old["optimizer_options"])
    del old["optimizer_options"]["rest"]  # it came later
    file.write_text(json.dumps(old))
    for path in checkpoints.find(tmp_path / "run"):
        state = torch.load(path, weights_only=True)
        state["optimizer"]["param_groups"] = list(map(with_old_names, state["optimizer"]["param_groups"]))
        torch.save(state, path)
    a_run.start(tmp_path / "run", 3)
    a_run.start(tmp_path / "whole", 3)
    equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    old["optimizer_options"]["order"] = "after_momentum"
    file.write_text(json.dumps(old))
    with pytest.raises(ValueError, match="weight decay went into the polar factor: run it anew"):
        a_run.start(tmp_path / "run", 4)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.full)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, kills):
    """At random moments, with a checkpoint after every step, so that many fall into writing one."""
    epochs = 2 + kills
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as the processes have, for the last bit
    a_run.start(tmp_path / "whole", epochs)
    torch.set_num_threads(threads)
    chance = random.Random(kills)
    for _ in range(kills):
        run = process(tmp_path / "parts", epochs, "every")
        assert run.stdout.readline() == "training\n"
        time.sleep(chance.uniform(0.1, 1.0))
        assert run.poll() is None, "it had ended before it could be killed: " + run.stdout.read()
        run.kill()
        run.communicate()
    output = process(tmp_path / "parts", epochs).communicate(timeout=1200)[0]
    assert output.endswith("None\n"), output
    assert history(tmp_path / "parts").equals(history(tmp_path / "whole"))
    equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("damage", ["cut short", "a bit", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, damage):
    whole = a_run.start(tmp_path / "run", 3)
    newest, before = checkpoints.find(tmp_path / "run")
    content = bytearray(newest.read_bytes())
    if damage == "a bit":
        place = content.index(whole.model[0].weight.detach().numpy().tobytes()[:16])
        content[place + 2] ^= 16  # would load, as another number
    newest.write_bytes({"cut short": content[:-100], "a bit": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=re.escape(f"{newest} is damaged")):
        run = a_run.start(tmp_path / "run", 3)
    equal(run.model.state_dict(), whole.model.state_dict())  # one epoch was trained again
    before.write_bytes(b"")
    newest.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="every checkpoint in"):
        a_run.start(tmp_path / "run", 4)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_a_sentence_and_spares_the_last_checkpoint(tmp_path):
    a_run.start(tmp_path / "run", 2)
    (newest, *_) = checkpoints.find(tmp_path / "run")
    content = newest.read_bytes()
    run = process(tmp_path / "run", 4, "limit", str(len(content) // 2))  # of a file, as a full disk would be
    output = run.communicate(timeout=1200)[0]
    assert run.returncode != 0
    assert "could not be written" in output
    assert newest.read_bytes() == content
    assert checkpoints.find(tmp_path / "run")[0] == newest
    assert a_run.start(tmp_path / "run", 3).stopped is None


@pytest.mark.slow
def test_two_runs_into_one_folder_at_once_are_refused(tmp_path):
    first = process(tmp_path / "run", 3, "slowly")
    assert first.stdout.readline() == "training\n"
    while not (tmp_path / "run" / "config.json").exists():
        time.sleep(0.05)
    with pytest.raises(ValueError, match="another run is going on in"):
        a_run.start(tmp_path / "run", 3)
    first.kill()
    first.communicate()
    assert a_run.start(tmp_path / "run", 1).stopped is None  # the system let go of the lock


def test_a_run_that_diverges_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    model, steps = ov.models.digits_cnn(seed=0), itertools.count(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def explode(optimizer, *_):
        if next(steps) == 10:
            optimizer.param_groups[0]["lr"] = float("inf")

    optimizer.register_step_pre_hook(explode)
    run = ov.training.fit(
        model, optimizer, ov.datasets.load("digits"), epochs=5, out=tmp_path / "run", progress=False
    )
    assert str(run.stopped) == (
        "the training loss became nan at step 11 (epoch 2): try a smaller learning rate"
    )
    assert len(run.history) == 3
    assert [path.name for path in checkpoints.find(tmp_path / "run")] == ["step-000000006.pt"]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_a_run_says_what_it_was(tmp_path):
    a_run.start(tmp_path / "run", 2)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"] == "digits"
    assert config["optimizer_options"]["lr"] == 0.02
    assert config["training_images"] == 1340
    about = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert about["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(about)
    scores = {f"{split}_{what}" for split in ("valid", "test") for what in ("loss", "accuracy")}
    assert set(history(tmp_path / "run")) == {"epoch", "step", "train_loss", *scores}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_goes_on_bit_for_bit(tmp_path, precision):
    whole = a_run.start(tmp_path / "whole", 3, precision=precision)
    a_run.start(tmp_path / "parts", 1, precision=precision)
    parts = a_run.start(tmp_path / "parts", 3, precision=precision)
    assert parts.history.test_loss.equals(whole.history.test_loss)
    assert whole.history.test_accuracy.iloc[-1] > 0.5
    other = a_run.start(None, 1, resume=False)
    assert not torch.equal(other.model[0].weight, whole.model[0].weight)


def test_parts_of_a_batch_give_the_step_of_the_whole(tmp_path):
    whole = a_run.start(None, 2, dropout=False, resume=False)
    parts = a_run.start(None, 2, dropout=False, resume=False, accumulate=3)
    near(whole.model, parts.model, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of a run of two epochs by so many processes, which is made once."""

    @functools.cache
    def folder(count):
        place = tmp_path_factory.mktemp("together") / "run"
        for run in ranks(count, place, 2):
            output = run.communicate(timeout=1200)[0]
            assert run.returncode == 0, output
        return place

    return folder


@pytest.mark.full
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_train_as_one(tmp_path, together, count):
    """To 1e-4: sums run in another order. 1,340 images and 360 test images, so parts are uneven."""
    one = a_run.start(tmp_path / "one", 2, dropout=False)
    several = history(together(count))
    for column in several:
        tolerance = 0 if "accuracy" in column else 1e-4
        assert several[column].to_numpy() == pytest.approx(
            one.history[column].to_numpy(), rel=tolerance, nan_ok=True
        )
    near(weights(together(count)).values(), weights(tmp_path / "one").values(), rtol=1e-3, atol=1e-4)


@pytest.mark.full
def test_several_processes_stop_after_the_same_step_and_go_on(tmp_path, together):
    first = ranks(2, tmp_path / "several", 2, "slowly")
    assert first[1].stdout.readline() == "training\n"
    while not (tmp_path / "several" / "config.json").exists():
        time.sleep(0.05)
    time.sleep(1.5)
    first[1].send_signal(signal.SIGTERM)  # the second alone is asked
    outputs = [run.communicate(timeout=1200)[0] for run in first]
    assert all("terminated in epoch 1, at step" in output for output in outputs), outputs
    for run in ranks(2, tmp_path / "several", 2):
        run.communicate(timeout=1200)
    assert history(tmp_path / "several").equals(history(together(2)))


@pytest.mark.full
def test_when_one_of_several_processes_is_killed_none_hangs(tmp_path):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
    agent = start(*torchrun, "-m", "tests.a_run", tmp_path / "run", 50, "slowly")
    while not (tmp_path / "run" / "config.json").exists():
        assert agent.poll() is None
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = agent.communicate(timeout=1200)[0]
    assert agent.returncode != 0
    assert "SIGKILL" in output or "Signal 9" in output


def test_a_checkpoint_with_something_unsafe_in_it_is_not_run(tmp_path):
    a_run.start(tmp_path / "run", 1)
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (marker.touch, ())

    torch.save({"model": Trap()}, tmp_path / "run" / "step-000000099.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        a_run.start(tmp_path / "run", 1)
    assert any("is damaged" in str(w.message) for w in caught)
    assert not marker.exists()
