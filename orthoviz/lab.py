"""Open the course in JupyterLab. Imports no torch: the server should be there at once."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

COPIES = Path("orthoviz-course")
"""Where an installed package puts its copies of the lessons, in the folder in which it is started."""


def check_installed(what: str, package: str) -> None:
    """Raise ImportError, with what to do, where the package that something needs is not installed."""
    if find_spec(package) is None:
        install = "pip install ipywidgets jupyterlab"
        raise ImportError(f"{what} needs {package}, which is not installed: {install}", name=package)


def checkout() -> Path | None:
    """The repository's folder, or None for a package that was installed without it."""
    return _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None


def notebooks() -> Path:
    """Where the lessons lie: in the repository, or in the installed package."""
    root = checkout()
    return _PACKAGE / "_notebooks" if root is None else root / "notebooks"


def lessons() -> list[str]:
    """Names of all lessons, in their order."""
    return sorted(path.stem for path in notebooks().glob("[0-9]*.ipynb"))


def open_lab(lesson: str = "00_start_here", *, browser: bool = True) -> int:
    """Serve the lessons and open one of them, or "views", the page of all views, until told to end.

    On Linux and macOS the server takes this process's place. In a checkout the lessons are its own
    notebooks. An installed package brings copies, which are put into the folder ``orthoviz-course`` here;
    a notebook that is there already stays as it is.

    Raises:
        ValueError: there is no such lesson.
        ImportError: JupyterLab is not installed.
    """
    check_installed("orthoviz lab", "jupyterlab")
    name = lesson.removesuffix(".ipynb")
    if name not in [*lessons(), "views"]:
        raise ValueError(f"there is no lesson {lesson!r}; there is: {', '.join(lessons())}")
    folder = notebooks()
    if checkout() is None:
        folder = _copied(folder, COPIES)
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{name}.ipynb",
    ]
    if not browser:
        command.append("--no-browser")
    if sys.platform != "win32" and os.getuid() == 0:
        command.append("--allow-root")  # containers
    # our settings come after the user's own, which are still read
    paths = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(_PACKAGE / "jupyter")]
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}
    if sys.platform == "win32":
        return subprocess.call(command, env=environment)
    os.execve(sys.executable, command, environment)  # so that Ctrl-C asks the server, and only it


def _copied(source: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for notebook in source.glob("*.ipynb"):
        if not (target / notebook.name).exists():
            shutil.copy(notebook, target)
    print(f"The notebooks are in {target.resolve()}.")
    return target
