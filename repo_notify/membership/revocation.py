"""Access ends when the right ends: members' rights are asked anew, a member without is removed (spec section 10)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import NamedTuple

from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import denial, is_allowed
from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialect, Dialects, JoinRequest
from repo_notify.protocol.rooms import Room, RoomKind, RoomRequest
from repo_notify.sessions.bindings import Identities, Identity
from repo_notify.sockets import Socket, Sockets, our_rooms

logger = logging.getLogger(__name__)

# After how long a sweep lets others run.
SLICE_SECONDS = 0.002


class _Membership(NamedTuple):
    """A socket in a room, and who was on it when the sweep came to it."""

    identity: Identity
    socket: Socket
    room: Room


class Revalidation:
    """Asks for the right of every member of every room each `seconds`.

    `give_way` lets others run: a sweep over many members must not hold up the loop.
    """

    def __init__(
        self,
        sockets: Sockets,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        dialects: Dialects,
        seconds: float,
        give_way: Callable[[], None],
    ) -> None:
        self._sockets = sockets
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._dialects = dialects
        self._seconds = seconds
        self._give_way = give_way
        self._closing = threading.Event()
        self._ended: float | None = None
        metrics.watch(
            "repo_notify_recheck_age_seconds",
            "Seconds since a sweep over all members' rights last came to its end, or since the first connection.",
            (),
            lambda: {(): 0.0 if self._ended is None else monotonic() - self._ended},
        )

    def run(self) -> None:
        """Go on until `close`."""
        self._ended = monotonic()
        while not self._closing.wait(self._seconds):
            try:
                self.sweep()
            # The sweeps are what ends access: nothing that one of them meets may be the end of the others.
            except Exception:
                logger.exception("a sweep over members' rights broke off; the next one is in %s s", self._seconds)

    def close(self) -> None:
        """End."""
        self._closing.set()

    def sweep(self) -> None:
        """Ask for the right of every member once; a member whose right cannot be asked for stays, and is counted."""
        failed: set[str | None] = set()
        failures = 0
        turn = monotonic()
        for membership in self._memberships():
            if monotonic() - turn > SLICE_SECONDS:
                self._give_way()
                turn = monotonic()
            if self._closing.is_set():
                return
            if not self._revalidate(membership, failed):
                failures += 1
                self._metrics.recheck_failures.inc()
        self._ended = monotonic()
        if failures:
            logger.warning("the rights of %d memberships could not be asked for; they stay for now", failures)

    def _memberships(self) -> Iterator[_Membership]:
        for connection_id in self._identities.bound():
            identity = self._identities.known(connection_id)
            if identity is None:
                continue
            for socket in self._sockets.of(connection_id):
                for room in our_rooms(socket):
                    yield _Membership(identity, socket, room)

    def _revalidate(self, membership: _Membership, failed: set[str | None]) -> bool:
        """Return whether the member's right is known; a member without is removed.

        `failed` collects the teamspaces that do not answer: they are not waited for again in this sweep.
        """
        identity, socket, room = membership
        teamspace: str | None = None
        try:
            kind, dialect = self._dialects.kinds[room.kind]
            request = kind.request(room)
            teamspace = request.where[0] if request.where else None
            if teamspace in failed:
                return False
            allowed = self._ask(identity.username, request)
            # The database was waited for: the connection may be somebody else's meanwhile.
            if not allowed and self._identities.known(socket.connection_id) == identity:
                self._evict(socket, room, kind, dialect)
        except PermissionsUnavailable:
            # One document that cannot be read is not the teamspace's other models' trouble; silence is.
            if self._permissions.silent_for() > 0:
                failed.add(teamspace)
            return False
        # One member's trouble, such as a server of the host's that refuses a reply, is not the others'.
        except Exception:
            logger.exception("the right of a membership could not be asked for")
            return False
        return True

    def _ask(self, username: str, request: RoomRequest) -> bool:
        # The pause after one teamspace's silence is for joins; here it would let all others go unseen.
        if (pause := self._permissions.silent_for()) > 0:
            self._closing.wait(pause)
        return is_allowed(self._permissions, username, request)

    def _evict(self, socket: Socket, room: Room, kind: RoomKind, dialect: Dialect) -> None:
        if not socket.leave(room.key):
            return
        self._metrics.evictions.inc()
        joined = kind.join_object(room)
        request = JoinRequest("join", joined, {"action": "join", "data": joined}, dialect, None)
        for reply in dialect.denied(request, denial(kind.right)):
            socket.emit(reply.event, reply.data)
