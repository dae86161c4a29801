"""What a data set is, and the one that is always there."""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


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
            return split.some(_shuffled(len(split.labels), seed)[:count])

        return replace(self, train=some(self.train, train), test=some(self.test, test))

    def hold_out(self, count: int, *, seed: int = 0) -> "Dataset":
        """The same with ``count`` training images of a seeded shuffle moved to ``valid``."""
        total = len(self.train.labels)
        if not 0 < count < total:
            raise ValueError(f"hold_out takes 1 to {total - 1:,} of {total:,} training images, got {count}")
        order = _shuffled(total, seed)
        train, valid = (self.train.some(part.sort().values) for part in (order[count:], order[:count]))
        return replace(self, train=train, valid=valid)

    def checksum(self) -> str:
        """Of all images and labels, in 16 hexadecimal digits: the same data have the same."""
        digest = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.valid, self.test):
            if split is not None:
                pixels = split.images.cpu().permute(0, 2, 3, 1).contiguous()
                digest.update(pixels.numpy().data)
                digest.update(split.labels.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with its images and labels on ``device``."""
        train, test = (Split(*(t.to(device) for t in split)) for split in (self.train, self.test))
        valid = None if self.valid is None else Split(*(t.to(device) for t in self.valid))
        return replace(self, train=train, test=test, valid=valid)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return (
            f"Dataset({self.name!r}: {len(self.train.labels):,} training and "
            f"{len(self.test.labels):,} test images of {shape}, {len(self.classes)} classes)"
        )


def digits() -> Dataset:
    """scikit-learn's 8 x 8 digits: 1,437 training and 360 test images, stratified and fixed.

    Source: Alpaydin & Kaynak 1998, *Optical Recognition of Handwritten Digits*, UCI repository.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)  # values 0 to 16
    images = (pixels * 255 / 16).round().astype("uint8").reshape(-1, 1, 8, 8)
    parts = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)
    train = Split(train_images, train_labels.long())
    mean, std = channel_statistics(train.images)
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        train=train,
        test=Split(test_images, test_labels.long()),
        mean=mean,
        std=std,
        augment=False,
        source="scikit-learn's copy of the UCI optical recognition of handwritten digits data set",
    )


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images, on the scale 0 to 1."""
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    per_image = images[0].numel()
    for chunk in images.split(max(1, 2**23 // per_image)):  # 64 MB of float64 at a time
        values = chunk.double() / 255
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    count = images.numel() / images.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
