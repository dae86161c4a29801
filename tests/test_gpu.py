"""The command for a borrowed GPU, in miniature: it ends, it ends in time, and it goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from benchmarks.gpu.__main__ import ROOT, STAGES, pack
from tests.test_project import HIDDEN

pytestmark = pytest.mark.full
HANG = 1200  # seconds, ten times of what it takes


def start(folder, *arguments, path=None, minutes=20.0):
    """The command as a process; modules in ``path`` come before all others."""
    command = [sys.executable, *f"-m benchmarks.gpu --minutes {minutes} --dry --out".split(), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "OMP_NUM_THREADS": "1"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest looks for plugins in what is hidden, too
    pipes = dict(stdout=subprocess.PIPE, text=True)
    return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, **pipes)


def said(process):
    out, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0, out
    return out


def test_all_stages_run_without_jupyter_and_are_not_run_again(tmp_path):
    hide = f"import sys; sys.modules.update(dict.fromkeys({HIDDEN}))"
    (tmp_path / "sitecustomize.py").write_text(hide)
    out = tmp_path / "out"
    said(start(out, path=tmp_path))
    about = json.loads((out / "provenance.json").read_text())
    assert {name: stage["ended"] for name, stage in about["stages"].items()} == dict.fromkeys(STAGES, "done")
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(files) == {*(f"{name}.csv" for name in STAGES), "provenance.json", "log.txt"}
    assert set(pd.read_csv(out / "tests.csv").outcome) <= {"passed", "skipped"}
    polar = pd.read_csv(out / "polar.csv").set_index("contender")
    assert set(polar.index[polar.milliseconds.isna()]) <= {
        *(f"svd stacked, {driver}" for driver in ("gesvd", "gesvdj", "gesvda")),
        "orthoviz fast, graph",
    }
    assert polar.error["orthoviz exact"] < 1e-6
    assert polar.smallest_gain["orthoviz fast"] == pytest.approx(1, abs=0.02)
    for name in ("table1", "speedrun"):
        runs = pd.read_csv(out / f"{name}.csv").groupby(["job", "contender"]).epoch.max()
        assert len(runs) >= 3
        assert set(runs) == {1}
    again = said(start(out, path=tmp_path))
    assert again.count("done before") == len(STAGES)
    assert all((out / name).read_bytes() == content for name, content in files.items() if name != "log.txt")


def test_a_stage_that_hangs_is_ended_in_time_with_all_that_it_started(tmp_path):
    hang = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(9999)"
    (tmp_path / "pytest.py").write_text(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hang!r}])"
    )
    out = said(start(tmp_path / "out", "--stages", "tests", "polar", path=tmp_path, minutes=0.75))
    assert "tests: its time was up" in out
    assert "polar: left out: no time was left" in out
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path):
    first, table = start(tmp_path, "--stages", "polar"), tmp_path / "polar.csv"
    while not (table.exists() and len(pd.read_csv(table)) >= 3):
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(HANG) == 143
    before = pd.read_csv(table)
    said(start(tmp_path, "--stages", "polar"))
    after = pd.read_csv(table)
    assert after.milliseconds[: len(before)].tolist() == before.milliseconds.tolist()
    assert len(after) > len(before)
    assert not after.duplicated(["job", "contender"]).any()


def test_an_unfinished_run_travels_as_its_newest_checkpoint_and_ends_as_if_it_had_not_stopped(tmp_path):
    script = (
        "import sys, pandas as pd\n"
        "from pathlib import Path\n"
        "from benchmarks.gpu import images, runs\n"
        "images.unpack('', Path(sys.argv[1]), True)\n"
        "changes = {**runs.DRY, 'epochs': 40}\n"
        "rows = runs.a_run('table1/basic_cnn', sys.argv[1], 'orthogonal_sgd', 0, **changes)\n"
        "pd.DataFrame(rows).to_csv(Path(sys.argv[1], 'rows.csv'))"
    )

    def run(name):
        (tmp_path / name).mkdir(exist_ok=True)
        environment = {**os.environ, "ORTHOVIZ_DATA": str(tmp_path / name / "data"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name)], cwd=ROOT, env=environment
        )

    part = run("part")
    while not list((tmp_path / "part").glob("runs/**/step-*.pt")):
        assert part.poll() is None
        time.sleep(0.05)
    part.send_signal(signal.SIGTERM)
    assert part.wait(HANG) == 1
    pack(tmp_path / "part" / "runs", tmp_path / "runs.tar")
    (tmp_path / "rest" / "runs").mkdir(parents=True)
    subprocess.run(["tar", "-xf", tmp_path / "runs.tar", "-C", tmp_path / "rest" / "runs"], check=True)
    assert run("rest").wait(HANG) == run("whole").wait(HANG) == 0
    columns = ["epoch", "step", "train_loss", "test_loss", "test_accuracy"]
    tables = [pd.read_csv(tmp_path / name / "rows.csv")[columns] for name in ("whole", "rest")]
    assert tables[0].equals(tables[1])
