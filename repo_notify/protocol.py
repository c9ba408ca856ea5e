"""The Socket.IO handlers: join, leave, and what is neither (PROTOCOL sections 3 and 4). Thin."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .connections import Connections
from .errors import (
    ChatError,
    NotLoggedIn,
    PermissionsUnavailable,
    RateLimited,
    RoomNotFound,
    UnknownEvent,
)
from .identity import Identities, Identity
from .limits import Allowance
from .metrics import Metrics
from .permissions import Permissions
from .rights import may, refusal
from .rooms import Claim, RoomKind, claims_of, kind_of
from .session_reads import SessionsUnavailable

logger = logging.getLogger(__name__)

Action = Literal["join", "leave"]
ACTIONS: tuple[Action, ...] = ("join", "leave")


@dataclass(frozen=True)
class Haste:
    """How fast one connection may ask: `burst` at once, `rate` a second, `flood` refusals until it is closed."""

    burst: int
    rate: float
    flood: int


class _Request(NamedTuple):
    """One join or leave: who asked what, where."""

    action: str
    namespace: str
    sid: str
    connection: str
    data: Any
    kind: RoomKind | None

    @property
    def legacy(self) -> bool:
        return self.kind is not None and self.kind.legacy


class Protocol:
    """Answers the clients of one app, on every namespace that it is attached to.

    `legacy_namespaces` are those where even what is no room object at all is answered in v4's way too.
    """

    def __init__(
        self,
        connections: Connections,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        kinds: tuple[RoomKind, ...],
        haste: Haste,
        legacy_namespaces: frozenset[str] = frozenset(),
    ) -> None:
        self._connections = connections
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._kinds = kinds
        self._haste = haste
        self._legacy_namespaces = legacy_namespaces
        self._allowances: dict[str, Allowance] = {}
        self._lock = connections.new_lock()

    def closed(self, connection: str) -> None:
        """Forget a connection."""
        with self._lock:
            self._allowances.pop(connection, None)

    def handle(self, action: str, namespace: str, sid: str, *args: Any) -> dict[str, Any] | None:
        """Answer one event of a client; the answer is the acknowledgement too."""
        connection = self._connections.of(sid, namespace)
        if connection is None:
            return None
        data = args[0] if args else None
        request = _Request(action, namespace, sid, connection, data, kind_of(data, self._kinds))
        allowance = self._allowance(connection)
        wait, far_too_much = allowance.ask()
        if far_too_much:
            logger.info("a connection that floods with joins is closed")
            self._connections.close(connection)
            return None
        with allowance.turnstile:
            return self._answer(request, wait)

    def _allowance(self, connection: str) -> Allowance:
        with self._lock:
            found = self._allowances.get(connection)
            if found is None:
                haste = self._haste
                found = self._allowances[connection] = Allowance(haste.burst, haste.rate, haste.flood, self._lock)
            return found

    def _answer(self, request: _Request, wait: float) -> dict[str, Any]:
        try:
            self._carry_out(request, wait)
        except ChatError as error:
            return self._refuse(request, error)
        return self._confirm(request)

    def _carry_out(self, request: _Request, wait: float) -> None:
        if request.action not in ACTIONS:
            raise UnknownEvent if not wait else RateLimited(wait)
        identity = self._who(request.connection)
        if identity is None:
            raise NotLoggedIn
        if wait:
            raise RateLimited(wait)
        if request.kind is None:
            raise RoomNotFound(RoomNotFound.UNKNOWN)
        claims = claims_of(request.data, request.kind, identity.username)
        if request.action == "leave" and self._leave(request, claims):
            return
        granted = [claim for claim in claims if may(self._permissions, identity.username, claim)]
        if not granted:
            raise refusal(claims[-1].right)
        if request.action == "join":
            self._enter(request, identity, granted)

    def _who(self, connection: str) -> Identity | None:
        try:
            return self._identities.of(connection)
        except SessionsUnavailable as error:
            raise PermissionsUnavailable from error

    def _enter(self, request: _Request, identity: Identity, granted: list[Claim]) -> None:
        # The session may have ended, or the socket gone, while the database was asked.
        self._require(request.connection, identity)
        for claim in granted:
            self._connections.enter(request.sid, request.namespace, claim.room)
        try:
            # Under threads it may have ended since.
            self._require(request.connection, identity)
        except NotLoggedIn:
            self._connections.leave_all(request.connection)
            raise

    def _require(self, connection: str, identity: Identity) -> None:
        now = self._identities.of(connection)
        if now is None or now.username != identity.username:
            raise NotLoggedIn

    def _leave(self, request: _Request, claims: Sequence[Claim]) -> bool:
        """Leave what is claimed; whether any of it was joined."""
        left = [self._connections.leave(request.sid, request.namespace, claim.room) for claim in claims]
        return any(left)

    def _confirm(self, request: _Request) -> dict[str, Any]:
        self._metrics.joined(request.action, "success")
        if request.legacy and request.action == "join":
            joined = {key: request.data[key] for key in ("account", "model") if key in request.data}
            self._connections.reply(request.sid, request.namespace, "joined", joined)
        reply = {"event": "success", "data": {"action": request.action, "data": request.data}}
        self._connections.reply(request.sid, request.namespace, "message", reply)
        return reply

    def _refuse(self, request: _Request, error: ChatError) -> dict[str, Any]:
        action = request.action if request.action in ACTIONS else "other"
        self._metrics.joined(action, error.code.lower())
        if request.legacy or (request.kind is None and request.namespace in self._legacy_namespaces):
            self._connections.reply(request.sid, request.namespace, "credentialError", error.reply())
        reply = {**error.reply(), "details": {"action": request.action, "data": request.data}}
        self._connections.reply(request.sid, request.namespace, "error", reply)
        return reply
