"""What becomes of a backend's message: it goes out, or it says who is logged in (spec section 11)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from repo_notify.events import ModelCreated, ModelRemoved
from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects

from .messages import (
    LoggedIn,
    LoggedOut,
    Message,
    NotUnderstood,
    ToRooms,
    ToSessions,
    interpret,
    may_be_of_sessions,
    parse,
)
from .sessions import SessionMessages

logger = logging.getLogger(__name__)


class PassOn(Protocol):
    """Delivers `{"name", "data", "rooms", "emitter"}`, JSON values all; `rooms` are keys.

    What was delivered before, `at` a time in monotonic seconds, is kept and sent to nobody.
    """

    def __call__(self, message: Mapping[str, Any], *, at: float | None = None) -> None:
        """Deliver."""


class Events:
    """Delivers a backend's events in this process; `invalidate(teamspace)` drops what is cached of its rights."""

    def __init__(self, dialects: Dialects, pass_on: PassOn, *, invalidate: Callable[[str], None]) -> None:
        self._dialects, self._pass_on, self._invalidate = dialects, pass_on, invalidate
        self._changing_rights = frozenset(dialects.names_of(ModelCreated, ModelRemoved))
        # Shown, as the bridge's, only where there is a backend.
        self.count = 0

    def deliver(self, event: ToRooms) -> None:
        """Deliver an event; raises what cannot be encoded for clients."""
        self.count += 1
        if event.name in self._changing_rights:
            for address in event.addresses:
                self._invalidate(address.ids[0])
        self._pass_on(self._message(event))

    def receive(self, document: Mapping[str, Any]) -> None:
        """Deliver the event of a body that another process, or this one, has taken."""
        self.deliver(_event(document))

    def recall(self, document: Mapping[str, Any], at: float) -> None:
        """Keep the event of a body that was delivered at that time, in monotonic seconds, and send nothing."""
        self._pass_on(self._message(_event(document)), at=at)

    def _message(self, event: ToRooms) -> Mapping[str, Any]:
        rooms = self._dialects.rooms_at(event.addresses)
        return {"name": event.name, "data": event.data, "rooms": rooms, "emitter": event.emitter}


def _event(document: Mapping[str, Any]) -> ToRooms:
    message = interpret(document)
    if not isinstance(message, ToRooms):
        raise NotUnderstood("a message to no room")
    return message


class Bridge:
    """Carries out what the backend's exchange delivers, one body after another."""

    def __init__(self, events: Events, sessions: SessionMessages, metrics: Metrics) -> None:
        self._events = events
        self._sessions = sessions
        self._metrics = metrics
        self._rarely = Rarely()
        # By kind, as above.
        self._counts = dict.fromkeys(("sessions", "logged_in", "logged_out"), 0)
        metrics.backend_messages.watch(lambda: {(kind,): number for kind, number in self.counts().items()})

    def counts(self) -> Mapping[str, int]:
        """Return how many messages of each kind were carried out here."""
        return {"rooms": self._events.count, **self._counts}

    def receive(self, body: bytes) -> None:
        """Carry out one message; what is none is passed over. Raises what cannot be encoded for clients."""
        message = self._read(body)
        if isinstance(message, ToRooms):
            self._events.deliver(message)
        elif message is not None:
            self._carry_out(message)

    def is_event(self, body: bytes) -> bool:
        """Return whether a body is an event for rooms; what is no message is counted."""
        return isinstance(self._read(body), ToRooms)

    def receive_but_events(self, body: bytes) -> None:
        """Carry out what is said of sessions; whoever asks `is_event` reads the rest."""
        if not may_be_of_sessions(body):
            return
        with suppress(NotUnderstood):
            message = parse(body)
            if not isinstance(message, ToRooms):
                self._carry_out(message)

    def _read(self, body: bytes) -> Message | None:
        try:
            return parse(body)
        except NotUnderstood as problem:
            self._metrics.backend_passed_over.inc()
            if self._rarely("passed over"):
                logger.error("passed over %s in the backend's exchange", problem)
            return None

    def _carry_out(self, message: ToSessions | LoggedIn | LoggedOut) -> None:
        match message:
            case ToSessions():
                self._counts["sessions"] += 1
                self._sessions.tell(message)
            case LoggedIn():
                self._counts["logged_in"] += 1
                self._sessions.logged_in(message)
            case LoggedOut(session_ids):
                self._counts["logged_out"] += 1
                self._sessions.logged_out(session_ids)
