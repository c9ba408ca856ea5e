"""Reads of the host's session store, bounded in time and number: a store that hangs holds up nobody for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import pymongo
import socketio

from repo_notify.logs import Outage

logger = logging.getLogger(__name__)

# As after a silent database (`permissions.PAUSE_SECONDS`).
PAUSE_SECONDS = 0.5
# A thread cannot be ended from outside: so many may hang in the store, until it answers them.
MAX_HANGING = 64

T = TypeVar("T")
Bounded = Callable[[Callable[[], T], float], T]


class TooSlow(Exception):
    """A read took longer than it may."""


class SessionsUnavailable(Exception):
    """The session store did not answer in time, or with an error; the text says which."""


def bounded_by(server: socketio.Server) -> Bounded[Any]:
    """Return what runs a read in the server's async mode for so many seconds at most; it raises `TooSlow` then."""
    return in_threads(server.start_background_task) if server.eio.async_mode == "threading" else _on_gevent


def in_threads(start: Callable[[Callable[[], None]], Any]) -> Bounded[Any]:
    """Return what runs a read in a thread of its own that `start` starts, and waits for so many seconds at most."""
    return _Threads(start)


class SessionReads:
    """Runs reads of one app's session store, each for `seconds` at most.

    When one has taken too long the store is not asked for a moment, then by one reader at a time until it answers:
    everybody else is refused at once.
    """

    def __init__(self, bounded: Bounded[Any], *, seconds: float) -> None:
        self._bounded = bounded
        self._seconds = seconds
        self._lock = threading.Lock()
        self._outage = Outage(logger, "the sessions of handshakes can be read again")
        self._silent = False
        self._silent_until = 0.0

    def run(self, read: Callable[[], T]) -> T:
        """Return what `read` returns; raises `SessionsUnavailable` where it takes too long or raises anything."""
        self._admit()
        try:
            found: T = self._bounded(read, self._seconds)
        # A session interface, or a host's loader, may raise whatever its store raises.
        except Exception as error:
            self._failed(error)
            raise SessionsUnavailable(str(error)) from error
        self._silent = False
        self._outage.ended()
        return found

    def _admit(self) -> None:
        """Let one reader at a time through to a store that was silent lately."""
        with self._lock:
            if not self._silent:
                return
            now = monotonic()
            if now < self._silent_until:
                raise SessionsUnavailable("the session store did not answer lately")
            self._silent_until = now + self._seconds + self._pause

    @property
    def _pause(self) -> float:
        return min(PAUSE_SECONDS, self._seconds / 4)

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if isinstance(error, TooSlow):
                self._silent = True
                self._silent_until = monotonic() + self._pause
            else:
                self._silent = False
        self._outage.began(
            "the session of a handshake could not be read; it is tried again at the socket's next join: %s: %s",
            type(error).__name__,
            error,
        )


def _on_gevent(read: Callable[[], T], seconds: float) -> T:
    import gevent

    with gevent.Timeout(seconds) as limit:
        try:
            return read()
        except gevent.Timeout as ended:
            if ended is not limit:
                raise
    raise TooSlow(f"the session store did not answer in {seconds} s")


class _Threads:
    """Reads in threads of their own, which are waited for only so long."""

    def __init__(self, start: Callable[[Callable[[], None]], Any]) -> None:
        self._start = start
        self._free = threading.BoundedSemaphore(MAX_HANGING)

    def __call__(self, read: Callable[[], T], seconds: float) -> T:
        deadline = monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise TooSlow(f"{MAX_HANGING} reads wait for the session store")
        done = threading.Event()
        found: list[T] = []
        raised: list[Exception] = []

        def work() -> None:
            try:
                # A store in MongoDB ends by itself then, whoever made its client.
                with pymongo.timeout(seconds):
                    found.append(read())
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                raised.append(error)
            finally:
                self._free.release()
                done.set()

        self._start(work)
        if not done.wait(max(0.0, deadline - monotonic())):
            raise TooSlow(f"the session store did not answer in {seconds} s")
        if raised:
            # Popped, so that the error and this frame do not keep one another.
            raise raised.pop()
        return found[0]
