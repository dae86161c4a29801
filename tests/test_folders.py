"""Photographs in folders, read in place by worker processes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.datasets import DataError
from tests.test_training import interrupted_at
from tests.weights import same


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two classes of photographs of several sizes and kinds; the second is brighter."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 22), ("val", 9)):
        for label, bright in (("dark", 60), ("light", 190)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                size = tuple(generator.integers(20, 60, 2))
                pixels = generator.integers(bright - 50, bright + 50, (*size, 3), dtype=np.uint8)
                image = Image.fromarray(pixels).convert("RGB" if i % 5 else "L")
                image.save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def loaded(place, size=16):
    return ov.datasets.folders(place / "train", place / "val", size=size)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 2))


def test_it_says_what_it_found(place):
    data = loaded(place)
    assert data.classes == ("dark", "light")
    assert (len(data.train.labels), len(data.test.labels)) == (44, 18)
    assert data.shape == (3, 16, 16)
    assert data.train.labels.bincount().tolist() == [22, 22]
    assert len(data.checksum()) == 16
    assert "44 training and 18 test images, seen at 16 x 16" in repr(data)
    assert ov.datasets.load(str(place)).checksum() == data.checksum()


def test_every_image_is_seen_once_an_epoch_and_in_another_order_in_the_next(place):
    data = loaded(place)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    epochs = [list(ov.datasets.batches(data, 16, seed=0, epoch=epoch)) for epoch in (1, 1, 2)]
    assert [len(labels) for _, labels in epochs[0]] == [16, 16, 12]
    assert torch.cat([labels for _, labels in epochs[0]]).bincount().tolist() == [22, 22]
    for (a, _), (b, _) in zip(epochs[0], epochs[1], strict=True):
        assert torch.equal(a, b)  # the same chance, whichever worker
    assert not torch.equal(epochs[0][0][0], epochs[2][0][0])
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_may_be_passed_over_and_shared(place):
    data = loaded(place)

    def first(**part):
        return next(ov.datasets.batches(data, 16, seed=3, epoch=2, **part))[0]

    (whole, _), (second, _), _ = ov.datasets.batches(data, 16, seed=3, epoch=2)
    assert torch.equal(first(start=1), second)
    for rank in (0, 1):
        assert torch.equal(first(rank=rank, ranks=2), whole[rank::2])


def test_a_test_image_is_its_middle_normalised(place):
    from torchvision.transforms import v2

    data = loaded(place)
    images, labels = next(iter(ov.datasets.in_order(data, data.test)))
    assert labels.tolist() == data.test.labels.tolist()
    picture = v2.CenterCrop(16)(v2.Resize(18)(Image.open(data.test.paths[3]).convert("RGB")))
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).double() / 255
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (data.mean, data.std))
    torch.testing.assert_close(images[3].double(), (pixels - mean) / std, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_network_learns_from_them_and_goes_on_in_the_middle_of_an_epoch(place, tmp_path):
    def start(out, epochs, resume=False, make=torch.optim.SGD):
        model = network()
        optimizer = make(model.parameters(), lr=0.02, momentum=0.9)
        options = {"epochs": epochs, "batch_size": 16, "out": out, "resume": resume, "progress": False}
        return ov.training.fit(model, optimizer, loaded(place), **options)

    stopping = interrupted_at(5, make=torch.optim.SGD)
    whole = start(tmp_path / "whole", 4)
    assert whole.history.test_accuracy.iloc[-1] == 1
    assert "at step 2 of 3" in start(tmp_path / "parts", 4, make=stopping).stopped.sentence
    parts = start(tmp_path / "parts", 4, resume=True)
    assert parts.history.train_loss.equals(whole.history.train_loss)
    assert same(parts.model, whole.model)


@pytest.mark.full
def test_a_signal_to_the_group_of_processes_is_for_the_one_that_trains(place, tmp_path):
    """As Ctrl-C in a terminal and torchrun send it; workers that died of it would end the run in an error."""
    script = (
        "import sys, torch, orthoviz as ov\n"
        "data = ov.datasets.folders(*sys.argv[1:3], size=16)\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
        "options = dict(epochs=10_000, batch_size=4, out=sys.argv[3], progress=False)\n"
        "ov.training.fit(model, optimizer, data, **options)"
    )
    command = [sys.executable, "-c", script, place / "train", place / "val", tmp_path / "run"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = subprocess.Popen(command, **pipes, start_new_session=True)
    while not list((tmp_path / "run").glob("step-*.pt")):
        assert run.poll() is None, run.stdout.read()
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGTERM)
    output = run.communicate(timeout=1200)[0]
    assert run.returncode == 0, output
    assert "Stopped: terminated" in output


@pytest.mark.parametrize("by_name", [True, False])
def test_the_command_reads_them_in_place(place, capsys, by_name):
    given = ["--data", place] if by_name else ["--train", place / "train", "--val", place / "val"]
    command = ["train", *map(str, given), "--size", "32", "--epochs", "1", "--batch-size", "8"]
    assert main(command) == 0
    assert "seen at 32 x 32, 2 classes" in capsys.readouterr().out


def test_a_folder_is_shown_as_the_network_sees_it(place):
    from torchvision.transforms import v2

    data = ov.datasets.load(str(place), size=48)
    sheet = np.asarray(ov.datasets.contact_sheet(data, per_class=1))
    right = v2.CenterCrop(48)(v2.Resize(55)(Image.open(data.train.paths[0]).convert("RGB")))
    np.testing.assert_array_equal(sheet[4:52, -52:-4], np.asarray(right))


def test_what_cannot_be_read_is_named(place, tmp_path):
    (tmp_path / "other" / "green").mkdir(parents=True)
    with pytest.raises(DataError, match="two classes or more, found: green"):
        ov.datasets.folders(tmp_path / "other", place / "val")
    (tmp_path / "other" / "dark").mkdir()
    for name in ("green/a.png", "dark/a.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "other" / name)
    with pytest.raises(DataError, match="other classes: green, light in one only"):
        ov.datasets.folders(tmp_path / "other", place / "val")
    (tmp_path / "other" / "green" / "b.png").write_bytes(b"no picture")
    data = ov.datasets.folders(tmp_path / "other", tmp_path / "other", size=8)
    with pytest.raises(DataError, match=r"^\S+green/b\.png is not an image"):
        list(ov.datasets.in_order(data, data.test))


def test_letters_are_neither_cropped_nor_mirrored(place):
    data = ov.datasets.folders(place / "train", place / "val", size=16, augment=False)
    images = next(iter(data.batches(44, seed=0, epoch=1)))[0]
    right = torch.cat([images for images, _ in data.in_order(data.train)])
    order = torch.randperm(44, generator=torch.Generator().manual_seed(1))
    assert torch.equal(images, right[order])


def test_a_part_can_be_held_out(place):
    data = loaded(place).hold_out(4).subset(10, 6)
    assert [len(split.paths) for split in (data.train, data.valid, data.test)] == [10, 4, 6]


def test_archives_and_shards_are_refused_with_what_to_do(place, tmp_path):
    (tmp_path / "train-0000.tar").write_bytes(bytes(1024))
    for path in (tmp_path / "train-0000.tar", tmp_path / "train-*.tar"):
        with pytest.raises(DataError, match="Unpack archives and WebDataset shards"):
            ov.datasets.folders(path, place / "val")


@pytest.mark.parametrize("seed", [-1, 2**40, 10**30])
def test_any_integer_is_a_seed(place, seed):
    first, second, other = (
        next(ov.datasets.batches(loaded(place), 8, seed=s, epoch=1))[0] for s in (seed, seed, seed + 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_workers_are_as_many_as_cpus_that_may_be_used_or_as_was_said(place, monkeypatch):
    seen = []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, *args, num_workers, **options):
            seen.append(num_workers)
            super().__init__(*args, num_workers=num_workers, **options)

    monkeypatch.setattr(sys.modules["orthoviz.datasets.folders"], "DataLoader", Loader)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    next(ov.datasets.batches(loaded(place), 8, seed=0, epoch=1))
    monkeypatch.setenv("ORTHOVIZ_WORKERS", "2")
    next(ov.datasets.batches(loaded(place), 8, seed=0, epoch=1))
    assert seen == [1, 2]
    monkeypatch.setenv("ORTHOVIZ_WORKERS", "many")
    with pytest.raises(DataError, match="ORTHOVIZ_WORKERS must be a whole number of at least 1, got 'many'"):
        next(ov.datasets.batches(loaded(place), 8, seed=0, epoch=1))


@pytest.mark.parametrize("words", [
    "DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that dataloader's workers are "
    "out of shared memory. Please try to raise your shared memory limit.",
    "unable to write to file </torch_9_1>: No space left on device (28)",
])  # fmt: skip
def test_too_little_shared_memory_is_said_with_the_cure(place, monkeypatch, words):
    """The two messages of torch in a container with 1 MB of /dev/shm."""

    def fail(_):
        raise RuntimeError(words)
        yield

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", fail)
    with pytest.raises(DataError, match="--shm-size=2g, or set ORTHOVIZ_WORKERS=1"):
        next(ov.datasets.batches(loaded(place), 8, seed=0, epoch=1))


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path, capsys):
    root = tmp_path / "\x1b]0;owned\x07"
    for split in ("train", "val"):
        for label in ("a", "b\x1b[2J"):
            (root / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / label / "0.png")
    assert main(["train", "--train", str(root / "train"), "--val", str(root / "val"), "--epochs", "0"]) == 2
    assert main(["train", "--train", str(root / "train"), "--val", str(tmp_path), "--epochs", "1"]) == 2
    out, err = capsys.readouterr()
    assert "\\x1b]0;owned\\x07" in out
    assert all(c.isprintable() or c == "\n" for c in out + err)
