"""What is sent within one turn of gevent's loop, and who does not take it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Protocol, TypeVar

from repo_notify.engine.wire.outgoing import Outgoing

from .backlog import Backlogs


class Flushed(Protocol):
    """What a turn needs of a transport."""

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""


class Following(Protocol):
    """What follows all that leaves in one write."""

    def now(self) -> Outgoing:
        """What it is at this moment."""


Transport = TypeVar("Transport", bound=Flushed)
T_contra = TypeVar("T_contra", contravariant=True)


class Burst(Protocol[T_contra]):
    """What waits for many transports together, and is in the outbox of none: behind all else that waits for them."""

    def leave(self, waiting: Collection[T_contra]) -> None:
        """Send it; `waiting` are those for whom something else waits."""

    def divide(self) -> None:
        """Put it into the outbox of each."""


class FlushBatch(Generic[Transport]):
    """The turns of gevent's loop: the first send of a turn goes out at once, the others together at its end."""

    def __init__(self, loop: Any, backlogs: Backlogs) -> None:
        self.loop = loop
        self.backlogs = backlogs
        self.corked = False
        # At the end of this turn; what is sent to one of them before that divides it.
        self.burst: Burst[Transport] | None = None
        # Those that do not take a send even between the turns: something of theirs waits, or they are ending.
        self.backlogged: set[Transport] = set()
        self._waiting: list[Transport] = []

    def begin(self) -> None:
        """Something was sent: until the end of this turn everything else waits."""
        if not self.corked:
            self.corked = True
            self.loop.run_callback(self._end)

    def wait(self, transport: Transport) -> None:
        """Have a transport flushed at the end of the turn."""
        self._waiting.append(transport)

    def divide(self) -> None:
        """Have nothing wait for many together any more."""
        burst, self.burst = self.burst, None
        if burst is not None:
            burst.divide()

    def _end(self) -> None:
        burst, self.burst = self.burst, None
        if burst is not None:
            burst.leave(self._waiting)
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()
        self.corked = False
        if self._waiting:  # flushing ended somebody, of which others were told
            self.begin()
