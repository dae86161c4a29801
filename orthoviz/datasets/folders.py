"""Photographs read in place: folders laid out as <class>/<image>, as ImageNet's."""

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from orthoviz.datasets.dataset import DataError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, per channel, on the scale 0 to 1."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Files(NamedTuple):
    """Images that lie on the disk, and their labels."""

    paths: tuple[str, ...]
    labels: Tensor
    """``(N,)`` int64, indices into the classes."""

    def some(self, chosen: Tensor) -> "Files":
        """Those of the given indices."""
        return Files(tuple(self.paths[i] for i in chosen.tolist()), self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Folders:
    """Photographs of any size, decoded, cropped and mirrored by worker processes while the network trains.

    It stands wherever a :class:`~orthoviz.datasets.Dataset` does in training; its images are read anew in
    every epoch, and never copied.
    """

    name: str
    classes: tuple[str, ...]
    train: Files
    test: Files
    size: int
    """Height and width of what the network sees."""
    source: str
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    augment: bool = True
    valid: Files | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return 3, self.size, self.size

    def to(self, device: torch.device | str) -> "Folders":
        """Itself: batches go to the device one by one."""
        return self

    def checksum(self) -> str:
        """Of the images' names and lengths, in 16 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.test):
            for path in split.paths:
                name = f"{Path(path).parent.name}/{Path(path).name}"
                digest.update(f"{name} {os.path.getsize(path)}\n".encode())
        return digest.hexdigest()

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        device: Any,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :func:`orthoviz.datasets.batches`: a random part of each image, at random size, half of them
        mirrored. Chance comes from seed, epoch and image alone, whichever worker reads it."""
        generator = torch.Generator().manual_seed(2**20 * seed + epoch)
        order = torch.randperm(len(self.train.labels), generator=generator).split(batch_size)
        base = (2**20 * seed + epoch) * 2**24
        keys = [[(base + i, i) for i in chosen[rank::ranks].tolist()] for chosen in order[start:]]
        yield from self._read(self.train, keys, _random_part(self.size), device, ranks)

    def whole(
        self, split: Files, batch_size: int, *, device: Any, rank: int = 0, ranks: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :func:`orthoviz.datasets.whole`: the middle of each image."""
        chosen = torch.arange(len(split.labels))[rank::ranks].split(min(batch_size, 256))
        keys = [[(0, i) for i in part.tolist()] for part in chosen]
        yield from self._read(split, keys, _middle(self.size), device, ranks)

    def _read(
        self, split: Files, keys: list[list[tuple[int, int]]], part: Any, device: Any, ranks: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        device = torch.device(device)
        workers = max(1, (os.cpu_count() or 1) // ranks)
        loader = DataLoader(
            _Decoded(split, part), batch_sampler=keys, num_workers=workers, prefetch_factor=4,
            pin_memory=device.type == "cuda", worker_init_fn=_apart,
            generator=torch.Generator(),  # and not the global one
        )  # fmt: skip
        mean, std = (255 * torch.tensor(v, device=device).view(3, 1, 1) for v in (self.mean, self.std))
        with _later():
            started = iter(loader)
        for images, labels in started:  # uint8 until here: a quarter of the bytes
            pixels = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield (pixels.float() - mean) / std, labels.to(device, non_blocking=True)

    def __repr__(self) -> str:
        return (
            f"Folders({self.name!r}: {len(self.train.labels):,} training and {len(self.test.labels):,} test "
            f"images, seen at {self.size} x {self.size}, {len(self.classes)} classes)"
        )


def folders(train: str | Path, val: str | Path, *, size: int = 224, name: str = "") -> Folders:
    """Two sets of photographs of any sizes, read in place.

    Args:
        train, val: to train and to test on: folders of ``<class>/<image>`` with the same classes.
        size: height and width of what the network sees. Training takes a random part of an image
            (torchvision's ``RandomResizedCrop``), testing the middle, once the shorter side is 256/224 of it.
        name: default: that of the folder above.

    Raises:
        DataError: there are no images, the classes differ, or the folder holds WebDataset shards.
    """
    (train_classes, training), (test_classes, testing) = (_listed(Path(path)) for path in (train, val))
    if train_classes != test_classes:
        differ = sorted(set(train_classes) ^ set(test_classes))
        raise DataError(f"{train} and {val} have other classes: {', '.join(differ[:5])} in one only")
    if size < 8:
        raise DataError(f"size must be at least 8, got {size}")
    name = name or Path(train).resolve().parent.name
    return Folders(name, train_classes, training, testing, size, f"photographs in the folders of {name}")


def _listed(folder: Path) -> tuple[tuple[str, ...], Files]:
    from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

    if folder.suffix == ".tar" or (folder.is_dir() and any(folder.glob("*.tar"))):
        raise DataError(f"{folder} holds tar files: unpack WebDataset shards into folders of <class>/<image>")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    try:
        found = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise DataError(f"{folder} is not laid out as <class>/<image>: {error}") from error
    paths, labels = zip(*found.samples, strict=True)
    return tuple(found.classes), Files(tuple(paths), torch.tensor(labels))


class _Decoded(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """In a worker: an image's part as uint8, with chance from the number in its key."""

    def __init__(self, split: Files, part: Any) -> None:
        self._split, self._part = split, part

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        number, index = key
        try:
            image = Image.open(self._split.paths[index]).convert("RGB")
        except OSError as error:
            raise DataError(
                f"{self._split.paths[index]} cannot be read ({error}): replace or remove it"
            ) from error
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(number)
            return self._part(image), int(self._split.labels[index])


def _apart(worker: int) -> None:
    """A signal to the whole group of processes, as terminals and torchrun send it, is for the process that
    trains: it ends its workers itself. So they are a group of their own; what came before is forgotten."""
    if os.name != "posix":
        return
    os.setpgrp()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _later() -> Iterator[None]:
    """Signals wait while workers are started."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _random_part(size: int) -> Any:
    from torchvision.transforms import v2  # type: ignore[import-untyped]

    return _composed([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])


def _middle(size: int) -> Any:
    from torchvision.transforms import v2

    return _composed([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])


def _composed(steps: Sequence[Any]) -> Any:
    from torchvision.transforms import v2

    return v2.Compose([*steps, v2.PILToTensor()])
