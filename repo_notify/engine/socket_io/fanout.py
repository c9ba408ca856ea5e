"""The shortest way to the members of a room: what the fan-out touches for each of them, and nothing else.

For a room of thousands the time goes into fetching memory: the member, its connection, its transport, its socket. A
`FastPath` keeps the sockets of those who need no more than a `send`; it is made at a room's first event, and anew when
the room has changed. The first event of a turn of the loop is sent at once; what follows it within the turn waits as
one `RoomBurst` for all of them, so that 50 events to a room cost hardly more sends than one.
"""

from __future__ import annotations

import _socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat

from repo_notify.engine.engine_io.flush import FlushBatch
from repo_notify.engine.engine_io.raw_sockets import PIECE, RawTransport
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

    __slots__ = ("_sockets", "places")

    def __init__(self) -> None:
        self._sockets: list[_socket.socket] = []
        self.places: dict[RawTransport, int] = {}

    def add(self, transport: RawTransport) -> None:
        """Add a member's transport."""
        self.places[transport] = len(self._sockets)
        self._sockets.append(transport.raw)

    def among(self, others: Iterable[RawTransport], skip: object) -> list[RawTransport]:
        """Return which of others are members, but for `skip`."""
        return [found for found in others if found in self.places and found is not skip]

    def send(self, data: bytes, skip: object, without: Collection[RawTransport]) -> int:
        """Send to all but `skip`, who may be no member, and some who are; returns to how many.

        Who is gone, and not removed yet, counts: to the application it ends behind this.
        """
        sockets: Sequence[_socket.socket] = self._sockets
        transports: Collection[RawTransport] = self.places
        if without or skip is not None:
            places = {self.places[found] for found in (*without, skip) if found in self.places}
            sockets = [found for place, found in enumerate(sockets) if place not in places]
            transports = [found for found, place in self.places.items() if place not in places]
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
        return len(transports)


def _complete(transport: RawTransport, sent: int, data: bytes) -> None:
    """See to what a socket did not take."""
    if sent == GONE:
        transport.push(data)
    elif sent != len(data):
        transport.keep(data, sent)


class RoomBurst:
    """What is sent to one room within a turn, behind the first of it: kept once for all members, sent in one piece.

    `skip` is left out.
    """

    __slots__ = ("_members", "_positions", "_wires", "path", "size", "skip")

    def __init__(self, path: FastPath, skip: object, positions: Positions | None) -> None:
        self.path = path
        self.skip = skip
        self._positions = positions
        self._wires: dict[Codec, list[bytes]] = {codec: [] for codec, _ in path.direct}
        self._members = sum([len(found.places) - (skip in found.places) for found in path.direct.values()])
        self.size = 0

    def add(self, out: Outgoing) -> int:
        """Add an event; returns to how many it will go."""
        for codec, wires in self._wires.items():
            data = out.wire(codec)
            wires.append(data)
            self.size += len(data)
        return self._members

    def leave(self, waiting: Collection[RawTransport]) -> None:
        """Send it; `waiting` are those for whom something else waits."""
        for members, data, positions in self._parts():
            behind = set(members.among(waiting, self.skip))
            _hand(behind, data, positions)
            members.send(data if positions is None else data + positions.frame(), self.skip, behind)

    def divide(self) -> None:
        """Put it into the outbox of each."""
        for members, data, positions in self._parts():
            _hand(members.among(members.places, self.skip), data, positions)

    def _parts(self) -> Iterator[tuple[RawMembers, bytes, Positions | None]]:
        """Yield what goes to whom, and what follows it."""
        joined = {codec: b"".join(wires) for codec, wires in self._wires.items()}
        for (codec, told), members in self.path.direct.items():
            yield members, joined[codec], self._positions if told else None


def _hand(transports: Iterable[RawTransport], data: bytes, positions: Positions | None) -> None:
    """Have it wait for each, the position behind it."""
    for transport in transports:
        if positions is None or transport.follow(positions):
            transport.push(data)
        else:
            transport.push(data + positions.frame())


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
        """Send to all but one; returns to how many, None where it has to be done for each of them."""
        batch = self.batch
        if batch is None:
            return None
        skip = without.connection.transport if without is not None else None
        if not batch.corked:
            # Before anything is sent: what a send leads to is published later, and must not overtake this.
            batch.begin()
            sent = 0
            for (codec, told), members in self.direct.items():
                data = out.wire(codec)
                if told and positions is not None:
                    data += positions.frame()
                waiting = members.among(batch.backlogged, skip) if batch.backlogged else ()
                sent += members.send(data, skip, waiting) + len(waiting)
                for transport in waiting:
                    transport.push(data, out.update)
        elif not batch.backlogged or all(
            found.places.keys().isdisjoint(batch.backlogged) for found in self.direct.values()
        ):
            sent = self._burst(batch, skip, positions).add(out)
        else:
            return None
        if not self.others:
            return sent
        positioned = positions.behind(out) if positions is not None else out
        return sent + sum([member.deliver(out, positioned) for member in self.others if member is not without])

    def _burst(self, batch: FlushBatch[RawTransport], skip: object, positions: Positions | None) -> RoomBurst:
        """Return what takes the room's events until the end of the turn, or until something else is sent."""
        burst = batch.burst
        if not isinstance(burst, RoomBurst) or burst.path is not self or burst.skip is not skip or burst.size > PIECE:
            batch.divide()
            burst = batch.burst = RoomBurst(self, skip, positions)
        return burst
