"""Photographs read in place from folders laid out as <class>/<image>, like ImageNet."""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate, default_convert

from orthoviz.datasets.dataset import DataError, Dataset
from orthoviz.datasets.images import Files, describe, is_hidden, list_images, read_image
from orthoviz.seeds import seeded, small

# ImageNet's, per channel, on the scale 0 to 1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POSIX = os.name == "posix"


@dataclass(frozen=True, eq=False, repr=False)
class Folders(Dataset):
    """A data set of photographs of any size, decoded, cropped and mirrored by worker processes while the
    network trains; they are read anew in every epoch, and never copied.

    Attributes:
        size: height and width of what the network sees.
        passed_over: how many files were passed over, by kind: they are not images.
    """

    train: Files  # type: ignore[assignment]
    test: Files  # type: ignore[assignment]
    valid: Files | None = None  # type: ignore[assignment]
    size: int = 224
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return 3, self.size, self.size

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
        start: int = 0, rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """As :meth:`Dataset.batches`: a random part of each image, at random size, half of them
        mirrored. Chance comes from seed, epoch and image alone, whichever worker reads it."""
        generator = seeded(2**20 * seed + epoch)
        order = torch.randperm(len(self.train.labels), generator=generator).split(batch_size)
        mine = [chosen[rank::ranks] for chosen in order[start:]]
        images = _Decoded(self.train, _part(self.size, self.augment), generator.initial_seed() * 2**24)
        return self._read(images, mine, device, ranks)

    def in_order(  # type: ignore[override]
        self, split: Files, batch_size: int = 1000, *, device: torch.device | str = "cpu",
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """As :meth:`Dataset.in_order`: the middle of each image, at most 256 at once."""
        mine = torch.arange(len(split.labels))[rank::ranks].split(min(batch_size, 256))
        return self._read(_Decoded(split, _part(self.size, random=False)), mine, device, ranks)

    def _read(
        self, images: "_Decoded", chosen: Sequence[Tensor], place: torch.device | str, ranks: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        device = torch.device(place)
        loader = DataLoader(
            images,
            batch_sampler=[indices.tolist() for indices in chosen],
            num_workers=max(1, _workers() // ranks),
            prefetch_factor=4,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals if _POSIX else None,
            collate_fn=default_convert,
            generator=torch.Generator(),  # and not the global one
        )
        mean, std = (255 * torch.tensor(v, device=device).view(3, 1, 1) for v in (self.mean, self.std))
        with _signals_wait() if _POSIX else nullcontext():
            started = iter(loader)
        for batch in _with_remedy(started):
            if isinstance(batch, DataError):
                raise batch
            pixels, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # uint8: a quarter of the bytes
            yield (pixels.float() - mean) / std, labels

    def __repr__(self) -> str:
        left_out = f"; passed over: {describe(self.passed_over)}" if self.passed_over else ""
        return (
            f"Folders({self.name!r}: {len(self.train.labels):,} training and {len(self.test.labels):,} test "
            f"images, seen at {self.size} x {self.size}, {len(self.classes)} classes{left_out})"
        )


def folders(train: str | Path, val: str | Path, *, size: int = 224, augment: bool = True) -> Folders:
    """Two sets of photographs of any sizes, read in place.

    Args:
        train, val: to train and to test on: folders of ``<class>/<image>`` with the same classes.
        size: height and width of what the network sees. Training takes a random part of an image
            (torchvision's ``RandomResizedCrop``), testing the middle, once the shorter side is 256/224 of it.
        augment: False for digits and letters: training takes the middle too.

    Raises:
        DataError: there are no images, or the classes differ.
    """
    train_classes, training, passed_over = list_images(Path(train))
    test_classes, testing, more_passed = list_images(Path(val))
    if differ := sorted(set(train_classes) ^ set(test_classes)):
        raise DataError(f"{train} and {val} have other classes: {', '.join(differ[:5])} in one only.")
    name = Path(train).resolve().parent.name
    about = _MEAN, _STD, augment, f"photographs in the folders of {name}"
    return Folders(name, train_classes, training, testing, *about, None, size, passed_over + more_passed)


def find_splits(folder: Path) -> tuple[Path, Path]:
    """The folders to train and to test on: ``train``, and ``test`` or else ``val``, here or one folder below.

    Raises:
        DataError: there are none, or several data sets.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Unpack an archive of images, and give its folder.")
    below = [] if (folder / "train").is_dir() else sorted(folder.iterdir())
    roots = [root for root in below if (root / "train").is_dir() and not is_hidden(root.name)] or [folder]
    if len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise DataError(f"{folder} holds several data sets: {names}. Take them one by one.")
    tests = [roots[0] / part for part in ("test", "val") if (roots[0] / part).is_dir()]
    if not tests or not (roots[0] / "train").is_dir():
        raise DataError(
            f"{folder} needs a folder 'train', and a folder 'test' or 'val', with a folder of images for "
            "each class in both."
        )
    return roots[0] / "train", tests[0]


def _workers() -> int:
    """How many processes read images: as ``ORTHOVIZ_WORKERS`` says, or one for each CPU that this may use."""
    if wanted := os.environ.get("ORTHOVIZ_WORKERS"):
        if not wanted.isdigit() or not int(wanted):
            raise DataError(f"ORTHOVIZ_WORKERS must be a whole number of at least 1, got {wanted!r}.")
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_remedy(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; a worker's death by too little shared memory, said with what to do.

    Raises:
        DataError: so it died.
    """
    try:
        yield from batches
    except RuntimeError as error:
        words = str(error)
        if "shared memory" not in words and "Bus error" not in words and "No space left" not in words:
            raise
        raise DataError(
            "The processes that read images ran out of shared memory (/dev/shm, small in containers). Give "
            "it more, as with docker run --shm-size=2g, or set ORTHOVIZ_WORKERS=1, or take smaller batches."
        ) from error


@dataclass
class _Decoded(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """In a worker: parts of images as uint8, each with its own seed."""

    split: Files
    part: Any
    seed: int = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, _ = read_image(self.split.paths[index])
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(small(self.seed + index))
            return self.part(image), int(self.split.labels[index])

    def __getitems__(self, indices: list[int]) -> Any:
        """A batch; an error as a value, as the loader would raise it with the worker's traceback in it."""
        try:
            return default_collate([self[index] for index in indices])
        except DataError as error:
            return error


def _leave_signals(worker: int) -> None:
    """Make workers a group of their own, which forgets earlier signals.

    Terminals and torchrun signal the whole group of the process that trains; it ends its workers itself.
    """
    os.setpgrp()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold signals back while workers start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _part(size: int, random: bool) -> Any:
    """What turns an image into a part of it: one at random, half of them mirrored, or the middle."""
    from torchvision.transforms import v2  # type: ignore[import-untyped]

    if random:
        steps = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    else:
        steps = [v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)]
    return v2.Compose([*steps, v2.PILToTensor()])
