"""What a data set is, and the built-in one."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from orthoviz.datasets import pixels
from orthoviz.seeds import seeded


class DataError(ValueError):
    """A data set cannot be found or used; the message says why and what to do."""


class Split(NamedTuple):
    """Images and their labels, or other inputs and what is to be found of them."""

    images: Tensor
    """``(N, C, H, W)`` uint8, channels-last memory makes batches faster; or ``(N, ...)`` of any kind."""
    labels: Tensor
    """``(N,)`` int64, indices into the data set's classes; or ``(N, ...)`` of any kind."""

    def some(self, chosen: Tensor) -> "Split":
        """Those of the given indices."""
        return Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device | str) -> "Split":
        """The same on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))

    def feed(self, digest: Any) -> None:
        """Show images and labels to one of hashlib's digests."""
        images = pixels.channels_last(self.images, "cpu") if self.images.ndim == 4 else self.images.cpu()
        for tensor in (images.contiguous(), self.labels.cpu().contiguous()):
            digest.update(tensor.numpy().data)


class Splits:
    """What data sets of tensors share: frozen dataclasses with a ``name``, and splits by name."""

    name: str
    source: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    valid: Split | None
    batch_size = None
    """Batches are as large as one asks."""

    @property
    def count(self) -> int:
        """How many there are to train on."""
        return len(self.train.labels)

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        return math.ceil(self.count / batch_size)

    def example(self) -> tuple[Tensor, Tensor]:
        """A batch of one to try a model with: its inputs and targets."""
        return self.train.images[:1], self.train.labels[:1]

    def __repr__(self) -> str:
        kind, test = type(self).__name__, len(self.test.labels)
        return f"{kind}({self.name!r}: {self.count:,} to train on and {test:,} to test on)"

    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def subset(self, train: int | None = None, test: int | None = None, *, seed: int = 0) -> Self:
        """So many training and test images of a seeded shuffle; None keeps a split as it is."""
        parts: dict[str, Any] = {}
        for name, count in (("train", train), ("test", test)):
            if count is not None:
                if count < 1:
                    raise ValueError(f"a subset needs at least 1 image of each split, got {count}")
                split = self.splits()[name]
                parts[name] = split.some(_shuffle(len(split.labels), seed)[:count])
        return replace(self, **parts)  # type: ignore[type-var]

    def hold_out(self, count: int, *, seed: int = 0) -> Self:
        """The same with ``count`` training images of a seeded shuffle moved to ``valid``."""
        total = len(self.train.labels)
        if not 0 < count < total:
            raise ValueError(f"hold_out takes 1 to {total - 1:,} of {total:,} training images, got {count}")
        order = _shuffle(total, seed)
        train, valid = (self.train.some(part.sort().values) for part in (order[count:], order[:count]))
        return replace(self, train=train, valid=valid)  # type: ignore[type-var]

    def checksum(self, digest: Any = None) -> str:
        """Of all images and labels, in hexadecimal digits: the same data have the same.

        Args:
            digest: one of hashlib's. Default: BLAKE2 with 16 digits.
        """
        digest = digest or hashlib.blake2b(digest_size=8)
        for split in self.splits().values():
            split.feed(digest)
        return str(digest.hexdigest())

    def to(self, device: torch.device | str) -> Self:
        """The same data set with its images and labels on ``device``."""
        moved: dict[str, Any] = {name: split.to(device) for name, split in self.splits().items()}
        return replace(self, **moved)  # type: ignore[type-var]

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
        start: int = 0, rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """One epoch of what there is to train on, in an order that comes from ``seed`` and ``epoch`` alone.

        Args as of :meth:`Dataset.batches`.
        """
        inputs, targets = self.train.to(device)
        order = torch.randperm(self.count, generator=seeded(2**20 * seed + epoch)).split(batch_size)
        for chosen in order[start:]:
            mine = chosen[rank::ranks].to(device)
            yield inputs[mine], targets[mine]

    def in_order(
        self, split: Split, batch_size: int = 1000, *, device: torch.device | str = "cpu",
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """All of a split in order, or each ``ranks``-th."""
        parts = (tensor[rank::ranks].split(batch_size) for tensor in split.to(device))
        yield from zip(*parts, strict=True)


@dataclass(frozen=True, eq=False)
class Dataset(Splits):
    """Splits of labelled images, and what a loader needs to know of them."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    mean: tuple[float, ...]
    """Per channel over the training images, on the scale 0 to 1."""
    std: tuple[float, ...]
    augment: bool
    """Whether training crops images at random and mirrors them (not digits: a mirrored 2 is not a 2)."""
    source: str
    """Where the images came from, in a line."""
    valid: Split | None = None
    """Images held out from training, to choose by; None if there are none."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def example(self) -> tuple[Tensor, Tensor]:
        """A black image, and a label."""
        return torch.zeros(1, *self.shape), torch.zeros(1, dtype=torch.int64)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
        start: int = 0, rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """One epoch of the training images: shuffled, augmented where the data set says so, normalised.

        The images are cropped at random after padding by an eighth of their size (4 pixels of 32) with
        black, and mirrored half of the time. Chance comes from ``seed`` and ``epoch`` alone, drawn on the
        CPU, so any device sees the same batches.

        Args:
            batch_size: images a batch.
            seed: of the shuffle and the augmentation, with ``epoch``.
            device: where the batches are made.
            start: so many batches are passed over.
            rank, ranks: of each batch this process, ``rank`` of ``ranks``, gets its part.

        Yields:
            images ``(batch, C, H, W)`` float32 with mean 0 and standard deviation 1, and labels
            ``(batch,)``. The last batch is smaller where the batch size does not divide the images.
        """
        images, labels = pixels.channels_last(self.train.images, device), self.train.labels.to(device)
        generator = seeded(2**20 * seed + epoch)
        for i, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(batch_size)):
            shifts = pixels.draw_shifts(len(chosen), self.shape, generator) if self.augment else ()
            if i < start:
                continue
            chosen, *mine = (values[rank::ranks].to(device) for values in (chosen, *shifts))
            batch = images[chosen]
            if self.augment:
                batch = pixels.crop_and_flip(batch, *mine)
            yield pixels.normalise(batch, self.mean, self.std), labels[chosen]

    def in_order(
        self, split: Split, batch_size: int = 1000, *, device: torch.device | str = "cpu",
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """All images of a split in order, or each ``ranks``-th, normalised, none augmented.

        Yields like :meth:`batches`.
        """
        images = pixels.channels_last(split.images, device)[rank::ranks].split(batch_size)
        labels = split.labels.to(device)[rank::ranks].split(batch_size)
        for batch, answers in zip(images, labels, strict=True):
            yield pixels.normalise(batch, self.mean, self.std), answers

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return (
            f"Dataset({self.name!r}: {len(self.train.labels):,} training and "
            f"{len(self.test.labels):,} test images of {shape}, {len(self.classes)} classes)"
        )


def batches(data: Dataset, batch_size: int, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of the training images: shuffled, augmented where the data set says so, normalised.

    Args:
        options: ``seed`` and ``epoch``, from which all chance comes; ``device``, ``start``, ``rank`` and
            ``ranks``; see :meth:`Dataset.batches`.

    Yields:
        images ``(batch, C, H, W)`` float32 with mean 0 and standard deviation 1, and labels ``(batch,)``.
    """
    return data.batches(batch_size, **options)


def in_order(
    data: Dataset, split: Split, batch_size: int = 1000, **options: Any
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a split in order, normalised, none augmented, in batches like those of :func:`batches`.

    Args:
        options: ``device``, ``rank`` and ``ranks``; see :meth:`Dataset.in_order`.
    """
    return data.in_order(split, batch_size, **options)


def digits() -> Dataset:
    """scikit-learn's 8 x 8 digits: 1,437 training and 360 test images, stratified and fixed.

    Source: Alpaydin & Kaynak 1998, *Optical Recognition of Handwritten Digits*, UCI repository.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)  # 0 to 16
    images = (values * 255 / 16).round().astype("uint8").reshape(-1, 1, 8, 8)
    parts = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)
    train, test = Split(train_images, train_labels.long()), Split(test_images, test_labels.long())
    source = "scikit-learn's copy of the UCI optical recognition of handwritten digits data set"
    mean, std = pixels.channel_statistics(train.images)
    return Dataset("digits", tuple("0123456789"), train, test, mean, std, augment=False, source=source)


def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=seeded(seed))
