"""The packets of both protocol layers, as values. How they are spelled on the wire is the codecs' matter."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol

from .errors import ProtocolError
from .frames import Frame
from .jsoncodec import dumps
from .remembered import remembered

# The JSON of the names of events that are no longer is remembered, in characters.
MAX_KNOWN_NAME = 300

# A container and the key or index in it.
Place = tuple[Any, Any]


class EioType(IntEnum):
    """Engine.IO packet types (Engine.IO protocol, "Protocol")."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class EioPacket(NamedTuple):
    """One Engine.IO packet; `data` is bytes for a binary message, else text."""

    type: EioType
    data: Frame = ""


class SioType(IntEnum):
    """Socket.IO packet types (Socket.IO protocol, "Packet types")."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


BINARY_FORM = {SioType.EVENT: SioType.BINARY_EVENT, SioType.ACK: SioType.BINARY_ACK}
PLAIN_FORM = {binary: plain for plain, binary in BINARY_FORM.items()}


class Spelling(NamedTuple):
    """How a packet of a client was written: its length in bytes, and whether its client is answered in ASCII."""

    size: int
    ascii_only: bool


class SioPacket(NamedTuple):
    """One Socket.IO packet; `attachments`: how many binary messages follow it.

    `data` is its JSON value (None: absent), or `EventData`, which many packets share.

    The type is the plain one: binary parts are seen from `data` when encoding, from `attachments` when decoded.
    `spelling` is None for a packet that did not arrive.
    """

    type: SioType
    namespace: str = "/"
    id: int | None = None
    data: Any = None
    attachments: int = 0
    spelling: Spelling | None = None


class Attachments(list[bytes]):
    """The binary parts of a packet that leaves, and what stands for them in its JSON."""

    def placeholder(self, value: object) -> object:
        """Take one out (Socket.IO protocol, "Packet encoding"); TypeError for what is neither binary nor JSON."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"{type(value).__name__} has no form in JSON")
        self.append(bytes(value))
        return {"_placeholder": True, "num": len(self) - 1}


# JSON, and the binary parts that it has placeholders for.
Written = tuple[str, Sequence[bytes]]


class Argument:
    """An argument of events, whose JSON is written once for all names, namespaces and generations."""

    __slots__ = ("_in_ascii", "_in_utf8", "_value")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._in_ascii: Written | None = None
        self._in_utf8: Written | None = None

    def json(self, ascii_only: bool) -> Written:
        """Its JSON and its attachments; TypeError or ValueError where it has no form."""
        found = self._in_ascii if ascii_only else self._in_utf8
        if found is not None:
            return found
        attachments: Sequence[bytes] = ()
        try:
            text = dumps(self._value, ascii_only=ascii_only)
        except TypeError:
            attachments = parts = Attachments()
            text = dumps(self._value, parts.placeholder, ascii_only=ascii_only)
        found = text, attachments
        if not attachments and ("\\u" not in text if ascii_only else text.isascii()):
            # Alike in either, so that the value, which may be large, is not needed again.
            self._in_ascii = self._in_utf8 = found
            self._value = None
        elif ascii_only:
            self._in_ascii = found
        else:
            self._in_utf8 = found
        return found


# By whether it is ASCII.
_NAME_JSON = {
    ascii_only: remembered(MAX_KNOWN_NAME)(partial(dumps, ascii_only=ascii_only)) for ascii_only in (True, False)
}


class EventData:
    """The data of an event with one argument: `[name, argument]`.

    One with an equal `update`, where there is one, supersedes it in a namespace where it still waits.
    """

    __slots__ = ("_argument", "_name", "update")

    def __init__(self, name: str, argument: Argument, update: Hashable | None = None) -> None:
        self._name = name
        self._argument = argument
        self.update = update

    @property
    def size(self) -> int:
        """How much its argument is, in bytes of ASCII."""
        text, attachments = self._argument.json(ascii_only=False)
        return len(text) + sum(map(len, attachments)) if attachments else len(text)

    def json(self, ascii_only: bool) -> Written:
        """As of an argument."""
        text, attachments = self._argument.json(ascii_only)
        return f"[{_NAME_JSON[ascii_only](self._name)},{text}]", attachments


def find_places(data: Any, attachments: int) -> list[Place]:
    """Where in `data` its binary parts belong, in their order; ProtocolError unless each is named exactly once.

    One that is named twice would be as large an answer as the client likes.
    """
    places: dict[int, Place] = {}
    stack: list[Any] = [data]
    while stack:
        container = stack.pop()
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(value, dict) and value.get("_placeholder") is True:
                places[_number(value.get("num"), attachments, places)] = container, key
            elif isinstance(value, (list, dict)):
                stack.append(value)
    if len(places) < attachments:
        raise ProtocolError("attachment without placeholder")
    return [places[number] for number in range(attachments)]


def _number(number: object, attachments: int, places: Container[int]) -> int:
    if type(number) is not int or not 0 <= number < attachments:
        raise ProtocolError("placeholder without attachment")
    if number in places:
        raise ProtocolError("two placeholders for one attachment")
    return number


class Deadline(Protocol):
    """What ends a wait."""

    def cancel(self) -> None:
        """Wait no longer."""


class Unfinished:
    """A packet whose attachments are still arriving; `limit` bounds it with them, in bytes. ProtocolError."""

    __slots__ = ("_limit", "_packet", "_parts", "_places", "_spelling", "deadline")

    def __init__(self, packet: SioPacket, limit: int) -> None:
        self._packet = packet
        self._limit = limit
        self._spelling = packet.spelling or Spelling(0, ascii_only=False)
        self._places = find_places(packet.data, packet.attachments)
        self._parts: list[bytes] = []
        self.deadline: Deadline | None = None

    def add(self, part: bytes) -> SioPacket | None:
        """Take the next attachment; the packet, when it was the last."""
        size = self._spelling.size + len(part)
        self._spelling = self._spelling._replace(size=size)
        if size > self._limit:
            raise ProtocolError("attachments too large")
        self._parts.append(part)
        if len(self._parts) < self._packet.attachments:
            return None
        for (container, key), found in zip(self._places, self._parts, strict=True):
            container[key] = found
        return self._packet._replace(attachments=0, spelling=self._spelling)
