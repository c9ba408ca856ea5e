"""Access ends when the right ends: members' rights are looked at again, and who lost one leaves the room."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import may, refusal
from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from repo_notify.protocol.rooms import Membership, Room
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Connections

logger = logging.getLogger(__name__)


class Recheck:
    """Looks at every member of every room each `seconds`; `memberships` says what each kind of room needs."""

    def __init__(
        self,
        connections: Connections,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        memberships: Mapping[str, Membership],
        seconds: float,
    ) -> None:
        self._connections = connections
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._memberships = memberships
        self._seconds = seconds
        self._closing = threading.Event()

    def run(self) -> None:
        """Go on until `close`."""
        while not self._closing.wait(self._seconds):
            try:
                self.look()
            except PermissionsUnavailable:
                logger.warning("rights could not be looked at again: the database did not answer; nobody was sent out")

    def close(self) -> None:
        """End."""
        self._closing.set()

    def look(self) -> None:
        """Look at every member once; raises `PermissionsUnavailable`."""
        for connection, identity in self._identities.bound():
            for namespace, sid in list(self._connections.sids(connection)):
                for room in self._connections.rooms(sid, namespace):
                    membership = self._memberships[room.kind]
                    claim = membership.claim(room)
                    if not may(self._permissions, identity.username, claim):
                        self._evict(sid, namespace, room, membership)

    def _evict(self, sid: str, namespace: str, room: Room, membership: Membership) -> None:
        if not self._connections.leave(sid, namespace, room):
            return
        self._metrics.evictions.inc()
        reply = refusal(membership.right).reply()
        if membership.legacy:
            self._connections.reply(sid, namespace, "credentialError", reply)
        details = {"action": "join", "data": membership.asked(room)}
        self._connections.reply(sid, namespace, "error", {**reply, "details": details})
