"""What is sent within one turn of gevent's loop, and who does not take it."""

from __future__ import annotations

from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from .timers import Timers


class Flushed(Protocol):
    """What a turn needs of a transport."""

    blocked_since: float

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""

    def too_slow(self) -> None:
        """Disconnect the client."""


Transport = TypeVar("Transport", bound=Flushed)


class Turns(Generic[Transport]):
    """The turns of gevent's loop: the first send of a turn goes out at once, the others together at its end."""

    def __init__(self, loop: Any, timers: Timers, max_seconds: float) -> None:
        self.loop = loop
        self.busy = False
        # Those that do not take a send even between the turns: something of theirs waits, or they are ending.
        self.irregular: set[Transport] = set()
        self._timers = timers
        self._max_seconds = max_seconds
        self._waiting: list[Transport] = []
        self._blocked: set[Transport] = set()

    def begin(self) -> None:
        """Something was sent: until the end of this turn everything else waits."""
        if not self.busy:
            self.busy = True
            self.loop.run_callback(self._end)

    def wait(self, transport: Transport) -> None:
        """Have a transport flushed at the end of the turn."""
        self._waiting.append(transport)

    def block(self, transport: Transport) -> None:
        """Watch the age of an outbox."""
        if not self._blocked:
            self._timers.after(self._max_seconds / 4, self._check_ages)
        self._blocked.add(transport)

    def _check_ages(self) -> None:
        oldest = monotonic() - self._max_seconds
        for transport in list(self._blocked):
            if not transport.blocked_since:
                self._blocked.discard(transport)
            elif transport.blocked_since < oldest:
                transport.too_slow()
        if self._blocked:
            self._timers.after(self._max_seconds / 4, self._check_ages)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()
        self.busy = False
        if self._waiting:  # flushing ended somebody, of which others were told
            self.begin()
