"""What a data set is, and the one that is always there."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from orthoviz.datasets import pixels


class DataError(ValueError):
    """A data set that cannot be had or used; the message says why and what to do."""


class Split(NamedTuple):
    """Images and their labels."""

    images: Tensor
    """``(N, C, H, W)`` uint8; in channels-last memory where batches are to be made fast."""
    labels: Tensor
    """``(N,)`` int64, indices into the data set's classes."""

    def some(self, chosen: Tensor) -> "Split":
        """Those of the given indices."""
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits of labelled images, and what a loader needs to know of them."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    mean: tuple[float, ...]
    """Per channel over the training images, on the scale 0 to 1."""
    std: tuple[float, ...]
    augment: bool
    """Whether training images are cropped at random and flipped (not for digits: a mirrored 2 is no 2)."""
    source: str
    """Where the images came from, in a line."""
    valid: Split | None = None
    """Images held out from training to choose by, where there are any."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def subset(self, train: int | None = None, test: int | None = None, *, seed: int = 0) -> "Dataset":
        """So many training and test images of a seeded shuffle; None keeps a split as it is."""

        def some(split: Split, count: int | None) -> Split:
            if count is None:
                return split
            if count < 1:
                raise ValueError(f"a subset needs at least 1 image of each split, got {count}")
            return split.some(_shuffle(len(split.labels), seed)[:count])

        return replace(self, train=some(self.train, train), test=some(self.test, test))

    def hold_out(self, count: int, *, seed: int = 0) -> "Dataset":
        """The same with ``count`` training images of a seeded shuffle moved to ``valid``."""
        total = len(self.train.labels)
        if not 0 < count < total:
            raise ValueError(f"hold_out takes 1 to {total - 1:,} of {total:,} training images, got {count}")
        order = _shuffle(total, seed)
        train, valid = (self.train.some(part.sort().values) for part in (order[count:], order[:count]))
        return replace(self, train=train, valid=valid)

    def checksum(self) -> str:
        """Of all images and labels, in 16 hexadecimal digits: the same data have the same."""
        return hash_images(self, hashlib.blake2b(digest_size=8))

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with its images and labels on ``device``."""
        train, test = (Split(*(t.to(device) for t in split)) for split in (self.train, self.test))
        valid = None if self.valid is None else Split(*(t.to(device) for t in self.valid))
        return replace(self, train=train, test=test, valid=valid)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
        start: int = 0, rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """As :func:`orthoviz.datasets.batches`."""
        images, labels = pixels.channels_last(self.train.images, device), self.train.labels.to(device)
        generator = torch.Generator().manual_seed(2**20 * seed + epoch)
        for i, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(batch_size)):
            shifts = pixels.draw_shifts(len(chosen), self.shape, generator) if self.augment else ()
            if i < start:
                continue
            chosen, *mine = (values[rank::ranks].to(device) for values in (chosen, *shifts))
            batch = images[chosen]
            if self.augment:
                batch = pixels.crop_and_flip(batch, *mine)
            yield pixels.normalise(batch, self.mean, self.std), labels[chosen]

    def whole(
        self, split: Split, batch_size: int = 1000, *, device: torch.device | str = "cpu",
        rank: int = 0, ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """As :func:`orthoviz.datasets.whole`."""
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


def batches(
    data: Dataset, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
    start: int = 0, rank: int = 0, ranks: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """One epoch of the training images: shuffled, augmented where the data set says so, normalised.

    The images are cropped at random after padding by an eighth of their size (4 pixels of 32) with
    black, and mirrored half of the time. Chance comes from ``seed`` and ``epoch`` alone, drawn on the
    CPU, so any device sees the same batches. ``start`` batches are passed over; of each other one this gives
    the part of process ``rank`` of ``ranks``.

    Yields:
        images ``(batch, C, H, W)`` float32 with mean 0 and standard deviation 1, and labels
        ``(batch,)``. The last batch is smaller where the batch size does not divide the images.
    """
    more = {"start": start, "rank": rank, "ranks": ranks}
    return data.batches(batch_size, seed=seed, epoch=epoch, device=device, **more)


def whole(
    data: Dataset, split: Split, batch_size: int = 1000, *,
    device: torch.device | str = "cpu", rank: int = 0, ranks: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """All images of a split in order, or each ``ranks``-th, normalised, none augmented.

    Yields like :func:`batches`.
    """
    return data.whole(split, batch_size, device=device, rank=rank, ranks=ranks)


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


def hash_images(data: Dataset, digest: Any) -> str:
    """Of all images and labels, by one of hashlib's digests."""
    for split in (data.train, data.valid, data.test):
        if split is not None:
            digest.update(pixels.channels_last(split.images, "cpu").numpy().data)
            digest.update(split.labels.cpu().contiguous().numpy().data)
    return str(digest.hexdigest())


def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
