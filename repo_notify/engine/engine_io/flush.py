"""What is sent within one turn of gevent's loop, and who does not take it."""

from __future__ import annotations

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


class FlushBatch(Generic[Transport]):
    """The turns of gevent's loop: the first send of a turn goes out at once, the others together at its end."""

    def __init__(self, loop: Any, backlogs: Backlogs) -> None:
        self.loop = loop
        self.backlogs = backlogs
        self.corked = False
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

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            transport.flush()
        self.corked = False
        if self._waiting:  # flushing ended somebody, of which others were told
            self.begin()
