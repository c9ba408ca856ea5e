"""The shortest way to the members of a room: what the fan-out touches for each of them, and nothing else.

For a room of thousands the time goes into fetching memory: the member, its connection, its transport, its socket. A
`FastPath` keeps the sockets of those who need no more than a `send`; it is made at a room's first event, and anew when
the room has changed.
"""

from __future__ import annotations

import _socket
from collections.abc import Collection, Hashable, Iterable
from itertools import repeat

from repo_notify.engine.engine_io.flush import FlushBatch
from repo_notify.engine.engine_io.raw_sockets import RawTransport
from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.outgoing import Outgoing

from .members import Member
from .positions import Positions

GONE = -1


def _plain(member: Member) -> RawTransport | None:
    """The transport of a member that needs no more than a send."""
    transport = member.connection.transport
    return transport if type(transport) is RawTransport and member.is_direct else None


class RawMembers:
    """Members of one protocol generation on raw sockets."""

    __slots__ = ("_places", "_sockets", "_transports")

    def __init__(self) -> None:
        self._sockets: list[_socket.socket] = []
        self._transports: list[RawTransport] = []
        self._places: dict[RawTransport, int] = {}

    def add(self, transport: RawTransport) -> None:
        """Add a member's transport."""
        self._places[transport] = len(self._transports)
        self._sockets.append(transport.raw)
        self._transports.append(transport)

    def send(
        self, data: bytes, skip: object, backlogged: Collection[RawTransport], update: Hashable | None = None
    ) -> int:
        """Send to all but `skip`, and have it wait for those who are backlogged; returns to how many.

        Who is gone, and not removed yet, counts: to the application it ends behind this.
        """
        sockets, transports, waiting = self._sockets, self._transports, list[RawTransport]()
        if backlogged or skip is not None:
            places = self._places
            waiting = [found for found in backlogged if found in places and found is not skip]
            without = {places[found] for found in (*waiting, skip) if found in places}
            sockets = [found for place, found in enumerate(sockets) if place not in without]
            transports = [found for place, found in enumerate(transports) if place not in without]
        # In C, as there is little to do for each but the kernel's part; it goes on where an exception left it.
        sending = map(_socket.socket.send, sockets, repeat(data))
        taken: list[int] = []  # of each: how many bytes, or GONE
        done = False
        while not done:
            try:
                taken.extend(sending)
            except BlockingIOError:
                taken.append(0)
            except OSError:
                taken.append(GONE)
            else:
                done = True
        if taken.count(len(data)) != len(taken):
            for transport, sent in zip(transports, taken, strict=True):
                _complete(transport, sent, data)
        for transport in waiting:
            transport.push(data, update)
        return len(transports) + len(waiting)


def _complete(transport: RawTransport, sent: int, data: bytes) -> None:
    """See to what a socket did not take."""
    if sent == GONE:
        transport.push(data)
    elif sent != len(data):
        transport.keep(data, sent)


class FastPath:
    """The members of one room: `direct` by generation and by whether they are told positions, and `others`.

    Those need a closer look each time.
    """

    __slots__ = ("batch", "direct", "others")

    def __init__(self, members: Iterable[Member]) -> None:
        self.direct: dict[tuple[Codec, bool], RawMembers] = {}
        self.others: list[Member] = []
        self.batch: FlushBatch[RawTransport] | None = None
        for member in members:
            transport = _plain(member)
            if transport is not None:
                self.direct.setdefault((member.connection.codec, member.told), RawMembers()).add(transport)
                self.batch = transport.batch
            elif not member.gone:
                self.others.append(member)

    @property
    def is_outdated(self) -> bool:
        """Whether one of the others has come to need no more than a send: it has upgraded."""
        return any(map(_plain, self.others))

    def send(self, out: Outgoing, without: Member | None, positions: Positions | None) -> int | None:
        """Send to all but one; returns to how many, None where it would overtake what waits for this turn's end."""
        batch = self.batch
        if batch is None or batch.corked:
            return None
        # Before anything is sent: what a send leads to is published later, and must not overtake this.
        batch.begin()
        skip = without.connection.transport if without is not None else None
        sent = 0
        for (codec, told), direct in self.direct.items():
            data = out.wire(codec)
            if told and positions is not None:
                data += positions.frame()
            sent += direct.send(data, skip, batch.backlogged, out.update)
        if not self.others:
            return sent
        positioned = positions.behind(out) if positions is not None else out
        return sent + sum([member.deliver(out, positioned) for member in self.others if member is not without])
