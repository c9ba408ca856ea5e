"""Waiting for a database, for so long at most: what counts is the time that it takes, and not how busy this process is.

A storm of handshakes keeps the event loop busy for seconds, with answers that have arrived long ago.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from time import monotonic
from typing import Any, Generic, TypeVar

import pymongo
import socketio

# While the loop does not sleep, time passes so much more slowly: a process that never rests notices an outage, too.
BUSY_SHARE = 0.05
# How long the loop has to look at what has arrived once the time is over: it looks at its timers first.
LAST_TURN_SECONDS = 0.001
# The driver takes 0 for no limit.
_LEAST_SECONDS = 0.001
# A thread cannot be ended from outside: so many may hang in a store, until it answers them.
MAX_HANGING = 64

T = TypeVar("T")
Bounded = Callable[[Callable[[], T], float], T]
# Runs a call in a task of its own, a thread or a greenlet, and returns the task.
Start = Callable[[Callable[[], None]], Any]


class TooSlow(Exception):
    """A read took longer than it may."""


def bounded_by(server: socketio.Server) -> Bounded[Any]:
    """Return what runs a read in the server's async mode for so many seconds at most; it raises `TooSlow` then."""
    return in_threads(server.start_background_task) if server.eio.async_mode == "threading" else _OnGevent()


def in_threads(start: Start) -> Bounded[Any]:
    """Return what runs a read in a thread of its own that `start` starts, and waits for so many seconds at most."""
    return _Threads(start)


def in_a_thread(call: Callable[[], None]) -> None:
    """Run a call in a thread that does not keep the process alive."""
    threading.Thread(target=call, daemon=True).start()


@contextmanager
def beside(start: Start, read: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Run a read in a task of its own that `start` starts, while the block runs; yields what waits for its answer.

    The limit of time that holds for the block (`by_the_driver`) holds for the read; a greenlet ends with the block.
    """
    context = copy_context()
    task: _Task[T] = _Task(start, lambda: context.run(read))
    try:
        yield task.answer
    finally:
        task.end()


def unbounded(read: Callable[[], T], _: float) -> T:
    """Run a read for as long as it takes."""
    return read()


def bounded_in_mongodb(server: socketio.Server) -> Bounded[Any]:
    """As `bounded_by`, for reads by a driver that keeps to a limit itself: they need no threads of their own."""
    return by_the_driver if server.eio.async_mode == "threading" else _OnGevent()


def by_the_driver(read: Callable[[], T], seconds: float) -> T:
    """Run a read of MongoDB for so many seconds at most; raises what the driver raises then."""
    with pymongo.timeout(max(seconds, _LEAST_SECONDS)):
        return read()


class _OnGevent:
    """Reads in the greenlet that asks; beyond its time `gevent.Timeout` is thrown into it."""

    def __init__(self) -> None:
        self._sleep: _Sleep | None = None

    def __call__(self, read: Callable[[], T], seconds: float) -> T:
        import gevent

        loop: Any = gevent.get_hub().loop
        if self._sleep is None or self._sleep.loop is not loop:
            self._sleep = _Sleep(loop)
        ended = gevent.Timeout(None)
        alarm = _Alarm(self._sleep, seconds, ended)
        try:
            # At the latest; the driver's own limits know nothing of a busy process.
            return by_the_driver(read, seconds / BUSY_SHARE)
        except gevent.Timeout as error:
            if error is not ended:
                raise
        finally:
            alarm.close()
        raise TooSlow(f"no answer in {seconds:g} s")


class _Sleep:
    """How long a loop has slept, since nothing had arrived; measured while anybody asks."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.seconds = 0.0
        self._since: float | None = None
        self._asking = 0
        # Directly before and after it looks at its sockets: no greenlet runs between.
        self._before = loop.prepare(ref=False, priority=loop.MINPRI)
        self._behind = loop.check(ref=False, priority=loop.MAXPRI)

    def begin(self) -> None:
        self._asking += 1
        if self._asking == 1:
            self._before.start(self._falls_asleep)
            self._behind.start(self._wakes)

    def end(self) -> None:
        self._asking -= 1
        if not self._asking:
            self._before.stop()
            self._behind.stop()
            self._since = None

    def _falls_asleep(self) -> None:
        self._since = monotonic()

    def _wakes(self) -> None:
        if self._since is not None:
            self.seconds += monotonic() - self._since
            self._since = None


class _Alarm:
    """Throws `ended` into the greenlet that has made it, when its time is over and the loop has had its last turn."""

    def __init__(self, sleep: _Sleep, seconds: float, ended: BaseException) -> None:
        import gevent

        self._sleep, self._seconds, self._ended = sleep, seconds, ended
        self._reader: Any = gevent.getcurrent()
        self._is_last = False
        sleep.begin()
        self._began, self._slept = monotonic(), sleep.seconds
        self._set(max(0.0, seconds))

    def close(self) -> None:
        self._stop()
        self._sleep.end()

    def _stop(self) -> None:
        self._timer.stop()
        self._timer.close()

    def _set(self, seconds: float) -> None:
        self._timer: Any = self._sleep.loop.timer(seconds)
        # The loop's own time may be that of the turn's beginning.
        self._timer.start(self._rung, update=True)

    def _rung(self) -> None:
        asleep = self._sleep.seconds - self._slept
        busy = monotonic() - self._began - asleep
        left = self._seconds - asleep - BUSY_SHARE * busy
        if left <= 0 and self._is_last:
            self._reader.throw(self._ended)
            return
        self._is_last = left <= 0
        self._stop()
        self._set(max(left, LAST_TURN_SECONDS))


class _Task(Generic[T]):
    """A read in a task of its own."""

    def __init__(self, start: Start, read: Callable[[], T]) -> None:
        self._read = read
        self._done = threading.Event()
        self._found: list[T] = []
        self._raised: list[Exception] = []
        self._task = start(self._work)

    def is_done_within(self, seconds: float) -> bool:
        return self._done.wait(max(0.0, seconds))

    def answer(self) -> T:
        """Wait for what the read returns, or raises."""
        self._done.wait()
        if self._raised:
            # Popped, so that the error and this frame do not keep one another.
            raise self._raised.pop()
        return self._found[0]

    def end(self) -> None:
        """End a read that nobody waits for any more; a thread goes on until the driver ends it."""
        if not self._done.is_set() and hasattr(self._task, "kill"):
            self._task.kill(block=False)

    def _work(self) -> None:
        try:
            self._found.append(self._read())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self._raised.append(error)
        finally:
            self._done.set()


class _Threads:
    """Reads in threads of their own, which are waited for only so long."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._free = threading.BoundedSemaphore(MAX_HANGING)

    def __call__(self, read: Callable[[], T], seconds: float) -> T:
        deadline = monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise TooSlow(f"{MAX_HANGING} reads wait for their answers")

        def work() -> T:
            try:
                # A store in MongoDB ends by itself then, whoever made its client.
                with pymongo.timeout(seconds):
                    return read()
            finally:
                self._free.release()

        task: _Task[T] = _Task(self._start, work)
        if not task.is_done_within(deadline - monotonic()):
            raise TooSlow(f"no answer in {seconds:g} s")
        return task.answer()
