"""Say whether a machine is ready for the course, line by line, and what to do where it is not."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

import nbformat.v4
import psutil  # type: ignore[import-untyped]
import torch
from jupyter_core.paths import jupyter_path
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from orthoviz import datasets, lab

# What a lesson may take in quick mode on two cores, and room for CIFAR-10, its archive and one's own work
_SECONDS, _MEMORY_GB, _DISK_GB = 90, 3, 1
_WIDGETS = "@jupyter-widgets/jupyterlab-manager"
_PYTHON = subprocess.list2cmdline([sys.executable])
_CELL = f"""import sys
assert sys.prefix == {sys.prefix!r}, "the kernel runs in " + sys.prefix
import ipywidgets, orthoviz.course; ipywidgets.IntSlider()"""


class Finding(NamedTuple):
    """A line of what the doctor says. Its level is "ok", "note", which needs nothing done, or "fix"."""

    level: str
    found: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level:5} {self.found}" + (f" -> {self.todo}" if self.todo else "")


def examine() -> Iterator[Finding]:
    """Make all checks: versions, widgets, the kernel, data sets, hardware, and folders for files."""
    for check in (_packages, _widgets, _kernel, _data_sets, _hardware, folders):
        yield from check()


def install(package: str) -> str:
    """Give the command that installs a package here; in a packed class it uses the wheels there."""
    has_pip = any(metadata.distributions(name="pip"))
    pip = f"{_PYTHON} -m pip install" if has_pip else f"uv pip install --python {_PYTHON}"
    return f"{pip}{' --no-index --find-links wheels' * Path('wheels').is_dir()} {package}"


def _weigh(good: bool, found: str, todo: str, level: str = "fix") -> Finding:
    return Finding("ok", found) if good else Finding(level, found, todo)


def _compare(package: str, *shown: str) -> Iterator[Finding]:
    """Compare what a package needs with what is installed. Where all fits, say so and show some versions."""
    listed = map(Requirement, metadata.requires(package) or [])
    needs = [need for need in listed if need.marker is None or need.marker.evaluate({"extra": ""})]
    fits = True
    for need in needs:
        version = next((found.version for found in metadata.distributions(name=need.name)), None)
        if version is None or not need.specifier.contains(version, prereleases=True):
            fits, wanted = False, f"{need.name}{need.specifier}"
            found = f"{need.name} {version or 'is not'} installed, {package} needs {wanted}"
            yield Finding("fix", found, install(f'"{wanted}"'))
    if fits:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in shown)
        yield Finding("ok", f"{package} {metadata.version(package)} and {len(needs)} packages: {versions}")


def _packages() -> Iterator[Finding]:
    version, needed = sys.version.split()[0], metadata.metadata("orthoviz")["Requires-Python"]
    todo = f"make an environment with Python {needed}"
    yield _weigh(version in SpecifierSet(needed), f"Python {version} in {sys.prefix}", todo)
    yield from _compare("orthoviz", "numpy", "torch")


def _widgets() -> Iterator[Finding]:
    """ipywidgets has a half in the kernel and one in the browser, which have to fit each other."""
    yield from _compare("ipywidgets", "jupyterlab_widgets", "jupyterlab")
    if not any(Path(folder, _WIDGETS).is_dir() for folder in jupyter_path("labextensions")):
        again = install("--force-reinstall --no-deps jupyterlab_widgets")
        yield Finding("fix", f"JupyterLab does not find {_WIDGETS}, so views stay empty", again)


def _kernel() -> Iterator[Finding]:
    """Start a kernel as a notebook does, and make a widget in it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(_CELL)])
    error = run_notebook(notebook)[-1] or ("" if "widgets" in notebook.metadata else "makes no widget")
    todo = f"{install('-U ipywidgets ipykernel')}, then {_PYTHON} -m ipykernel install --sys-prefix"
    yield _weigh(not error, f"the kernel python3 {error or 'answers, and makes a widget'}", todo)


def _data_sets() -> Iterator[Finding]:
    for name in datasets.available():
        if name == "words":
            continue  # it has no file, and another Python has another text
        try:
            data = datasets.store.verify(name)
            images = f"{len(data.train.labels):,} training and {len(data.test.labels):,} test images"
            yield Finding("ok", f"data set {name}: {images}, SHA-256 as it should be")
        except datasets.DataError as error:
            yield Finding("fix", " ".join(str(error).split()))
    if "cifar10" not in datasets.available():
        yield Finding("note", "no CIFAR-10: the lessons run on digits", "orthoviz data fetch cifar10")


