"""The port to the Socket.IO server: sockets that enter rooms and get events, and the fan-out.

`OwnSockets` is its adapter for our own engine, whose members are sockets as they are; `stock_sockets` has the one for a
server of the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

import socketio

from .engine import Argument, EventData, Member, Outgoing, Server, SioPacket, SioType, Spelling
from .engine.engine_io.timers import Lock
from .engine.socket_io.recovery import Recovery, Returned
from .protocol.rooms import PREFIX, Room

# For those who may not know the engine.
Back = Returned
# Longer than any id that a server of ours or a stock one gives out.
MAX_ID_LENGTH = 128


class Socket(Protocol):
    """One connection in one namespace. Rooms are told by their keys."""

    @property
    def namespace(self) -> str:
        """The Socket.IO namespace."""

    @property
    def connection_id(self) -> str:
        """The Engine.IO id of its connection."""

    @property
    def rooms(self) -> Iterable[Hashable]:
        """The keys of the rooms that it is in, a host's own among them."""

    def enter(self, room: str, since: int = 0) -> None:
        """Enter a room, unless the namespace was left meanwhile.

        `since` is the number of the last event that was published before, where events are kept.
        """

    def leave(self, room: str) -> bool:
        """Leave a room; return whether it was in it."""

    def emit(self, event: str, data: Any) -> None:
        """Send an event to this socket alone."""


class Follower(Socket, Protocol):
    """A socket whose client can miss nothing: it is told positions, and may come back (spec section 9)."""

    sid: str
    pid: str | None
    told: bool
    since: int
    replayed: int
    replay: Any
    rooms: dict[Hashable, int]

    @property
    def gone(self) -> bool:
        """Whether its stay has ended."""

    def tell_position(self) -> None:
        """Send the position alone."""

    def tell_positions(self) -> None:
        """Have a position follow whatever is sent from now on."""

    def begin_replay(self, replay: Any) -> None:
        """Have what is sent to rooms pass it by, and tell no position, until `replay` is set to None.

        Where a handler begins it, `replay.run()` is called behind the answer to the client.
        """

    def send_page(self, page: Sequence[Any], *, last: bool) -> None:
        """Send packets of what was prepared for rooms in one write, the position behind the `last` of them."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once nothing waits for the client; never if it ends before."""

    def had_since(self, room: Hashable, number: int) -> None:
        """Take note that it has had everything that was published in a room of its since that number."""


# (event, socket, arguments, how the packet was written where that is known) -> the acknowledgement.
Handler = Callable[[Any, Socket, Sequence[Any], "Spelling | None"], Any]
# What a CONNECT brings as `auth` -> why it is refused, None where it is not.
Refusal = Callable[[Any], "str | None"]
# (event, arguments, the packet's length in bytes where that is known) -> the acknowledgement.
Acknowledge = Callable[[Any, Sequence[Any], "int | None"], Any]
# (event, socket, arguments): it waits for its turn behind others of its connection.
Arriving = Callable[[Any, Socket, Sequence[Any]], None]
Opened = Callable[[str, Mapping[str, Any]], None]
# (connection id, the reason in python-engineio's words)
Closed = Callable[[str, str], None]


class Prepared(Protocol):
    """An event on its way to rooms, encoded as often as it must be and no more."""

    @property
    def size(self) -> int:
        """How much it is in characters or bytes."""

    def packet(self, namespace: str) -> Any:
        """Return what a member of a namespace gets."""


class Prepare(Protocol):
    """Makes what is sent to rooms of an event's name and content."""

    def __call__(self, event: str, content: Any, update: Hashable | None = None, /) -> Prepared:
        """Return an event, which supersedes one of an equal `update` that still waits for a client."""


class Peer(NamedTuple):
    """A connection as an operator sees it; `since` is in seconds since 1970.

    What waits for the client, and for how long it has taken nothing of it, is None where the server does not know.
    """

    generation: str
    transport: str
    since: float
    waiting_bytes: int | None
    waiting_seconds: float | None


