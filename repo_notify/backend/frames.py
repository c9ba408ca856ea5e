"""An AMQP 0-9-1 consumer's messages, taken from what its connection receives (sections 2.3.5 and 4.2).

Made for one thing: a channel on which nothing but deliveries is to be expected, thousands a second. Whatever else
arrives is handed back as a frame, for the client library that opened the connection. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
# Type, channel, size of the payload; behind that one octet.
_HEAD: Final = struct.Struct(">BHI")
_END: Final = 0xCE
# Of a content's header: class, weight, size of the body.
_CONTENT: Final = struct.Struct(">HHQ")
_DELIVER: Final = b"\x00\x3c\x00\x3c"
# How `basic.qos-ok` begins: its class and its method (section 1.8.3.2).
QOS_OK: Final = b"\x00\x3c\x00\x0b"
# Behind the consumer's name: the delivery's number, and whether it was delivered before.
_NUMBER: Final = struct.Struct(">QB")
# Brokers and clients settle for 128 KiB.
MAX_FRAME_BYTES: Final = 1024 * 1024


class Broken(ValueError):
    """What arrives is no AMQP, or not in AMQP's order: the connection is of no use any more."""


class Frame(NamedTuple):
    """A frame that belongs to no delivery."""

    type: int
    channel: int
    payload: bytes


class Delivery(NamedTuple):
    """A message: its number on its channel, and whether it was delivered before, to whomever.

    `body` is None where it was left out because of its `size` in bytes.
    """

    tag: int
    again: bool
    size: int
    body: bytes | None


Item = Delivery | Frame


class Deliveries:
    """Takes deliveries out of a connection's bytes; bodies of more than `max_body` bytes are not kept meanwhile."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._rest = b""
        # Of the delivery that has begun: what is expected next, what is missing of the body, and what there is of it.
        self._expected = METHOD
        self._tag, self._again = 0, False
        self._size = self._missing = 0
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Item]:
        """Yield each message, and each frame that belongs to none; raises `Broken`."""
        data = self._rest + data if self._rest else data
        at, length = 0, len(data)
        while length - at >= _HEAD.size:
            kind, channel, size = _HEAD.unpack_from(data, at)
            if size > MAX_FRAME_BYTES:
                raise Broken("a frame that is too large")
            end = at + _HEAD.size + size
            if end >= length:
                break
            if data[end] != _END:
                raise Broken("a frame without its end")
            item = self._frame(kind, channel, data[at + _HEAD.size : end])
            at = end + 1
            if item is not None:
                yield item
        self._rest = data[at:]

    def _frame(self, kind: int, channel: int, payload: bytes) -> Item | None:
        if kind == HEARTBEAT:
            return None
        if kind != self._expected:
            raise Broken("a frame out of order")
        if kind == METHOD:
            if not payload.startswith(_DELIVER):
                return Frame(kind, channel, payload)
            self._announced(payload)
            return None
        if kind == HEADER:
            self._begin(payload)
        else:
            self._add(payload)
        if self._missing:
            return None
        self._expected = METHOD
        return Delivery(self._tag, self._again, self._size, self._body())

    def _announced(self, payload: bytes) -> None:
        try:
            self._tag, bits = _NUMBER.unpack_from(payload, len(_DELIVER) + 1 + payload[len(_DELIVER)])
        except (IndexError, struct.error):
            raise Broken("a delivery without its number") from None
        self._again, self._expected = bool(bits & 1), HEADER

    def _begin(self, payload: bytes) -> None:
        if len(payload) < _CONTENT.size:
            raise Broken("a content without its size")
        _, _, self._size = _CONTENT.unpack_from(payload)
        self._missing, self._parts, self._expected = self._size, [], BODY

    def _add(self, payload: bytes) -> None:
        self._missing -= len(payload)
        if self._missing < 0:
            raise Broken("a body longer than its header says")
        if self._size <= self._max_body:
            self._parts.append(payload)

    def _body(self) -> bytes | None:
        parts, self._parts = self._parts, []
        if self._size > self._max_body:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)
