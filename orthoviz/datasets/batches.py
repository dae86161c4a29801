"""Batches made from uint8 images on the device that trains."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from orthoviz.datasets.dataset import Dataset, Split
from orthoviz.datasets.folders import Files, Folders


def batches(
    data: Dataset | Folders, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu",
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
    if not isinstance(data, Dataset):
        more = {"start": start, "rank": rank, "ranks": ranks}
        yield from data.batches(batch_size, seed=seed, epoch=epoch, device=device, **more)
        return
    pixels, labels = _pixels(data.train, device), data.train.labels.to(device)
    generator = torch.Generator().manual_seed(2**20 * seed + epoch)
    for i, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(batch_size)):
        shifts = _shifts(len(chosen), data, generator) if data.augment else ()
        if i < start:
            continue
        chosen, *mine = (values[rank::ranks].to(device) for values in (chosen, *shifts))
        batch = pixels[chosen]
        if data.augment:
            batch = _crop_and_flip(batch, *mine)
        yield _normalised(batch, data), labels[chosen]


def whole(
    data: Dataset | Folders, split: Split | Files, batch_size: int = 1000, *,
    device: torch.device | str = "cpu", rank: int = 0, ranks: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """All images of a split in order, or each ``ranks``-th, normalised, none augmented.

    Yields like :func:`batches`.
    """
    if isinstance(split, Files):
        assert isinstance(data, Folders)
        yield from data.whole(split, batch_size, device=device, rank=rank, ranks=ranks)
        return
    assert not isinstance(data, Folders)
    pixels, labels = (values[rank::ranks] for values in (_pixels(split, device), split.labels.to(device)))
    for batch, answers in zip(pixels.split(batch_size), labels.split(batch_size), strict=True):
        yield _normalised(batch, data), answers


# Inside this module a batch is (N, H, W, C), channels last: a convolution on a CPU was measured to take 40 %
# less time on such images, and each row of a crop is one piece of memory.


def _pixels(split: Split, device: torch.device | str) -> Tensor:
    return split.images.to(device).permute(0, 2, 3, 1).contiguous()  # a copy only where stored otherwise


def _shifts(count: int, data: Dataset, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Of each image: rows and columns to shift by, and whether to mirror it."""
    _, height, width = data.shape
    choices = (2 * (height // 8) + 1, 2 * (width // 8) + 1, 2)
    return tuple(torch.randint(some, (count,), generator=generator) for some in choices)


def _crop_and_flip(pixels: Tensor, rows: Tensor, columns: Tensor, mirror: Tensor) -> Tensor:
    count, height, width, _ = pixels.shape
    top, left = height // 8, width // 8
    padded = F.pad(pixels, (0, 0, left, left, top, top))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # a view: (N, shifts, shifts, C, H, W)
    mirrored = mirror.nonzero()[:, 0]
    cropped = windows[torch.arange(count, device=pixels.device), rows, columns].permute(0, 2, 3, 1)
    cropped[mirrored] = cropped[mirrored].flip(2)
    return cropped


def _normalised(pixels: Tensor, data: Dataset) -> Tensor:
    """Float32 (N, C, H, W), each channel with mean 0 and standard deviation 1 over the training set."""
    mean = 255 * torch.tensor(data.mean, device=pixels.device)
    std = 255 * torch.tensor(data.std, device=pixels.device)
    scale = torch.where(std > 0, 1 / std, 1.0)  # a channel that never changes stays 0
    _, height, width, channels = pixels.shape
    rows = pixels.reshape(-1, height, width * channels).float()  # long rows: four times faster on a CPU
    rows.sub_(mean.repeat(width)).mul_(scale.repeat(width))
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
