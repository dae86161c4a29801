"""Downloads from a real server on loopback that breaks the line, ignores ranges or serves a wrong file."""

import http.server
import io
import pickle
import tarfile
import threading

import numpy as np
import pytest
import torch

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.datasets import official

LABELS = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def batch(seed, count=20):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {b"data": pixels, b"labels": [i % 10 for i in range(count)]}


def archive(path, **changed):
    """A small archive in the layout of the official one."""
    files = {f"data_batch_{i}": batch(i) for i in range(1, 6)}
    files |= {"test_batch": batch(6), "batches.meta": {b"label_names": LABELS}} | changed
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            if content is None:
                continue
            data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"{official.FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; sends at most ``most`` bytes of it an answer, and understands ranges or not."""

    def __init__(self, content):
        self.content, self.most, self.ranges, self.sent = content, None, True, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content, asked = self.server.content, self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.most])
        self.server.sent.append((start, len(body[: self.server.most])))

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    monkeypatch.setenv("ORTHOVIZ_DATA", str(folder))
    return folder


@pytest.fixture
def server(tmp_path, monkeypatch):
    path = archive(tmp_path / "official.tar.gz")
    # the checksum of the synthetic archive stands for the official one
    monkeypatch.setattr(official, "SHA256", official.checksum(path))
    server = Server(path.read_bytes())
    yield server
    server.shutdown()
    server.server_close()


def test_the_known_checksum_is_the_published_one():
    # as in TensorFlow Datasets' and Keras' public tables
    assert official.SHA256 == "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def test_it_downloads_checks_and_adds(server, store, capsys):
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert "checksum: the official one" in capsys.readouterr().out
    data = ov.datasets.load("cifar10")
    assert data.classes[3] == "cat"
    assert (len(data.train.labels), len(data.test.labels)) == (100, 20)
    right = torch.from_numpy(batch(2)[b"data"][7].reshape(3, 32, 32))
    assert torch.equal(data.train.images[27], right)
    assert [path.name for path in store.iterdir()] == ["cifar10.safetensors"]


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_the_line_broke(server, store, capsys, ranges):
    server.most, server.ranges = 100_000, ranges
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 2
    message = capsys.readouterr().err
    assert "What has arrived is kept" in message
    assert "orthoviz data add cifar10 PATH" in message
    assert next(store.iterdir()).stat().st_size == 100_000
    server.most = None
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert server.sent[1][0] == (100_000 if ranges else 0)
    assert len(ov.datasets.load("cifar10").train.labels) == 100


def test_a_download_that_is_all_here_is_not_asked_for_again(server, store):
    store.mkdir()
    (store / f".{official.FOLDER}.tar.gz.part").write_bytes(server.content)
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert server.sent == []


def test_a_wrong_checksum_is_refused_before_anything_is_opened(server, store, capsys, monkeypatch):
    def opened(*args, **kwargs):
        raise AssertionError("the archive was opened")

    monkeypatch.setattr("orthoviz.datasets.store.add", opened)
    server.content = server.content[:-1] + b"x"
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 2
    message = capsys.readouterr().err
    assert "SHA-256" in message
    assert official.SHA256 in message
    assert not list(store.iterdir())


def test_a_server_that_is_down_says_how_to_go_on(store, capsys):
    assert main(["data", "fetch", "cifar10", "--url", "http://127.0.0.1:9/x"]) == 2
    message = capsys.readouterr().err
    assert "could not be downloaded" in message
    assert "digits" in message
    assert not store.exists()


def test_only_cifar10_can_be_fetched(store, capsys):
    assert main(["data", "fetch", "imagenet"]) == 2
    assert "Only cifar10" in capsys.readouterr().err


def test_an_archive_from_disk_is_added_and_its_checksum_named(tmp_path, capsys):
    path = archive(tmp_path / "mine.tar.gz")
    assert main(["data", "add", "cifar10", str(path)]) == 0
    assert "not the official one" in capsys.readouterr().out
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert main(["data", "add", "again", str(tmp_path / "out" / official.FOLDER)]) == 0
    first, again = ov.datasets.load("cifar10"), ov.datasets.load("again")
    assert torch.equal(first.train.images, again.train.images)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/orthoviz-was-here",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data_batch_2": pickle.dumps(Evil())}, "unsafe"),
        ({"data_batch_2": b"\x80\x02no pickle"}, "damaged"),
        ({"data_batch_3": None}, "lacks data_batch_3"),
        ({"test_batch": {b"data": np.zeros((3, 10), np.uint8), b"labels": [0, 1, 2]}}, "test_batch"),
        ({"test_batch": {b"data": batch(1)[b"data"], b"labels": [0, 1]}}, "test_batch"),
        ({"test_batch": {b"data": batch(1)[b"data"], b"labels": [10] * 20}}, "test_batch"),
        ({"test_batch": [1, 2]}, "test_batch"),
        ({"batches.meta": {}}, "names no labels"),
        ({"batches.meta": {b"label_names": ["str", 3]}}, "names no labels"),
        ({"test_batch": batch(1, count=0)}, "test_batch"),
    ],
)
def test_a_bad_archive_is_refused_and_runs_nothing(tmp_path, store, capsys, changed, words):
    from pathlib import Path

    path = archive(tmp_path / "bad.tar.gz", **changed)
    assert main(["data", "add", "cifar10", str(path)]) == 2
    assert words in capsys.readouterr().err
    assert not store.exists()
    assert not Path("/tmp/orthoviz-was-here").exists()
