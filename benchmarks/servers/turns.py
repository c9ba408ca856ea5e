"""How long a turn of gevent's loop takes: what holds up everybody, whatever else the machine does meanwhile."""

from __future__ import annotations

import gc
from time import thread_time
from typing import Any

import gevent


class Turns:
    """The longest turn and the longest garbage collection since the last question, in seconds of the thread's CPU time.

    A turn goes from where the loop has waited for something to happen to where it waits again, without the collections
    in it: those are the process's, whoever was at work when one was due.
    """

    def __init__(self) -> None:
        loop: Any = gevent.get_hub().loop
        self._turn = self._collection = self._collected = 0.0
        self._began = self._collecting = thread_time()
        # Directly behind and before it waits: gevent runs what is ready in a watcher of its own.
        self._watchers = (loop.check(priority=loop.MAXPRI), loop.prepare(priority=loop.MINPRI))
        for watcher, call in zip(self._watchers, (self._begin, self._end), strict=True):
            watcher.start(call)
        gc.callbacks.append(self._collect)

    def _begin(self) -> None:
        self._began, self._collected = thread_time(), 0.0

    def _end(self) -> None:
        self._turn = max(self._turn, thread_time() - self._began - self._collected)

    def _collect(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = thread_time()
        else:
            took = thread_time() - self._collecting
            self._collected += took
            self._collection = max(self._collection, took)

    def longest(self) -> tuple[float, float]:
        """Return both, and begin anew."""
        found = self._turn, self._collection
        self._turn = self._collection = 0.0
        return found
