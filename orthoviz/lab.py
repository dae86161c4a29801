"""Open the course in JupyterLab, in copies of the lessons. Imports no torch: the server starts at once."""

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from orthoviz.files import checkout, replace_file

_PACKAGE = Path(__file__).resolve().parent

# The name of the folder with a learner's copies of the lessons.
COURSE = "orthoviz-course"


def check_installed(what: str, package: str) -> None:
    """Raise ImportError, with what to do, where the package that something needs is not installed."""
    if find_spec(package) is None:
        install = "pip install ipywidgets jupyterlab"
        raise ImportError(f"{what} needs {package}, which is not installed: {install}", name=package)


def notebooks() -> Path:
    """Where the package's own lessons lie: in the repository, or in the installed package."""
    root = checkout()
    return _PACKAGE / "_notebooks" if root is None else root / "notebooks"


def lessons() -> list[str]:
    """Names of all lessons, in their order. An appendix, ``NN_appendix``, comes after its lesson."""
    names = (path.stem for path in notebooks().glob("[0-9]*.ipynb"))
    return sorted(names, key=lambda name: (name[:2], name.endswith("_appendix"), name))


def find_lesson(start: str) -> str:
    """The name of the lesson that begins so, such as ``"03"`` or ``"3"``; or "views", the page of all views.

    Raises:
        ValueError: there is no such lesson.
    """
    for name in (*lessons(), "views"):
        if name.startswith(start.removesuffix(".ipynb").zfill(2)):
            return name
    raise ValueError(f"there is no lesson {start!r}; there is: {', '.join(lessons())}")


def copies() -> Path:
    """The folder with the learner's copies: in the current folder, or at home where that is read-only."""
    here = Path(COURSE).absolute()
    writable = os.access(here if here.is_dir() else here.parent, os.W_OK)
    return here if writable else Path.home() / COURSE


def copy_lessons(folder: Path, *, fresh: str = "") -> None:
    """Bring copies of the lessons up to date. A copy that the learner has changed stays as it is.

    Args:
        folder: for the copies. Its hidden folder ``.originals`` has each as it was copied, which tells who
            has changed it.
        fresh: the name of a lesson to copy again. The learner's version is renamed, to ``NAME-yours.ipynb``.
    """
    originals = folder / ".originals"
    originals.mkdir(parents=True, exist_ok=True)
    for notebook in (path for kind in ("*.ipynb", "*.gif", "*.md") for path in notebooks().glob(kind)):
        mine, original = folder / notebook.name, originals / notebook.name
        then, new = _read(original), notebook.read_bytes()
        changed = _read(mine) not in (None, then, new)
        if changed and notebook.stem == fresh:
            print(f"Your version of {fresh} is now {_set_aside(mine).name}.")
        elif changed:
            if then != new:
                todo = f"orthoviz lab --fresh {notebook.stem}"
                print(f"{notebook.stem} has changed in orthoviz, and you have changed it too: {todo}")
            continue
        for path in (mine, original):  # in this order: if only the first is written, it is no change
            if _read(path) != new:
                replace_file(path, partial(Path.write_bytes, data=new))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _set_aside(mine: Path) -> Path:
    """Rename a copy to a name that is free."""
    names = (f"{mine.stem}-yours{f'-{number}' if number > 1 else ''}.ipynb" for number in count(1))
    return mine.rename(next(path for path in map(mine.with_name, names) if not path.exists()))


def open_lab(lesson: str = "00", *, browser: bool = True, fresh: bool = False) -> int:
    """Serve copies of the lessons, see :func:`copies`, and open one of them.

    The server runs until it is stopped. On Linux and macOS it takes this process's place.

    Args:
        lesson: as :func:`find_lesson` takes it.
        browser: open a browser; without, the address is printed only.
        fresh: open an untouched copy of this lesson. The learner's version stays beside it.

    Raises:
        ValueError: there is no such lesson.
        ImportError: JupyterLab is not installed.
    """
    check_installed("orthoviz lab", "jupyterlab")
    name, folder = find_lesson(lesson), copies()
    copy_lessons(folder, fresh=name if fresh else "")
    print(f"Your copies of the lessons are in {folder}", flush=True)
    command = [
        # -P: a file random.py in the current folder is not Python's own
        *(sys.executable, "-P", "-m", "jupyterlab"),
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
