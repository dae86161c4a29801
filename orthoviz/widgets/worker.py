"""Work in a thread of its own, which a view shows while it goes on: from start to stop, or by steps."""

import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

_CLOSED = -1  # the last order


class Worker:
    """Work in small pieces that can be stopped between them.

    One thread serves for the worker's life: each new thread can cost megabytes that the allocator keeps.

    Args:
        begin: makes the work, a generator that yields after each piece. When it is stopped it is closed, so
            GeneratorExit tells it that it did not come to its end.
        look: draws; called between pieces, twelve times a second.
        say: shows an error that the work raised.
    """

    def __init__(
        self, begin: Callable[[], Generator[None]], look: Callable[[], None], say: Callable[[Any], None]
    ) -> None:
        self._begin, self._look, self._say = begin, look, say
        self._work: Generator[None] | None = None
        self._stop, self._idle = threading.Event(), threading.Event()
        self._idle.set()
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._switching = threading.Lock()  # buttons answer in whatever thread the kernel gives them
        self._closed = False

    @property
    def working(self) -> bool:
        """Whether work goes on now."""
        return not self._idle.is_set()

    def start(self, pieces: int | None = None) -> None:
        """Begin the work, or go on with it, for so many pieces or to its end; does nothing while it is on."""
        with self._switching:
            if self._closed or self.working:
                return
            self._stop.clear()
            self._idle.clear()
            self._orders.put(pieces)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="orthoviz-view", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the work that is on, if any, and wait for it: the time of a piece."""
        with self._switching:
            self._stop.set()
            self._idle.wait()
            if self._work is not None:  # it was waiting between two pieces
                self._end()

    def close(self) -> None:
        """Stop, and end the thread."""
        self._closed = True
        self.stop()
        self._orders.put(_CLOSED)
        if self._thread is not None:
            self._thread.join()

    def run(self, pieces: int | None = None) -> None:
        """Do the work, or so many pieces of it, here and now."""
        looked = 0.0
        try:
            self._work = self._work or self._begin()
            for done, _ in enumerate(self._work, start=1):
                if self._stop.is_set():
                    break
                if done == pieces:
                    self._look()
                    return
                if time.perf_counter() - looked > 0.08:
                    self._look()
                    looked = time.perf_counter()
            self._end()
        except (Exception, SystemExit) as error:  # in a thread nobody else would see it
            self._work = None
            self._say(error)

    def _serve(self) -> None:
        """Wait for orders and do them, until the worker is closed."""
        for pieces in iter(self._orders.get, _CLOSED):
            try:
                self.run(pieces)
            finally:
                self._idle.set()

    def _end(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.close()
        self._look()
