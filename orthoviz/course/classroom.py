"""A folder with all that a classroom without internet needs: packages, data, notebooks, checksums."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from orthoviz import lab
from orthoviz.course.doctor import Finding

_GLIBC = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)] + ["manylinux2014", "manylinux1", "linux"]
_SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}


class Platform(NamedTuple):
    """A kind of machine that wheels can be had for."""

    tags: list[str]
    """What pip calls it."""
    machine: str
    """What Python calls its processor."""
    says: str


PLATFORMS = {
    "linux_x86_64": Platform(
        [f"{tag}_x86_64" for tag in _GLIBC], "x86_64", "Linux (x86_64, glibc 2.28 or later)"
    ),
    "linux_aarch64": Platform(
        [f"{tag}_aarch64" for tag in _GLIBC], "aarch64", "Linux (aarch64, glibc 2.28 or later)"
    ),
    "macos_arm64": Platform(["macosx_14_0_arm64"], "arm64", "macOS 14 or later (Apple silicon)"),
    "windows_x86_64": Platform(["win_amd64"], "AMD64", "Windows (64 bit)"),
}
"""By the names that ``orthoviz doctor --platform`` takes."""
_CUDA_BYTES, _WHEELS_BYTES = 2.9e9, 0.5e9
_AT_ONCE, _MOST_MISSING = 10, 5
_SUMS = "SHA256SUMS"


def pack(
    folder: str | os.PathLike[str],
    platforms: Sequence[str] | None = None,
    pythons: Sequence[str] | None = None,
) -> Iterator[Finding]:
    """Pack a new folder for a classroom; it appears under its name only when it is finished.

    Args:
        folder: where; it must not exist, or be empty.
        platforms: for which machines, of :data:`PLATFORMS`; default: this one's.
        pythons: for which versions, as ``"3.12"``; default: this one's.

    Returns:
        What was packed and what could not be had, as it goes on.

    Raises:
        ValueError: this is no clone of the repository, the folder is in use, there is no such platform or
            version, or no room.
    """
    root, folder = lab.checkout(), Path(folder).absolute()
    if root is None:
        raise ValueError(
            "a class is packed from a clone of the repository; this orthoviz was installed alone"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not empty: name a new folder. Nothing was packed.")
    if not folder.parent.is_dir():
        raise ValueError(f"there is no folder {folder.parent} to pack in. Nothing was packed.")
    # find_spec("pip") would tell setuptools that pip is at work, and torch.compile then fails in this process
    if not any(metadata.distributions(name="pip")):
        raise ValueError("this environment has no pip, which fetches the wheels: run 'uv pip install pip'")
    targets = [(name, python) for name in platforms or [_here()] for python in pythons or [_version()]]
    for name, python in targets:
        _check_target(name, python)
    data = _data_files()
    linux = any(name.startswith("linux") for name, _ in targets)
    needed = _WHEELS_BYTES * len(targets) + _CUDA_BYTES * linux + sum(file.stat().st_size for file in data)
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise ValueError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and this may take {needed / 1e9:.1f}: make room "
            "or name another place. Nothing was packed."
        )
    return _pack(root, folder, targets, data)


def _here() -> str:
    system = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(platform.system(), "")
    return f"{system}_{platform.machine().replace('AMD64', 'x86_64')}"


def _version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _check_target(name: str, python: str) -> None:
    if name not in PLATFORMS:
        raise ValueError(f"there are no wheels for platform {name!r}; there are for: {', '.join(PLATFORMS)}")
    needed = metadata.metadata("orthoviz")["Requires-Python"]
    if not re.fullmatch(r"3\.\d+", python) or not SpecifierSet(needed).contains(f"{python}.0"):
        raise ValueError(f"python must be a version as 3.12, of {needed}, got {python!r}")


def _data_files() -> list[Path]:
    from orthoviz import datasets

    return sorted(datasets.location().glob("[!.]*.safetensors"))


def _pack(
    root: Path, folder: Path, targets: Sequence[tuple[str, str]], data: Sequence[Path]
) -> Iterator[Finding]:
    whole = True
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent))
    try:
        beside.chmod(0o755)  # the class is to read it
        wheels = beside / "wheels"
        wheels.mkdir()
        _build(root, wheels)
        for name, python in targets:
            for finding in _fetch(root / "requirements.lock", wheels, name, python):
                whole = whole and finding.level != "fix"
                yield finding
        _copy_notebooks(root / "notebooks", beside)
        if data:
            (beside / "data").mkdir()
        for file in data:
            shutil.copy(file, beside / "data")
        names = ", ".join(["digits", *(file.stem for file in data)])
        yield Finding("ok", f"data sets: {names}; {len(lab.lessons())} lessons")
        (beside / "README.txt").write_text(_readme(targets, data), encoding="utf-8")
        _write_sums(beside / "for-the-lecturer")
        _write_sums(beside, apart="for-the-lecturer")
        size = sum(file.stat().st_size for file in beside.rglob("*"))
        if folder.exists():
            folder.rmdir()  # empty; Windows renames onto nothing
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if not whole:
        again = "mend what is said above, remove the folder and pack again"
        yield Finding(
            "fix", f"{folder}: {size / 1e9:.1f} GB, without the wheels that could not be had", again
        )
        return
    yield Finding("ok", f"{folder}: {size / 1e9:.1f} GB, for students as README.txt in it says")
    yield Finding(
        "note", "solutions and notes are in for-the-lecturer", "take it out before you hand this on"
    )


def _build(root: Path, wheels: Path) -> None:
    """The wheel of orthoviz itself, without the solutions."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "orthoviz"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, source)
        for name in ("orthoviz", "notebooks", "results"):
            apart = shutil.ignore_patterns("__pycache__", ".*", "solutions", "lecturer")
            shutil.copytree(root / name, source / name, ignore=apart)
        command = [
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(wheels),
            str(source),
        ]
        done = _pip(command)
        if done.returncode:
            raise ValueError(
                f"the wheel of orthoviz could not be built: {_last_line(done)}. Nothing was packed."
            )


