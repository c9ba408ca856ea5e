"""The shortest way to the members of a room: what the fan-out touches for each of them, and nothing else.

For a room of thousands the time goes into fetching memory: the member, its connection, its transport, its socket. A
`Route` keeps the sockets' `send` of those who need no more than that; it is made at a room's first event, and anew when
the room has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .codec import Codec
from .packets import Outgoing
from .raw import RawTransport, Turns

if TYPE_CHECKING:
    from .rooms import Member

Send = Callable[[bytes], int]


def _plain(member: Member) -> RawTransport | None:
    """The transport of a member that needs no more than a send."""
    transport = member.connection.transport
    return transport if type(transport) is RawTransport and member.held is None else None


class Direct:
    """Members of one protocol generation on raw sockets."""

    __slots__ = ("sends", "transports")

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.transports: list[RawTransport] = []

    def add(self, transport: RawTransport) -> None:
        """Add a member's transport."""
        self.sends.append(transport.direct)
        self.transports.append(transport)

    def send(self, data: bytes, skip: Send | None) -> int:
        """Send to all but one; returns to how many."""
        size, number = len(data), 0
        for index, send in enumerate(self.sends):
            if send is skip:
                continue
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            except OSError:  # it has gone, or was closed just now
                return number + self._rest(index, data, skip)
            number += 1
            if sent != size:
                self.transports[index].keep(data, sent)
                return number + self._rest(index + 1, data, skip)
        return number

    def _rest(self, begin: int, data: bytes, skip: Send | None) -> int:
        """Something out of the ordinary happened, and others may have been ended by it: look at each."""
        return sum(found.direct is not skip and found.push(data) for found in self.transports[begin:])


class Route:
    """The members of one room: `direct` by generation, and `others`, who need a closer look each time."""

    __slots__ = ("direct", "others", "turns")

    def __init__(self, members: Iterable[Member]) -> None:
        self.direct: dict[Codec, Direct] = {}
        self.others: list[Member] = []
        self.turns: Turns | None = None
        for member in members:
            transport = _plain(member)
            if transport is not None:
                self.direct.setdefault(member.connection.codec, Direct()).add(transport)
                self.turns = transport.turns
            elif not member.gone:
                self.others.append(member)

    @property
    def is_outdated(self) -> bool:
        """Whether one of the others has come to need no more than a send: it has upgraded."""
        return any(map(_plain, self.others))

    @property
    def is_open(self) -> bool:
        """Whether all of `direct` take a send right now, with nothing of theirs waiting that it would overtake."""
        return self.turns is not None and not self.turns.busy and not self.turns.irregular

    def send(self, out: Outgoing, skip: Send | None) -> int:
        """Send to all of `direct` but one; returns to how many."""
        assert self.turns is not None
        # Before anything is sent: what a send leads to is published later, and must not overtake this.
        self.turns.begin()
        return sum(direct.send(out.wire(codec), skip) for codec, direct in self.direct.items())
