"""What a 3D Repo backend publishes, read from its JSON (spec section 11). Pure: no broker, no socket, no clock.

A message is told apart by its keys: `channel` first, then `internal`, then `recipients`. Its name and data go out as
they are and are not looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn

from repo_notify.protocol.ids import is_model_id, is_project_id, is_teamspace, is_username
from repo_notify.protocol.rooms import Address, Addressee

# Half of what may wait for a slow client by default (REPO_NOTIFY_MAX_OUTBOX_BYTES): much more would cut clients off.
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
# A backend names one room; sessions are bounded by the body alone, since a user may have many.
MAX_ROOMS: Final = 1_000
# Longer than any socket's.
_MAX_EMITTER_LENGTH = 128

_SEPARATOR = "::"
# A model's id may hold the separator.
_MOST_SPLITS = 2
_SESSIONS, _NOTIFICATIONS = "sessions", "notifications"
# Socket.IO's own; the backend's former chat service could not send them either, and clients would not tell them apart.
_RESERVED_NAMES = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)


class NotUnderstood(ValueError):
    """A body is no message of the backend's; the text says what is wrong, without a word of the body."""


@dataclass(frozen=True, slots=True)
class ToRooms:
    """An event for whoever is in these rooms, but for the socket that `emitter` names."""

    name: str
    data: Any
    addresses: tuple[Address, ...]
    emitter: str | None = None


@dataclass(frozen=True, slots=True)
class ToSessions:
    """An event for the sockets of these sessions, but for the socket that `emitter` names."""

    name: str
    data: Any
    session_ids: tuple[str, ...]
    emitter: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Somebody has logged in on a socket; None where the login named none."""

    session_id: str
    socket_id: str | None


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """These sessions have ended."""

    session_ids: tuple[str, ...]


Message = ToRooms | ToSessions | LoggedIn | LoggedOut


# One of these is in whatever is said of sessions: a letter may be escaped.
_WORDS_OF_SESSIONS = (b"internal", b"sessions", b"\\u")


def may_be_of_sessions(body: bytes) -> bool:
    """Return False for what is an event for rooms or no message at all, True for most of the rest; reads no JSON."""
    return any(word in body for word in _WORDS_OF_SESSIONS)


def parse(body: bytes) -> Message:
    """Read a message; raises `NotUnderstood` for anything that a backend does not publish."""
    return interpret(_document(body))


def interpret(document: Mapping[str, Any]) -> Message:
    """As `parse`, for a body that is read already."""
    if (channel := document.get("channel")) is not None:
        return _addressed(document, [channel], document.get("emitter"))
    if document.get("internal") is True:
        return _internal(document)
    recipients = document.get("recipients")
    if not isinstance(recipients, list):
        raise NotUnderstood("a message with neither a channel nor recipients")
    return _addressed(document, recipients, document.get("sender"))


def _document(body: bytes) -> Mapping[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise NotUnderstood(f"a body of {len(body):,} bytes, which is more than {MAX_BODY_BYTES:,}")
    try:
        document = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NotUnderstood("a body that is no JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise NotUnderstood("a body that is no JSON object")
    return document


def _refuse(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number out of range")
    return number


# Made once: json.loads would make one for each body.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _addressed(document: Mapping[str, Any], recipients: list[Any], emitter: Any) -> ToRooms | ToSessions:
    name = document.get("event")
    if not isinstance(name, str) or not name:
        raise NotUnderstood("a message without the name of an event")
    if name in _RESERVED_NAMES:
        raise NotUnderstood("an event that has one of Socket.IO's own names")
    if emitter is not None and not isinstance(emitter, str):
        raise NotUnderstood("a message whose sender is no string")
    if emitter is not None and len(emitter) > _MAX_EMITTER_LENGTH:
        emitter = None
    data = document.get("data")
    sessions = [found for recipient in recipients if (found := _session(recipient)) is not None]
    if not sessions:
        return ToRooms(name, data, _addresses(recipients), emitter)
    if len(sessions) != len(recipients):
        raise NotUnderstood("a message to sessions and rooms at once")
    return ToSessions(name, data, tuple(dict.fromkeys(sessions)), emitter)


def _session(recipient: object) -> str | None:
    """Return the id of the session that a recipient names, None for a room's."""
    if not isinstance(recipient, str):
        raise NotUnderstood("a recipient that is no string")
    kind, *rest = recipient.split(_SEPARATOR, _MOST_SPLITS)
    return rest[0] if kind == _SESSIONS and len(rest) == 1 and rest[0] else None


def _addresses(recipients: list[str]) -> tuple[Address, ...]:
    if len(recipients) > MAX_ROOMS:
        raise NotUnderstood(f"a message to more than {MAX_ROOMS:,} rooms")
    return tuple(map(_address, recipients))


# What is legal in each place of an address.
_LEGAL: Mapping[Addressee, tuple[Callable[[str], bool], ...]] = {
    "user": (is_username,),
    "project": (is_teamspace, is_project_id),
    "model": (is_teamspace, is_project_id, is_model_id),
}
_BY_LENGTH: Mapping[int, Addressee] = {2: "project", 3: "model"}


# Bounded by what is legal: what is refused is not remembered.
@lru_cache(1024)
def _address(channel: str) -> Address:
    ids = tuple(channel.split(_SEPARATOR, _MOST_SPLITS))
    what = _BY_LENGTH.get(len(ids))
    if ids[0] == _NOTIFICATIONS and what == "project":
        what, ids = "user", ids[1:]
    if what is None or not all(is_legal(part) for is_legal, part in zip(_LEGAL[what], ids, strict=True)):
        raise NotUnderstood("a room that cannot be")
    return Address(what, ids)


def _internal(document: Mapping[str, Any]) -> LoggedIn | LoggedOut:
    event, data = document.get("event"), document.get("data")
    read = _INTERNAL.get(event) if isinstance(event, str) else None
    if read is None or not isinstance(data, dict):
        raise NotUnderstood("an internal message of an unknown kind")
    return read(data)


def _logged_in(data: Mapping[str, Any]) -> LoggedIn:
    session_id, socket_id = data.get("sessionID"), data.get("socketId")
    if not isinstance(session_id, str) or not session_id or not isinstance(socket_id, str | None):
        raise NotUnderstood("a login without its session, or whose socket is no string")
    return LoggedIn(session_id, socket_id)


def _logged_out(data: Mapping[str, Any]) -> LoggedOut:
    session_ids = data.get("sessionIds")
    if not isinstance(session_ids, list) or not _are_strings(session_ids):
        raise NotUnderstood("a logout without a list of sessions")
    return LoggedOut(tuple(session_ids))


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


_INTERNAL: Mapping[str, Callable[[Mapping[str, Any]], LoggedIn | LoggedOut]] = {
    "loggedIn": _logged_in,
    "loggedOut": _logged_out,
}
