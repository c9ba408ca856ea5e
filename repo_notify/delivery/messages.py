"""The message queue's envelope and its JSON. Pure: no broker, no socket, no clock.

One message is a JSON object in UTF-8: `v` (version), `origin` (a random name of the publishing process), `number`
(1, 2, 3 ... within the origin), `kind`, `content`, and, where `content` holds binary, `marker` and `attachments`.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from repo_notify.errors import InvalidEvent
from repo_notify.events import Event

VERSION: Final = 1
CONTENT_TYPE: Final = "application/vnd.repo-notify+json"

# `alive` takes no number of its own: it repeats the number of the last message that its origin has sent.
ALIVE: Final = "alive"
EVENT: Final = "event"
# What a 3D Repo backend published, as it was (spec section 11).
BACKEND: Final = "backend"
BIND: Final = "bind"
REVALIDATE: Final = "revalidate"
# A client that was on another process is back on the sender.
TAKEN: Final = "taken"
KINDS: Final = frozenset({ALIVE, EVENT, BACKEND, BIND, REVALIDATE, TAKEN})
# What the history keeps.
KEPT: Final = frozenset({EVENT, BACKEND})

# Processes and publishers of one service; 100 bytes each.
MAX_ORIGINS: Final = 1_000

Refusal = Literal["backlog_messages", "backlog_bytes"]


class NotEncodable(ValueError):
    """A content cannot be written as a message; the text says why."""


class NotUnderstood(ValueError):
    """A body is no message, or one of an unknown version; the text says which."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was read."""

    origin: str
    number: int
    kind: str
    content: dict[str, Any]


def dump(content: Mapping[str, Any]) -> str:
    """Return plain values and bytes as the last members of a message; raises `NotEncodable`."""
    marker = ""
    attachments: list[str] = []

    def attach(value: Any) -> dict[str, int]:
        nonlocal marker
        if not isinstance(value, bytes):
            raise TypeError(f"{type(value).__name__} is no JSON value")
        marker = marker or secrets.token_hex(8)
        attachments.append(base64.b64encode(value).decode("ascii"))
        return {marker: len(attachments) - 1}

    try:
        text = f'"content":{_dumps(content, default=attach)}'
    # Digits beyond the interpreter's limit, NaN, a nesting too deep for the stack, a foreign type.
    except (ValueError, TypeError, RecursionError) as error:
        raise NotEncodable(str(error)) from None
    return f'{text},"marker":"{marker}","attachments":{_dumps(attachments)}' if attachments else text


def dumped(json_object: bytes) -> str:
    """As `dump`, for an object that is JSON in UTF-8 already."""
    return f'"content":{json_object.decode("utf-8")}'


def dump_event(event: Event, named_by: str | None = None) -> str:
    """As `dump`, for a checked event; raises `InvalidEvent` naming each field that cannot be encoded.

    `named_by` as in `Publisher.send`.
    """
    named = {} if named_by is None else {"named_by": named_by}
    try:
        return dump({"type": type(event).__name__, "fields": vars(event), **named})
    except NotEncodable:
        raise InvalidEvent(type(event).__name__, dict(_not_encodable(event))) from None


def _not_encodable(event: Event) -> Iterator[tuple[str, str]]:
    for field, value in vars(event).items():
        try:
            dump({field: value})
        except NotEncodable as problem:
            yield field, f"a value that can be sent to the other processes; {problem}"


def envelope(origin: str, number: int, kind: str, dumped: str) -> bytes:
    """Return a whole message around what `dump` returned.

    Lone surrogates survive: they are written as UTF-8 would write other characters, which `json.loads` reads.
    """
    head = f'{{"v":{VERSION},"origin":{_dumps(origin)},"number":{number},"kind":{_dumps(kind)}'
    return f"{head},{dumped}}}".encode("utf-8", "surrogatepass")


def decode(body: bytes) -> Message:
    """Read a message; raises `NotUnderstood` for anything that this version does not write."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise NotUnderstood("a body that is no JSON") from None
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise NotUnderstood("a message of an unknown version")
    try:
        return _message(document)
    except (LookupError, TypeError, ValueError):
        raise NotUnderstood("a message without the parts of its version") from None


def _message(document: dict[str, Any]) -> Message:
    origin, number, kind, content = (document[key] for key in ("origin", "number", "kind", "content"))
    if "attachments" in document:
        content = _attached(content, document["marker"], document["attachments"])
    if not (isinstance(origin, str) and isinstance(kind, str) and isinstance(content, dict)):
        raise TypeError("origin and kind are strings, content is an object")
    if type(number) is not int or number < 0:
        raise TypeError("number is a whole number")
    return Message(origin, number, kind, content)


def _dumps(value: Any, default: Any = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _attached(value: Any, marker: str, attachments: list[str]) -> Any:
    if isinstance(value, dict):
        if marker in value:
            return base64.b64decode(attachments[value[marker]])
        return {key: _attached(item, marker, attachments) for key, item in value.items()}
    return [_attached(item, marker, attachments) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a message's number says: it is a repeat, or that many before it never arrived."""

    repeat: bool = False
    missing: int = 0


_IN_ORDER = Arrival()
_REPEAT = Arrival(repeat=True)


class Origins:
    """The last number of each origin heard lately, so that repeats and holes are seen.

    The first message of an origin says nothing about those before it: who joins later has missed none of them.
    """

    def __init__(self, limit: int = MAX_ORIGINS) -> None:
        self._limit = limit
        self._last: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def arrived(self, message: Message) -> Arrival:
        """Note a message and return what its number says."""
        last = self._last.get(message.origin)
        self._last[message.origin] = message.number if last is None else max(last, message.number)
        self._last.move_to_end(message.origin)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)
        if last is None:
            return _IN_ORDER
        if message.kind == ALIVE:
            return Arrival(missing=message.number - last) if message.number > last else _IN_ORDER
        if message.number <= last:
            return _REPEAT
        return Arrival(missing=message.number - last - 1) if message.number > last + 1 else _IN_ORDER


class Backlog:
    """Encoded messages that wait for the broker: first in, first out, bounded in number and in bytes."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, number: int, body: bytes) -> Refusal | None:
        """Append a message, or return which bound it would exceed."""
        if len(self._waiting) >= self._max_messages:
            return "backlog_messages"
        if self.bytes + len(body) > self._max_bytes:
            return "backlog_bytes"
        self._waiting.append((number, body))
        self.bytes += len(body)
        return None

    def first(self) -> tuple[int, bytes] | None:
        """Return the oldest message's number and body, and keep it."""
        return self._waiting[0] if self._waiting else None

    def remove_first(self) -> None:
        """Remove the oldest message."""
        self.bytes -= len(self._waiting.popleft()[1])
