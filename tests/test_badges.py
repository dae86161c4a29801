"""Badges and install cells: made from one address, in a copy of the project that has one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from tests.test_project import ROOT, cells, make

ADDRESS = "https://github.com/someone/a-course"
LESSONS = sorted(path.stem for path in ROOT.glob("notebooks/[0-9]*.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what `make badges` reads, without an address."""
    folder = tmp_path_factory.mktemp("badges") / "project"
    for name in ("notebooks", "orthoviz"):  # ruff looks for the package, to sort imports
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (folder / "site").mkdir()
    for name in ("Makefile", "pyproject.toml", "site/badges.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "bin").symlink_to(Path(sys.executable).parent)  # its own path may have a space
    set_address(folder, "")
    return folder


def set_address(project, address):
    path = project / "pyproject.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [f'repository = "{address}"' if line.startswith("repository = ") else line for line in lines]
    path.write_text("\n".join(lines), encoding="utf-8")


def badges(project):
    """`make badges`, in this environment; what it printed and every notebook and source after it."""
    done = make("badges", "READY=", "BIN=bin", folder=project)
    assert done.returncode == 0, done.stderr
    return read(project)


def read(project):
    return {path: path.read_bytes() for path in sorted(project.glob("notebooks/**/*.*")) if path.is_file()}


@pytest.mark.full
def test_every_lesson_has_them_once_or_without_an_address_not_at_all(project):
    before = read(project)
    assert badges(project) == before
    set_address(project, ADDRESS)
    once = badges(project)
    for lesson in LESSONS:
        pair = nbformat.read(project / "notebooks" / f"{lesson}.ipynb", as_version=4)
        assert cells(pair) == cells(jupytext.read(project / "notebooks" / f"{lesson}.py"))
        title, install = pair.cells[:2]
        links = [line.rpartition("](")[2] for line in title.source.splitlines() if line.startswith("[![")]
        assert links == [
            f"https://colab.research.google.com/github/someone/a-course/blob/main/notebooks/{lesson}.ipynb)",
            f"https://mybinder.org/v2/gh/someone/a-course/HEAD?labpath=notebooks/{lesson}.ipynb)",
        ]
        assert title.source.splitlines()[2].startswith("[![Open in Colab]")  # right below the title
        assert f'"git+{ADDRESS}"' in install.source
        assert len(install.source.splitlines()) <= 12
        assert nbformat.writes(pair).count("someone/a-course") == 3
    for command in (["check"], ["format", "--check"]):
        ruff = [Path(sys.executable).with_name("ruff"), *command, "notebooks"]
        assert subprocess.run(ruff, cwd=project, capture_output=True).returncode == 0, command
    assert badges(project) == once
    set_address(project, "")
    assert badges(project) == before


def test_another_kind_of_address_is_a_sentence(project):
    set_address(project, "git@example.org:someone/a-course")
    command = [sys.executable, "site/badges.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    set_address(project, "")
    assert done.returncode == 2
    assert done.stderr == (
        "pyproject.toml, tool.orthoviz: repository must be https://github.com/OWNER/PROJECT or empty, "
        "got 'git@example.org:someone/a-course'\n"
    )


# The install cell


def install(*options, **environment):
    """Run the install cell in a Python of its own."""
    script = (
        f"import runpy; names = runpy.run_path({str(ROOT / 'site' / 'badges.py')!r})\n"
        f"source = names['with_badges']('# # A\\n#\\n# %%\\n', 'a', {ADDRESS!r})\n"
        "cell = source.partition('cell\"]\\n')[2]\n"
        "assert 'subprocess.run' in cell\n"
        "exec(cell)"
    )
    command = [sys.executable, *options, "-c", script]
    return subprocess.run(command, cwd="/", env={**os.environ, **environment}, capture_output=True, text=True)


def test_where_the_package_is_there_nothing_is_installed():
    done = install(PIP_NO_INDEX="1", GIT_ALLOW_PROTOCOL="none")  # an attempt would fail
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.full
def test_where_it_is_missing_it_is_installed_with_lessons_and_results(tmp_path):
    """From a repository at the address, which git is told to find in a folder."""
    there = tmp_path / "there"
    ignore = shutil.ignore_patterns("_build", "lessons", "__pycache__")
    for name in ("orthoviz", "notebooks", "results", "site"):
        shutil.copytree(ROOT / name, there / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, there)
    me = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *me, *command], cwd=there, check=True)
    done = install(
        "-S",  # a Python without installed packages
        PIP_TARGET=str(tmp_path / "installed"),
        PIP_NO_DEPS="1",
        PIP_NO_BUILD_ISOLATION="0",  # pip's way to say yes
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.file://{there}.insteadOf",
        GIT_CONFIG_VALUE_0=ADDRESS,
    )
    assert done.returncode == 0, done.stderr
    package = tmp_path / "installed" / "orthoviz"
    assert (package / "_results" / "lr_sweep" / "table.csv").is_file()
    assert sorted(path.stem for path in package.glob("_notebooks/[0-9]*.ipynb")) == LESSONS
