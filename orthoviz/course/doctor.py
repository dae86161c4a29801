"""Whether a machine is ready for the course, line by line, and what to do where it is not."""

import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from orthoviz import lab

SECONDS = 90
"""What a lesson may take in quick mode, on two cores; by half as much again it fails."""
_LESSON_BYTES = 3e9
_DISK_BYTES = 1e9  # CIFAR-10, its archive, and room to work
_WIDGETS = "@jupyter-widgets/jupyterlab-manager"
_KERNEL = "python3"
_IN_KERNEL = "import sys, ipywidgets, orthoviz.course; ipywidgets.IntSlider(); print(sys.prefix)"


class Finding(NamedTuple):
    """A line of what the doctor says."""

    level: str
    """``"ok"``, ``"note"``, which needs nothing done, or ``"fix"``."""
    found: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level:5} {self.found}" + (f" -> {self.todo}" if self.todo else "")


def examine() -> Iterator[Finding]:
    """Look at this machine: versions, widgets, data sets, hardware, and where files are to go."""
    for check in (_python, _packages, _widgets, _data, _hardware, folders):
        try:
            yield from check()
        except ImportError as error:  # of a package that one of ours needs
            found = f"{error.name} is missing, which was to be used now"
            yield Finding("fix", found, _install(error.name or "orthoviz"))


def _install(package: str) -> str:
    """The command that installs into this environment; in a packed class from its own wheels."""
    python = subprocess.list2cmdline([sys.executable])
    pip = (
        f"{python} -m pip install"
        if any(metadata.distributions(name="pip"))
        else (f"uv pip install --python {python}")
    )
    here = " --no-index --find-links wheels" if Path("wheels").is_dir() else ""
    return f"{pip}{here} {package}"


def _python() -> Iterator[Finding]:
    needed = SpecifierSet(metadata.metadata("orthoviz")["Requires-Python"])
    found = f"Python {platform.python_version()} in {sys.prefix}"
    if needed.contains(platform.python_version(), prereleases=True):
        yield Finding("ok", found)
    else:
        yield Finding("fix", f"{found}, orthoviz needs {needed}", "make an environment with another Python")


