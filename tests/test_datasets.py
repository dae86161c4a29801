"""Everything a user may hand to `orthoviz data`, through the command line's own entry."""

import io
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.datasets import DataError
from orthoviz.datasets.images import read_image

CLASSES = ("ant", "bee")
pytestmark = pytest.mark.usefixtures("store")


def picture(seed=0, size=(8, 6), mode="RGB"):
    """A noise image, (width, height)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def make_folder(root, **counts):
    """A folder a split with so many images in each of two classes."""
    for split, count in counts.items():
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                picture(100 * label + 10 * i + len(split)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def folder(tmp_path):
    """A small data set laid out as it should be."""
    return make_folder(tmp_path / "set", train=3, test=2)


@pytest.fixture
def say(capsys):
    """Run a command that must succeed; what it prints."""

    def run(*command):
        assert main([str(part) for part in command]) == 0
        return capsys.readouterr().out

    return run


def visible(store):
    """Files in the store but for locks."""
    return sorted(path.name for path in store.glob("*") if not path.name.endswith("lock"))


def refused(capsys, store, *command):
    """Run a command that must fail: exit code 2, one paragraph, nothing in the store. The message."""
    before = visible(store)
    assert main([str(part) for part in command]) == 2
    message = capsys.readouterr().err
    assert message.startswith("orthoviz: ")
    assert "\n\n" not in message.strip()
    assert "Traceback" not in message
    assert visible(store) == before
    return message


# What works


def test_a_folder_becomes_one_array_a_split(folder, say):
    out = say("data", "add", "insects", folder)
    assert "2 classes: ant, bee" in out
    assert "6 training images, 3 a class" in out
    assert "6 x 8 pixels" in out
    data = ov.datasets.load("insects")
    assert data.classes == CLASSES
    assert data.train.images.shape == (6, 3, 6, 8)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    right = np.asarray(Image.open(folder / "train" / "bee" / "1.png"))
    assert np.array_equal(data.train.images[4].permute(1, 2, 0).numpy(), right)
    pixels = data.train.images.double().numpy() / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)))


def test_a_folder_around_the_splits_val_and_what_systems_leave_are_fine(folder, tmp_path, say):
    (folder / "test").rename(folder / "val")
    ant = folder / "train" / "ant"
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", "notes.txt", "../LICENSE"):
        (ant / name).write_text("x")
    for place in (ant, folder / "train"):  # as Jupyter leaves them: a copy, and no class
        shutil.copytree(folder / "train" / "bee", place / ".ipynb_checkpoints")
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "insects-1.0")
    out = say("data", "add", "insects", outer)
    assert "2 classes: ant, bee\n6 training images" in out
    assert "passed over: 7 hidden or system, 1 outside of a class, 1 .txt" in out
    assert len(ov.datasets.load("insects").test.labels) == 4


def test_other_modes_become_rgb_and_are_counted(folder, say):
    for i, mode in enumerate(("L", "P", "1", "RGBA", "LA")):
        picture(i, mode=mode).save(folder / "train" / "ant" / f"{mode}.png")
    picture(9, mode="CMYK").save(folder / "train" / "ant" / "cmyk.jpg")
    out = say("data", "add", "insects", folder)
    for words in ("1 greyscale", "1 palette", "1 black and white", "1 colour, alpha dropped", "1 CMYK"):
        assert words in out
    grey = ov.datasets.load("insects").train.images[4]  # 0, 1, 2.png, 1.png is mode 1
    assert grey.shape == (3, 6, 8)


def test_size_resizes_and_crops_the_middle(folder, say):
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))
    wide.save(folder / "train" / "ant" / "wide.png")
    say("data", "add", "insects", folder, "--size", 10)
    data = ov.datasets.load("insects")
    assert data.train.images.shape == (7, 3, 10, 10)
    assert (data.train.images[3] > 200).all()  # only its white middle


def test_a_name_that_exists_is_kept_unless_it_is_to_be_replaced(folder, store, capsys):
    assert main(["data", "add", "insects", str(folder)]) == 0
    (folder / "train" / "ant" / "0.png").unlink()
    assert "--replace" in refused(capsys, store, "data", "add", "insects", folder)
    assert len(ov.datasets.load("insects").train.labels) == 6
    assert main(["data", "add", "insects", str(folder), "--replace", "--no-augment"]) == 0
    assert len(ov.datasets.load("insects").train.labels) == 5
    assert ov.datasets.load("insects").augment is False  # digits and letters are not to be mirrored


def test_list_show_and_remove(folder, store, tmp_path, say, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "digits" in say("data", "list")
    folder.rename(tmp_path / "insects")  # whose name does not hide the data set's
    say("data", "add", "insects", "insects")
    say("data", "show", "insects")
    with Image.open(tmp_path / "insects-contact-sheet.png") as sheet:
        assert sheet.width > 3 * 48
    assert "'insects': 6 training and 4 test images of 3 x 6 x 8, 2 classes" in say("data", "list")
    say("data", "remove", "insects")
    assert not visible(store)


def test_digits_are_always_there_and_fixed():
    data = ov.datasets.load("digits")
    assert (len(data.train.labels), len(data.test.labels), data.shape) == (1437, 360, (1, 8, 8))
    assert torch.bincount(data.test.labels).min() >= 34
    assert torch.equal(data.train.images, ov.datasets.load("digits").train.images)


# What is refused


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        *((name, [], "has letters, digits") for name in ("../insects", "/tmp/x", "", ".hidden", "C:\\x")),
        ("digits", [], "is built in"),
        ("insects", ["--size", "0"], "size must be from 1 to 4096"),
        ("insects", ["--size", "60000"], "size must be from 1 to 4096"),
        ("x" * 300, [], "too long"),
    ],
)
def test_a_name_or_size_that_cannot_be(folder, store, capsys, name, more, words):
    assert words in refused(capsys, store, "data", "add", name, folder, *more)


@pytest.mark.parametrize("kind", ["gztar", "zip"])
def test_an_archive_is_refused_with_what_to_do(folder, tmp_path, store, capsys, kind):
    path = shutil.make_archive(tmp_path / "set", kind, folder)
    assert "unpack it, and add its folder" in refused(capsys, store, "data", "add", "insects", path)
    assert "Unpack an archive" in refused(capsys, store, "train", "--data", path)


def test_images_that_decode_to_more_than_allowed(folder, store, capsys, monkeypatch):
    monkeypatch.setattr("orthoviz.datasets.store._MOST_BYTES", 500)
    message = refused(capsys, store, "data", "add", "insects", folder)
    assert "more than 500 bytes" in message
    assert f"orthoviz train --data {folder}" in message


SPOILT = {
    "test/bee/empty.png": {"test/bee/empty.png": b""},
    "classes wasp": {"train/wasp/": b"", "test/wasp/": b""},
    "two classes or more, found: ant": {"train/bee": None, "test/bee": None},
    "bee, wasp": {"test/bee": None, "test/wasp/1.png": encoded(picture(), "png")},
    "needs a folder 'train'": {"train": None},
    "and a folder 'test' or 'val'": {"test": None},
    r"8 x 6 \(6\), 10 x 10 \(1\).*--size": {"train/ant/big.png": encoded(picture(size=(10, 10)), "png")},
}


@pytest.mark.parametrize("words", SPOILT)
def test_what_is_wrong_with_a_folder_is_named(folder, store, capsys, words):
    for name, content in SPOILT[words].items():
        if content is None:
            shutil.rmtree(folder / name)
        elif name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    assert re.search(words, refused(capsys, store, "data", "add", "insects", folder), re.DOTALL)


def test_two_data_sets_in_one_folder(folder, tmp_path, store, capsys):
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / "a")
    shutil.copytree(folder, outer / "b")
    assert "does not exist" in refused(capsys, store, "data", "add", "insects", outer / "c")
    assert "several data sets: a, b." in refused(capsys, store, "data", "add", "insects", outer)


def test_a_data_set_that_is_not_there_says_what_is(store, capsys):
    message = refused(capsys, store, "train", "--data", "insects")
    assert "digits" in message
    assert "orthoviz data add insects PATH" in message
    assert "orthoviz data fetch cifar10" in refused(capsys, store, "train", "--data", "cifar10")


def test_a_damaged_store_file_is_said(folder, store, capsys):
    assert main(["data", "add", "insects", str(folder)]) == 0
    path = store / "insects.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "is damaged" in refused(capsys, store, "data", "show", "insects")
    assert main(["data", "remove", "insects"]) == 0


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = "size=64k"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        monkeypatch.setenv("ORTHOVIZ_DATA", str(disk / "store"))
        for split in ("train", "test"):
            picture(size=(200, 200)).save(folder / split / "ant" / "9.png")
        assert main(["data", "add", "insects", str(folder), "--size", "200"]) == 2
        assert "could not be written" in capsys.readouterr().err
        assert not visible(disk / "store")
        assert main(["data", "add", "insects", str(folder), "--size", "8"]) == 0  # a smaller one fits
    finally:
        subprocess.run(["umount", disk], check=True)


def test_of_two_adding_the_same_name_one_exits_2(folder, store):
    with ThreadPoolExecutor(2) as pool:  # each opens the lock for itself, as processes do
        codes = list(pool.map(main, [["data", "add", "insects", str(folder)]] * 2))
    assert sorted(codes) == [0, 2]
    assert visible(store) == ["insects.safetensors"]


@pytest.mark.slow
def test_a_killed_process_leaves_no_data_set(folder, store):
    script = (
        "import os, signal, orthoviz.datasets.store as s\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"  # after writing, before the rename
        f"s.add('insects', {str(folder)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert ov.datasets.available() == ["digits", "words"]
    assert main(["data", "add", "insects", str(folder)]) == 0
    assert visible(store) == ["insects.safetensors"]  # nothing of the other


# The reader of images


DEEP = {
    "grey PNG": encoded(Image.fromarray(np.full((6, 8), 40_000, np.uint16)), "png"),
    "grey TIFF": encoded(Image.fromarray(np.full((6, 8), 40_000, np.uint16)), "tiff"),
    "grey PGM": b"P5 8 6 65535\n" + (40_000).to_bytes(2) * 48,
    "colour PPM": b"P6 8 6 65535\n" + (40_000).to_bytes(2) * 3 * 48,
}


@pytest.mark.parametrize("kind", DEEP)
def test_sixteen_bits_are_scaled_down(tmp_path, kind):
    (tmp_path / "deep.png").write_bytes(DEEP[kind])
    assert (np.asarray(read_image(tmp_path / "deep.png")[0]) == 40_000 >> 8).all()


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # the camera was held on its side
    stored = Image.new("RGB", (16, 8), "black")
    stored.paste("white", (0, 0, 16, 4))
    stored.save(tmp_path / "a.png", exif=exif)
    upright, _ = read_image(tmp_path / "a.png")
    right = np.zeros((16, 8), np.uint8)
    right[:, 4:] = 255
    assert np.array_equal(np.asarray(upright)[..., 0], right)


UNREADABLE = {
    "is not an image": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",  # would start Ghostscript
    "too large to decode": encoded(Image.new("1", (10_000, 10_000)), "png"),
    "of mode F": encoded(Image.fromarray(np.full((6, 8), 0.5, np.float32)), "tiff"),
}


@pytest.mark.parametrize("words", UNREADABLE)
def test_what_cannot_be_read_is_named(tmp_path, words):
    path = tmp_path / "a.jpg"
    path.write_bytes(UNREADABLE[words])
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} is .*{words.removeprefix('is ')}"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="is not a file"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_image_is_read_or_named(tmp_path, suffix, data):
    exif = Image.Exif()
    exif[0x112] = 6
    content = bytearray(encoded(picture(5, size=(20, 20)), suffix, exif=exif))
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=6)).items():
        content[place] = value
    path = tmp_path / "a.png"
    path.write_bytes(content[: data.draw(places)] if data.draw(st.booleans()) else content)
    message = ""
    try:
        image, _ = read_image(path)
    except DataError as error:
        message = str(error)
    assert message.startswith(f"{path} is ") if message else image.mode == "RGB"


# Batches


def of_images(images):
    """A data set of RGB images, each a class of its own, whose values stay from 0 to 255."""
    split = ov.datasets.Split(images.contiguous(), torch.arange(len(images)))
    classes = tuple(map(str, range(len(images))))
    return ov.datasets.Dataset("made here", classes, split, split, (0.0,) * 3, (1 / 255,) * 3, True, "")


def colours(count):
    """Images of one colour each, so that a crop is told by its black border."""
    return of_images(torch.arange(1, count + 1).byte().view(-1, 1, 1, 1).expand(count, 3, 32, 32))


def test_an_epoch_shows_every_image_once_with_its_label_by_seed_and_epoch_alone():
    def epoch(seed, epoch):
        batches = list(ov.datasets.batches(colours(100), 32, seed=seed, epoch=epoch))
        return [torch.cat(parts) for parts in zip(*batches, strict=True)]

    images, labels = epoch(0, 1)
    assert torch.equal(images.amax((1, 2, 3)).round().long() - 1, labels)
    assert sorted(labels.tolist()) == list(range(100))
    assert torch.equal(images, epoch(0, 1)[0])
    assert not torch.equal(images, epoch(0, 2)[0])
    assert not torch.equal(images, epoch(1, 1)[0])


def test_a_crop_is_a_shift_by_at_most_four_pixels_with_black_around():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(1, 256, (1, 3, 32, 32), dtype=np.uint8))
    padded = np.pad(image[0].numpy(), ((0, 0), (4, 4), (4, 4)))
    possible = {}
    for top, left, mirrored in np.ndindex(9, 9, 2):
        window = padded[:, top : top + 32, left : left + 32]
        possible[(window[:, :, ::-1] if mirrored else window).tobytes()] = (top, left, mirrored)
    data = of_images(image.expand(400, 3, 32, 32))
    batch, _ = next(ov.datasets.batches(data, 400, seed=0, epoch=1))
    found = [possible[x.contiguous().round().to(torch.uint8).numpy().tobytes()] for x in batch]
    assert {top for top, _, _ in found} == set(range(9))
    assert {left for _, left, _ in found} == set(range(9))
    assert 150 < sum(mirrored for _, _, mirrored in found) < 250


def test_normalised_images_have_mean_zero_and_deviation_one():
    images = torch.cat([x for x, _ in ov.datasets.batches(ov.datasets.load("digits"), 256, seed=0, epoch=1)])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=1e-3)


def test_a_subset_is_seeded_and_keeps_labels_with_images():
    data = colours(100).subset(10, 20, seed=3)
    assert (len(data.train.labels), len(data.test.labels)) == (10, 20)
    assert torch.equal(data.train.images[:, 0, 0, 0].long() - 1, data.train.labels)
    assert torch.equal(data.train.labels, colours(100).subset(10, seed=3).train.labels)


def test_the_store_is_the_checkouts_data_folder_unless_it_is_told_otherwise(monkeypatch):
    monkeypatch.delenv("ORTHOVIZ_DATA")
    assert ov.datasets.location() == Path(__file__).resolve().parents[1] / "data"
