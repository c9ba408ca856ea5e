"""What the protocol and the publisher ask of the Socket.IO server: ids, rooms, replies, fan-out.

It speaks python-socketio's API only, so that it works on our engine and on a server of the host's alike.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import socketio

from .engine import Server
from .engine.timers import Lock
from .rooms import PREFIX, Room

logger = logging.getLogger(__name__)

# Longer than any id that a server of ours or a stock one gives out.
_MAX_ID_LENGTH = 128


class Connections:
    """One app's connections. `namespaces` are those on which the protocol is spoken."""

    def __init__(self, server: socketio.Server, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self.namespaces = namespaces
        # Two publications must not overtake one another on the way to one socket.
        self._order = self.new_lock()
        self._fan_out: Callable[..., int] = self._fan_out_stock
        if isinstance(server, Server):
            self._fan_out = server.manager.deliver

    def new_lock(self) -> Lock:
        """Return what keeps the server's handlers apart where they run in threads; nothing may wait within."""
        return self._server.new_lock() if isinstance(self._server, Server) else threading.RLock()

    def of(self, sid: str, namespace: str) -> str | None:
        """Return the connection (its Engine.IO id) of a namespace's sid."""
        found = self._server.manager.eio_sid_from_sid(sid, namespace)
        return found if isinstance(found, str) else None

    def resolve(self, socket_id: str) -> str | None:
        """Return the connection that has this id, whichever of its ids it is, or None.

        socket.io-client 2.x shows `/<namespace>#<id>` in a namespace (PROTOCOL section 7).
        """
        if len(socket_id) > _MAX_ID_LENGTH:
            return None
        bare = socket_id.rsplit("#", 1)[-1]
        if bare in self._server.eio.sockets:
            return bare
        for namespace in list(self._server.manager.get_namespaces()):
            if (found := self.of(bare, namespace)) is not None:
                return found
        return None

    def sids(self, connection: str) -> Iterator[tuple[str, str]]:
        """Yield `(namespace, sid)` for each of our namespaces that the connection is in."""
        for namespace in self.namespaces:
            sid = self._server.manager.sid_from_eio_sid(connection, namespace)
            if sid is not None:
                yield namespace, sid

    def rooms(self, sid: str, namespace: str) -> Iterator[Room]:
        """Yield the rooms of ours that a sid is in as it is asked; a host's own rooms are left out."""
        for key in list(self._server.rooms(sid, namespace=namespace)):
            if isinstance(key, str) and key.startswith(PREFIX):
                yield Room.parse(key)

    def enter(self, sid: str, namespace: str, room: Room) -> None:
        """Put a sid into a room, unless it has left the namespace meanwhile."""
        if self._server.manager.is_connected(sid, namespace):
            self._server.enter_room(sid, room.key, namespace=namespace)

    def leave(self, sid: str, namespace: str, room: Room) -> bool:
        """Take a sid out of a room; whether it was in it."""
        if room.key not in self._server.rooms(sid, namespace=namespace):
            return False
        self._server.leave_room(sid, room.key, namespace=namespace)
        return True

    def leave_all(self, connection: str) -> None:
        """Take a connection out of every room of ours."""
        for namespace, sid in self.sids(connection):
            for room in self.rooms(sid, namespace):
                self.leave(sid, namespace, room)

    def reply(self, sid: str, namespace: str, event: str, data: Any) -> None:
        """Send an event to one sid."""
        with self._order:
            self._server.emit(event, data, to=sid, namespace=namespace)

    def tell(self, connection: str, event: str, data: Any) -> None:
        """Send an event to one connection, once in each of our namespaces that it is in."""
        for namespace, sid in self.sids(connection):
            self.reply(sid, namespace, event, data)

    def deliver(self, event: str, data: Any, rooms: Iterable[Room], *, skip: str | None) -> int:
        """Send an event to the members of the rooms, once each per namespace, but not to the connection `skip`.

        Returns how many it went to. A recipient that is gone is no error.
        """
        keys = list(dict.fromkeys(room.key for room in rooms))
        skipped = dict(self.sids(skip)) if skip is not None else {}
        with self._order:
            return sum(
                self._fan_out(event, data, namespace, room=keys, skip_sid=skipped.get(namespace))
                for namespace in self.namespaces
            )

    def close(self, connection: str) -> None:
        """Close a connection."""
        self._server.eio.disconnect(connection)

    def _fan_out_stock(self, event: str, data: Any, namespace: str, *, room: list[str], skip_sid: str | None) -> int:
        members = {sid for sid, _ in self._server.manager.get_participants(namespace, room)} - {skip_sid}
        if members:
            self._server.emit(event, data, to=room, skip_sid=skip_sid, namespace=namespace)
        return len(members)
