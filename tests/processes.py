"""Python as other processes: one, or the ranks of a group."""

import os
import socket
import subprocess
import sys


def start(*command, **environment):
    """Start ``python -m command``; what it prints can be read, errors with it."""
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen([sys.executable, "-m", *map(str, command)], env=known, **pipes)


def start_ranks(count, *command):
    """Start so many of them, with the variables that torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = dict(WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    return [start(*command, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(count)]


def run(*command, check=True, **options):
    """Run a command to its end, and fail with what it says where ``check`` and it does."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
