"""The port to the Socket.IO server: sockets that enter rooms and get events, and the fan-out.

Two adapters, chosen once: our own engine, whose members are at hand, and a stock python-socketio server of the host's,
which is asked through its public API and runs handlers in no promised order.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import socketio

from .engine import Member, Server, SioPacket
from .engine.engine_io.timers import Lock
from .protocol.echo import Spelling
from .protocol.rooms import PREFIX, Room

# Longer than any id that a server of ours or a stock one gives out.
_MAX_ID_LENGTH = 128


class Socket(Protocol):
    """One connection in one namespace."""

    @property
    def namespace(self) -> str:
        """The Socket.IO namespace."""

    @property
    def connection_id(self) -> str:
        """The Engine.IO id of its connection."""

    def enter(self, room: Room) -> None:
        """Enter a room, unless the namespace was left meanwhile."""

    def leave(self, room: Room) -> bool:
        """Leave a room; return whether it was in it."""

    def rooms(self) -> Iterator[Room]:
        """Yield the rooms of ours that it is in as it is asked; a host's own rooms are left out."""

    def emit(self, event: str, data: Any) -> None:
        """Send an event to this socket alone."""


# (event, socket, arguments, how the packet was written where that is known) -> the acknowledgement.
Handler = Callable[[Any, Socket, Sequence[Any], "Spelling | None"], Any]
Opened = Callable[[str, Mapping[str, Any]], None]
Closed = Callable[[str], None]


class Sockets(Protocol):
    """One app's sockets. `namespaces` are those on which the protocol is spoken."""

    namespaces: tuple[str, ...]

    def attach(self, events: Sequence[str], handle: Handler) -> None:
        """Have the clients' `events` handled, one after another for each connection."""

    def watch(self, opened: Opened, closed: Closed) -> None:
        """Have `opened(connection_id, environ)` and `closed(connection_id)` called for each connection."""

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id, whichever of its ids it is, or None.

        socket.io-client 2.x shows `/<namespace>#<id>` in a namespace (spec section 7).
        """

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection, one for each of our namespaces that it is in."""

    def fan_out(self, event: str, data: Any, rooms: Iterable[Room], *, emitter: str | None = None) -> int:
        """Send an event to the members of the rooms, once each per namespace; return to how many.

        The connection that has the id `emitter`, whichever of its ids it is, is left out. A recipient that is gone is
        no error.
        """

    def close(self, connection_id: str) -> None:
        """Close a connection."""

    def counts(self) -> Mapping[tuple[str, ...], int]:
        """Return the number of open connections by (Engine.IO generation, transport)."""

    def count_rooms(self) -> int:
        """Return how many rooms of ours have members."""

    def new_lock(self) -> Lock:
        """Return what keeps the server's handlers apart where they run in threads; nothing may wait within."""


def sockets_of(server: socketio.Server, namespaces: tuple[str, ...]) -> Sockets:
    """Return the adapter for a server."""
    return OwnSockets(server, namespaces) if isinstance(server, Server) else StockSockets(server, namespaces)


def leave_all(sockets: Sockets, connection_id: str) -> None:
    """Take a connection out of every room of ours."""
    for socket in sockets.of(connection_id):
        for room in socket.rooms():
            socket.leave(room)


def _bare(socket_id: str) -> str:
    return socket_id.rsplit("#", 1)[-1]


class OwnSocket:
    """A socket of our own engine."""

    __slots__ = ("_member", "_server")

    def __init__(self, server: Server, member: Member) -> None:
        self._server = server
        self._member = member

    @property
    def namespace(self) -> str:
        """The Socket.IO namespace."""
        return self._member.namespace

    @property
    def connection_id(self) -> str:
        """The Engine.IO id of its connection."""
        return self._member.connection.sid

    def enter(self, room: Room) -> None:
        """Enter a room, unless the namespace was left meanwhile."""
        self._server.manager.enter(self._member, room.key)

    def leave(self, room: Room) -> bool:
        """Leave a room; return whether it was in it."""
        return self._server.manager.leave(self._member, room.key)

    def rooms(self) -> Iterator[Room]:
        """Yield the rooms of ours that it is in as it is asked."""
        return _ours(self._member.rooms)

    def emit(self, event: str, data: Any) -> None:
        """Send an event to this socket alone."""
        self._server.manager.emit_to(self._member, event, data)


def _ours(keys: Iterable[object]) -> Iterator[Room]:
    for key in list(keys):
        if isinstance(key, str) and key.startswith(PREFIX):
            yield Room.parse(key)


