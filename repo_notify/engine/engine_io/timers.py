"""All waiting of the engine in one background task: heartbeats, connect and upgrade time-outs, the end of closing."""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections import deque
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
# How many timers are looked at in one go that are not to be called: cancelled, or moved.
SLICE = 500
# How long others may run then, and between calls.
GIVE_WAY_SECONDS = 0.0005

# What is due within a tick is called together: a process that wakes for each heartbeat alone spends most of its time on
# waking up. Timers are late by that part of their time at most.
TICK_SECONDS = 0.25
TICK_PART = 0.01
# How many calls are made in one go.
CALLS = 100

# What keeps threads apart; where greenlets never switch within, nothing has to.
Lock = AbstractContextManager[Any]


class Timer:
    """One call in the future; `cancel` forgets it."""

    __slots__ = ("_timers", "at", "call", "due")

    def __init__(self, timers: Timers, due: float, call: Callable[[], None]) -> None:
        self._timers = timers
        # `at` is the tick that it stands in; `due` may have moved on since.
        self.at = self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never call; what the call would have needed is free at once."""
        if self.call is not None:
            self.call = None
            self._timers.cancelled()


def _due(seconds: float) -> float:
    """Return when what is to come in so many seconds is due: at the end of a tick, together with others."""
    tick = min(TICK_SECONDS, seconds * TICK_PART)
    due = time.monotonic() + seconds
    return math.ceil(due / tick) * tick if tick else due


class Timers:
    """Calls at due times, from one background task that lives only while something is due. Calls must not block.

    What is due at the end of the same tick stands together, and only the ticks are in an order. `len()` is how many
    wait, those among them that were cancelled and not yet cleared away included.
    """

    def __init__(
        self, spawn: Callable[[Callable[[], None]], object], signal: Signal, lock: Lock, logger: logging.Logger
    ) -> None:
        self._spawn = spawn
        self._signal = signal
        self._logger = logger
        self._ticks: dict[float, deque[Timer]] = {}
        # When they end, as a heap.
        self._ends: list[float] = []
        self._number = self._cancelled = 0
        self._crowded = False
        self._lock = lock
        self._running = False

    def __len__(self) -> int:
        return self._number

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds`."""
        timer = Timer(self, _due(seconds), call)
        with self._lock:
            self._number += 1
            is_first = self._put(timer)
            start, self._running = not self._running, True
        if start:
            self._spawn(self._run)
        elif is_first:
            self._signal.set()
        return timer

    def move(self, timer: Timer, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in `seconds` instead of what that timer would have called; returns the timer of it.

        Costs no memory, however often, where the new time is no earlier than the old one.
        """
        due = _due(seconds)
        with self._lock:
            if timer.call is not None and timer.at <= due:
                timer.due, timer.call = due, call
                return timer
        timer.cancel()
        return self.after(seconds, call)

    def _put(self, timer: Timer) -> bool:
        """Put a timer into its tick; return whether that is a new one, before all others."""
        together = self._ticks.get(timer.at)
        if together is not None:
            together.append(timer)
            return False
        self._ticks[timer.at] = deque((timer,))
        heapq.heappush(self._ends, timer.at)
        return self._ends[0] == timer.at

    def cancelled(self) -> None:
        """Take note that one was cancelled: when they are the most, the background task clears them away."""
        with self._lock:
            self._cancelled += 1
            if self._crowded or self._cancelled <= FEW or self._cancelled * 2 <= self._number:
                return
            self._crowded = True
        self._signal.set()

    def _clear_away(self) -> None:
        """Forget the cancelled, in slices; what is due meanwhile is called after it.

        Thousands in one go would hold up everybody else for ten milliseconds.
        """
        looked = 0
        for together in list(self._ticks.values()):
            # No other task takes any out, and what is put in stands behind those that are there.
            for _ in range(len(together)):
                with self._lock:
                    timer = together.popleft()
                    if timer.call is None:
                        self._forget()
                    else:
                        together.append(timer)
                looked += 1
                if looked % SLICE == 0:
                    self._give_way()
        self._crowded = False

    def _forget(self) -> None:
        """Take note that one that was cancelled is out of its tick."""
        self._number -= 1
        self._cancelled -= 1

    def _give_way(self) -> None:
        # Whoever sets it wants the task to look at what is due, which it does afterwards.
        self._signal.clear()
        self._signal.wait(GIVE_WAY_SECONDS)

    def _run(self) -> None:
        called = 0
        while (found := self._next()) is not None:
            if isinstance(found, float):
                self._signal.wait(found)
                self._signal.clear()
                if self._crowded:
                    self._clear_away()
                called = 0
                continue
            if called == CALLS:
                self._give_way()
                called = 0
            called += 1
            try:
                found()
            except Exception:
                self._logger.exception("a timer's call failed")

    def _next(self) -> Callable[[], None] | float | None:
        """The call that is due, or the seconds to wait for one; None, and the task's end, when nothing will be."""
        with self._lock:
            for _ in range(SLICE):
                if not self._ends:
                    self._running = False
                    return None
                end = self._ends[0]
                together = self._ticks[end]
                if not together:
                    del self._ticks[heapq.heappop(self._ends)]
                    continue
                first = together[0]
                # Once: another thread may cancel it meanwhile.
                call = first.call
                if call is None:
                    self._forget()
                elif first.due != end:
                    first.at = first.due
                    self._put(first)
                elif (wait := end - time.monotonic()) > 0:
                    return wait
                else:
                    together.popleft()
                    self._number -= 1
                    first.call = None
                    return call
                together.popleft()
            return GIVE_WAY_SECONDS
