"""WebSocket frames as values: a parser that is fed whatever arrives, and a builder for what leaves (RFC 6455).

Holds no socket and no clock. A frame is refused by its header, before its payload is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

Frame = str | bytes

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_DATA = frozenset({TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})
_MAX_CONTROL = 125
_FIN, _RESERVED, _OPCODE, _MASK, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_SHORT, _LONG = 126, 127
_U16, _U64 = Struct(">H"), Struct(">Q")
_HEAD, _HEAD_U16, _HEAD_U64 = Struct(">BB"), Struct(">BBH"), Struct(">BBQ")
# By the short length that announces it: the form of an extended one, and the least that is written so.
_EXTENDED = {_SHORT: (_U16, _SHORT), _LONG: (_U64, 0x10000)}
_WHOLE_CONTROL = frozenset({_FIN | opcode for opcode in _CONTROL})
# The first bytes that a client may send, by whether a message is under way (sections 5.4 and 5.5).
_FIRST_BYTES = {
    False: _WHOLE_CONTROL | _DATA | {_FIN | opcode for opcode in _DATA},
    True: _WHOLE_CONTROL | {CONTINUATION, _FIN | CONTINUATION},
}


class CloseCode(IntEnum):
    """Why a WebSocket is closed (RFC 6455 section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    INVALID_DATA = 1007
    POLICY = 1008
    TOO_BIG = 1009


# What a peer may put into a close frame: registered codes and those of applications (section 7.4.2).
_ASSIGNED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class FrameError(Exception):
    """The peer broke RFC 6455; `code` is what the WebSocket is closed with."""

    def __init__(self, code: CloseCode, problem: str) -> None:
        super().__init__(problem)
        self.code = code


@dataclass(slots=True)
class Message:
    """A whole message, put together from its frames."""

    data: Frame


@dataclass(slots=True)
class Ping:
    """A ping; it is answered with a pong of the same payload."""

    data: bytes


@dataclass(slots=True)
class Pong:
    """A pong."""


@dataclass(slots=True)
class Close:
    """The peer closes; `code` is None where its frame has none."""

    code: int | None


Event = Message | Ping | Pong | Close


def build(data: Frame, opcode: int | None = None) -> bytes:
    """Return one final frame of a server, unmasked (section 5.2): text for str, binary for bytes, or what is asked."""
    payload = data.encode() if isinstance(data, str) else data
    if opcode is None:
        opcode = BINARY if payload is data else TEXT
    length = len(payload)
    if length < _SHORT:
        return _HEAD.pack(_FIN | opcode, length) + payload
    if length <= 0xFFFF:
        return _HEAD_U16.pack(_FIN | opcode, _SHORT, length) + payload
    return _HEAD_U64.pack(_FIN | opcode, _LONG, length) + payload


def build_close(code: int) -> bytes:
    """Return a close frame without a reason."""
    return build(_U16.pack(code), CLOSE)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return `payload` XORed with the repeated mask, as one big number (section 5.3)."""
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


class FrameParser:
    """Turns a client's bytes into events. `max_size` bounds a message, in bytes, over all its frames."""

    __slots__ = ("_buffer", "_due", "_max_size", "_opcode", "_parts", "_size")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._buffer: bytearray | None = None
        self._due = 0
        self._opcode: int | None = None
        self._parts: list[bytes] | None = None
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """Return what is complete now; raises `FrameError`, after which nothing more may be fed."""
        buffer: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            # Bytes that trickle in cost no parsing until what the header announced is there.
            if len(self._buffer) < self._due:
                return []
            buffer = self._buffer
        events: list[Event] = []
        at = 0
        while (frame := self._frame(buffer, at)) is not None:
            first, payload, at = frame
            event = self._event(first & _OPCODE, bool(first & _FIN), payload)
            if event is not None:
                events.append(event)
        self._buffer = bytearray(memoryview(buffer)[at:]) if at < len(buffer) else None
        return events

    def _frame(self, buffer: bytes | bytearray, at: int) -> tuple[int, bytes, int] | None:
        """Return the first byte, the payload and the end of the frame at `at`; None where it is not all there."""
        there = len(buffer) - at
        if there < 2:
            self._due = 2
            return None
        first, second = buffer[at], buffer[at + 1]
        length = second & _LENGTH
        is_control = first in _WHOLE_CONTROL
        if first not in _FIRST_BYTES[self._opcode is not None] or not second & _MASK:
            raise self._refusal(first, second)
        if is_control and length > _MAX_CONTROL:
            raise self._refusal(first, second)
        begin = at + 2
        if length >= _SHORT:
            form, least = _EXTENDED[length]
            if there < 2 + form.size:
                self._due = 2 + form.size
                return None
            (length,) = form.unpack_from(buffer, begin)
            begin += form.size
            if length >> 63:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "the length's first bit is set")
            if length < least:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "the length is not written in the shortest form")
        if not is_control and self._size + length > self._max_size:
            raise FrameError(CloseCode.TOO_BIG, "message too big")
        end = begin + 4 + length
        if len(buffer) < end:
            self._due = end - at
            return None
        return first, unmask(bytes(buffer[begin + 4 : end]), bytes(buffer[begin : begin + 4])), end

    def _refusal(self, first: int, second: int) -> FrameError:
        """Return what is wrong with a header by its first two bytes (sections 5.1, 5.2, 5.4, 5.5)."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            problem = "reserved bits are set"
        elif not second & _MASK:
            problem = "a client's frame is not masked"
        elif opcode in _CONTROL:
            problem = "a control frame is fragmented or too long"
        elif opcode != CONTINUATION and opcode not in _DATA:
            problem = "unknown opcode"
        else:
            problem = "fragments out of order"
        return FrameError(CloseCode.PROTOCOL_ERROR, problem)

    def _event(self, opcode: int, final: bool, payload: bytes) -> Event | None:
        if opcode in _CONTROL:
            return _control(opcode, payload)
        if self._opcode is not None or not final:
            whole = self._put_together(opcode, final, payload)
            if whole is None:
                return None
            opcode, payload = whole
        if opcode == BINARY:
            return Message(payload)
        try:
            return Message(payload.decode("utf-8"))
        except UnicodeDecodeError:
            raise FrameError(CloseCode.INVALID_DATA, "text that is not UTF-8") from None

    def _put_together(self, opcode: int, final: bool, payload: bytes) -> tuple[int, bytes] | None:
        """Take a fragment; return the message's opcode and payload when it was the last (section 5.4)."""
        if self._opcode is None or self._parts is None:
            self._parts, self._opcode = [], opcode
        self._parts.append(payload)
        # An empty fragment weighs too: endless ones must end somewhere.
        self._size += max(len(payload), 1)
        if not final:
            return None
        whole = self._opcode, b"".join(self._parts)
        self._parts, self._opcode, self._size = None, None, 0
        return whole


def _control(opcode: int, payload: bytes) -> Event:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong()
    if not payload:
        return Close(None)
    if len(payload) == 1:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a close frame of one byte")
    (code,) = _U16.unpack_from(payload)
    if code not in _ASSIGNED and not 3000 <= code <= 4999:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a close code that nobody may send")
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_DATA, "a close reason that is not UTF-8") from None
    return Close(code)