class OwnSockets:
    """The sockets of our own engine, which handles the events of a connection one after another by itself."""

    def __init__(self, server: Server, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self.namespaces = namespaces
        # Two publications must not overtake one another on the way to one socket.
        self._order = server.new_lock()

    def attach(self, events: Sequence[str], handle: Handler) -> None:
        """Have every event of the clients handled: there is no host whose handlers could want the others."""
        del events
        server = self._server

        def on_event(member: Member, packet: SioPacket) -> Any:
            event, *arguments = packet.data
            spelling = Spelling(packet.size, member.connection.codec.ascii_only)
            return handle(event, OwnSocket(server, member), arguments, spelling)

        for namespace in self.namespaces:
            server.fallbacks[namespace] = on_event

    def watch(self, opened: Opened, closed: Closed) -> None:
        """Have the ends of connections told by the engine."""
        self._server.on_open.append(opened)
        self._server.on_close.append(lambda connection_id, _reason: closed(connection_id))

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id."""
        return self._server.connection_of(_bare(socket_id)) if len(socket_id) <= _MAX_ID_LENGTH else None

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection."""
        found = (self._server.manager.member_of(connection_id, namespace) for namespace in self.namespaces)
        return [OwnSocket(self._server, member) for member in found if member is not None]

    def fan_out(self, event: str, data: Any, rooms: Iterable[Room], *, emitter: str | None = None) -> int:
        """Send an event to the members of the rooms."""
        keys = list(dict.fromkeys([room.key for room in rooms]))
        skip = self.resolve(emitter) if emitter is not None else None
        deliver = self._server.manager.deliver
        with self._order:
            return sum([deliver(event, data, namespace, room=keys, skip_sid=skip) for namespace in self.namespaces])

    def close(self, connection_id: str) -> None:
        """Close a connection."""
        self._server.eio.disconnect(connection_id)

    def counts(self) -> Mapping[tuple[str, ...], int]:
        """Return the number of open connections by (Engine.IO generation, transport)."""
        return {(str(eio), transport): number for (eio, transport), number in self._server.eio.counts().items()}

    def count_rooms(self) -> int:
        """Return how many rooms of ours have members."""
        return _count_rooms(self._server)

    def new_lock(self) -> Lock:
        """Return a lock of the engine's async mode."""
        return self._server.new_lock()


def _count_rooms(server: socketio.Server) -> int:
    keys = {key for members in list(server.manager.rooms.values()) for key in list(members)}
    return sum(isinstance(key, str) and key.startswith(PREFIX) for key in keys)


class StockSocket:
    """A socket of a stock server."""

    def __init__(self, server: socketio.Server, sid: str, namespace: str, connection_id: str, order: Lock) -> None:
        self._server, self._sid, self._order = server, sid, order
        self.namespace, self.connection_id = namespace, connection_id

    def enter(self, room: Room) -> None:
        """Enter a room, unless the namespace was left meanwhile."""
        if self._server.manager.is_connected(self._sid, self.namespace):
            self._server.enter_room(self._sid, room.key, namespace=self.namespace)

    def leave(self, room: Room) -> bool:
        """Leave a room; return whether it was in it."""
        if room.key not in self._server.rooms(self._sid, namespace=self.namespace):
            return False
        self._server.leave_room(self._sid, room.key, namespace=self.namespace)
        return True

    def rooms(self) -> Iterator[Room]:
        """Yield the rooms of ours that it is in as it is asked."""
        return _ours(self._server.rooms(self._sid, namespace=self.namespace))

    def emit(self, event: str, data: Any) -> None:
        """Send an event to this socket alone."""
        with self._order:
            self._server.emit(event, data, to=self._sid, namespace=self.namespace)


class StockSockets:
    """The sockets of a python-socketio server of the host's."""

    def __init__(self, server: socketio.Server, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self.namespaces = namespaces
        self._order: Lock = threading.RLock()
        self._queues: dict[str, FifoLock] = {}
        self._lock = threading.Lock()

    def attach(self, events: Sequence[str], handle: Handler) -> None:
        """Have the clients' `events` handled; everything else is the host's."""
        for namespace in self.namespaces:
            for event in events:
                self._server.on(event, self._handler(event, namespace, handle), namespace=namespace)

    def _handler(self, event: str, namespace: str, handle: Handler) -> Callable[..., Any]:
        def on_event(sid: str, *arguments: Any) -> Any:
            socket = self._socket(sid, namespace)
            if socket is None:
                return None
            with self._queue(socket.connection_id):
                return handle(event, socket, arguments, None)

        return on_event

    def _queue(self, connection_id: str) -> FifoLock:
        with self._lock:
            return self._queues.setdefault(connection_id, FifoLock(self._lock))

    def watch(self, opened: Opened, closed: Closed) -> None:
        """Have Engine.IO's handlers tell of connections: a host's own `connect` handlers are not in the way there."""
        handlers = self._server.eio.handlers
        connect, disconnect = handlers["connect"], handlers["disconnect"]

        def on_connect(connection_id: str, environ: dict[str, Any]) -> Any:
            answer = connect(connection_id, environ)
            if answer is None or answer is True:
                opened(connection_id, environ)
            return answer

        def on_disconnect(connection_id: str, *reason: Any) -> None:
            try:
                disconnect(connection_id, *reason)
            finally:
                with self._lock:
                    self._queues.pop(connection_id, None)
                closed(connection_id)

        self._server.eio.on("connect", on_connect)
        self._server.eio.on("disconnect", on_disconnect)

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id."""
        if len(socket_id) > _MAX_ID_LENGTH:
            return None
        bare = _bare(socket_id)
        if bare in self._server.eio.sockets:
            return bare
        manager = self._server.manager
        found = (manager.eio_sid_from_sid(bare, namespace) for namespace in list(manager.get_namespaces()))
        return next((connection for connection in found if isinstance(connection, str)), None)

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection."""
        sids = ((space, self._server.manager.sid_from_eio_sid(connection_id, space)) for space in self.namespaces)
        return [StockSocket(self._server, sid, space, connection_id, self._order) for space, sid in sids if sid]

    def _socket(self, sid: str, namespace: str) -> Socket | None:
        connection_id = self._server.manager.eio_sid_from_sid(sid, namespace)
        if not isinstance(connection_id, str):
            return None
        return StockSocket(self._server, sid, namespace, connection_id, self._order)

    def fan_out(self, event: str, data: Any, rooms: Iterable[Room], *, emitter: str | None = None) -> int:
        """Send an event to the members of the rooms."""
        keys = list(dict.fromkeys([room.key for room in rooms]))
        connection_id = self.resolve(emitter) if emitter is not None else None
        with self._order:
            return sum([self._fan_out(event, data, keys, connection_id, namespace) for namespace in self.namespaces])

    def _fan_out(self, event: str, data: Any, keys: list[str], skip: str | None, namespace: str) -> int:
        manager = self._server.manager
        skip_sid = manager.sid_from_eio_sid(skip, namespace) if skip is not None else None
        members = {sid for sid, _ in manager.get_participants(namespace, keys)} - {skip_sid}
        if members:
            self._server.emit(event, data, to=keys, skip_sid=skip_sid, namespace=namespace)
        return len(members)

    def close(self, connection_id: str) -> None:
        """Close a connection."""
        self._server.eio.disconnect(connection_id)

    def counts(self) -> Mapping[tuple[str, ...], int]:
        """Return the number of open connections by (Engine.IO generation, transport); stock servers speak one."""
        sockets = list(self._server.eio.sockets.values())
        return Counter(("4", "websocket" if found.upgraded else "polling") for found in sockets)

    def count_rooms(self) -> int:
        """Return how many rooms of ours have members."""
        return _count_rooms(self._server)

    def new_lock(self) -> Lock:
        """Return a lock for threads and greenlets alike."""
        return threading.RLock()


class FifoLock:
    """A lock that is granted in the order of asking: `with lock:` waits for everybody who asked before.

    Many may share `guard`, which is held for moments.
    """

    __slots__ = ("_guard", "_held", "_waiting")

    def __init__(self, guard: Lock) -> None:
        self._held = False
        # Most connections never ask for a second thing before the first is answered.
        self._waiting: deque[threading.Event] | None = None
        self._guard = guard

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting or ())

    def __enter__(self) -> None:
        mine = None
        try:
            with self._guard:
                if not self._held:
                    self._held = True
                    return
                mine = threading.Event()
                self._waiting = self._waiting or deque()
                self._waiting.append(mine)
            mine.wait()
        except BaseException:  # a killed waiter must not hold up those behind it
            if mine is not None:
                self._give_up(mine)
            raise

    def _give_up(self, mine: threading.Event) -> None:
        with self._guard:
            if self._waiting and mine in self._waiting:
                self._waiting.remove(mine)
        if mine.is_set():
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held, self._waiting = False, None
