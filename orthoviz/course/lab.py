"""Open the course in JupyterLab."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def open_lab(lesson: str = "00_start_here", *, browser: bool = True) -> int:
    """Serve the lessons and open one of them; return when the server ends.

    In a checkout these are its own notebooks. An installed package brings copies, which are put into
    the folder ``orthoviz-course`` here; a notebook that is there already stays as it is.

    Raises:
        ValueError: there is no such lesson.
    """
    folder = _PACKAGE.parent / "notebooks"
    if not (folder.parent / "pyproject.toml").is_file():
        folder = _copied(_PACKAGE / "_notebooks", Path("orthoviz-course"))
    name = lesson.removesuffix(".ipynb")
    lessons = sorted(path.stem for path in folder.glob("[0-9]*.ipynb"))
    if name not in lessons:
        raise ValueError(f"there is no lesson {lesson!r}; there is: {', '.join(lessons)}")
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
    paths = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(_PACKAGE / "course" / "jupyter")]
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}
    try:
        return subprocess.call(command, env=environment)
    except KeyboardInterrupt:
        return 0


def _copied(source: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for notebook in source.glob("*.ipynb"):
        if not (target / notebook.name).exists():
            shutil.copy(notebook, target)
    print(f"The notebooks are in {target.resolve()}.")
    return target