def _hardware() -> Iterator[Finding]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    yield Finding("ok", f"GPU: {gpu}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _weigh(cores > 1, f"{cores} CPU cores", "allow more time: the lessons' times are for 2", "note")
    memory = psutil.virtual_memory()
    found = f"memory: {memory.available / 1e9:.1f} GB of {memory.total / 1e9:.1f} are free"
    todo = f"close other programs: a lesson may take {_MEMORY_GB} GB"
    yield _weigh(memory.available >= _MEMORY_GB * 1e9, found, todo)


def folders() -> Iterator[Finding]:
    """Check that data sets and notebooks have folders, which need not exist yet, and room there."""
    yield _folder(datasets.location(), "data sets", "set ORTHOVIZ_DATA to another folder")
    yield _folder(lab.copies(), "notebooks", "change to a folder of your own, and run this again")


def _folder(folder: Path, what: str, todo: str) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        return Finding("fix", f"{folder}, for {what}, cannot be written to ({error.strerror})", todo)
    free = psutil.disk_usage(str(there)).free / 1e9
    found = f"{folder}, for {what}: {free:.1f} GB are free"
    return _weigh(free >= _DISK_GB, found, f"make room for {_DISK_GB} GB, or {todo}")


def run_notebook(notebook: Any) -> tuple[float, float, str]:
    """Run a notebook from top to bottom in quick mode, in a kernel and a folder of its own.

    Args:
        notebook: as ``nbformat.read`` gives it. Its outputs are filled in.

    Returns:
        Seconds; gigabytes of memory that the kernel and its processes took at most, looked at ten times a
        second; and the error, empty where all cells ran.
    """
    peak, error, done, start = 0, "", threading.Event(), time.perf_counter()

    def watch() -> None:
        nonlocal peak
        kernel = psutil.Process(client.km.provisioner.pid)
        while not done.wait(0.1):
            with suppress(psutil.Error):  # a process has ended meanwhile
                processes = (kernel, *kernel.children(recursive=True))
                peak = max(peak, sum(process.memory_info().rss for process in processes))

    client: Any = NotebookClient(notebook, kernel_name="python3", timeout=600)
    client.on_notebook_start = lambda **_: threading.Thread(target=watch, daemon=True).start()
    with TemporaryDirectory() as folder:
        try:
            quick = {**os.environ, "ORTHOVIZ_MODE": "quick"}
            client.execute(env=quick, cwd=folder, stderr=subprocess.DEVNULL)
        except Exception as failed:  # a cell fails, or a kernel does not start, dies, or takes ten minutes
            name, text = getattr(failed, "ename", type(failed).__name__), getattr(failed, "evalue", failed)
            error = " ".join(f"{name}: {text}".split())
    done.set()
    return time.perf_counter() - start, peak / 1e9, error


def time_lessons(chosen: Sequence[str] = ()) -> Iterator[Finding]:
    """Run lessons in quick mode and compare them with their budget.

    Args:
        chosen: names of lessons, or how they begin: ``"00"``. None of them: all.

    Raises:
        ValueError: there is no such lesson.
    """
    return _time([*map(lab.find_lesson, chosen)] or lab.lessons())


def _time(names: Sequence[str]) -> Iterator[Finding]:
    start = time.perf_counter()
    for name in names:
        yield judge(name, *run_notebook(nbformat.read(lab.notebooks() / f"{name}.ipynb", as_version=4)))
    if len(names) > 1:
        yield Finding("ok", f"{len(names)} lessons: {(time.perf_counter() - start) / 60:.1f} minutes in all")


def judge(name: str, seconds: float, peak: float, error: str) -> Finding:
    """Compare with its budget what :func:`run_notebook` says of a lesson."""
    found = f"{name}: {seconds:.0f} s of {_SECONDS}, {peak:.1f} GB of {_MEMORY_GB} of memory"
    if error:
        return Finding("fix", f"{found}, and it failed: {error}", "see the lines above this one")
    level = "fix" if seconds > 1.5 * _SECONDS else "note"
    good = seconds <= _SECONDS and peak <= _MEMORY_GB
    return _weigh(good, found, "close other programs, or show the class its stored runs", level)
