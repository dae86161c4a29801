"""The doctor, and the folder for a classroom: the real pip, on wheels made here, without a network."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.course import doctor
from orthoviz.datasets import store

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, **environment):
    """What a command says, with this environment's Python as ``python``."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **{key: str(value) for key, value in environment.items()}},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


# A machine


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A data set of four pictures in a store of its own."""
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "pictures" / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "pictures" / place / "1.png")
    monkeypatch.setenv("ORTHOVIZ_DATA", str(tmp_path / "store"))
    ov.datasets.add("mine", tmp_path / "pictures")
    return tmp_path / "store" / "mine.safetensors"


def damage(file):
    """Another last byte: a pixel or a label."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_a_changed_bit_of_a_data_set_is_found(pictures):
    assert store.verify("mine").name == "mine"
    damage(pictures)
    with pytest.raises(ov.datasets.DataError, match=r"mine is damaged: .* 'orthoviz data remove mine'"):
        store.verify("mine")


def test_the_digits_are_the_ones_that_the_course_was_written_with():
    assert store.verify("digits").shape == (1, 8, 8)


@pytest.mark.slow
def test_a_machine_in_order_is_told_so(tmp_path):
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, ORTHOVIZ_DATA=tmp_path / "data")
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "note  ", "fix   ")) for line in lines[:-1]), done.stdout
    for words in (
        "Python 3",
        "17 packages",
        "widgets: ipywidgets",
        "a widget",
        "digits",
        "GPU",
        "for data sets",
    ):
        assert any(line.startswith("ok") and words in line for line in lines), (words, done.stdout)
    assert done.returncode == any(line.startswith("fix") for line in lines)
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_what_is_not_in_order_has_a_line_with_what_to_do(tmp_path, pictures):
    """Old packages first on the path, a kernel of an environment that was deleted, a damaged data set."""
    damage(pictures)
    for name, version in (("numpy", "1.26.4"), ("jupyterlab_widgets", "1.0.0")):
        about = tmp_path / "old" / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(tmp_path / "deleted" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3"}))
    where = {"PYTHONPATH": tmp_path / "old", "JUPYTER_PATH": tmp_path / "jupyter"}
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, **where)
    fixes = [line for line in done.stdout.splitlines() if line.startswith("fix")]
    for words in (
        f'orthoviz needs numpy>=2 -> {sys.executable} -m pip install "numpy>=2"',
        "jupyterlab_widgets 1.0.0 is installed, ipywidgets needs jupyterlab_widgets~=",
        "the kernel python3 does not start",
        "mine is damaged",
    ):
        assert any(words in line for line in fixes), (words, done.stdout)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"{len(fixes)} to fix"


@pytest.mark.slow
def test_a_package_that_another_needs_is_missed_in_a_line(tmp_path):
    """And all other checks are made."""
    (tmp_path / "old" / "jupyterlab_server").mkdir(parents=True)
    (tmp_path / "old" / "jupyterlab_server" / "__init__.py").write_text("import swept_away")
    (tmp_path / "wheels").mkdir()
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, PYTHONPATH=tmp_path / "old")
    (line,) = [line for line in done.stdout.splitlines() if "swept_away is missing" in line]
    assert line.endswith("pip install --no-index --find-links wheels swept_away")
    assert "GPU: " in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="nobody can write to /proc")
def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch):
    monkeypatch.setenv("ORTHOVIZ_DATA", "/proc/data")
    (found,) = [line for line in map(str, doctor.folders()) if "for data sets" in line]
    assert found.startswith("fix   /proc/data, for data sets, cannot be written to")
    assert found.endswith("-> set ORTHOVIZ_DATA to another folder")


def notebook(path, source):
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    return path


