"""The doctor, and the folder for a class: the real pip and uv, on wheels made here, without a network."""

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

import nbformat.v4
import pytest

import orthoviz as ov
from orthoviz.cli import main
from orthoviz.course import doctor, pack
from orthoviz.datasets.store import verify
from tests.test_datasets import make_folder

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, python=sys.executable, **environment):
    """Run Python; return what it says. A variable of the environment that is None is left out."""
    environment = {**os.environ, **environment}
    known = {key: str(value) for key, value in environment.items() if value is not None}
    command = [python, *map(str, command)]
    done = subprocess.run(command, cwd=cwd, env=known, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def damage(file):
    """Change the last byte."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def make_environment(place):
    """Make an environment that sees this one's packages; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return place / ("Scripts" if os.name == "nt" else "bin") / "python"


# A machine


@pytest.fixture
def pictures(tmp_path, store):
    """A data set of four pictures in a store of its own."""
    ov.datasets.add("mine", make_folder(tmp_path / "pictures", train=1, test=1))
    return store / "mine.safetensors"


@pytest.mark.full
def test_a_machine_in_order_has_a_line_for_each_check(tmp_path):
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, ORTHOVIZ_DATA=tmp_path / "data")
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "note  ", "fix   ")) for line in lines[:-1]), done.stdout
    checks = "Python 3|18 packages|widgets|a widget|set digits|GPU|for data sets|orthoviz-course, for"
    for words in checks.split("|"):
        assert any(line.startswith("ok") and words in line for line in lines), (words, done.stdout)
    assert done.returncode == any(line.startswith("fix") for line in lines)
    assert not (tmp_path / "data").exists()


@pytest.mark.full
def test_what_is_not_in_order_has_a_line_with_what_to_do(tmp_path, pictures):
    """Old packages first on the path, a kernel of another environment, a damaged data set."""
    assert verify("mine").name == "mine"
    damage(pictures)
    for name, version in (("numpy", "1.26.4"), ("jupyterlab_widgets", "1.0.0")):
        about = tmp_path / "old" / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    python = str(make_environment(tmp_path / "another"))
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3"}))
    where = {"PYTHONPATH": f"{tmp_path / 'old'}{os.pathsep}{ROOT}", "JUPYTER_PATH": tmp_path / "jupyter"}
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, **where)
    fixes = [line for line in done.stdout.splitlines() if line.startswith("fix")]
    for words in (
        f'orthoviz needs numpy>=2 -> {subprocess.list2cmdline([sys.executable])} -m pip install "numpy>=2"',
        "jupyterlab_widgets 1.0.0 installed, ipywidgets needs jupyterlab_widgets~=",
        f"the kernel runs in {tmp_path / 'another'} -> ",
        "mine is damaged",
    ):
        assert any(words in line for line in fixes), (words, done.stdout)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, f"{len(fixes)} to fix")


@pytest.mark.full
def test_a_package_that_another_needs_is_missed_in_a_line(tmp_path):
    (tmp_path / "nbclient.py").write_text("import swept_away")
    done = run("-m", "orthoviz", "doctor", cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("fix   No module named 'swept_away' -> ")


def run_cell(source):
    return doctor.run_notebook(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]))


@pytest.mark.slow
def test_a_notebook_is_timed_in_quick_mode_with_all_the_memory_of_its_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("ORTHOVIZ_MODE", "full")
    monkeypatch.chdir(tmp_path)
    hold = "import time; held = bytearray(b'x') * 300_000_000; time.sleep(3)"
    check = "import os, subprocess, sys; open('litter', 'w'); assert os.environ['ORTHOVIZ_MODE'] == 'quick'"
    seconds, gigabytes, error = run_cell(f"{check}; subprocess.run([sys.executable, '-c', {hold!r}])")
    assert (error, list(tmp_path.iterdir())) == ("", [])
    assert seconds >= 3
    assert 0.3 < gigabytes < 0.7


@pytest.mark.slow
def test_a_notebook_that_fails_gives_its_error():
    for source, words in (("1 / 0", "ZeroDivisionError: division"), ("import os; os._exit(1)", "died")):
        finding = doctor.judge("00", *run_cell(source))
        assert finding.level == "fix"
        assert words in finding.found


def test_a_lesson_has_90_seconds_and_fails_at_half_as_much_again():
    for seconds, gigabytes, level in ((90, 2.9, "ok"), (91, 1, "note"), (30, 3.1, "note"), (136, 1, "fix")):
        found = f"00: {seconds} s of 90, {gigabytes:.1f} GB of 3 of memory"
        assert doctor.judge("00", seconds, gigabytes, "")[:2] == (level, found)