def _requirements(package: str) -> list[tuple[Requirement, str | None]]:
    """What a package asks for here, without extras, and the version that is installed."""
    found: list[tuple[Requirement, str | None]] = []
    for requirement in map(Requirement, metadata.requires(package) or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                found.append((requirement, metadata.version(requirement.name)))
            except metadata.PackageNotFoundError:
                found.append((requirement, None))
    return found


def _unmet(needs: Sequence[tuple[Requirement, str | None]], who: str) -> Iterator[Finding]:
    for needed, version in needs:
        if version is None or not needed.specifier.contains(version, prereleases=True):
            has = "is missing" if version is None else f"{version} is installed"
            wanted = f"{needed.name}{needed.specifier}"
            yield Finding("fix", f"{needed.name} {has}, {who} needs {wanted}", _install(f'"{wanted}"'))


def _packages() -> Iterator[Finding]:
    needs = _requirements("orthoviz")
    unmet = list(_unmet(needs, "orthoviz"))
    yield from unmet
    main = [f"{needed.name} {version}" for needed, version in needs if needed.name in ("torch", "numpy")]
    if not unmet:
        yield Finding(
            "ok", f"orthoviz {metadata.version('orthoviz')} and {len(needs)} packages: {', '.join(main)}"
        )


def _widgets() -> Iterator[Finding]:
    """ipywidgets has a half in the kernel and one in the browser, which have to fit each other."""
    from jupyter_core.paths import jupyter_path
    from jupyterlab_server.config import get_federated_extensions

    browser = ("jupyterlab_widgets", "widgetsnbextension")
    unmet = list(_unmet([n for n in _requirements("ipywidgets") if n[0].name in browser], "ipywidgets"))
    yield from unmet
    if _WIDGETS not in get_federated_extensions(jupyter_path("labextensions")):
        again = _install("--force-reinstall --no-deps jupyterlab_widgets")
        yield Finding("fix", f"JupyterLab does not find {_WIDGETS}, so views stay empty", again)
    elif not unmet:
        versions = [f"{name} {metadata.version(name)}" for name in ("ipywidgets", "jupyterlab_widgets")]
        yield Finding("ok", f"widgets: {', '.join(versions)}, jupyterlab {metadata.version('jupyterlab')}")
    yield _kernel()


def _kernel() -> Finding:
    """Start a kernel as a notebook does, and make a widget in it."""
    from jupyter_client.kernelspec import NoSuchKernel
    from jupyter_client.manager import start_new_kernel

    again = f"{subprocess.list2cmdline([sys.executable])} -m ipykernel install --sys-prefix"
    try:
        manager, client = start_new_kernel(kernel_name=_KERNEL, stderr=subprocess.DEVNULL)
    except (NoSuchKernel, RuntimeError, OSError) as error:
        return Finding("fix", f"the kernel {_KERNEL} does not start ({error})", again)
    messages: list[dict[str, Any]] = []
    try:
        reply = client.execute_interactive(_IN_KERNEL, timeout=120, output_hook=messages.append)["content"]
    except TimeoutError:
        return Finding("fix", f"the kernel {_KERNEL} gave no answer in two minutes", "restart the machine")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["status"] != "ok":
        return Finding("fix", f"in the kernel {_KERNEL}: {reply['ename']}: {reply['evalue']}", again)
    printed = "".join(m["content"]["text"] for m in messages if m["content"].get("name") == "stdout")
    prefix = "".join(printed.splitlines()[-1:])  # what came before it was said while importing
    if Path(prefix) != Path(sys.prefix):
        return Finding("fix", f"the kernel {_KERNEL} runs in {prefix}, not in {sys.prefix}", again)
    if not any(message["msg_type"] == "comm_open" for message in messages):
        return Finding("fix", f"the kernel {_KERNEL} makes no widgets", _install("-U ipywidgets ipykernel"))
    return Finding("ok", f"the kernel {_KERNEL} answers, and makes a widget")


def _data() -> Iterator[Finding]:
    from orthoviz import datasets
    from orthoviz.datasets.store import verify

    for name in datasets.available():
        try:
            data = verify(name)
            images = f"{len(data.train.labels):,} training and {len(data.test.labels):,} test images"
            yield Finding("ok", f"data set {name}: {images}, SHA-256 as it should be")
        except datasets.DataError as error:
            yield Finding("fix", " ".join(str(error).split()))
    if "cifar10" not in datasets.available():
        yield Finding("note", "no CIFAR-10: the lessons run on digits", "orthoviz data fetch cifar10")


def _hardware() -> Iterator[Finding]:
    import psutil  # type: ignore[import-untyped]  # comes with ipykernel
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed"
    yield Finding("ok", f"GPU: {gpu}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    few = cores < 2
    yield Finding("note" if few else "ok", f"{cores} CPU cores" + " (the lessons' times are for 2)" * few)
    memory = psutil.virtual_memory()
    found = f"memory: {memory.available / 1e9:.1f} GB of {memory.total / 1e9:.1f} are free"
    if memory.available < _LESSON_BYTES:
        yield Finding("fix", found, f"close other programs: a lesson may take {_LESSON_BYTES / 1e9:.0f} GB")
    else:
        yield Finding("ok", found)


def folders() -> Iterator[Finding]:
    """Whether data sets and notebooks have a place."""
    from orthoviz import datasets

    yield _folder("data sets", datasets.location(), "set ORTHOVIZ_DATA to another folder")
    place = lab.COPIES if lab.checkout() is None else lab.notebooks()
    yield _folder("notebooks", place.absolute(), "change to a folder of your own, and run this again")


def _folder(what: str, folder: Path, todo: str) -> Finding:
    """Whether files can be made in a folder, which need not exist yet, and whether there is room."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    probe = there / f".orthoviz-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding("fix", f"{folder}, for {what}, cannot be written to ({error.strerror})", todo)
    free = shutil.disk_usage(there).free
    found = f"{folder}, for {what}: {free / 1e9:.1f} GB are free"
    if free < _DISK_BYTES:
        return Finding("fix", f"{found}, {_DISK_BYTES / 1e9:.0f} GB is needed", f"make room, or {todo}")
    return Finding("ok", found)


class Timed(NamedTuple):
    """How a lesson ran."""

    seconds: float
    peak: int
    """Bytes of memory of the kernel and its processes, at most, looked at ten times a second."""
    error: str
    """Empty where all cells ran."""


def time_lesson(notebook: str | os.PathLike[str]) -> Timed:
    """Run a notebook from top to bottom in quick mode, with a kernel of its own."""
    import nbformat
    import psutil
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    peak, done = 0, threading.Event()

    def watch(**_: Any) -> None:
        kernel = psutil.Process(client.km.provisioner.pid)
        while not done.wait(0.1):
            nonlocal peak
            peak = max(peak, _resident(kernel))

    def begin(**_: Any) -> None:
        threading.Thread(target=watch, daemon=True).start()

    client: Any = NotebookClient(
        nbformat.read(notebook, as_version=4), kernel_name=_KERNEL, timeout=600, on_notebook_start=begin
    )
    error, start = "", time.perf_counter()
    with TemporaryDirectory() as folder:
        try:
            quick = {**os.environ, "ORTHOVIZ_MODE": "quick"}
            client.execute(env=quick, cwd=folder, stderr=subprocess.DEVNULL)
        except CellExecutionError as failed:
            error = f"{failed.ename}: {failed.evalue}"
        except (RuntimeError, TimeoutError) as failed:  # the kernel died, or a cell took ten minutes
            error = str(failed)
        finally:
            done.set()
    return Timed(time.perf_counter() - start, peak, " ".join(error.split()))


def _resident(process: Any) -> int:
    import psutil

    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # it ended meanwhile
        pass
    return total


def time_lessons(chosen: Sequence[str] = ()) -> Iterator[Finding]:
    """Run lessons in quick mode and compare them with their budget.

    Args:
        chosen: names of lessons, or how they begin: ``"00"``. None of them: all.

    Raises:
        ValueError: there is no such lesson.
    """
    for start in chosen:
        if not any(name.startswith(start) for name in lab.lessons()):
            raise ValueError(f"there is no lesson {start!r}; there is: {', '.join(lab.lessons())}")
    return _timed([name for name in lab.lessons() if not chosen or name.startswith(tuple(chosen))])


def _timed(names: Sequence[str]) -> Iterator[Finding]:
    total = 0.0
    for name in names:
        timed = time_lesson(lab.notebooks() / f"{name}.ipynb")
        total += timed.seconds
        yield judged(name, timed)
    if len(names) > 1:
        mean = total / len(names)
        yield Finding("ok", f"{len(names)} lessons: {total / 60:.1f} minutes in all, {mean:.0f} s on average")


def judged(name: str, timed: Timed) -> Finding:
    """How a lesson did against its budget."""
    memory = f"{timed.peak / 1e9:.1f} GB of {_LESSON_BYTES / 1e9:.0f} of memory"
    found = f"{name}: {timed.seconds:.0f} s of {SECONDS}, {memory}"
    if timed.error:
        return Finding("fix", f"{found}, and it failed: {timed.error}", "see the lines above this one")
    if timed.seconds > 1.5 * SECONDS:
        return Finding("fix", found, "close other programs, or show the class its stored runs")
    over = timed.seconds > SECONDS or timed.peak > _LESSON_BYTES
    return Finding("note", found, "close other programs") if over else Finding("ok", found)
