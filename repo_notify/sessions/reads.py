"""Reads of the host's session store, bounded in time and number: a store that hangs holds up nobody for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from repo_notify.bounded import Bounded, TooSlow
from repo_notify.logs import Outage

logger = logging.getLogger(__name__)

# As after a silent database (`permissions.PAUSE_SECONDS`).
PAUSE_SECONDS = 0.5

T = TypeVar("T")


class SessionsUnavailable(Exception):
    """The session store did not answer in time, or with an error; the text says which."""


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
        return self.shared(lambda: self.bounded(read))

    def bounded(self, read: Callable[[], T]) -> T:
        """Return what `read` returns; raises `TooSlow`, or whatever it raises."""
        found: T = self._bounded(read, self._seconds)
        return found

    def shared(self, read: Callable[[], T]) -> T:
        """As `run`, for a `read` whose questions to the store are `bounded` themselves.

        Many wait for the answer to one question. Whether it comes in time is decided by whoever asks: when each of
        them gets to see it depends on the others, of whom there may be thousands.
        """
        self._admit()
        try:
            found = read()
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
