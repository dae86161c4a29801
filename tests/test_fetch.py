"""Downloads from a real server on loopback that breaks the line, ignores ranges or serves a wrong file."""

import hashlib
import http.server
import io
import os
import pickle
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.datasets import official
from tests.test_datasets import visible

pytestmark = pytest.mark.usefixtures("store")
LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
    return {"data": pixels, "labels": [i % 10 for i in range(20)]}


@pytest.fixture(autouse=True)
def archive(tmp_path, monkeypatch):
    """A small archive in the layout of the official one; its checksums stand for the official ones."""
    contents = [batch(i) for i in range(1, 7)] + [{"label_names": LABELS}]
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    files = {name: pickle.dumps(content) for name, content in zip(names, contents, strict=True)}
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [(name, md5[name]) for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [("test_batch", md5["test_batch"])])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{official.FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(official, "SIZE", path.stat().st_size)
    monkeypatch.setattr(official, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; sends at most ``most`` bytes of it an answer, and understands ranges or not."""

    def __init__(self, content):
        self.content, self.most, self.ranges, self.sent, self.pause = content, None, True, [], 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    log_message = print

    def do_GET(self):
        content, asked = self.server.content, self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(self.server.pause)
        self.wfile.write(body[: self.server.most])
        self.server.sent.append((start, len(body[: self.server.most])))


@pytest.fixture
def server(archive):
    server = Server(archive.read_bytes())
    yield server
    server.shutdown()
    server.server_close()


def test_it_downloads_checks_and_adds(server, store, capsys):
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert "checksum: the official one" in capsys.readouterr().out
    data = ov.datasets.load("cifar10")
    assert data.classes[3] == "cat"
    assert (len(data.train.labels), len(data.test.labels)) == (100, 20)
    right = torch.from_numpy(batch(2)["data"][7].reshape(3, 32, 32))
    assert torch.equal(data.train.images[27], right)
    assert visible(store) == ["cifar10.safetensors"]


@pytest.mark.parametrize("ranges", [True, False])
def test_it_goes_on_where_the_line_broke(server, store, capsys, ranges):
    server.most, server.ranges = 100_000, ranges
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 2
    message = capsys.readouterr().err
    assert "What has arrived is kept" in message
    assert "orthoviz data add cifar10 PATH" in message
    assert (store / visible(store)[0]).stat().st_size == 100_000
    server.most = None
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert server.sent[1][0] == (100_000 if ranges else 0)
    assert len(ov.datasets.load("cifar10").train.labels) == 100


def test_a_download_that_is_all_here_is_not_asked_for_again(server, store):
    store.mkdir()
    (store / f".{official.FOLDER}.tar.gz.part").write_bytes(server.content)
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 0
    assert server.sent == []


def test_a_wrong_checksum_is_refused_and_the_download_deleted(server, store, capsys):
    server.content = server.content[:-1] + b"x"
    assert main(["data", "fetch", "cifar10", "--url", server.url]) == 2
    assert f"expected {official.SHA256}" in capsys.readouterr().err
    assert not visible(store)


def test_a_server_that_is_down_says_how_to_go_on_and_only_cifar10_can_be_fetched(store, capsys):
    assert main(["data", "fetch", "cifar10", "--url", "http://127.0.0.1:9/x"]) == 2
    assert re.search(r"could not be downloaded .*\n.* digits", capsys.readouterr().err)
    assert main(["data", "fetch", "imagenet"]) == 2
    assert "Only cifar10" in capsys.readouterr().err
    assert not visible(store)


def test_of_two_at_once_the_second_says_that_it_waits_for_the_first(server, store, capfd):
    server.pause = 0.5
    with ThreadPoolExecutor(2) as pool:  # each opens the lock for itself, as processes do
        codes = list(pool.map(main, [["data", "fetch", "cifar10", "--url", server.url]] * 2))
    assert sorted(codes) == [0, 2]  # the second finds that it is there
    assert capfd.readouterr().err.count("waiting for another download of cifar10\n") == 1
    assert server.sent == [(0, len(server.content))]
    assert visible(store) == ["cifar10.safetensors"]


def test_the_archive_and_its_folder_are_added_from_disk(tmp_path, archive, store, capsys):
    assert main(["data", "add", "cifar10", str(archive)]) == 0
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(tmp_path)
    assert main(["data", "add", "again", str(tmp_path / official.FOLDER)]) == 0
    first, again = ov.datasets.load("cifar10"), ov.datasets.load("again")
    assert first.checksum() == again.checksum()
    assert first.source == again.source == "CIFAR-10, official archive"


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/orthoviz-was-here",)


def test_what_is_not_official_is_refused_before_it_is_unpickled(tmp_path, archive, store, capsys):
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(tmp_path)
    (tmp_path / official.FOLDER / "data_batch_2").write_bytes(pickle.dumps(Evil()))
    assert main(["data", "add", "cifar10", str(tmp_path / official.FOLDER)]) == 2
    assert "lacks an official file, or one differs" in capsys.readouterr().err
    archive.write_bytes(archive.read_bytes()[:-1])
    assert main(["data", "add", "cifar10", str(archive)]) == 2
    assert f"expected {official.SIZE:,}" in capsys.readouterr().err
    assert not os.path.exists("/tmp/orthoviz-was-here")
    assert not store.exists()
