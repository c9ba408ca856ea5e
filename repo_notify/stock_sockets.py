"""The adapter for a stock python-socketio server of the host's.

The server is asked through its public API, and runs handlers in no promised order: the lock here gives them one.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from time import time
from typing import Any, NamedTuple

import socketio

from .engine.engine_io.timers import Lock
from .engine.socket_io.recovery import Recovery
from .protocol.rooms import Room
from .sockets import (
    MAX_ID_LENGTH,
    Acknowledge,
    Arriving,
    Closed,
    Follower,
    Handler,
    Opened,
    Peer,
    Prepare,
    Prepared,
    Refusal,
    Socket,
    bare,
    connecting,
    count_our_rooms,
    keys_of,
)


class StockSocket:
    """A socket of a stock server."""

    def __init__(self, server: socketio.Server, sid: str, namespace: str, connection_id: str, order: Lock) -> None:
        self._server, self._sid, self._order = server, sid, order
        self.namespace, self.connection_id = namespace, connection_id

    @property
    def rooms(self) -> Iterable[Hashable]:
        """The keys of the rooms that it is in."""
        found: list[Hashable] = self._server.rooms(self._sid, namespace=self.namespace)
        return found

    def enter(self, room: str, since: int = 0) -> None:
        """Enter a room, unless the namespace was left meanwhile; nothing is kept here."""
        del since
        if self._server.manager.is_connected(self._sid, self.namespace):
            self._server.enter_room(self._sid, room, namespace=self.namespace)

    def leave(self, room: str) -> bool:
        """Leave a room; return whether it was in it."""
        if room not in self.rooms:
            return False
        self._server.leave_room(self._sid, room, namespace=self.namespace)
        return True

    def emit(self, event: str, data: Any) -> None:
        """Send an event to this socket alone."""
        with self._order:
            # A tuple is the arguments: else None would be none at all.
            self._server.emit(event, (data,), to=self._sid, namespace=self.namespace)


class _Prepared(NamedTuple):
    """An event as a stock server sends it, which encodes it by itself."""

    event: str
    data: Any

    @property
    def size(self) -> int:
        """Nothing is kept of it."""
        return 0

    def packet(self, namespace: str) -> _Prepared:
        """Return the same for every namespace."""
        del namespace
        return self


def _itself(payload: Any) -> Any:
    return payload


def _prepared(event: str, data: Any, _update: Hashable | None = None, /) -> _Prepared:
    # What waits for a client is python-socketio's own.
    return _Prepared(event, data)


class StockSockets:
    """The sockets of a python-socketio server of the host's."""

    keeps = False

    def __init__(self, server: socketio.Server, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self.namespaces = namespaces
        self.order: Lock = threading.RLock()
        self.content: Callable[[Any], Any] = _itself
        self.prepare: Prepare = _prepared
        self._queues: dict[str, FifoLock] = {}
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def attach(self, events: Sequence[str], handle: Handler, arriving: Arriving) -> None:
        """Have the clients' `events` handled; everything else is the host's."""
        for namespace in self.namespaces:
            for event in events:
                self._server.on(event, self._handler(event, namespace, handle, arriving), namespace=namespace)

    def _handler(self, event: str, namespace: str, handle: Handler, arriving: Arriving) -> Callable[..., Any]:
        def on_event(sid: str, *arguments: Any) -> Any:
            socket = self._socket(sid, namespace)
            if socket is None:
                return None
            queue = self._queue(socket.connection_id)
            if queue.held:
                arriving(event, socket, arguments)
            with queue:
                return handle(event, socket, arguments, None)

        return on_event

    def admit_publishers(self, namespace: str, refusal: Refusal, acknowledge: Acknowledge) -> None:
        """Let publishers enter; what a stock server takes of one at once, and how large, is its own matter."""

        def on_event(event: Any, sid: str, *arguments: Any) -> Any:
            socket = self._socket(sid, namespace)
            if socket is None:
                return None
            with self._queue(socket.connection_id):
                return acknowledge(event, arguments, None)

        self._server.on("connect", connecting(refusal), namespace=namespace)
        self._server.on("*", on_event, namespace=namespace)

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
                self._since[connection_id] = time()
                opened(connection_id, environ)
            return answer

        def on_disconnect(connection_id: str, *reason: Any) -> None:
            try:
                disconnect(connection_id, *reason)
            finally:
                with self._lock:
                    self._queues.pop(connection_id, None)
                    self._since.pop(connection_id, None)
                closed(connection_id, str(reason[0]) if reason else "")

        self._server.eio.on("connect", on_connect)
        self._server.eio.on("disconnect", on_disconnect)

    def resolve(self, socket_id: str) -> str | None:
        """Return the id of the connection that has this id."""
        if len(socket_id) > MAX_ID_LENGTH:
            return None
        sid = bare(socket_id)
        if sid in self._server.eio.sockets:
            return sid
        manager = self._server.manager
        found = (manager.eio_sid_from_sid(sid, namespace) for namespace in list(manager.get_namespaces()))
        return next((connection for connection in found if isinstance(connection, str)), None)

    def of(self, connection_id: str) -> list[Socket]:
        """Return the sockets of a connection."""
        sids = ((space, self._server.manager.sid_from_eio_sid(connection_id, space)) for space in self.namespaces)
        return [StockSocket(self._server, sid, space, connection_id, self.order) for space, sid in sids if sid]

    def in_room(self, room: Room) -> Iterator[Socket]:
        """Yield the sockets in a room."""
        manager, key = self._server.manager, room.key
        for namespace in self.namespaces:
            for sid, connection_id in list(manager.get_participants(namespace, key)):
                yield StockSocket(self._server, sid, namespace, connection_id, self.order)

    def has_members(self, room: Room) -> bool:
        """Return whether a socket is in a room."""
        manager, key = self._server.manager, room.key
        return any(key in manager.rooms.get(namespace, ()) for namespace in self.namespaces)

    def _socket(self, sid: str, namespace: str) -> Socket | None:
        connection_id = self._server.manager.eio_sid_from_sid(sid, namespace)
        if not isinstance(connection_id, str):
            return None
        return StockSocket(self._server, sid, namespace, connection_id, self.order)

    def fan_out(self, prepared: Prepared, rooms: Iterable[str], *, skip: str | None = None) -> int:
        """Send an event to the members of the rooms."""
        assert isinstance(prepared, _Prepared)
        keys = list(rooms)
        return sum([self._fan_out(*prepared, keys, skip, namespace) for namespace in self.namespaces])

    def _fan_out(self, event: str, data: Any, keys: list[str], skip: str | None, namespace: str) -> int:
        manager = self._server.manager
        skip_sid = manager.sid_from_eio_sid(skip, namespace) if skip is not None else None
        members = {sid for sid, _ in manager.get_participants(namespace, keys)} - {skip_sid}
        if members:
            self._server.emit(event, (data,), to=keys, skip_sid=skip_sid, namespace=namespace)
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
        return count_our_rooms(self._server)

    def room_keys(self) -> set[str]:
        """Return the keys of the rooms of ours that have members."""
        return keys_of(self._server)

    def peer(self, connection_id: str) -> Peer | None:
        """Return how a connection is."""
        found, since = self._server.eio.sockets.get(connection_id), self._since.get(connection_id)
        if found is None or since is None:
            return None
        return Peer("4", "websocket" if found.upgraded else "polling", since, None, None)

    def new_lock(self) -> Lock:
        """Return a lock for threads and greenlets alike."""
        return threading.RLock()

    def keep(self, recovery: Recovery) -> None:
        """Do nothing: a stock server tells nobody where it is, and its clients come back as somebody else."""

    def follower(self, sid: str, namespace: str) -> Follower | None:
        """Return None: there are none."""
        del sid, namespace
        return None

    def followers(self) -> Sequence[Follower]:
        """Return none."""
        return ()

    def take_over(self, follower: Follower) -> None:
        """Do nothing: there are none."""


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
    def held(self) -> bool:
        """Whether who asks now has to wait."""
        return self._held

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