def _pip(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run pip; what it tells of its progress goes where errors go."""
    python = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return subprocess.run([*python, *command], stdout=2, stderr=subprocess.PIPE, text=True)


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    return (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]


def _fetch(lock: Path, wheels: Path, name: str, python: str) -> Iterator[Finding]:
    """Put the wheels of the locked versions there, and say which cannot be had."""
    where = f"{name}, Python {python}"
    entries = _needed(lock.read_text(encoding="utf-8"), name, python)
    if name.startswith("linux"):
        plain = [f"{entry.partition(' ')[0]}+cpu" for entry in entries if re.match("torch(vision)?==", entry)]
        if plain and _download(plain, wheels, name, python).returncode == 0:
            entries = [e for e in entries if not re.match(r"(torch|torchvision|triton)==|nvidia-|cuda-", e)]
            yield Finding("ok", f"{where}: {', '.join(plain)}, whose hashes are not in requirements.lock")
        else:
            found = f"{where}: no torch for CPUs alone at hand, so it comes with CUDA's libraries, 3 GB"
            yield Finding("note", found, "for less, let pip's settings name PyTorch's index of CPU builds")
    missing: list[str] = []
    for start in range(0, len(entries), _AT_ONCE):
        some = entries[start : start + _AT_ONCE]
        if _download(some, wheels, name, python).returncode:  # then nothing of them was kept: one by one
            for entry in some:
                done = _download([entry], wheels, name, python)
                if done.returncode:
                    missing.append(entry.partition(" ")[0])
                if len(missing) > _MOST_MISSING:
                    found = f"{where}: {', '.join(missing)} and more could not be had ({_last_line(done)})"
                    yield Finding("fix", found, "is there a network?")
                    return
    if missing:
        found = f"{where}: no wheel could be had of {', '.join(missing)}"
        yield Finding("fix", found, "leave this platform or version out, or try again")
    else:
        yield Finding("ok", f"{where}: {len(entries)} wheels as locked, hashes checked")


def _needed(lock: str, name: str, python: str) -> list[str]:
    """Requirements with their hashes that orthoviz has on a platform, tools of its developers left out.

    pip judges conditions such as ``sys_platform == 'win32'`` by the machine on which it runs, so they are
    judged here. A condition on the last digit of Python's version holds if it can.
    """
    entries = re.split(r"\n(?=[A-Za-z0-9._-]+==)", lock.strip())
    heads = [Requirement(entry.partition(" \\")[0]) for entry in entries]
    users = [
        set(re.findall(r"^    #(?: via|  ) ([A-Za-z0-9._-]+)", entry, re.MULTILINE)) for entry in entries
    ]
    ours = [Requirement(line) for line in metadata.requires("orthoviz") or []]
    chosen: set[str] = {canonicalize_name(own.name) for own in ours if own.marker is None}
    while new := {head.name for head, by in zip(heads, users, strict=True) if by & chosen} - chosen:
        chosen |= new
    places = [
        {
            **_SYSTEMS[name.partition("_")[0]],
            "platform_machine": PLATFORMS[name].machine,
            "python_version": python,
            "python_full_version": f"{python}.{last}",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        for last in (0, 99)
    ]
    return [
        " ".join([str(head).partition(";")[0].strip(), *re.findall(r"--hash=\S+", entry)])
        for head, entry in zip(heads, entries, strict=True)
        if head.name in chosen and (head.marker is None or any(map(head.marker.evaluate, places)))
    ]


def _download(
    entries: Sequence[str], wheels: Path, name: str, python: str
) -> "subprocess.CompletedProcess[str]":
    with tempfile.TemporaryDirectory() as place:
        listed = Path(place) / "requirements.txt"
        listed.write_text("\n".join(entries), encoding="utf-8")
        platforms = [part for tag in PLATFORMS[name].tags for part in ("--platform", tag)]
        command = [
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(wheels),
            "-r",
            str(listed),
        ]
        command += ["--implementation", "cp", "--python-version", f"{python}.99", *platforms]
        return _pip(command)


def _copy_notebooks(source: Path, folder: Path) -> None:
    """The lessons where ``orthoviz lab`` looks for them, and apart from them what is not for students."""
    lessons, apart = folder / lab.COPIES, folder / "for-the-lecturer"
    lessons.mkdir()
    apart.mkdir()
    for notebook in source.glob("*.ipynb"):
        shutil.copy(notebook, lessons)
    for name in ("solutions", "lecturer"):
        if (source / name).is_dir():
            shutil.copytree(source / name, apart / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))


def _write_sums(folder: Path, apart: str = "") -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not (apart and name.startswith(f"{apart}/")):
            with open(path, "rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (folder / _SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


_CHECK = (
    "import hashlib, pathlib; print([name for sum, name in (line.split('  ', 1) for line in "
    "open('SHA256SUMS', encoding='utf-8').read().splitlines()) if hashlib.sha256(pathlib.Path(name)"
    ".read_bytes()).hexdigest() != sum] or 'all well')"
)

_README = """\
orthoviz, a course to take along
================================

Nothing here needs a network. It works with Python {pythons} on
{systems}.

1. Copy this folder to your own disk, and open a terminal in it.

2. Make an environment and install into it, once:

   Linux, macOS    python{python} -m venv .venv
                   .venv/bin/python -m pip install --no-index --find-links wheels orthoviz

   Windows         py -{python} -m venv .venv
                   .venv\\Scripts\\python -m pip install --no-index --find-links wheels orthoviz

   (On Debian and Ubuntu the system's package python{python}-venv has to be there.)

3. Open the first lesson, here, in this folder:
{data}
   Linux, macOS    .venv/bin/orthoviz lab
   Windows         .venv\\Scripts\\orthoviz lab

   The lessons are in the folder orthoviz-course, and what you write into them stays there.
   Another lesson: orthoviz lab 03_without_the_svd. All views: orthoviz lab --views.

Something does not work?   .venv/bin/orthoviz doctor   (Windows: .venv\\Scripts\\orthoviz doctor)

Were files damaged on the way? Ask before you first open a lesson, for then it changes:

   Linux           sha256sum --check --quiet SHA256SUMS
   macOS           shasum -a 256 --check --quiet SHA256SUMS
   Windows         py -c "{check}"
"""

_DATA = """
   First say, in the same terminal, where the data sets are:
   Linux, macOS    export ORTHOVIZ_DATA="$PWD/data"
   Windows         $env:ORTHOVIZ_DATA = "$PWD\\data"        (PowerShell)
"""


def _readme(targets: Sequence[tuple[str, str]], data: Sequence[Path]) -> str:
    pythons = list(dict.fromkeys(python for _, python in targets))
    systems = list(dict.fromkeys(PLATFORMS[name].says for name, _ in targets))
    return _README.format(
        pythons=" or ".join(pythons),
        systems=",\n".join(systems),
        python=pythons[-1],
        data=_DATA if data else "",
        check=_CHECK,
    )
