"""CIFAR-10 as its authors publish it.

Source: Krizhevsky 2009, *Learning Multiple Layers of Features from Tiny Images*.
"""

import hashlib
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from orthoviz.datasets import pixels
from orthoviz.datasets.dataset import DataError, Dataset, Split

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SIZE = 170_498_071
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"


def read(path: Path) -> Dataset:
    """CIFAR-10 from the official archive, or from the folder ``cifar-10-batches-py`` in it.

    Raises:
        DataError: the archive or a file in the folder differs from the official one; nothing was unpickled.
    """
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

    with TemporaryDirectory() as unpacked:
        root = path.resolve().parent
        if path.is_file():
            if difference := find_difference(path):
                raise DataError(f"{path} is not the official archive of CIFAR-10: {difference}.")
            root = Path(unpacked)
            with tarfile.open(path) as archive:
                # before Python 3.11.4 there is no filter; the archive is the official one by its checksum
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(root)
        try:  # torchvision compares the MD5 of every file before it unpickles any
            parts = [CIFAR10(root, train=train) for train in (True, False)]
        except RuntimeError as error:
            raise DataError(
                f"{path} lacks an official file, or one differs. Unpack the archive anew."
            ) from error
    splits = [Split(torch.from_numpy(x.data).permute(0, 3, 1, 2), torch.tensor(x.targets)) for x in parts]
    mean, std = pixels.channel_statistics(splits[0].images)
    classes, source = tuple(parts[0].classes), "CIFAR-10, official archive"
    return Dataset("cifar10", classes, splits[0], splits[1], mean, std, augment=True, source=source)


def find_difference(path: Path) -> str:
    """How a file differs from the official archive, in words; empty where it is the same to the last bit."""
    if path.stat().st_size != SIZE:
        return f"it has {path.stat().st_size:,} bytes, expected {SIZE:,}"
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if sha256 == SHA256 else f"its SHA-256 is {sha256}, expected {SHA256}"
