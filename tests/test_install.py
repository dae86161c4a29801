"""The built wheel in an empty environment, as someone who never saw the repository gets it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest

from tests.processes import run

ROOT = Path(__file__).resolve().parents[1]
UV = shutil.which("uv", path=sysconfig.get_path("scripts"))

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The bin folder of an environment that holds the wheel and its dependencies, in the locked versions."""
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    run(UV, "venv", "--python", sys.executable, venv, cwd=folder)
    install = [UV, "pip", "install", "--python", venv, "-c", ROOT / "requirements.lock", wheel]
    if run(*install, "--offline", cwd=folder, check=False).returncode:  # not all in the cache
        done = run(*install, cwd=folder, check=False)
        if done.returncode and ("dns" in done.stderr.lower() or "connect" in done.stderr.lower()):
            pytest.skip("no network, and the packages are not in the cache")
        assert done.returncode == 0, done.stderr
    return venv / ("Scripts" if os.name == "nt" else "bin")


def test_it_trains_and_keeps_its_data_in_the_users_folder(installed, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share")}
    done = run(installed / "orthoviz", "train", "--epochs", "1", cwd=tmp_path, env=home)
    assert "test_accuracy" in done.stdout
    done = run(installed / "orthoviz", "data", "list", cwd=tmp_path, env=home)
    assert str(tmp_path) in done.stdout
    code = "import orthoviz as ov; print(ov.training.results('lr_sweep').shape, ov.__file__)"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert str(installed.parent) in done.stdout


def test_lab_serves_its_own_copies_of_the_lessons(installed, tmp_path):
    mine = tmp_path / "orthoviz-course"
    mine.mkdir()
    (mine / "01_polar_factor.ipynb").write_text("my work")
    settings = {"JUPYTER_CONFIG_DIR": tmp_path / "config", "JUPYTER_RUNTIME_DIR": tmp_path / "run"}
    environment = {**os.environ, **{key: str(place) for key, place in settings.items()}, "JUPYTER_TOKEN": "t"}
    command, log = [installed / "orthoviz", "lab", "--no-browser"], tmp_path / "log"
    with open(log, "w") as file:
        pipes = dict(stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)
    try:
        end = time.monotonic() + 60
        while "http://127.0.0.1:" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        address = next(w for w in log.read_text().split() if w.startswith("http://127.0.0.1:"))
        base = address.partition("/lab")[0]
        page = f"{base}/api/contents/00_start_here.ipynb?token=t"
        with urllib.request.urlopen(page, timeout=20) as answer:
            assert b"Each arrow shows" in answer.read()
        assert (mine / "01_polar_factor.ipynb").read_text() == "my work"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
