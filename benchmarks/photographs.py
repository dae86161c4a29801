"""Whether training on photographs holds: two processes, two epochs, stopped in the middle and resumed.

    python -m benchmarks.photographs FOLDER SOURCE

FOLDER holds ``<class>/<image>`` and stands for both ImageNet's training and validation folder; SOURCE says
where its images come from. The recipe ``imagenet/resnet34`` runs at 128 pixels in two processes; once, in the
second epoch, both are told to stop, as a cluster does it, and the same command is given again. Only speed and
health are kept, in ``results/photographs``: what a network learns from its test images says nothing.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.common import provenance, store

SIZE, BATCH_SIZE, EPOCHS, PROCESSES = 128, 64, 2, 2


def launch(folder: str, out: Path) -> "subprocess.Popen[bytes]":
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"),
        *("-m", "orthoviz", "train", "imagenet/resnet34", "--train", folder, "--val", folder),
        *("--size", SIZE, "--batch-size", BATCH_SIZE, "--epochs", EPOCHS, "--seeds", 1, "--out", out),
    ]
    threads = str(max(1, (os.cpu_count() or 1) // PROCESSES))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    return subprocess.Popen(list(map(str, command)), env=environment, start_new_session=True)


def stop_in_the_second_epoch(process: "subprocess.Popen[bytes]", out: Path) -> int:
    """Terminate all of its processes there; the step of the checkpoint that they left."""
    while not (histories := [p for p in out.rglob("history.csv") if len(pd.read_csv(p)) == 2]):
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode} before its second epoch")
        time.sleep(0.5)
    time.sleep(10)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(120)
    newest = max(histories[0].parent.glob("step-*.pt"))
    return int(newest.stem.removeprefix("step-"))


def main(folder: str, source: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        stopped = stop_in_the_second_epoch(launch(folder, out), out)
        if code := launch(folder, out).wait():
            raise SystemExit(f"the resumed run ended with {code}")
        histories = {p.parent.name: pd.read_csv(p) for p in out.rglob("history.csv")}
    images = sum(1 for _ in Path(folder).glob("*/*"))
    rows = [
        {"run": run, "epoch": int(now.epoch), "step": int(now.step),
         "images_per_second": round(images / (now.seconds - before.seconds), 1)}
        for run, history in histories.items()
        for before, now in zip(history.itertuples(), history[1:].itertuples(), strict=False)
    ]  # fmt: skip
    path = store("photographs", {
        "what": f"resnet34 at {SIZE} pixels, batch {BATCH_SIZE}, {PROCESSES} processes (gloo): images a "
        f"second, evaluation included; stopped at step {stopped} and resumed. No accuracy is claimed",
        "data": source,
        "command": f"python -m benchmarks.photographs FOLDER '{source}'",
        **provenance(),
    })  # fmt: skip
    pd.DataFrame(rows).to_csv(path / "table.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False), f"stopped and resumed at step {stopped}", sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
