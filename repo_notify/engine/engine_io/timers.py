"""All waiting of the engine in one background task: heartbeats, connect and upgrade time-outs, the end of closing."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Signal(Protocol):
    """What threading.Event and gevent's Event have in common."""

    def set(self) -> None:
        """Wake who waits."""

    def clear(self) -> None:
        """Make the next wait wait."""

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until set, at most `timeout` seconds; whether it is set."""


# What keeps threads apart; where greenlets never switch within, nothing has to.
Lock = AbstractContextManager[Any]


class Timer:
    """One call in the future; `cancel` forgets it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never call; what the call would have needed is free at once."""
        self.call = None


class Timers:
    """Calls at due times, from one background task that lives only while something is due. Calls must not block."""

    def __init__(
        self, spawn: Callable[[Callable[[], None]], object], signal: Signal, lock: Lock, logger: logging.Logger
    ) -> None:
        self._spawn = spawn
        self._signal = signal
        self._logger = logger
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._lock = lock
        self._running = False

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds`."""
        timer = Timer(call)
        due = time.monotonic() + seconds
        with self._lock:
            heapq.heappush(self._heap, (due, next(self._order), timer))
            first = self._heap[0][2] is timer
            start, self._running = not self._running, True
        if start:
            self._spawn(self._run)
        elif first:
            self._signal.set()
        return timer

    def _run(self) -> None:
        while (wait := self._wait()) is not None:
            if wait > 0:
                self._signal.wait(wait)
                self._signal.clear()
                continue
            self._call_due()

    def _wait(self) -> float | None:
        """Seconds until something is due; None, and the task's end, when nothing will be."""
        with self._lock:
            while self._heap and self._heap[0][2].call is None:
                heapq.heappop(self._heap)
            if not self._heap:
                self._running = False
                return None
            return self._heap[0][0] - time.monotonic()

    def _call_due(self) -> None:
        with self._lock:
            _, _, timer = heapq.heappop(self._heap)
        call, timer.call = timer.call, None
        if call is None:
            return
        try:
            call()
        except Exception:
            self._logger.exception("a timer's call failed")