def test_bad_input_is_one_sentence_and_packs_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pack, "_WHEELS_GB", 1e6)
    for arguments, words in (
        ("--time 00 nothing", "there is no lesson 'nothing'; there is: 00_start_here, "),
        ("--pack class --platform amiga", "no wheels for amiga: platforms are linux_x86_64, "),
        ("--pack class --python 3.9", "no wheels for 3.9: "),
        ("--pack class --platform windows_x86_64", " GB are free, and packing may take 100000"),
        ("--class .", "DeprecationWarning: --class goes in the next release; use --pack\n"),
    ):
        assert main(["doctor", *arguments.split()]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert words in said.err
    assert said.err.splitlines()[1] == f"orthoviz: {tmp_path} is in use; name a new or an empty folder"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# A class


def wheel(folder, name, version, tags="py3-none-any", needs=""):
    """Make a small wheel; return its hash as a lock has it."""
    path, about = folder / f"{name}-{version}-{tags}.whl", f"{name}-{version}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n",
        "RECORD": "".join(f"{about}/{file},,\n" for file in ("METADATA", "WHEEL", "RECORD")),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(f"{about}/{file}", text)
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def make_clone(place):
    """Copy the repository with two dependencies and a lock of small wheels, which are beside it."""
    clone, index = place / "clone", place / "index"
    index.mkdir()
    apart = shutil.ignore_patterns(".*", "__pycache__", "tests", "data", "runs", "site")
    shutil.copytree(ROOT, clone, ignore=apart)
    needs, project = 'dependencies = ["torch>=2", "tqdm"]', (ROOT / "pyproject.toml").read_text()
    (clone / "pyproject.toml").write_text(re.sub(r"(?ms)^dependencies = .*?^\]", needs, project))
    cuda = "Requires-Dist: nvidia-x; os_name == 'posix'\n"
    systems = ("cp312-cp312-manylinux_2_17_x86_64", "cp312-cp312-win_amd64")
    locked = {
        "torch==99.0": [wheel(index, "torch", "99.0", tags, cuda) for tags in systems],
        "nvidia-x==99.0 ; os_name == 'posix'": [wheel(index, "nvidia_x", "99.0")],
        "tqdm==99.0": [wheel(index, "tqdm", "99.0", needs="Requires-Dist: colorama; os_name == 'nt'\n")],
        "colorama==99.0 ; os_name == 'nt'": [wheel(index, "colorama", "99.0")],
    }
    wheel(index, "tqdm", "99.1")  # newer than the lock
    lock = "\n".join(" \\\n    ".join([head, *hashes]) for head, hashes in locked.items())
    (clone / "requirements.lock").write_text(lock)
    return clone


def alone(clone):
    """An environment in which pip and uv find the wheels beside the clone, and nothing else."""
    index, settings = clone.parent / "index", clone.parent / "settings.toml"
    settings.write_text(f"no-index = true\nfind-links = [{json.dumps(str(index))}]\n")
    pip = {"PIP_NO_INDEX": 1, "PIP_FIND_LINKS": index, "PIP_CONFIG_FILE": os.devnull}
    return {"PYTHONPATH": clone, "ORTHOVIZ_DATA": clone.parent / "store", "UV_CONFIG_FILE": settings, **pip}


def pack_class(clone, *platforms):
    """Pack a class for platforms; return what is said, and the names of its wheels."""
    call = "print(*pack('a class', sys.argv[1:], ['3.12']), sep='\\n')"
    script = f"import sys; from orthoviz.course.pack import pack; {call}"
    done = run("-c", script, *platforms, cwd=clone.parent, **alone(clone))
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (clone.parent / "a class" / "wheels").iterdir())
    return done.stdout, [name.partition("-py3")[0].partition("-cp312-")[0] for name in names]


