"""All that a GPU is to show that is lent for some minutes, by one command; see GPU.md.

    python -m benchmarks.gpu --minutes 9 --out FOLDER [--images ARCHIVE] [--stages NAME ...] [--dry]

Each stage runs in a process of its own (:mod:`benchmarks.gpu.stage`) and writes its table row by row, so that
nothing is lost when its time is up. What FOLDER or ``results/gpu`` holds already is not done again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"tests": 60.0, "polar": 150.0, "steps": 60.0, "table1": 240.0, "speedrun": 600.0}
"""Seconds that each may take, in the order of their value."""
WITH_IMAGES = ("table1", "speedrun")
GRACE, RESERVE = 5.0, 12.0  # seconds to end in when asked to; those kept for the last end
MOST_BYTES = 15_000_000  # of the archive of unfinished runs


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="it ends before these are over")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--images", type=Path, metavar="ARCHIVE", help="CIFAR-10 as SPLIT/CLASS/*.jpg")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="NAME")
    parser.add_argument("--dry", action="store_true", help="all in miniature, on a CPU too")
    arguments = parser.parse_args()
    if arguments.images and not arguments.images.is_file():
        parser.error(f"--images must be an archive, got {arguments.images}, which is no file")
    folder, end = arguments.out.resolve(), began + 60 * arguments.minutes - RESERVE
    try:
        told, ended = begin(folder, arguments.dry, arguments.images is not None)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    with TemporaryDirectory() as work, open(folder / "log.txt", "a", encoding="utf-8") as log:
        runs, packed = Path(work, "runs"), folder / "runs.tar"
        if packed.exists():
            with tarfile.open(packed) as archive:
                archive.extractall(runs, filter="data")
        command = [str(folder), work, str(arguments.images.resolve()) if arguments.images else ""]
        command += ["--dry"] if arguments.dry else []
        left = {name for name in arguments.stages if not is_done(name, folder, ended)}
        has_images = bool(arguments.dry or arguments.images)
        wanted = has_images and not left.isdisjoint(WITH_IMAGES)
        unpacking = start(["images", *command], log) if wanted else None  # while the tests run
        try:
            for name in arguments.stages:
                if unpacking and name != "tests":  # nothing else runs while times are taken
                    has_images = finish(unpacking, end - time.monotonic()) == "done"
                    unpacking = None
                most = STAGES[name] * (10 if arguments.dry else 1)  # a busy CPU is no error
                seconds = min(most, end - time.monotonic())
                if name not in left:
                    how = "done before"
                elif name in WITH_IMAGES and not has_images:
                    how = "left out: there are no images (--images ARCHIVE)"
                elif seconds < GRACE:
                    how = "left out: no time was left"
                else:
                    how = run([name, *command], folder / f"{name}.csv", seconds, log)
                    ended[name] = {"ended": how, **{key: told[key] for key in ("date", "commit", "device")}}
                    about = json.dumps({**told, "stages": ended}, indent=1)
                    (folder / "provenance.json").write_text(about + "\n", encoding="utf-8")
                words = f"{name}: {how}"
                print(f"{time.monotonic() - began:4.0f} s  {words}", flush=True)
                print(words, file=log, flush=True)
        finally:
            if unpacking:
                finish(unpacking, 0)
            pack(runs, packed)
            for half_written in folder.glob(".*"):
                half_written.unlink()
    return 0


def begin(folder: Path, dry: bool, images: bool) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """What is told of all stages, and how those that ran before ended; the folder gets what is stored."""
    import torch  # not before the clock has started

    from orthoviz.training.records import provenance

    if not (dry or torch.cuda.is_available()):
        raise ValueError("there is no CUDA GPU here: --dry runs all stages in miniature on the CPU")
    folder.mkdir(parents=True, exist_ok=True)
    for path in () if dry else (ROOT / "results" / "gpu").glob("*"):
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    about, old = folder / "provenance.json", {}
    if about.exists():
        old = json.loads(about.read_text(encoding="utf-8"))
        if old["dry"] != dry:
            raise ValueError(f"{folder} holds results with dry = {old['dry']}: choose another folder")
    images = images or bool(old.get("stages", {}).keys() & set(WITH_IMAGES) and not dry)
    told = provenance(
        what="in miniature, to see that all of it works" if dry else "tests, times and runs on a GPU",
        data="random numbers" + (", CIFAR-10, JPEG copy (quality about 75)" if images else ""),
        command="python -m benchmarks.gpu",
        dry=dry,
    )
    return told, old.get("stages", {})


def is_done(name: str, folder: Path, ended: dict[str, dict[str, object]]) -> bool:
    """Whether a stage came to its end, and its table is still there."""
    return ended.get(name, {}).get("ended") == "done" and (folder / f"{name}.csv").exists()


def start(arguments: list[str], log: IO[str]) -> "subprocess.Popen[bytes]":
    """A stage's process, first of a group of its own."""
    command = [sys.executable, "-c", "from benchmarks.gpu.stage import main; main()", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def finish(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    """Wait for a process, and say how it ended. When its time is up, it and all that it has started are asked
    to end, which gives runs the time to save where they are, and then killed."""
    try:
        code = process.wait(max(0, seconds))
        return "done" if code == 0 else f"failed with exit code {code}: see log.txt"
    except subprocess.TimeoutExpired:
        return f"its time was up after {seconds:.0f} s"
    finally:
        last = time.monotonic() + GRACE
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            while time.monotonic() < last:
                time.sleep(0.1)
                process.poll()
                os.killpg(process.pid, 0)  # raises once none of the group is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(arguments: list[str], table: Path, seconds: float, log: IO[str]) -> str:
    """Run a stage, again and again if it fails after it has written more rows, and say how it ended."""
    end = time.monotonic() + seconds
    while True:
        before = table.stat().st_size if table.exists() else 0
        how = finish(start(arguments, log), end - time.monotonic())
        after = table.stat().st_size if table.exists() else 0
        if not how.startswith("failed") or after == before or arguments[0] == "tests":
            return how


def pack(runs: Path, target: Path) -> None:
    """Keep the newest checkpoints of unfinished runs, small ones first, as many as there is room for."""
    target.unlink(missing_ok=True)
    newest = {path.parent: path for path in sorted(runs.glob("**/step-*.pt"))}.values()
    room = MOST_BYTES
    for path in sorted(newest, key=lambda path: path.stat().st_size):
        room -= path.stat().st_size + 100_000
        if room > 0:
            with tarfile.open(target, "a") as archive:
                for part in (path, path.with_name("config.json"), path.with_name("history.csv")):
                    if part.exists():
                        archive.add(part, part.relative_to(runs))


if __name__ == "__main__":
    sys.exit(main())