class Sockets(Protocol):
    """One app's sockets. `namespaces` are those on which the protocol is spoken."""

    namespaces: tuple[str, ...]
    # Whether its clients can be told where they are, and come back.
    keeps: bool
    # What keeps publications apart, so that none overtakes another on the way to one socket.
    order: Lock
    # Makes of a payload what several events may have, which is encoded once for all of them.
    content: Callable[[Any], Any]
    prepare: Prepare

    def attach(self, events: Sequence[str], handle: Handler, arriving: Arriving) -> None:
        """Have the clients' `events` handled, one after another for each connection.

        `arriving` is told of those that wait for their turn, beforehand.
        """

    def admit_publishers(self, namespace: str, refusal: Refusal, acknowledge: Acknowledge) -> None:
        """Let connections that `refusal` does not refuse enter another namespace, and have their events acknowledged.

        They are handled one after another for each connection.
        """

    def watch(self, opened: Opened, closed: Closed) -> None:
        """Have `opened(connection_id, environ)` and `closed(connection_id, reason)` called for each connection."""

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id, whichever of its ids it is, or None.

        socket.io-client 2.x shows `/<namespace>#<id>` in a namespace (spec section 7).
        """

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection, one for each of our namespaces that it is in."""

    def in_room(self, room: Room) -> Iterator[Socket]:
        """Yield the sockets in a room, whichever of our namespaces they are in, while others come and go."""

    def has_members(self, room: Room) -> bool:
        """Return whether a socket is in a room; costs the same however many are."""

    def fan_out(self, prepared: Prepared, rooms: Sequence[str], *, skip: str | None = None) -> int:
        """Send an event to the members of the rooms with these keys, once each per namespace; return to how many.

        It is called within `order`. The connection with the id `skip` is left out; who is gone is no error.
        """


    def close(self, connection_id: str) -> None:
        """Close a connection."""

    def counts(self) -> Mapping[tuple[str, ...], int]:
        """Return the number of open connections by (Engine.IO generation, transport)."""

    def count_rooms(self) -> int:
        """Return how many rooms of ours have members."""

    def room_keys(self) -> set[str]:
        """Return the keys of the rooms of ours that have members."""

    def peer(self, connection_id: str) -> Peer | None:
        """Return how a connection is, None where there is none."""

    def new_lock(self) -> Lock:
        """Return what keeps the server's handlers apart where they run in threads; nothing may wait within."""

    def keep(self, recovery: Recovery) -> None:
        """Have `recovery` say who comes back, where the server `keeps`."""

    def follower(self, sid: str, namespace: str) -> Follower | None:
        """Return the socket of that id."""

    def followers(self) -> Sequence[Follower]:
        """Return every socket of our namespaces whose client can miss nothing."""

    def take_over(self, follower: Follower) -> None:
        """End the connection of a socket whose client is back on another one, at once."""


def leave_all(sockets: Sockets, connection_id: str) -> None:
    """Take a connection out of every room of ours."""
    for socket in sockets.of(connection_id):
        for room in our_rooms(socket):
            socket.leave(room.key)


def bare(socket_id: str) -> str:
    """Return a socket id without the namespace that socket.io-client 2.x writes before it."""
    return socket_id.rsplit("#", 1)[-1]


def our_rooms(socket: Socket) -> Iterator[Room]:
    """Yield the rooms of ours that a socket is in as it is asked; a host's own rooms are left out."""
    for key in list(socket.rooms):
        if isinstance(key, str) and key.startswith(PREFIX):
            yield Room.parse(key)


class PreparedPackets(EventData):
    """An event as our own engine sends it."""

    __slots__ = ()

    def packet(self, namespace: str) -> Outgoing:
        """Return what a member of a namespace gets once more, in a replay."""
        return Outgoing(SioPacket(SioType.EVENT, namespace, data=self))


