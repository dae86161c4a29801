"""The images of stages 4 and 5, from an archive that was brought along."""

import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import orthoviz as ov


def unpack(archive: str, work: Path, dry: bool) -> None:
    """Add the archive's images as the data set cifar10; in miniature two of each folder."""
    seen: Counter[str] = Counter()
    with tarfile.open(archive or made_up(work)) as packed:
        for member in packed:
            seen[os.path.dirname(member.name)] += 1
            if not dry or seen[os.path.dirname(member.name)] <= 2:
                packed.extract(member, work / "images", filter="data")
    print(ov.datasets.add("cifar10", work / "images"))


def made_up(work: Path) -> Path:
    """An archive of random images, ten classes with two of each split."""
    random = np.random.default_rng(0)
    with tarfile.open(work / "images.tar", "w") as packed:
        for place in [
            f"{s}/class{c}/{i}.jpg" for s in ("train", "test") for c in range(10) for i in range(2)
        ]:
            Image.fromarray(random.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(work / "one.jpg")
            packed.add(work / "one.jpg", place)
    return work / "images.tar"
