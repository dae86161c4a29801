"""The project as a whole: what is imported, what is installed, what is written where."""

import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import orthoviz as ov
from tests.processes import run

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/*.py"))


def tracked():
    listing = ["git", "ls-files"]
    return [ROOT / name for name in run(*listing, cwd=ROOT).stdout.splitlines()]


def test_importing_loads_no_plotting_widget_or_data_library():
    script = (
        "import torch, sys; old = set(sys.modules); import orthoviz as ov\n"
        "ov.polar_factor, ov.OrthogonalSGD, ov.param_groups, ov.watch, ov.measures\n"
        "print(*(set(sys.modules) - old))"
    )
    new = {name.partition(".")[0] for name in run(sys.executable, "-c", script, cwd="/").stdout.split()}
    assert "orthoviz" in new
    heavy = "matplotlib seaborn pandas ipywidgets IPython PIL sklearn torchvision tqdm pyarrow"
    assert not new & set(heavy.split())


HIDDEN = ("ipywidgets", "jupyterlab", "jupytext", "platformdirs", "IPython", "hypothesis")


def without_jupyter(script, cwd=ROOT, check=True, **environment):
    """A process in which the packages that a GPU machine lacks cannot be imported."""
    script = f"import sys; sys.modules.update(dict.fromkeys({HIDDEN}))\n{script}"
    return run(sys.executable, "-c", script, cwd=cwd, check=check, env={**os.environ, **environment})


@pytest.mark.full
def test_training_and_plots_work_without_jupyter(tmp_path):
    done = without_jupyter(
        "import orthoviz as ov\n"
        "from orthoviz import claims, cli, measures, monitor, optim, plots, polar, reports, toys, training\n"
        "model, data = ov.models.digits_cnn(seed=0), ov.datasets.load('digits')\n"
        "optimizer = ov.OrthogonalSGD(ov.param_groups(model), lr=0.01, momentum=0.9)\n"
        "with ov.watch(model, optimizer) as watching:\n"
        "    run = ov.training.fit(model, optimizer, data, epochs=1)\n"
        f"plots.spectra(watching.frame()).savefig({str(tmp_path / 'spectra.png')!r})\n"
        "print(run.history.test_accuracy.iloc[-1])"
    )
    assert float(done.stdout) > 0.5
    assert (tmp_path / "spectra.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import orthoviz.widgets", "orthoviz.widgets needs ipywidgets"),
        ("import orthoviz; orthoviz.course", "orthoviz.course needs ipywidgets"),
        ("from orthoviz.cli import main; sys.exit(main(['lab']))", "orthoviz lab needs jupyterlab"),
    ],
)
def test_what_needs_jupyter_says_so_in_a_sentence(script, words):
    done = without_jupyter(script, check=False)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert f"{words}, which is not installed: pip install ipywidgets jupyterlab" in last


@pytest.mark.slow
def test_a_package_without_checkout_and_platformdirs_asks_for_a_folder(tmp_path):
    shutil.copytree(ROOT / "orthoviz", tmp_path / "orthoviz")
    script = (
        "from orthoviz.datasets import DataError, location\n"
        "try: print(location())\n"
        "except DataError as error: print(error)\n"
        "import os; os.environ['ORTHOVIZ_DATA'] = 'there'; print(location())"
    )
    said = without_jupyter(script, tmp_path, ORTHOVIZ_DATA="", PYTHONPATH=str(tmp_path)).stdout.splitlines()
    assert "set ORTHOVIZ_DATA" in said[0]
    assert said[1] == "there"


def test_every_public_name_is_there_and_documented():
    parts = "polar optim matrices measures monitor plots datasets models training widgets course claims"
    for module in (ov, *(getattr(ov, part) for part in parts.split())):
        for name in module.__all__:
            found = getattr(module, name)
            assert found.__doc__ or isinstance(found, (str, tuple, dict)), name


def locked():
    """Name to the versions in the lock."""
    versions = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(Version(version))
    return versions


def test_lock_and_pyproject_agree():
    versions = locked()
    extras = PROJECT["project"]["optional-dependencies"]
    for line in PROJECT["project"]["dependencies"] + extras["dev"]:
        requirement = Requirement(line)
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement.name} is not in requirements.lock: run make lock"
        assert all(requirement.specifier.contains(version) for version in found), line


def test_environment_takes_everything_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, rest = environment["dependencies"]
    assert python == "python" + PROJECT["project"]["requires-python"]
    assert (pip, rest) == ("pip", {"pip": ["-r requirements.lock"]})
    assert environment["channels"] == ["conda-forge"]


def test_the_lock_has_a_hash_for_everything_and_no_address():
    entries = re.split(r"\n(?=[A-Za-z0-9._-]+==)", LOCK.strip())
    assert len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK


def test_no_file_names_a_registry_or_a_machine():
    own = re.escape(str(ROOT)), re.escape(str(Path.home())) + "/"
    forbidden = re.compile("|".join([*own, r"://[^\s\"]*/(simple|packages)/", r"index.url[ =]+\w+:"]))
    for path in tracked():
        if path.suffix not in (".png", ".gif", ".safetensors") and path != Path(__file__).resolve():
            found = forbidden.search(path.read_text(encoding="utf-8"))
            assert found is None, (path, found)


def test_one_version_one_author_one_address():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["project"]["version"] == ov.__version__ == citation["version"]
    authors = [author["name"] for author in PROJECT["project"]["authors"]]
    assert [author["name"] for author in citation["authors"]] == authors
    assert authors[0] in (ROOT / "LICENSE").read_text(encoding="utf-8")
    repository = PROJECT["tool"]["orthoviz"]["repository"]
    assert citation.get("repository-code", "") == repository


# Set-up


def make(*arguments, folder, **environment):
    environment = {**os.environ, "MAKEFLAGS": "", **environment}
    return run("make", "--no-print-directory", *arguments, cwd=folder, check=False, env=environment)


@pytest.fixture
def bare(tmp_path):
    """The files of the set-up in an empty folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def interpreter(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


OLD = '[ "$1" = --version ] && echo Python 3.9.18; exit 1'
WITHOUT_VENV = '[ "$1" = -c ] && exit 0; mkdir -p .venv/bin; echo "ensurepip is not available" >&2; exit 1'


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, ["found none of them"]),
        (OLD, ["orthoviz needs Python 3.11, 3.12 or 3.13", "Python 3.9.18"]),
        (WITHOUT_VENV, ["apt install python3-venv"]),
    ],
)
def test_an_interpreter_that_will_not_do_is_a_sentence_and_leaves_nothing(bare, tmp_path, script, words):
    python = interpreter(tmp_path / "python3", script) if script else ""
    done = make("lab", f"PYTHON={python}", folder=bare)
    assert done.returncode == 2
    assert all(word in done.stdout for word in words)
    assert not (bare / ".venv").exists()


# Notebooks


def cells(notebook):
    return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_is_in_step_with_its_source(path):
    pair = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert cells(pair) == cells(jupytext.read(path)), "run: make pairs"
    assert pair.metadata.kernelspec.name == "python3"
    assert "widgets" not in pair.metadata
    for cell in pair.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_cells_are_short(path):
    for kind, source, _ in cells(jupytext.read(path)):
        if kind == "code":
            lines = [line for line in source.splitlines() if line.strip()]
            assert len(lines) <= 12, source


def test_stored_results_say_where_they_come_from():
    for path in ROOT.glob("results/*/provenance.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        assert {"what", "data", "command", "date", "torch", "device"} <= set(about)
        assert "/" not in about["data"]
