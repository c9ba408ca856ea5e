"""What becomes of a backend's message: it goes out, or it says who is logged in (spec section 11)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from repo_notify.events import ModelCreated, ModelRemoved
from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects

from .messages import LoggedIn, LoggedOut, NotUnderstood, ToRooms, ToSessions, parse
from .sessions import SessionMessages

logger = logging.getLogger(__name__)

# `{"name", "data", "rooms", "emitter"}`, JSON values all; `rooms` are keys.
PassOn = Callable[[Mapping[str, Any]], None]


class Bridge:
    """Carries out what the backend's exchange delivers, one body after another.

    `invalidate(teamspace)` drops what is cached of its rights.
    """

    def __init__(
        self,
        dialects: Dialects,
        pass_on: PassOn,
        sessions: SessionMessages,
        metrics: Metrics,
        *,
        invalidate: Callable[[str], None],
    ) -> None:
        self._dialects = dialects
        self._pass_on = pass_on
        self._invalidate = invalidate
        self._changing_rights = frozenset(dialects.names_of(ModelCreated, ModelRemoved))
        self._sessions = sessions
        self._metrics = metrics
        self._rarely = Rarely()
        # By kind; thousands a second, for which a counter's lock is dear.
        self._counts = dict.fromkeys(("rooms", "sessions", "logged_in", "logged_out"), 0)
        metrics.backend_messages.watch(lambda: {(kind,): number for kind, number in self._counts.items()})

    def receive(self, body: bytes) -> None:
        """Carry out one message; what is none is passed over. Raises what cannot be encoded for clients."""
        try:
            message = parse(body)
        except NotUnderstood as problem:
            self._metrics.backend_passed_over.inc()
            if self._rarely("passed over"):
                logger.error("passed over %s in the backend's exchange", problem)
            return
        match message:
            case ToRooms(name, data, addresses, emitter):
                self._counts["rooms"] += 1
                if name in self._changing_rights:
                    for address in addresses:
                        self._invalidate(address.ids[0])
                rooms = self._dialects.rooms_at(addresses)
                self._pass_on({"name": name, "data": data, "rooms": rooms, "emitter": emitter})
            case ToSessions():
                self._counts["sessions"] += 1
                self._sessions.tell(message)
            case LoggedIn():
                self._counts["logged_in"] += 1
                self._sessions.logged_in(message)
            case LoggedOut(session_ids):
                self._counts["logged_out"] += 1
                self._sessions.logged_out(session_ids)
