import copy
import itertools
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import orthoviz as ov
from orthoviz.cli import main
from tests.weights import same


@pytest.fixture(scope="module")
def digits():
    return ov.datasets.load("digits")


def trained(data, seed=0, make=ov.OrthogonalSGD, lr=0.01, epochs=2, **options):
    model = ov.models.digits_cnn(seed=seed)
    optimizer = make(ov.param_groups(model), lr=lr, momentum=0.9, weight_decay=5e-4)
    return ov.training.fit(model, optimizer, data, epochs=epochs, seed=seed, progress=False, **options)


def test_it_does_what_a_plain_loop_does(digits):
    run = trained(digits, make=torch.optim.SGD)
    model = ov.models.digits_cnn(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    assert run.history.epoch.tolist() == [0, 1, 2]
    assert run.history.step.tolist() == [0, 6, 12]
    assert run.history.train_loss.isna().tolist() == [True, False, False]
    assert run.history.seconds.is_monotonic_increasing
    losses = []
    for epoch in (1, 2):
        for images, labels in ov.datasets.batches(digits, 256, seed=0, epoch=epoch):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert run.history.train_loss.iloc[2] == pytest.approx(np.mean(losses[6:]), rel=1e-5)
    model.eval()
    mean, std = digits.mean[0] * 255, digits.std[0] * 255
    with torch.no_grad():
        logits = model((digits.test.images.float() - mean) / std)
    accuracy = (logits.argmax(1) == digits.test.labels).float().mean().item()
    assert run.history.test_accuracy.iloc[2] == pytest.approx(accuracy)
    loss = nn.functional.cross_entropy(logits, digits.test.labels).item()
    assert run.history.test_loss.iloc[2] == pytest.approx(loss, rel=1e-5)


def test_a_run_may_end_within_an_epoch_and_go_on_as_if_it_had_not(digits, tmp_path):
    whole = trained(digits, epochs=3)
    part = trained(digits, epochs=1.5, out=tmp_path)
    assert part.history.step.tolist() == [0, 6, 9]
    assert part.history.epoch.tolist() == [0, 1, 1.5]
    assert trained(digits, epochs=1.5, out=tmp_path, resume=True).history.equals(part.history)
    further = trained(digits, epochs=3, out=tmp_path, resume=True)
    assert further.history.epoch.tolist() == [0, 1, 1.5, 2, 3]
    assert further.history.seconds.is_monotonic_increasing
    kept = further.history[further.history.epoch % 1 == 0].reset_index(drop=True)
    columns = ["step", "train_loss", "test_loss", "test_accuracy"]
    assert kept[columns].equals(whole.history[columns])


def own(model, **options):
    return ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, **options)


