"""The handlers of join, leave, and what is neither (spec sections 3 and 4). Thin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import decide, denial
from repo_notify.errors import (
    ChatError,
    NotLoggedIn,
    PermissionsUnavailable,
    RoomNotFound,
    UnknownEvent,
)
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import ACTIONS, Dialects, JoinRequest, Reply
from repo_notify.protocol.echo import Spelling, echo
from repo_notify.protocol.rooms import Room, RoomRequest
from repo_notify.sessions.bindings import Identities, Identity
from repo_notify.sessions.reads import SessionsUnavailable
from repo_notify.sockets import Socket, Sockets, leave_all

from .rate_limit import Bucket
from .recovery import Recoveries
from .register import Register

logger = logging.getLogger(__name__)

# The key of a join object that says since when (spec section 9).
SINCE = "since"

# (room, its look-up's ids, when its right was asked for in monotonic seconds): the right may have ended since.
Settle = Callable[[Room, "tuple[str | None, ...]", float], None]


class Handlers:
    """Answers the clients of one app."""

    def __init__(
        self,
        sockets: Sockets,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        dialects: Dialects,
        new_bucket: Callable[[], Bucket],
        register: Register,
        settle: Settle,
        sleep: Callable[[float], object],
        recoveries: Recoveries | None = None,
    ) -> None:
        self._sockets = sockets
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._dialects = dialects
        self._new_bucket = new_bucket
        self._register = register
        self._settle = settle
        self._sleep = sleep
        self._recoveries = recoveries
        self._buckets: dict[str, Bucket] = {}
        self._lock = sockets.new_lock()

    def closed(self, connection_id: str) -> None:
        """Forget a connection."""
        self._register.closed(connection_id)
        with self._lock:
            self._buckets.pop(connection_id, None)

    def handle(self, action: Any, socket: Socket, arguments: Sequence[Any], spelling: Spelling | None) -> Any:
        """Answer one event of a client; return the acknowledgement, which is the last reply too."""
        bucket = self._buckets.get(socket.connection_id) or self._first_bucket(socket.connection_id)
        if wait := bucket.take():
            self._await_turn(bucket, wait)
        data = arguments[0] if arguments else None
        request = self._dialects.request(action, socket.namespace, data, echo(action, data, spelling))
        try:
            return self._carry_out(request, socket)
        except ChatError as error:
            return self._answer(request, socket, error.code.lower(), request.dialect.denied(request, error))

    def arriving(self, action: Any, socket: Socket, arguments: Sequence[Any]) -> None:
        """Announce the rooms of a join that waits for its turn, so that one look-up answers for many."""
        identity = self._identities.known(socket.connection_id)
        if action != "join" or identity is None:
            return
        # Nothing is answered yet, and so nothing repeated.
        request = self._dialects.request(action, socket.namespace, arguments[0] if arguments else None, {})
        if request.shape is None:
            return
        try:
            wanted = request.shape.read(request.data, identity.username)
        except RoomNotFound:
            return
        self._permissions.announce([found.where for found in wanted])

    def _first_bucket(self, connection_id: str) -> Bucket:
        with self._lock:
            return self._buckets.setdefault(connection_id, self._new_bucket())

    def _await_turn(self, bucket: Bucket, wait: float) -> None:
        """Wait until the connection may ask again: what it asked for later waits behind, nobody else does."""
        started = monotonic()
        while wait:
            self._sleep(wait)
            wait = bucket.take()
        self._metrics.join_wait.observe(monotonic() - started)

    def _carry_out(self, request: JoinRequest, socket: Socket) -> Any:
        if request.action not in ACTIONS:
            raise UnknownEvent
        identity = self._identity(socket.connection_id)
        if request.shape is None:
            raise RoomNotFound(RoomNotFound.UNKNOWN)
        wanted = request.shape.read(request.data, identity.username)
        if request.action == "leave":
            left = [found.room for found in wanted if socket.leave(found.room.key)]
            for room in left:
                self._register.left(socket, room)
            if left:
                return self._succeed(request, socket)
        started = monotonic()
        granted = [
            found
            for found in wanted
            if decide(self._permissions, identity.username, found.right, found.where).allowed
        ]
        if not granted:
            raise denial(wanted[-1].right)
        if request.action == "leave":
            return self._succeed(request, socket)
        if self._recoveries is not None and SINCE in request.data:
            self._recoveries.reach(request.data[SINCE])
        # What is published meanwhile waits: it is behind the reply, and what is missed before it.
        with self._sockets.order:
            return self._join(request, socket, identity, granted, started)

    def _join(
        self, request: JoinRequest, socket: Socket, identity: Identity, granted: list[RoomRequest], started: float
    ) -> Any:
        recoveries = self._recoveries
        before = recoveries.joins.rooms_of(socket) if recoveries is not None and SINCE in request.data else {}
        self._enter(socket, identity, granted)
        for found in granted:
            self._register.entered(socket, found, request.data)
            self._settle(found.room, found.where, started)
        if recoveries is None or SINCE not in request.data:
            return self._succeed(request, socket)
        rooms = [found.room for found in granted]
        return self._succeed(request, socket, recoveries.joins.joined(socket, rooms, request.data[SINCE], before))

    def _succeed(self, request: JoinRequest, socket: Socket, more: Mapping[str, Any] | None = None) -> Any:
        replies = request.dialect.entered(request)
        if more is not None:
            *first, last = replies
            replies = (*first, Reply(last.event, {**last.data, **more}))
        return self._answer(request, socket, "success", replies)

    def _identity(self, connection_id: str, expected: Identity | None = None) -> Identity:
        """Return who is on a connection; raises `NotLoggedIn` for nobody, and for another user than is expected."""
        try:
            found = self._identities.of(connection_id)
        except SessionsUnavailable as error:
            raise PermissionsUnavailable from error
        if found is None or (expected is not None and found.username != expected.username):
            raise NotLoggedIn
        return found

    def _enter(self, socket: Socket, identity: Identity, granted: list[RoomRequest]) -> None:
        # The session may have ended, or the socket gone, while the database was asked.
        self._identity(socket.connection_id, identity)
        number = self._recoveries.history.number if self._recoveries is not None else 0
        for found in granted:
            socket.enter(found.room.key, number)
        try:
            # Under threads it may have ended since.
            self._identity(socket.connection_id, identity)
        except NotLoggedIn:
            leave_all(self._sockets, socket.connection_id)
            raise

    def _answer(self, request: JoinRequest, socket: Socket, outcome: str, replies: Sequence[Reply]) -> Any:
        self._metrics.joined(request.action if request.action in ACTIONS else "other", outcome)
        for reply in replies:
            socket.emit(reply.event, reply.data)
        return replies[-1].data