class OwnSockets:
    """The sockets of our own engine, which handles the events of a connection one after another by itself."""

    keeps = True

    def __init__(self, server: Server, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self.namespaces = namespaces
        # Of publications, and of admissions.
        self.order = server.manager.lock
        self.content: Callable[[Any], Any] = Argument
        self.prepare: Prepare = PreparedPackets

    def attach(self, events: Sequence[str], handle: Handler, arriving: Arriving) -> None:
        """Have every event of the clients handled: there is no host whose handlers could want the others."""
        del events
        for namespace in self.namespaces:
            self._server.fallbacks[namespace] = handle
            self._server.arrivals[namespace] = arriving

    def admit_publishers(self, namespace: str, refusal: Refusal, acknowledge: Acknowledge) -> None:
        """Let publishers enter; the engine stops reading a connection where too much of it waits."""

        def on_event(event: Any, _: Socket, arguments: Sequence[Any], spelling: Spelling | None) -> Any:
            return acknowledge(event, arguments, spelling.size if spelling is not None else None)

        self._server.on("connect", connecting(refusal), namespace=namespace)
        self._server.fallbacks[namespace] = on_event

    def watch(self, opened: Opened, closed: Closed) -> None:
        """Have the ends of connections told by the engine."""
        self._server.on_open.append(opened)
        self._server.on_close.append(closed)

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id."""
        return self._server.connection_of(bare(socket_id)) if len(socket_id) <= MAX_ID_LENGTH else None

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection."""
        found = (self._server.manager.member_of(connection_id, namespace) for namespace in self.namespaces)
        return [member for member in found if member is not None]

    def in_room(self, room: Room) -> Iterator[Socket]:
        """Yield the sockets in a room."""
        for namespace in self.namespaces:
            yield from self._server.manager.members_of(namespace, room.key)

    def has_members(self, room: Room) -> bool:
        """Return whether a socket is in a room."""
        return any(self._server.manager.has_members(namespace, room.key) for namespace in self.namespaces)

    def fan_out(self, prepared: Prepared, rooms: Sequence[str], *, skip: str | None = None) -> int:
        """Send an event to the members of the rooms."""
        assert isinstance(prepared, PreparedPackets)
        return self._server.manager.fan_out(self.namespaces, prepared, rooms, skip)

    def close(self, connection_id: str) -> None:
        """Close a connection."""
        self._server.eio.disconnect(connection_id)

    def counts(self) -> Mapping[tuple[str, ...], int]:
        """Return the number of open connections by (Engine.IO generation, transport)."""
        return {(str(eio), transport): number for (eio, transport), number in self._server.eio.counts().items()}

    def count_rooms(self) -> int:
        """Return how many rooms of ours have members."""
        return count_our_rooms(self._server)

    def room_keys(self) -> set[str]:
        """Return the keys of the rooms of ours that have members."""
        return keys_of(self._server)

    def peer(self, connection_id: str) -> Peer | None:
        """Return how a connection is."""
        connection = self._server.eio.sockets.get(connection_id)
        if connection is None:
            return None
        backlog = connection.transport.backlog
        size = backlog.size if backlog is not None else 0
        seconds = monotonic() - backlog.since if backlog is not None and size else 0.0
        return Peer(str(connection.codec.eio), connection.transport.name, connection.since, size, seconds)

    def new_lock(self) -> Lock:
        """Return a lock of the engine's async mode."""
        return self._server.new_lock()

    def keep(self, recovery: Recovery) -> None:
        """Have `recovery` say who comes back, on each of our namespaces."""
        for namespace in self.namespaces:
            self._server.keep(namespace, recovery)

    def follower(self, sid: str, namespace: str) -> Follower | None:
        """Return the socket of that id."""
        return self._server.manager.member(sid, namespace)

    def followers(self) -> Sequence[Follower]:
        """Return every socket of our namespaces."""
        return [member for namespace in self.namespaces for member in self._server.manager.all_of(namespace)]

    def take_over(self, follower: Follower) -> None:
        """End the connection of a socket whose client is back on another one, at once."""
        assert isinstance(follower, Member)
        self._server.take_over(follower)


def connecting(refusal: Refusal) -> Callable[..., None]:
    """Return the connect handler of a namespace that refuses whom `refusal` does."""

    def connect(_sid: str, _environ: Mapping[str, Any], auth: Any = None) -> None:
        if (why := refusal(auth)) is not None:
            raise socketio.exceptions.ConnectionRefusedError(why)

    return connect


def count_our_rooms(server: socketio.Server) -> int:
    """Return how many rooms of ours a server has."""
    return len(keys_of(server))


def keys_of(server: socketio.Server) -> set[str]:
    """Return the keys of the rooms of ours that a server has."""
    keys = (key for members in list(server.manager.rooms.values()) for key in list(members))
    return {key for key in keys if isinstance(key, str) and key.startswith(PREFIX)}
