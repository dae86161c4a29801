"""What a data set is, and the built-in one."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from orthoviz.datasets import pixels
from orthoviz.seeds import seeded


class DataError(ValueError):
    """A data set cannot be found or used; the message says why and what to do."""


class Split(NamedTuple):
    """Images and their labels, or other inputs and what is to be found of them.

    Attributes:
        images: ``(N, C, H, W)`` uint8, channels-last memory makes batches faster; or ``(N, ...)`` of any
            kind.
        labels: ``(N,)`` int64, indices into the data set's classes; or ``(N, ...)`` of any kind.
    """

    images: Tensor
    labels: Tensor

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


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits of images, which a loader normalises, or of other tensors, which it gives as they are.

    Attributes:
        classes: what labels stand for; none where they have no names.
        mean: per channel over the training images, on the scale 0 to 1; empty of what is no images.
        augment: whether training crops images at random and mirrors them (not digits: a mirrored 2 is not a
            2).
        source: where they came from, in a line.
        valid: what is held out from training, to choose by; None if nothing is.
        batch_size: batches are as large as one asks.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: bool = False
    source: str = ""
    valid: Split | None = None
    batch_size: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image; or the dimensions of another input."""
        return tuple(self.train.images.shape[1:])

    @property
    def count(self) -> int:
        """How many there are to train on."""
        return len(self.train.labels)

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        return math.ceil(self.count / batch_size)

    def example(self) -> tuple[Tensor, Tensor]:
        """A batch of one to try a model with: a black image or the first input, and a target."""
        if self.mean:
            return torch.zeros(1, *self.shape), torch.zeros(1, dtype=torch.int64)
        return self.train.images[:1], self.train.labels[:1]

    def __repr__(self) -> str:
        kind, shape = "images" if self.mean else "examples", " x ".join(map(str, self.shape))
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return (
            f"Dataset({self.name!r}: {self.count:,} training and {len(self.test.labels):,} test "
            f"{kind} of {shape}{classes})"
        )

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
        return replace(self, **parts)

    def hold_out(self, count: int, *, seed: int = 0) -> Self:
        """The same with ``count`` training images of a seeded shuffle moved to ``valid``."""
        total = len(self.train.labels)
        if not 0 < count < total:
            raise ValueError(f"hold_out takes 1 to {total - 1:,} of {total:,} training images, got {count}")
        order = _shuffle(total, seed)
        train, valid = (self.train.some(part.sort().values) for part in (order[count:], order[:count]))
        return replace(self, train=train, valid=valid)

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
        return replace(self, **moved)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
        start: int = 0, rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """One epoch of the training set: shuffled, images augmented where the data set says so, normalised.

        The images are cropped at random after padding by an eighth of their size (4 pixels of 32) with
        black, and mirrored half of the time. Chance comes from ``seed`` and ``epoch`` alone, drawn on the
        CPU, so any device sees the same batches.

        Args:
            batch_size: examples a batch.
            seed: of the shuffle and the augmentation, with ``epoch``.
            device: where the batches are made.
            start: so many batches are passed over.
            rank, ranks: of each batch this process, ``rank`` of ``ranks``, gets its part.

        Yields:
            images ``(batch, C, H, W)`` float32 with mean 0 and standard deviation 1, and labels
            ``(batch,)``; or other inputs and targets as they are. The last batch is smaller where the batch
            size does not divide their number.
        """
        inputs, targets = self._on(device, self.train)
        generator = seeded(2**20 * seed + epoch)
        for i, chosen in enumerate(torch.randperm(self.count, generator=generator).split(batch_size)):
            shifts = pixels.draw_shifts(len(chosen), self.shape, generator) if self.augment else ()
            if i < start:
                continue
            chosen, *mine = (values[rank::ranks].to(device) for values in (chosen, *shifts))
            batch = inputs[chosen]
            if self.augment:
                batch = pixels.crop_and_flip(batch, *mine)
            yield self._normalise(batch), targets[chosen]

    def in_order(
        self, split: Split, batch_size: int = 1000, *, device: torch.device | str = "cpu",
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """All of a split in order, or each ``ranks``-th, images normalised, none augmented.

        Yields like :meth:`batches`.
        """
        parts = (tensor[rank::ranks].split(batch_size) for tensor in self._on(device, split))
        for batch, targets in zip(*parts, strict=True):
            yield self._normalise(batch), targets

    def _on(self, device: torch.device | str, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets on the device, the channels of images last."""
        inputs = pixels.channels_last(split.images, device) if self.mean else split.images.to(device)
        return inputs, split.labels.to(device)

    def _normalise(self, batch: Tensor) -> Tensor:
        return pixels.normalise(batch, self.mean, self.std) if self.mean else batch


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
