"""Pack a folder with all that a class without internet needs: wheels, data sets, lessons, checksums."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import filterfalse, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.specifiers import SpecifierSet

from orthoviz import datasets, lab
from orthoviz.course.doctor import Finding, install
from orthoviz.files import checkout

_GLIBC = [*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014"]
# What --platform takes, each with uv's name for it and pip's names for the wheels that run there
PLATFORMS = {
    "linux_x86_64": ("x86_64-manylinux_2_28", [f"{tag}_x86_64" for tag in _GLIBC]),
    "linux_aarch64": ("aarch64-manylinux_2_28", [f"{tag}_aarch64" for tag in _GLIBC]),
    "macos_arm64": ("aarch64-apple-darwin", ["macosx_14_0_arm64"]),
    "windows_x86_64": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}
_WHEELS_GB, _CUDA_GB = 0.5, 2.9


def pack(folder: Path | str, platforms: Sequence[str] = (), pythons: Sequence[str] = ()) -> Iterator[Finding]:
    """Pack a new folder for a class. The folder gets its name only when all is in it.

    Args:
        folder: a path that does not exist, or an empty folder.
        platforms: the class's machines, of :data:`PLATFORMS`; default: this one's.
        pythons: the class's versions of Python, such as ``"3.12"``; default: this one's.

    Returns:
        One finding after the other, while it packs: what was packed, and what could not be had.

    Raises:
        ValueError: an argument is wrong, the environment lacks a tool, or the disk has too little room.
            Nothing was packed.
    """
    root, folder = checkout(), Path(folder).absolute()
    if root is None:
        raise ValueError("orthoviz is installed without its repository here; pack from a clone of it")
    # find_spec("pip") would tell setuptools that pip is at work, and torch.compile then fails in this process
    for tool in ("pip", "uv"):
        if not any(metadata.distributions(name=tool)):
            raise ValueError(f"this environment has no {tool}, which packing needs; run {install(tool)}")
    if folder.is_file() or any(folder.glob("*")):
        raise ValueError(f"{folder} is in use; name a new or an empty folder")
    here = f"{platform.system()}_{platform.machine()}".lower()
    platforms = platforms or [here.replace("darwin", "macos").replace("amd64", "x86_64")]
    pythons = pythons or [f"3.{sys.version_info.minor}"]
    versions = SpecifierSet(metadata.metadata("orthoviz")["Requires-Python"])
    if wrong := [*filterfalse(PLATFORMS.get, platforms), *filterfalse(versions.contains, pythons)]:
        known = f"platforms are {', '.join(PLATFORMS)}, and Pythons such as 3.12 must be {versions}"
        raise ValueError(f"there are no wheels for {', '.join(wrong)}: {known}")
    data = sorted(datasets.location().glob("[!.]*.safetensors"))
    targets = list(product(platforms, pythons))
    needed = sum(file.stat().st_size for file in data) / 1e9 + _WHEELS_GB * len(targets)
    needed += _CUDA_GB * any(name.startswith("linux") for name in platforms)
    if (free := shutil.disk_usage(folder.parent).free / 1e9) < needed:
        room = f"{free:.1f} GB are free, and packing may take {needed:.1f}"
        raise ValueError(f"{folder.parent}: {room}; make room, or name another place")
    return _pack(root, folder, targets, data)


def _pack(root: Path, folder: Path, targets: list[tuple[str, str]], data: list[Path]) -> Iterator[Finding]:
    level, todo, prefix = "ok", "", f"{folder.name}.unfinished-"
    with TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as beside:
        new, wheels = Path(beside, folder.name), Path(beside, folder.name, "wheels")
        _run("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", root)
        for name, python in targets:
            try:
                yield from _fetch(root, wheels, name, python)
            except ValueError as error:
                level, todo = "fix", "wheels are missing, see above: remove the folder and pack again"
                yield Finding("fix", f"{name}, Python {python}: {error}", "leave it out, or try again")
        for part, files in (("data", data), (lab.COURSE, lab.notebooks().glob("*.ipynb"))):
            (new / part).mkdir()
            for file in files:
                shutil.copy(file, new / part)
        sets = ", ".join(["digits", *(file.stem for file in data)])
        yield Finding("ok", f"data sets: {sets}; {len(lab.lessons())} lessons")
        text = Path(__file__).with_name("class_readme.txt").read_text(encoding="utf-8")
        names, pythons = (" or ".join(dict.fromkeys(column)) for column in zip(*targets, strict=True))
        text = text.format(platforms=names, pythons=pythons, python=targets[-1][1])
        (new / "README.txt").write_text(text, encoding="utf-8")
        _write_sums(new)  # before the lecturer's part is there: that is taken out, and has its own
        for name in ("solutions", "lecturer"):
            hidden = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(lab.notebooks() / name, new / "for-the-lecturer" / name, ignore=hidden)
        _write_sums(new / "for-the-lecturer")
        size = sum(file.stat().st_size for file in new.rglob("*")) / 1e9
        if folder.exists():
            folder.rmdir()  # it is empty, and Windows does not rename onto a folder
        new.rename(folder)
    yield Finding(level, f"{folder}: {size:.1f} GB, for students as README.txt in it says", todo)
    yield Finding("note", "for-the-lecturer has solutions and notes", "take it out before you hand this on")


def _fetch(root: Path, wheels: Path, name: str, python: str) -> Iterator[Finding]:
    """Have uv choose the locked versions for a platform, and pip download and check their wheels."""
    where, lock, (for_uv, for_pip) = f"{name}, Python {python}", root / "requirements.lock", PLATFORMS[name]
    both = ["--only-binary=:all:", f"--python-version={python}"]
    choose = [f"--python-platform={for_uv}", f"--python={sys.executable}", f"--constraints={lock}"]
    choose += ["--generate-hashes", "--quiet", str(root / "pyproject.toml")]
    tags = ["--no-deps", "--implementation=cp", *(f"--platform={tag}" for tag in for_pip)]
    with TemporaryDirectory() as place:
        chosen = shutil.copy(lock, place)  # uv keeps the hashes that are in its output already
        _run("uv", "pip", "compile", *both, *choose, "-o", chosen)
        _run("pip", "download", *both, *tags, f"--dest={wheels}", "-r", chosen)
        text = Path(chosen).read_text(encoding="utf-8")
    yield Finding("ok", f"{where}: {text.count('==')} wheels as locked, hashes checked")
    if "nvidia-" in text:
        todo = "for less, set UV_TORCH_BACKEND=cpu and let pip's settings name PyTorch's index of CPU builds"
        yield Finding("note", f"{where}: torch comes with CUDA's libraries, 3 GB", todo)
    elif "+cpu" in text:
        yield Finding("note", f"{where}: torch is for CPUs alone; its hashes are not from requirements.lock")


def _run(tool: str, *arguments: Any) -> None:
    """Run pip or uv; its progress goes to stderr, and a ValueError has its own words about what failed."""
    command = [sys.executable, "-P", "-m", tool, *map(str, arguments)]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # which macOS uv chooses for
    done = subprocess.run(command, env=environment, stdout=2, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        error = re.split(r"^error: ", done.stderr, flags=re.MULTILINE | re.IGNORECASE)[-1]
        raise ValueError(f"{tool} failed: {' '.join(error.split())}")


def _write_sums(folder: Path) -> None:
    sums = ""
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sums += f"{digest}  {path.relative_to(folder).as_posix()}\n"
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8", newline="\n")