@pytest.mark.slow
def test_a_lesson_is_timed_in_quick_mode_with_all_the_memory_of_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ORTHOVIZ_MODE", "full")
    source = (
        "import os, subprocess, sys\n"
        "assert os.environ['ORTHOVIZ_MODE'] == 'quick'\n"
        "open('litter', 'w')\n"
        "hold = 'import time; held = bytearray(b\"x\") * 300_000_000; time.sleep(3)'\n"
        "subprocess.run([sys.executable, '-c', hold], check=True)"
    )
    timed = doctor.time_lesson(notebook(tmp_path / "00.ipynb", source))
    assert timed.error == ""
    assert timed.seconds >= 3
    assert 0.3e9 < timed.peak < 0.7e9
    assert [path.name for path in tmp_path.iterdir()] == ["00.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("import os; os._exit(1)", "died")],
)
def test_a_lesson_that_fails_is_told_with_its_error(tmp_path, source, words):
    timed = doctor.time_lesson(notebook(tmp_path / "00.ipynb", source))
    assert words in timed.error
    found = doctor.judged("00", timed)
    assert found.level == "fix"
    assert words in str(found)


@pytest.mark.parametrize(
    ("seconds", "gigabytes", "level"), [(90, 2.9, "ok"), (91, 1, "note"), (30, 3.1, "note"), (136, 1, "fix")]
)
def test_a_lesson_has_90_seconds_and_fails_at_half_as_much_again(seconds, gigabytes, level):
    found = doctor.judged("00_start_here", doctor.Timed(seconds, int(gigabytes * 1e9), ""))
    assert found.level == level
    assert f"{seconds} s of 90, {gigabytes:.1f} GB of 3 of memory" in found.found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--time", "00", "nothing"], "there is no lesson 'nothing'; there is: 00_start_here, "),
        (["--python", "3.12"], "--class FOLDER packs, and need it"),
        (["--class", "class", "--platform", "amiga"], "'amiga'; there are for: linux_x86_64, "),
        (["--class", "class", "--python", "3.9"], "a version as 3.12, of"),
        (["--class", "no/class"], "there is no folder"),
        (["--class", "."], "is there already and not empty"),
    ],
)
def test_bad_input_is_one_sentence_and_packs_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# A classroom


def wheel(folder, name, version, tags):
    """Make a small wheel; returns its hash as it stands in a lock."""
    path = folder / f"{name}-{version}-{tags}.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tags}\n",
    }
    record = ""
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{file},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return f"    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def entry(head, hashes, via):
    """An entry as it stands in requirements.lock."""
    users = (
        f"    # via {via[0]}" if len(via) == 1 else "\n".join(["    # via", *(f"    #   {v}" for v in via)])
    )
    return " \\\n".join([head, *hashes]) + f"\n{users}\n"


@pytest.fixture
def clone(tmp_path):
    """A copy of the repository with a lock of five packages, and an index of their wheels beside it."""
    place, index = tmp_path / "clone", tmp_path / "index"
    place.mkdir()
    index.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    for name in ("orthoviz", "notebooks", "results"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "notebooks" / "lecturer").mkdir(exist_ok=True)
    (place / "notebooks" / "lecturer" / "plan.md").write_text("ten minutes for 00")
    ours = "orthoviz (pyproject.toml)"
    lock = entry("filelock==99.0", [wheel(index, "filelock", "99.0", "py3-none-any")], [ours, "torch"])
    both = [
        wheel(index, "tqdm", "99.0", "cp312-cp312-manylinux_2_17_x86_64"),
        wheel(index, "tqdm", "99.0", "cp312-cp312-win_amd64"),
    ]
    lock += entry("tqdm==99.0", both, [ours])
    only = wheel(index, "colorama", "99.0", "py3-none-any")
    lock += entry("colorama==99.0 ; sys_platform == 'win32'", [only], ["tqdm"])
    only = wheel(index, "ptyprocess", "99.0", "py3-none-any")
    lock += entry("ptyprocess==99.0 ; os_name != 'nt'", [only], ["tqdm"])
    lock += entry("devtool==99.0", [wheel(index, "devtool", "99.0", "py3-none-any")], ["pytest"])
    (place / "requirements.lock").write_text(lock)
    return place


