"""Which rooms of ours have members, by teamspace, and the objects by which members joined (spec section 10)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.ids import fold_uuid
from repo_notify.protocol.rooms import Room, RoomRequest
from repo_notify.sockets import Socket, Sockets

# How much is kept of the objects of one connection, in characters of their JSON; what goes beyond is told by its ids.
MAX_OBJECTS_LENGTH = 200_000


class Concern(NamedTuple):
    """Which members are meant: those of a teamspace, a project, a model and a user, of any where one is None."""

    teamspace: str | None
    project: str | None = None
    model: str | None = None
    username: str | None = None

    def covers(self, where: tuple[str | None, ...]) -> bool:
        """Return whether a room with these ids of its look-up is meant; a project that is None may be any."""
        teamspace, project, model = (*where, None, None)[:3]
        if self.teamspace is None:
            return True
        if teamspace != self.teamspace:
            return False
        if self.model is not None:
            return len(where) == 3 and fold_uuid(self.model) == fold_uuid(str(model)) and self._in_project(project)
        return self.project is None or (len(where) >= 2 and self._in_project(project))

    def _in_project(self, project: str | None) -> bool:
        return self.project is None or project is None or fold_uuid(self.project) == fold_uuid(project)


class Register:
    """The rooms that have, or lately had, members. `kinds` are the kinds of room by their names."""

    def __init__(self, sockets: Sockets, dialects: Dialects) -> None:
        self._sockets = sockets
        self._kinds = dialects.kinds
        self._lock = threading.Lock()
        self._keys: dict[str, set[str]] = {}
        # By connection: by namespace and room, the object and its length; and the lengths together.
        self._objects: dict[str, dict[tuple[str, str], tuple[Any, int]]] = {}
        self._lengths: dict[str, int] = {}

    def entered(self, socket: Socket, request: RoomRequest, sent: Any) -> None:
        """Note that a socket has entered a room by the object `sent`."""
        room, where = request.room, request.where
        if not where:
            return
        key = room.key
        with self._lock:
            self._keys.setdefault(str(where[0]), set()).add(key)
        if not room.told_by_key or sent != self._kinds[room.kind][0].join_object(room):
            self._keep(socket, key, sent)
        elif socket.connection_id in self._objects:
            self.left(socket, room)

    def _keep(self, socket: Socket, key: str, sent: Any) -> None:
        length = len(json.dumps(sent, default=str))
        with self._lock:
            # It may have joined by another object before.
            self._drop(socket.connection_id, (socket.namespace, key))
            kept = self._lengths.get(socket.connection_id, 0) + length
            if kept <= MAX_OBJECTS_LENGTH:
                self._lengths[socket.connection_id] = kept
                self._objects.setdefault(socket.connection_id, {})[socket.namespace, key] = (sent, length)

    def _drop(self, connection_id: str, key: tuple[str, str]) -> None:
        kept = self._objects.get(connection_id, {})
        if key not in kept:
            return
        _, length = kept.pop(key)
        self._lengths[connection_id] -= length
        if not kept:
            del self._objects[connection_id], self._lengths[connection_id]

    def left(self, socket: Socket, room: Room) -> None:
        """Forget the object by which a socket joined a room."""
        with self._lock:
            self._drop(socket.connection_id, (socket.namespace, room.key))

    def closed(self, connection_id: str) -> None:
        """Forget a connection."""
        with self._lock:
            self._objects.pop(connection_id, None)
            self._lengths.pop(connection_id, None)

    def object_of(self, socket: Socket, room: Room) -> Any:
        """Return the object by which a socket joined a room, as it was sent."""
        kept = self.kept_of(socket, room)
        return kept if kept is not None else self._kinds[room.kind][0].join_object(room)

    def kept_of(self, socket: Socket, room: Room) -> Any:
        """Return the object by which a socket joined a room where the room does not tell it, else None."""
        kept = self._objects.get(socket.connection_id, {}).get((socket.namespace, room.key))
        return kept[0] if kept is not None else None

    def rooms(self, concern: Concern | None = None) -> Iterator[Room]:
        """Yield the rooms that are meant, or all, as it is asked; some may be empty by now."""
        only = concern.teamspace if concern is not None else None
        for teamspace in [only] if only is not None else list(self._keys):
            for key in list(self._keys.get(teamspace, ())):
                room = Room.parse(key)
                if concern is None or concern.covers(self._kinds[room.kind][0].request(room).where):
                    yield room

    def members(self, room: Room) -> Iterator[Socket]:
        """Yield the sockets in a room while others come and go, and forget a room that has none."""
        if not self._sockets.has_members(room):
            self.forget_if_empty(room)
        yield from self._sockets.in_room(room)

    def forget_if_empty(self, room: Room) -> None:
        """Forget a room that has no members."""
        where = self._kinds[room.kind][0].request(room).where
        with self._lock:
            keys = self._keys.get(str(where[0]))
            # Within the lock: somebody may just have entered.
            if keys is None or self._sockets.has_members(room):
                return
            keys.discard(room.key)
            if not keys:
                del self._keys[str(where[0])]