@pytest.mark.full
def test_a_class_has_the_wheels_of_its_platforms_and_what_a_lesson_needs(tmp_path, pictures):
    clone, folder = make_clone(tmp_path), tmp_path / "a class"
    wheel(tmp_path / "index", "torch", "99.0+cpu", "cp312-cp312-manylinux_2_28_x86_64")
    folder.mkdir()  # an empty folder will do
    said, wheels = pack_class(clone, "linux_x86_64", "windows_x86_64")
    assert "fix" not in said
    assert "linux_x86_64, Python 3.12: torch is for CPUs alone" in said
    ours = f"orthoviz-{ov.__version__}"
    assert wheels == ["colorama-99.0", ours, "torch-99.0+cpu", "torch-99.0", "tqdm-99.0"]
    lessons = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(path.name for path in (folder / "orthoviz-course").iterdir()) == lessons
    assert (folder / "data" / "mine.safetensors").read_bytes() == pictures.read_bytes()
    inside = zipfile.ZipFile(folder / "wheels" / f"{ours}-py3-none-any.whl").namelist()
    assert {"orthoviz/_notebooks/00_start_here.ipynb", "orthoviz/_results/lr_sweep/table.csv"} <= set(inside)
    assert not [name for name in inside if "solutions" in name or "lecturer" in name]
    assert [path.name for path in tmp_path.iterdir() if "class" in path.name] == ["a class"]
    # the lecturer's part is taken out; both parts have the sums of all their files
    apart = shutil.move(folder / "for-the-lecturer", tmp_path / "apart")
    assert (apart / "lecturer" / "plans.md").exists()
    assert (apart / "solutions" / "00_start_here.ipynb").exists()
    for place in (folder, apart):
        sums = (place / "SHA256SUMS").read_text().splitlines()
        files = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        assert files - {"SHA256SUMS"} == {line.split("  ", 1)[1] for line in sums}
    (check,) = re.findall(r'py -c "(.*)"$', (folder / "README.txt").read_text(), re.MULTILINE)
    assert run("-c", check, cwd=folder).stdout == "all well\n"
    damage(folder / "wheels" / "tqdm-99.0-py3-none-any.whl")
    assert run("-c", check, cwd=folder).stdout == "['wheels/tqdm-99.0-py3-none-any.whl']\n"


@pytest.mark.full
def test_what_cannot_be_had_is_named_and_the_rest_is_packed(tmp_path):
    clone = make_clone(tmp_path)
    wheel(tmp_path / "index", "colorama", "99.0", needs="Summary: not the wheel of the lock\n")
    said, wheels = pack_class(clone, "windows_x86_64", "macos_arm64", "linux_x86_64")
    damaged, without, last = [line for line in said.splitlines() if line.startswith("fix")]
    assert re.match(r"fix   windows_x86_64, Python 3.12: pip failed: .* HASHES .* colorama==99.0", damaged)
    assert re.match(r"fix   macos_arm64, Python 3.12: uv failed: .* torch==99.0 has no wheels", without)
    assert last.endswith("wheels are missing, see above: remove the folder and pack again")
    assert "note  linux_x86_64, Python 3.12: torch comes with CUDA's libraries" in said
    assert wheels == ["nvidia_x-99.0", f"orthoviz-{ov.__version__}", "torch-99.0", "tqdm-99.0"]


@pytest.mark.full
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way there")
@pytest.mark.parametrize(("way", "code", "left"), [("SIGINT", 130, 0), ("SIGKILL", -9, 1)])
def test_packing_that_was_interrupted_leaves_no_folder_that_looks_whole(tmp_path, way, code, left):
    environment = alone(make_clone(tmp_path))
    del environment["UV_CONFIG_FILE"]
    command = [sys.executable, "-m", "orthoviz", "doctor", "--pack", "class", "--platform", "linux_x86_64"]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        environment |= {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{silent.getsockname()[1]}/", "UV_NO_CONFIG": 1}
        environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
        begin = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **begin)
        silent.settimeout(1200)  # the test ends where uv never calls
        with silent.accept()[0]:  # uv waits now
            os.killpg(process.pid, signal.Signals[way])
            assert process.wait() == code
    assert not (tmp_path / "class").exists()
    assert len(list(tmp_path.glob("class.unfinished-*"))) == left


@pytest.mark.full
def test_a_student_installs_from_the_folder_alone_and_runs_a_lesson(tmp_path):
    """As README.txt says, in another place, without network and clone.

    Other projects' packages are this environment's own: they are three gigabytes.
    """
    pack_class(make_clone(tmp_path), "linux_x86_64")
    shutil.rmtree(tmp_path / "clone")
    folder = (tmp_path / "a class").rename(tmp_path / "at home")
    python = make_environment(folder / ".venv")
    outside = dict.fromkeys(name for name in os.environ if name.startswith(("PYTHON", "PIP_", "ORTHOVIZ")))
    outside |= {"HOME": tmp_path, "JUPYTER_PATH": Path(sys.prefix) / "share" / "jupyter"}
    ours = ["--no-index", "--find-links", "wheels", "--no-deps", "--ignore-installed", "orthoviz"]
    lesson = "doctor.run_notebook(nbformat.read('orthoviz-course/00_start_here.ipynb', 4))"
    script = f"import nbformat; from orthoviz.course import doctor; print(doctor.__file__, {lesson})"
    for command, words in (
        (["-m", "pip", "install", *ours], "Successfully installed"),
        (["-m", "orthoviz", "doctor"], "all well"),
        (["-c", script], f"{folder / '.venv'}.*, ''\\)"),
    ):
        done = run(*command, cwd=folder, python=python, **outside)
        assert re.search(words, done.stdout), done.stdout + done.stderr