def alone(clone):
    """An environment in which pip finds the wheels beside the clone, and nothing else."""
    index = {"PIP_NO_INDEX": 1, "PIP_FIND_LINKS": clone.parent / "index", "PIP_CONFIG_FILE": os.devnull}
    return {"PYTHONPATH": clone, "ORTHOVIZ_DATA": clone.parent / "store", **index}


def packed(clone, *targets):
    """What is said of a class packed for platforms, and its folder."""
    script = (
        "import sys; from orthoviz.course import classroom\n"
        "for finding in classroom.pack(sys.argv[1], sys.argv[2:], ['3.12']): print(finding)"
    )
    folder = clone.parent / "a class"
    done = run("-c", script, folder, *targets, cwd=clone.parent, **alone(clone))
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def wheels(folder):
    return sorted(path.name for path in (folder / "wheels").iterdir())


@pytest.mark.slow
def test_a_class_has_the_wheels_of_its_platforms_and_what_a_lesson_needs(clone, pictures):
    (clone.parent / "a class").mkdir()  # an empty folder will do
    said, folder = packed(clone, "linux_x86_64", "windows_x86_64")
    assert "fix" not in said
    assert wheels(folder) == [
        "colorama-99.0-py3-none-any.whl",
        "filelock-99.0-py3-none-any.whl",
        f"orthoviz-{ov.__version__}-py3-none-any.whl",
        "ptyprocess-99.0-py3-none-any.whl",
        "tqdm-99.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        "tqdm-99.0-cp312-cp312-win_amd64.whl",
    ]
    lessons = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(path.name for path in (folder / "orthoviz-course").iterdir()) == lessons
    assert (folder / "data" / "mine.safetensors").read_bytes() == pictures.read_bytes()
    assert "ORTHOVIZ_DATA" in (folder / "README.txt").read_text()
    apart = folder / "for-the-lecturer"
    assert (apart / "lecturer" / "plan.md").exists()
    assert (apart / "solutions" / "00_start_here.ipynb").exists()
    with zipfile.ZipFile(folder / "wheels" / f"orthoviz-{ov.__version__}-py3-none-any.whl") as archive:
        inside = archive.namelist()
    assert "orthoviz/_notebooks/00_start_here.ipynb" in inside
    assert "orthoviz/_results/lr_sweep/table.csv" in inside
    assert not [name for name in inside if "solutions" in name or "lecturer" in name]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in clone.parent.iterdir() if "class" in path.name) == ["a class"]


@pytest.mark.slow
def test_every_file_has_its_sum_and_a_damaged_one_is_named(clone):
    _, folder = packed(clone, "linux_x86_64")
    shutil.move(folder / "for-the-lecturer", clone.parent / "kept")
    for place in (folder, clone.parent / "kept"):
        files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        sums = dict(reversed(line.split("  ", 1)) for line in (place / "SHA256SUMS").read_text().splitlines())
        assert files - {"SHA256SUMS"} == set(sums)
        for name, expected in sums.items():
            assert hashlib.sha256((place / name).read_bytes()).hexdigest() == expected
    (check,) = re.findall(r'py -c "(.*)"$', (folder / "README.txt").read_text(), re.MULTILINE)
    assert run("-c", check, cwd=folder).stdout == "all well\n"
    damage(folder / "wheels" / "filelock-99.0-py3-none-any.whl")
    assert run("-c", check, cwd=folder).stdout == "['wheels/filelock-99.0-py3-none-any.whl']\n"


@pytest.mark.slow
def test_what_cannot_be_had_is_named_and_the_folder_is_made_all_the_same(clone):
    damage(clone.parent / "index" / "ptyprocess-99.0-py3-none-any.whl")  # its hash is not the lock's
    command = [
        "-m",
        "orthoviz",
        "doctor",
        "--class",
        "class",
        "--platform",
        "macos_arm64",
        "--python",
        "3.12",
    ]
    done = run(*command, cwd=clone.parent, **alone(clone))
    (line,) = [line for line in done.stdout.splitlines() if "macos_arm64, Python 3.12" in line]
    assert line.startswith("fix")
    assert "no wheel could be had of tqdm==99.0, ptyprocess==99.0 ->" in line
    assert done.returncode == 1
    last = done.stdout.splitlines()[-2]
    assert last.startswith(f"fix   {clone.parent / 'class'}: ")
    assert last.endswith("remove the folder and pack again")
    assert "filelock-99.0-py3-none-any.whl" in wheels(clone.parent / "class")
    assert (clone.parent / "class" / "SHA256SUMS").exists()


