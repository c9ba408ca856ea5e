"""Members: connections in namespaces, the rooms they are in, and what is sent to one of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any

from repo_notify.engine.engine_io.backlog import Limit
from repo_notify.engine.engine_io.connection import Connection
from repo_notify.engine.engine_io.timers import Lock
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.engine.wire.packets import SioPacket, SioType

Callback = Callable[..., Any]


class Namespace:
    """The members of one namespace, by their id and by their connection's, and its rooms."""

    __slots__ = ("by_connection", "fast_paths", "lock", "logger", "members", "rooms")

    def __init__(self, lock: Lock, logger: logging.Logger) -> None:
        self.lock = lock
        self.logger = logger
        self.members: dict[str, Member] = {}
        self.by_connection: dict[str, Member] = {}
        self.rooms: dict[Hashable, dict[str, Member]] = {}
        # The fan-out's, who knows members; they but drop the one of a room that they enter or leave.
        self.fast_paths: dict[Hashable, Any] = {}

    def by_any_id(self, any_id: str) -> Member | None:
        """The member of that id, be it its own or its connection's."""
        return self.members.get(any_id) or self.by_connection.get(any_id)


class Held(list[Outgoing]):
    """What is sent to a member before its CONNECT is answered, and its size."""

    size = 0


class Member:
    """One connection in one namespace. `held` has what was sent before its CONNECT is answered; None afterwards."""

    __slots__ = (
        "_space",
        "callbacks",
        "connection",
        "connection_id",
        "gone",
        "held",
        "last_id",
        "leaving",
        "namespace",
        "rooms",
        "sid",
    )

    def __init__(self, sid: str, namespace: str, connection: Connection, space: Namespace) -> None:
        self.sid = sid
        self.namespace = namespace
        self.connection = connection
        self.connection_id = connection.sid
        self._space = space
        self.rooms: set[Hashable] = set()
        self.held: Held | None = Held()
        self.callbacks: dict[int, Callback] | None = None
        self.last_id = 0
        self.leaving = False
        self.gone = False

    def enter(self, room: Hashable) -> None:
        """Enter a room that is nobody's id, unless the namespace was left."""
        space = self._space
        with space.lock:
            if self.gone or space.members.get(self.sid) is not self:
                return
            space.rooms.setdefault(room, {})[self.sid] = self
            space.fast_paths.pop(room, None)
            self.rooms.add(room)

    def leave(self, room: Hashable) -> bool:
        """Leave a room; return whether it was in it."""
        space = self._space
        with space.lock:
            if room not in self.rooms:
                return False
            self.rooms.discard(room)
            members = space.rooms[room]
            del members[self.sid]
            space.fast_paths.pop(room, None)
            if not members:
                del space.rooms[room]
            return True

    def emit(self, event: str, data: Any) -> None:
        """Send an event with one argument, unless it is gone."""
        if not self.gone:
            self.send(Outgoing(SioPacket(SioType.EVENT, self.namespace, data=[event, data])))

    def send(self, out: Outgoing) -> bool:
        """Send a packet; whether it was taken. TypeError or ValueError where it cannot be encoded."""
        out.packets(self.connection.codec)
        try:
            if self.held is None:
                return self.connection.send(out)
            with self._space.lock:
                return self._hold(out)
        except Exception:
            self._space.logger.exception("delivery to %s failed", self.connection_id)
            return False

    def _hold(self, out: Outgoing) -> bool:
        connection, held = self.connection, self.held
        if held is None:
            return connection.send(out)
        held.append(out)
        held.size += out.size(connection.codec)
        if held.size > connection.max_waiting:
            held.clear()
            connection.too_slow(Limit.BYTES)
        return not connection.closed
