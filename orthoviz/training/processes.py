"""One process or several: who this one is, and what all of them are asked."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist


def rank_and_size() -> tuple[int, int]:
    """This process's rank, and how many processes there are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def say(words: str) -> None:
    """Print, once for all processes."""
    if rank_and_size()[0] == 0:
        print(words)


@contextmanager
def requests() -> Iterator[Callable[..., str | None]]:
    """A function that says what to do after a step: None, "due" (save), "interrupted" or "terminated".

    All processes get the same answer: what any of them was asked. They talk between CPUs, so that asking does
    not wait for a GPU. A second Ctrl-C raises KeyboardInterrupt. Python lets only the main thread hear of
    signals.
    """
    words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    came: list[str] = []

    def note(number: int, frame: Any) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(words[signal.Signals(number)])

    def asked(due: bool = False) -> str | None:
        word = came[0] if came else "due" if due else None
        if group is None:
            return word
        known = (None, "due", *words.values())
        flag = torch.tensor([known.index(word)])
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=group)
        return known[int(flag)]

    old = {}
    if threading.current_thread() is threading.main_thread():
        old = {number: signal.signal(number, note) for number in words}
    group: Any = dist.new_group(backend="gloo") if rank_and_size()[1] > 1 else None
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if group is not None:
            dist.destroy_process_group(group)
