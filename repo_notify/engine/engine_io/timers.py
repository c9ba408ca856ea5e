"""All waiting of the engine in one background task: heartbeats, connect and upgrade time-outs, the end of closing."""

from __future__ import annotations

import heapq
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


# So many cancelled timers are not worth clearing away.
FEW = 64

# What keeps threads apart; where greenlets never switch within, nothing has to.
Lock = AbstractContextManager[Any]


class Timer:
    """One call in the future; `cancel` forgets it."""

    __slots__ = ("_timers", "at", "call", "due")

    def __init__(self, timers: Timers, due: float, call: Callable[[], None]) -> None:
        self._timers = timers
        # `at` is where it stands in the heap; `due` may have moved on since.
        self.at = self.due = due
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        """Never call; what the call would have needed is free at once."""
        if self.call is not None:
            self.call = None
            self._timers.cancelled()


class Timers:
    """Calls at due times, from one background task that lives only while something is due. Calls must not block.

    `len()` is how many wait, those among them that were cancelled and not yet cleared away included.
    """

    def __init__(
        self, spawn: Callable[[Callable[[], None]], object], signal: Signal, lock: Lock, logger: logging.Logger
    ) -> None:
        self._spawn = spawn
        self._signal = signal
        self._logger = logger
        self._heap: list[Timer] = []
        self._cancelled = 0
        self._lock = lock
        self._running = False

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds`."""
        timer = Timer(self, time.monotonic() + seconds, call)
        with self._lock:
            heapq.heappush(self._heap, timer)
            first = self._heap[0] is timer
            start, self._running = not self._running, True
        if start:
            self._spawn(self._run)
        elif first:
            self._signal.set()
        return timer

    def move(self, timer: Timer, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds` instead of what that timer would have called; returns the timer of it.

        Costs no memory, however often, where the new time is no earlier than the old one.
        """
        due = time.monotonic() + seconds
        with self._lock:
            if timer.call is not None and timer.at <= due:
                timer.due, timer.call = due, call
                return timer
        timer.cancel()
        return self.after(seconds, call)

    def cancelled(self) -> None:
        """Take note that one was cancelled: when they are the most, they are cleared away."""
        with self._lock:
            self._cancelled += 1
            if self._cancelled > FEW and self._cancelled * 2 > len(self._heap):
                self._heap = [timer for timer in self._heap if timer.call is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _run(self) -> None:
        while (found := self._next()) is not None:
            if isinstance(found, float):
                self._signal.wait(found)
                self._signal.clear()
                continue
            try:
                found()
            except Exception:
                self._logger.exception("a timer's call failed")

    def _next(self) -> Callable[[], None] | float | None:
        """The call that is due, or the seconds until one will be; None, and the task's end, when nothing will be."""
        with self._lock:
            while self._heap:
                first = self._heap[0]
                if first.call is None:
                    heapq.heappop(self._heap)
                    self._cancelled -= 1
                elif first.at != first.due:
                    first.at = first.due
                    heapq.heapreplace(self._heap, first)
                elif (wait := first.at - time.monotonic()) > 0:
                    return wait
                else:
                    heapq.heappop(self._heap)
                    call, first.call = first.call, None
                    return call
            self._running = False
            return None
