"""Image files of many kinds to one uint8 array a split, with every doubt raised."""

import io
import struct
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from orthoviz.datasets.archives import MOST_BYTES, members
from orthoviz.datasets.dataset import DataError, Split

_TEST_SPLITS = ("test", "val")
_SPLITS = ("train", *_TEST_SPLITS)
# Pillow would try every format it knows, among them some that start other programs
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
# Pillow turns these into RGB and loses nothing but transparency
_MODES = {
    "RGB": "colour",
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale, alpha dropped",
    "La": "greyscale, alpha dropped",
    "P": "palette",
    "PA": "palette, alpha dropped",
    "RGBA": "colour, alpha dropped",
    "RGBa": "colour, alpha dropped",
    "RGBX": "colour",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
}


@dataclass
class Found:
    """What was read, before it is kept."""

    classes: tuple[str, ...]
    train: Split
    test: Split
    source: str
    notes: list[str] = field(default_factory=list)

    def report(self) -> str:
        _, channels, height, width = self.train.images.shape
        lines = [f"{len(self.classes)} classes: {_shortened(self.classes)}"]
        for name, split in (("training", self.train), ("test", self.test)):
            counts = torch.bincount(split.labels, minlength=len(self.classes))
            low, high = int(counts.min()), int(counts.max())
            each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            lines.append(f"{len(split.labels):,} {name} images, {each} a class")
        lines.append(f"{height} x {width} pixels, {channels} channels")
        return "\n".join([*lines, *self.notes])


def read(path: Path, max_bytes: int | None, size: int | None) -> Found:
    """Read ``<split>/<class>/<image>`` from a folder, tar or zip.

    Raises:
        DataError: naming the file or class and what is wrong with it.
    """
    images: dict[str, dict[str, list[tuple[str, NDArray[np.uint8]]]]] = {}
    modes: Counter[str] = Counter()
    shapes: Counter[tuple[int, ...]] = Counter()
    outside: list[str] = []
    tops: set[str] = set()
    decoded = 0
    for name, data in tqdm(members(path, max_bytes), desc="reading", unit=" files", disable=None):
        parts = PurePosixPath(name).parts
        if data is None:
            if parts[-2:-1] and parts[-2] in _SPLITS:
                images.setdefault(parts[-2], {}).setdefault(parts[-1], [])
        elif not set(parts) & set(_SPLITS):
            outside.append(name)
        elif parts[-3:-2] and parts[-3] in _SPLITS:
            pixels, mode = _decode(f"{name} in {path}", data, size)
            images.setdefault(parts[-3], {}).setdefault(parts[-2], []).append((name, pixels))
            tops.add("/".join(parts[:-3]))
            modes[mode] += 1
            shapes[pixels.shape[:2]] += 1
            decoded += pixels.nbytes
            if decoded > (max_bytes or MOST_BYTES):
                raise DataError(
                    f"The images in {path} take more than {max_bytes or MOST_BYTES:,} bytes once decoded. "
                    "Nothing was added.\n    Make them smaller with --size, or allow more with --max-bytes."
                )
        else:
            raise DataError(
                f"{name} in {path} is not at <split>/<class>/<image>. Nothing was added.\n"
                "    Move or remove that file and run the command again."
            )
    if len(tops) > 1:
        raise DataError(
            f"{path} holds several data sets: {_shortened(sorted(tops))}. Nothing was added.\n"
            "    Add them one by one."
        )
    train, test, classes, notes = _checked_layout(path, images)
    if len(shapes) > 1:
        common = ", ".join(f"{w} x {h} ({n:,})" for (h, w), n in shapes.most_common(5))
        more = f" and {len(shapes) - 5} more" if len(shapes) > 5 else ""
        raise DataError(
            f"The images in {path} have {len(shapes)} sizes: {common}{more}. Nothing was added.\n"
            "    Resize and centre-crop them all with, for example, --size 64."
        )
    kinds = ", ".join(f"{n:,} {_MODES[mode]}" for mode, n in modes.most_common())
    notes.append(f"modes: {kinds}" + ("" if set(modes) == {"RGB"} else "; all turned into RGB"))
    if outside:
        notes.append(f"left out, as it lies in no split: {_shortened(outside)}")
    return Found(
        classes=classes,
        train=_stacked(images[train], classes),
        test=_stacked(images[test], classes),
        source=f"images of {path.name}",
        notes=notes,
    )


def _decode(name: str, data: bytes, size: int | None) -> tuple[NDArray[np.uint8], str]:
    """The image's pixels, (H, W, 3), and its mode in the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            wide = any(";16" in str(tile) for tile in image.tile)  # Pillow would cut these to 8 bits
            mode = image.mode
            if wide or mode not in _MODES:
                kind = "16-bit" if wide or mode.startswith("I") else f"of mode {mode}"
                raise DataError(
                    f"{name} is {kind}, and would lose meaning in 8 bits a channel. Nothing was added.\n"
                    "    Convert such images to 8-bit RGB first."
                )
            image.load()
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise DataError(
            f"{name} is not an image. Nothing was added.\n    Remove that file and run the command again."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} is too large to decode: {error} Nothing was added.") from None
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error) as error:
        raise DataError(
            f"{name} is cut short or damaged ({error}). Nothing was added.\n"
            "    Replace or remove that file and run the command again."
        ) from error
    if size is not None:
        upright = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(upright), mode


def _checked_layout(
    path: Path, images: dict[str, dict[str, list[tuple[str, NDArray[np.uint8]]]]]
) -> tuple[str, str, tuple[str, ...], list[str]]:
    """Names of the training and test split, the classes, and what to tell of the choice."""
    test = next((split for split in _TEST_SPLITS if split in images), None)
    if "train" not in images or test is None:
        raise DataError(
            f"{path} needs a folder 'train', and a folder 'test' or 'val', with a folder of images for "
            f"each class; found: {', '.join(sorted(images)) or 'none of them'}. Nothing was added."
        )
    classes = tuple(sorted(images["train"]))
    if other := set(classes) ^ set(images[test]):
        raise DataError(
            f"The classes of train and {test} in {path} differ: {_shortened(sorted(other))} in only one "
            "of them. Nothing was added."
        )
    if len(classes) < 2:
        raise DataError(f"{path} has one class, {classes[0]}: at least two are needed. Nothing was added.")
    for split in ("train", test):
        for name in classes:
            if not images[split][name]:
                raise DataError(f"{split}/{name} in {path} has no images. Nothing was added.")
    notes = ["val left out: test is used"] if test == "test" and "val" in images else []
    return "train", test, classes, notes


def _stacked(by_class: dict[str, list[tuple[str, NDArray[np.uint8]]]], classes: tuple[str, ...]) -> Split:
    """One array in the order of classes and file names, whatever the archive's order was."""
    pixels = [image for name in classes for _, image in sorted(by_class[name], key=lambda one: one[0])]
    labels = [index for index, name in enumerate(classes) for _ in by_class[name]]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return Split(images, torch.tensor(labels))


def _shortened(names: "tuple[str, ...] | list[str]", most: int = 10) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