@pytest.mark.slow
def test_on_linux_torch_comes_without_cuda_where_it_can_be_had(clone):
    index, lock = clone.parent / "index", clone / "requirements.lock"
    with open(lock, "a") as file:
        for name, via in (("torch", "orthoviz"), ("torchvision", "orthoviz"), ("nvidia-cublas", "torch")):
            wheel(index, name.replace("-", "_"), "99.0+cpu", "cp312-cp312-manylinux_2_28_x86_64")
            plain = wheel(index, name.replace("-", "_"), "99.0", "cp312-cp312-manylinux_2_28_x86_64")
            file.write(entry(f"{name}==99.0", [plain], [via]))
    said, folder = packed(clone, "linux_x86_64")
    assert "ok    linux_x86_64, Python 3.12: torch==99.0+cpu, torchvision==99.0+cpu" in said
    assert [name.partition("-cp")[0] for name in wheels(folder) if "torch" in name or "nvidia" in name] == [
        "torch-99.0+cpu",
        "torchvision-99.0+cpu",
    ]


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way there")
@pytest.mark.parametrize("way", ["SIGINT", "SIGKILL"])
def test_packing_that_was_interrupted_leaves_no_folder_that_looks_whole(clone, way):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        environment = {key: str(value) for key, value in alone(clone).items() if key != "PIP_NO_INDEX"}
        environment["PIP_INDEX_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        process = subprocess.Popen(
            [sys.executable, "-m", "orthoviz", "doctor", "--class", "class", "--python", "3.12"],
            cwd=clone.parent,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # a job in the background has none
        )
        silent.settimeout(240)
        caller, _ = silent.accept()  # pip waits now
        with caller:
            (process.send_signal if way == "SIGINT" else lambda s: os.killpg(process.pid, s))(
                signal.Signals[way]
            )
            code = process.wait(60)
    left = [path.name for path in clone.parent.iterdir() if path.name.startswith("class")]
    assert "class" not in left
    if way == "SIGINT":
        assert (code, left) == (130, [])
    else:
        (unfinished,) = left
        assert unfinished.startswith("class.unfinished-")


@pytest.mark.full
def test_a_student_installs_from_the_folder_alone_and_runs_a_lesson(clone):
    """As README.txt says, in another place, without network and clone.

    Other projects' packages are this environment's own: they are three gigabytes.
    """
    _, packed_folder = packed(clone, "linux_x86_64")
    folder = clone.parent / "at home" / "class"
    folder.parent.mkdir()
    shutil.move(packed_folder, folder)
    shutil.rmtree(clone)
    subprocess.run([sys.executable, "-m", "venv", ".venv"], cwd=folder, check=True)
    python = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / ".venv")}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "ORTHOVIZ"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "HOME": str(folder.parent)}
    environment["JUPYTER_PATH"] = str(Path(sys.prefix) / "share" / "jupyter")  # theirs too

    def student(*command):
        done = subprocess.run([python, *command], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ours = ["--no-index", "--find-links", "wheels", "--no-deps", "--ignore-installed", "orthoviz"]
    student("-m", "pip", "install", *ours)
    out = student("-c", "import orthoviz as ov; print(ov.__file__, len(ov.training.results('lr_sweep')))")
    assert out.startswith(str(site))
    assert "all well" in student("-m", "orthoviz", "doctor")
    lesson = "doctor.time_lesson('orthoviz-course/00_start_here.ipynb').error or 'ran'"
    assert student("-c", f"from orthoviz.course import doctor; print({lesson})") == "ran\n"
