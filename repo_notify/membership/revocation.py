"""Access ends when the right ends: members' rights are asked anew, a member without is removed (spec section 10)."""

from __future__ import annotations

import logging
import threading

from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import denial, is_allowed
from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialect, Dialects, JoinRequest
from repo_notify.protocol.rooms import Room, RoomKind
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Socket, Sockets

logger = logging.getLogger(__name__)


class Revalidation:
    """Asks for the right of every member of every room each `seconds`."""

    def __init__(
        self,
        sockets: Sockets,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        dialects: Dialects,
        seconds: float,
    ) -> None:
        self._sockets = sockets
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._dialects = dialects
        self._seconds = seconds
        self._closing = threading.Event()

    def run(self) -> None:
        """Go on until `close`."""
        while not self._closing.wait(self._seconds):
            try:
                self.sweep()
            except PermissionsUnavailable:
                logger.warning("rights could not be looked at again: the database did not answer; nobody was sent out")

    def close(self) -> None:
        """End."""
        self._closing.set()

    def sweep(self) -> None:
        """Ask for every member once; raises `PermissionsUnavailable`."""
        for connection_id, identity in self._identities.bound():
            for socket in self._sockets.of(connection_id):
                for room in socket.rooms():
                    kind, dialect = self._dialects.kinds[room.kind]
                    if not is_allowed(self._permissions, identity.username, kind.request(room)):
                        self._evict(socket, room, kind, dialect)

    def _evict(self, socket: Socket, room: Room, kind: RoomKind, dialect: Dialect) -> None:
        if not socket.leave(room):
            return
        self._metrics.evictions.inc()
        joined = kind.join_object(room)
        request = JoinRequest("join", joined, {"action": "join", "data": joined}, dialect, None)
        for reply in dialect.denied(request, denial(kind.right)):
            socket.emit(reply.event, reply.data)
