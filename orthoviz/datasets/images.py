"""Read image files, and list those in a folder."""

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from orthoviz.datasets.dataset import DataError

# Pillow would try every format that it knows, whatever a file is called, and some start other programs
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_DEEPEST = 8
# Pillow's modes that become RGB without a doubt, and what the user reads of them.
_MODES = {
    "RGB": "colour",
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale, alpha dropped",
    "P": "palette",
    "PA": "palette, alpha dropped",
    "RGBA": "colour, alpha dropped",
    "RGBX": "colour",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "I;16": "16-bit greyscale",
    "I;16B": "16-bit greyscale",
}


class Files(NamedTuple):
    """Images on the disk, and their labels.

    Attributes:
        labels: ``(N,)`` int64, indices into the classes.
    """

    paths: tuple[str, ...]
    labels: Tensor

    def some(self, chosen: Tensor) -> "Files":
        """Those of the given indices."""
        return Files(tuple(self.paths[i] for i in chosen.tolist()), self.labels[chosen])

    def to(self, device: torch.device | str) -> "Files":
        """Itself: batches go to the device one by one."""
        return self

    def feed(self, digest: Any) -> None:
        """Show the images' names and lengths to one of hashlib's digests."""
        for path in map(Path, self.paths):
            line = f"{path.parent.name}/{path.name} {path.stat().st_size}\n"
            digest.update(line.encode(errors="surrogateescape"))  # a name may be in an old encoding


def read_image(path: str | Path) -> tuple[Image.Image, str]:
    """The image as 8-bit RGB, upright as its EXIF says, and what it was in the file, as "greyscale".

    Raises:
        DataError: it is not an image in one of the formats above, it is damaged, it has more pixels than
            Pillow's limit of 89 million, or its values have no range that is known.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} is not a file: it is missing, a broken link or a device.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                mode = image.mode
                if mode == "I" and image.format == "PPM":  # Pillow scales these to 16 bits
                    mode = "I;16"
                if mode in _MODES:
                    image.load()
                    ImageOps.exif_transpose(image, in_place=True)
                    upright: Image.Image = image
                    if mode.startswith("I"):  # the high byte, as Pillow itself takes of 16-bit colour
                        upright = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                    return upright.convert("RGB"), _MODES[mode]
    except UnidentifiedImageError:
        todo = f"Replace it by an image in one of the formats {', '.join(_FORMATS)}, or remove it."
        raise DataError(f"{path} is not an image that can be read. {todo}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} is too large to decode: {error} Make it smaller, or remove it.") from None
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"{path} is cut short or damaged ({error}). Replace or remove it.") from error
    raise DataError(f"{path} is of mode {mode}, whose values have no known range. Convert it to 8-bit RGB.")


def list_images(folder: Path) -> tuple[tuple[str, ...], Files, Counter[str]]:
    """The images of ``<class>/<image>``, in the order of classes and names.

    Returns:
        the classes, the images, and how many files of which kind were passed over: hidden and system files,
        and those without an image's ending.

    Raises:
        DataError: it is not a folder of folders of images, or links in it form a circle.
    """
    from torchvision.datasets.folder import make_dataset  # type: ignore[import-untyped]

    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder. Unpack archives and WebDataset shards to <class>/<image>.")
    passed_over: Counter[str] = Counter()

    def is_image(path: str) -> bool:
        parts = path[len(str(folder)) :].strip(os.sep).split(os.sep)
        if len(parts) > _DEEPEST:
            raise DataError(f"{path} lies too deep for <class>/<image>. Remove links to folders above.")
        if any(map(is_hidden, parts)):
            passed_over["hidden or system"] += 1
        elif not path.lower().endswith(_SUFFIXES):
            passed_over[os.path.splitext(path)[1] or "without an ending"] += 1
        else:
            return True
        return False

    names = [name for name in sorted(os.listdir(folder)) if not is_hidden(name)]
    classes = tuple(name for name in names if (folder / name).is_dir())
    if len(classes) < 2:
        found = classes[0] if classes else "none"
        raise DataError(f"{folder} needs a folder of images for each of two classes or more, found: {found}.")
    if loose := len(names) - len(classes):
        passed_over["outside of a class"] = loose
    try:
        labels = {name: i for i, name in enumerate(classes)}
        images = make_dataset(str(folder), labels, is_valid_file=is_image)
    except FileNotFoundError as error:  # a class without images
        raise DataError(f"{folder}: {error}Passed over: {describe(passed_over) or 'nothing'}.") from error
    paths, indices = zip(*images, strict=True)
    return classes, Files(paths, torch.tensor(indices)), passed_over


def is_hidden(name: str) -> bool:
    """Whether a system made this file or folder, not the user: macOS, Windows, Jupyter and git leave such."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def describe(counts: Counter[str]) -> str:
    """The counts in words, the largest first: "3 .txt, 1 hidden or system"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