def wrapped(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    ov.orthogonalise(optimizer, model, **options)
    return optimizer


@pytest.mark.parametrize("make", [own, wrapped])
def test_under_autocast_a_small_batch_steps_as_in_float32(digits, make):
    """Rounding that counted as signal: the cosine of the steps was .68 and .63 in the dense layers."""
    few, moved = digits.subset(train=4), {}
    for precision in (None, "bf16"):
        model = ov.models.digits_cnn(seed=0)
        before = {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim > 1}
        optimizer = make(model)
        ov.training.fit(model, optimizer, few, epochs=1, batch_size=4, precision=precision, progress=False)
        after = dict(model.named_parameters())
        moved[precision] = {name: (after[name].detach() - w).flatten() for name, w in before.items()}
    for name, step in moved[None].items():
        assert nn.functional.cosine_similarity(step, moved["bf16"][name], dim=0) > 0.99, name


@pytest.mark.parametrize("make", [own, wrapped])
def test_a_method_that_cannot_cut_rounding_says_so_under_autocast(digits, make):
    model = ov.models.digits_cnn(seed=0)
    with pytest.warns(UserWarning, match=r"method='fast' steps along what is rounding of bf16 too.*'exact'"):
        ov.training.fit(model, make(model, method="fast"), digits, epochs=1, precision="bf16", progress=False)
    chosen = make(model, tol=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ov.training.fit(model, chosen, digits, epochs=1, precision="bf16", progress=False)
    assert getattr(chosen, "orthogonal_settings", chosen.param_groups[0])["tol"] == 0.1
    usual = make(model)
    ov.training.fit(model, usual, digits, epochs=0.2, precision="bf16", progress=False)
    assert getattr(usual, "orthogonal_settings", usual.param_groups[0])["tol"] is None  # for that run alone


def test_orthogonal_sgd_learns_digits_and_leads_at_equal_rate(digits):
    ours = trained(digits, epochs=4).history.test_accuracy
    sgd = trained(digits, epochs=4, make=torch.optim.SGD).history.test_accuracy
    assert ours.iloc[-1] > 0.9
    assert ours.iloc[1] > sgd.iloc[1] + 0.1


def interrupted_at(step, number=signal.SIGINT, make=ov.OrthogonalSGD):
    """An optimiser that a signal reaches in this step."""

    def made(*args, **options):
        optimizer = make(*args, **options)
        count = itertools.count(1)

        def kill(*_):
            if next(count) == step:
                os.kill(os.getpid(), number)

        optimizer.register_step_pre_hook(kill)
        return optimizer

    return made


SMALL, OF_SEVEN, OF_COLOURS = ov.models.digits_cnn(), ov.models.digits_cnn(7), ov.models.basic_cnn()


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (SMALL, {"optimizer": OF_SEVEN}, "14 of the optimiser's 14 parameters are not"),
        (OF_COLOURS, {}, "1 x 8 x 8"),
        (OF_SEVEN, {}, "10 classes"),
        (SMALL, {"epochs": 0}, "epochs must be at least a step of batch_size .* got 0"),
        (SMALL, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (SMALL, {"precision": "half"}, "precision must be None, 'bf16' or 'fp16'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_has_changed(digits, model, options, words):
    before, given = copy.deepcopy(model.state_dict()), {"optimizer": model, "epochs": 1} | options
    optimizer = torch.optim.SGD(given.pop("optimizer").parameters(), lr=0.1)
    with pytest.raises(ValueError, match=words):
        ov.training.fit(model, optimizer, digits, **given)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_models_are_the_papers_and_the_courses():
    cnn = ov.models.basic_cnn()
    convolutions = [layer for layer in cnn if isinstance(layer, nn.Conv2d)]
    shapes = [tuple(layer.weight.flatten(1).shape) for layer in convolutions]
    assert shapes == [(32, 27), (32, 288), (32, 288)]
    assert all(layer.stride == (2, 2) and layer.bias is not None for layer in convolutions)
    assert tuple(cnn[-1].weight.shape) == (10, 512)
    assert cnn(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    small = ov.models.digits_cnn(5)
    assert tuple(small[-1].weight.shape) == (5, 128)
    assert small(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet8", 75_290), ("resnet20", 269_722), ("resnet44", 658_586)]
)
def test_the_small_resnets_have_he_and_colleagues_size_and_depth(name, parameters):
    model = getattr(ov.models, name)(seed=0)
    assert sum(p.numel() for p in model.parameters()) == parameters
    depth = sum(isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) for m in model.modules())
    assert depth == int(name.removeprefix("resnet"))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("seed", [0, -1, 2**40, 2**63 + 5, 10**30])
def test_any_integer_is_a_seed_that_fixes_a_run_bit_for_bit(digits, seed):
    before = torch.get_rng_state()
    first, second, other = (trained(digits, seed=s, epochs=1) for s in (seed, seed, seed + 1))
    columns = ["train_loss", "test_loss", "test_accuracy"]
    assert first.history[columns].equals(second.history[columns])
    assert not first.history[columns].equals(other.history[columns])
    assert same(first.model, second.model)
    for name in ("resnet18", "resnet8", "basic_cnn"):
        assert same(ov.models.build(name, seed=seed), ov.models.build(name, seed=seed))
    assert torch.equal(torch.get_rng_state(), before)
    shares = [digits.subset(train=9, seed=s).train.labels for s in (seed, seed + 1)]
    assert not torch.equal(*shares)


@pytest.mark.slow
def test_a_terminal_for_ascii_a_closed_pipe_and_no_docstrings_end_nothing():
    reader, closed = os.pipe()
    os.close(reader)
    ascii_only, pipe = {**os.environ, "PYTHONIOENCODING": "ascii"}, subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, *words.split()], stdout=out, stderr=pipe, env=ascii_only)
        for words, out in (
            ("-OO -m orthoviz --help", pipe),
            ("-m orthoviz claims table1_basic_cnn", pipe),
            ("-m orthoviz data list", closed),
        )
    ]
    for process in started:
        out, error = process.communicate()
        assert process.returncode == 0
        assert not error or b"differ from those of Python 3.11" in error  # the text of another Python
        assert (out or b"?").isascii()
    os.close(closed)


def test_the_command_does_what_python_does(digits, capsys):
    command = "train --data digits --optimizer orthogonal_sgd --epochs 2 --lr .01 --seed 0"
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    run = trained(digits)
    assert f"{run.history.test_accuracy.iloc[-1]:.4g}" in out.splitlines()[-1]
    assert "digits_cnn" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --data digits --model basic_cnn", "1 x 8 x 8"),
        ("train --lr -1", "lr must be at least 0"),
        ("train --epochs 0", "epochs must be at least a step"),
        ("train --data nothing", "There is no data set"),
        ("train nothing", "there is no recipe 'nothing'"),
        ("train table1/basic_cnn --lr 3 --precision bf16", "--lr, --precision: a recipe says that itself"),
        ("train --seeds 3", "--seeds needs a RECIPE"),
        ("train --model resnet", "there is no model 'resnet'"),
        ("train --optimizer magic", "there is no optimiser 'magic'; there is: sgd, orthogonal_sgd, "),
        ("train --batch-size 5000", "batch_size 5,000 is larger than digits's 1,437 training examples"),
        ("train --train here", "--train and --val go together"),
        ("train --data digits --train here --val there", "--data, or --train and --val: give one of them"),
        ("lab 99_nothing", "00_start_here"),
        ("results show nothing", "there is no stored table 'nothing'"),
        ("claims everything", "there is no claim 'everything'; there is: table1_basic_cnn, "),
        ("results compare polar", "data needs a column optimizer"),
    ],
)
def test_bad_commands_exit_2_with_one_message(capsys, command, words):
    assert main(command.split()) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


@pytest.mark.parametrize("command", ["train --lr fast", "fly", ""])
def test_commands_that_do_not_exist_exit_2(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    assert stop.value.code == 2


def test_a_stored_table_has_its_provenance():
    table = ov.training.results("lr_sweep")
    assert set(table.optimizer) == {"sgd", "orthogonal_sgd"}
    assert "CIFAR-10" in table.attrs["provenance"]
