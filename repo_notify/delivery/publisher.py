"""Event -> deliveries -> sockets, in this process and, through the message queue, in the others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from repo_notify.access.permissions import Permissions
from repo_notify.events import EVENT_TYPES, UPDATES, Event, ModelCreated, ModelRemoved, SessionsEnded
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.rows import LOGGED_OUT
from repo_notify.protocol.validation import checked
from repo_notify.sessions.bindings import Identities, Identity, Outcome
from repo_notify.sockets import Sockets, bare, leave_all

from . import messages
from .history.accounts import Accounts
from .history.history import History
from .messages import Message
from .queue import Bus
from .recording import RecordedEvents
from .stream import Stream

logger = logging.getLogger(__name__)

# `{username, teamspace, project, model}`: whose rights are to be asked for again; None means any.
Revalidate = Callable[[Mapping[str, "str | None"]], None]


def nothing(*_: object) -> None:
    """Nobody who lost the connection is kept, and nobody is told what was missed."""


def subject_of(event: Event) -> tuple[Hashable, ...] | None:
    """Return what a later update of the same subject, by the same name in the same rooms, supersedes.

    That is the object and the changed fields; None for an event that is no update.
    """
    if type(event) not in _UPDATES:
        return None
    data: Any = vars(event)["data"]
    if not isinstance(data, dict):
        return None
    made, ticket = data.get("_id"), data.get("ticket")
    # A store gives strings back.
    return made if type(made) is str else str(made), ticket if type(ticket) is str else str(ticket), frozenset(data)


_UPDATES = frozenset(UPDATES)


class Publisher:
    """Delivers what is published, binds sockets and ends sessions, in every process of one app."""

    def __init__(
        self,
        sockets: Sockets,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        accounts: Accounts,
        *,
        dialects: Dialects,
        revalidate: Revalidate,
        bus: Bus | None = None,
        stream: Stream | None = None,
        history: History | None = None,
        taken: Callable[[Mapping[str, Any]], None] = nothing,
        forget_sessions: Callable[[Sequence[str]], None] = nothing,
    ) -> None:
        self._revalidate = revalidate
        self._sockets = sockets
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._accounts = accounts
        self._dialects = dialects
        # Where there is a stream, everything goes by it.
        self._bus: Bus | Stream | None = stream or bus
        self._stream = stream
        self._taken = taken
        self._history = history
        self._forget_sessions = forget_sessions
        self._recordings: tuple[RecordedEvents, ...] = ()
        # What comes before the deliveries of some events.
        self._before: Mapping[type[Event], Callable[[Any], None]] = {
            SessionsEnded: partial(self._end, cause="published"),
            ModelCreated: self._invalidate,
            ModelRemoved: self._invalidate,
        }

    def publish(self, event: Event, *, emitter: str | None = None, named_by: str | None = None) -> None:
        """Deliver an event everywhere but to its emitter, by default the one given here, which `named_by` has named.

        Raises `InvalidEvent`, or `TypeError` when it is none.
        """
        plain = checked(event)
        if emitter and plain.emitter is None:
            self.send(dataclasses.replace(plain, emitter=emitter), named_by)
        else:
            self.send(plain)

    def send(self, event: Event, named_by: str | None = None) -> None:
        """As `publish`, for an event that was checked and holds plain values.

        `named_by` is the user whose request named the emitter, `""` for nobody: then it counts only where that socket
        is the user's or nobody's. It is None where the emitter is believed. Where there is a queue the event is encoded
        first, so that what cannot be is delivered nowhere.
        """
        if self._recordings and not self._record(event, named_by):
            return
        dumped = messages.dump_event(event, named_by) if self._bus is not None else ""
        self._metrics.published(type(event).__name__)
        if self._stream is not None:
            self._stream.publish(dumped, partial(self._deliver, event, named_by))
            return
        if self._bus is not None:
            self._bus.send(messages.EVENT, dumped)
        self._deliver(event, named_by)

    def send_all(self, events: Sequence[Event]) -> bool:
        """As `send`, one after another; return whether the history's store has them, which is waited for.

        Without a store it is true.
        """
        before = self._history.number if self._history is not None else 0
        for event in events:
            self.send(event)
        return self._history is None or self._history.is_stored(before)

    @contextmanager
    def recorded(self, *, deliver: bool) -> Iterator[RecordedEvents]:
        """Keep what is published within the block; it is delivered only if every recording wants that."""
        recording = RecordedEvents(deliver=deliver)
        self._recordings += (recording,)
        try:
            yield recording
        finally:
            self._recordings = tuple(other for other in self._recordings if other is not recording)

    def _record(self, event: Event, named_by: str | None) -> bool:
        """Keep an event, and return whether it is delivered all the same."""
        # Refused is what the queue could not carry, also where the test has none.
        messages.dump_event(event, named_by)
        recordings = self._recordings
        for recording in recordings:
            recording.append(event)
        return all(recording.deliver for recording in recordings)

    def bind(self, socket_id: str, identity: Identity) -> None:
        """Bind the socket that a REST request named, in whichever process it is."""
        if self._bind(socket_id, dataclasses.replace(identity, named=True)) == "unknown" and self._bus is not None:
            content = {"socket": socket_id, "username": identity.username, "session_id": identity.session_id}
            self._bus.send(messages.BIND, messages.dump(content))

    def end_access(self, named: Mapping[str, str | None]) -> None:
        """Have the rights of the members named asked for again, in every process."""
        if self._bus is not None:
            self._bus.send(messages.REVALIDATE, messages.dump(named))
        self._revalidate(named)

    def end_here(self, session_ids: list[str], reason: str) -> None:
        """End these sessions on the sockets of this process."""
        self._end(SessionsEnded(session_ids=session_ids, reason=reason), "store")

    def end_silently(self, session_ids: Sequence[str]) -> None:
        """End these sessions on the sockets of this process, which leave their rooms and hear nothing of it.

        Ids that nobody has cost a look-up each.
        """
        known = [session_id for session_id in session_ids if self._identities.has_session(session_id)]
        if not known:
            self._forget_sessions(session_ids)
            return
        for connection_id in self._ended(session_ids, "backend", told=False):
            leave_all(self._sockets, connection_id)

    def pass_on(self, message: Mapping[str, Any], *, at: float | None = None) -> None:
        """Deliver in this process what another publisher has said: `{"name", "data", "rooms", "emitter"}`.

        Name and data, JSON values, go out as they are to the rooms with these keys; the socket that `emitter` names
        does not hear of it. What was delivered before, `at` a time in monotonic seconds, is kept and sent to nobody.
        Raises `ValueError` or `TypeError` where the data cannot be encoded.
        """
        started = perf_counter()
        emitter, rooms = message["emitter"], tuple(message["rooms"])
        skip = self._sockets.resolve(emitter) if emitter is not None else None
        said = message["name"], message["data"]
        with self._sockets.order:
            self._fan_out(self._sockets.content(said[1]), said, rooms, skip, emitter, sent_at=at)
        if at is None:
            self._metrics.latency.observe(perf_counter() - started)

    def receive(self, message: Message) -> None:
        """Carry out a message of another process."""
        content = message.content
        if message.kind == messages.BIND:
            self._bind(content["socket"], Identity(content["username"], content["session_id"], named=True))
        elif message.kind == messages.REVALIDATE:
            self._revalidate(content)
        elif message.kind == messages.TAKEN:
            self._taken(content)
        else:
            self._deliver(*_event_of(content))

    def recall(self, message: Message, at: float) -> None:
        """Keep the deliveries of an event that was published at that time, in monotonic seconds, and send nothing."""
        event, named_by = _event_of(message.content)
        subject = subject_of(event)
        with self._sockets.order:
            for name, payload, rooms in self._dialects.deliveries(event):
                content = self._sockets.content(payload)
                self._fan_out(content, (name, payload), rooms, None, event.emitter, named_by, subject, at)

    def _bind(self, socket_id: str, identity: Identity) -> Outcome:
        connection_id = self._sockets.resolve(socket_id)
        outcome: Outcome = "unknown" if connection_id is None else self._identities.bind(connection_id, identity)
        self._metrics.bound(outcome)
        return outcome

    def _deliver(self, event: Event, named_by: str | None) -> None:
        started = perf_counter()
        if (before := self._before.get(type(event))) is not None:
            before(event)
        emitter = event.emitter
        skip = self._connection_of(emitter, named_by) if emitter is not None else None
        subject = subject_of(event) if self._history is not None else None
        content = last = None
        with self._sockets.order:
            for name, payload, rooms in self._dialects.deliveries(event):
                if content is None or payload is not last:
                    content, last = self._sockets.content(payload), payload
                try:
                    self._fan_out(content, (name, payload), rooms, skip, emitter, named_by, subject)
                # One delivery that fails must not cost the caller's view an answer, nor the others their event.
                except Exception:
                    logger.exception("an event of type %s could not be delivered", type(event).__name__)
        self._metrics.latency.observe(perf_counter() - started)

    def _fan_out(
        self,
        content: Any,
        said: tuple[str, Any],
        rooms: tuple[str, ...],
        skip: str | None,
        emitter: str | None,
        named_by: str | None = None,
        subject: tuple[Hashable, ...] | None = None,
        sent_at: float | None = None,
    ) -> None:
        """Send a delivery, `said` by name and payload, which the history has from then on; within the order.

        One that was sent before, at that time, is sent to nobody.
        """
        update = (said[0], rooms, *subject) if subject is not None else None
        prepared = self._sockets.prepare(said[0], content, update)
        if self._history is not None:
            self._history.publish(
                rooms,
                prepared,
                prepared.size,
                said=said,
                emitter=bare(emitter) if emitter is not None else None,
                named_by=named_by,
                update=update,
                at=sent_at,
            )
        if sent_at is None:
            self._accounts.sent(self._sockets.fan_out(prepared, rooms, skip=skip))

    def _invalidate(self, event: ModelCreated | ModelRemoved) -> None:
        self._permissions.invalidate(event.teamspace)

    def _end(self, event: SessionsEnded, cause: str) -> None:
        for connection_id in self._ended(event.session_ids, cause, told=True):
            leave_all(self._sockets, connection_id)
            for socket in self._sockets.of(connection_id):
                socket.emit(LOGGED_OUT, {"reason": event.reason})

    def _ended(self, session_ids: Sequence[str], cause: str, *, told: bool) -> list[str]:
        """Unbind the connections of these sessions, have nobody who is away come back to them, and return them."""
        ended = self._identities.end(session_ids, told=told)
        self._forget_sessions(session_ids)
        for _ in ended:
            self._metrics.session_end(cause)
        return ended

    def _connection_of(self, emitter: str, named_by: str | None) -> str | None:
        """Return the connection of an event's emitter, which does not hear of it.

        Only the process that has the socket knows whose it is, so that this is looked at here and not by the publisher.
        """
        found = self._sockets.resolve(emitter)
        if found is None or named_by is None:
            return found
        identity = self._identities.known(found)
        return found if identity is None or identity.username == named_by else None


def _event_of(content: Mapping[str, Any]) -> tuple[Event, str | None]:
    """Return the event of a message, and who named its emitter."""
    return EVENT_TYPES[content["type"]](**content["fields"]), content.get("named_by")
