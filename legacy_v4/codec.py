"""The wire of old frontends: Engine.IO 3 with Socket.IO protocol 4, as socket.io-client 1.x and 2.x speak it.

It has the members of `repo_notify.engine.wire.codec.Codec`, so that nothing branches on the generation after the
handshake. What differs from Engine.IO 4 is in spec section 7; grammar:

    packet    = type digit, data                                   a WebSocket text message
              | type byte, data                                    a WebSocket binary message
    payload   = { length ":" packet }                              text; the length counts UTF-16 units
              | { (0 | 1), digits as bytes, 255, packet }          binary; 0: the packet is text, 1: it is binary
    "b" type digit, base64                                         a binary packet within a text payload
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs

from repo_notify.engine.wire.codec import Body, Codec, EngineIO4, Query
from repo_notify.engine.wire.errors import ErrorCode, ProtocolError, RequestError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.packets import EioPacket, EioType, SioPacket, SioType

BINARY = "application/octet-stream"
SCRIPT = "text/javascript; charset=UTF-8"
PAGE = "text/html"
MAX_LENGTH_DIGITS = 9
_TEXT, _BINARY, _LENGTH_END = 0, 1, 255

_TYPES_OF_BYTES = {kind.value: kind for kind in EioType}
_TYPES_OF_DIGITS = {str(kind.value): kind for kind in EioType}
_LENGTH = re.compile(rf"[0-9]{{1,{MAX_LENGTH_DIGITS}}}(?=:)", re.ASCII)
_JSONP_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)
# JSONP clients write a line break as `\n`, and a backslash before an n twice, as forms change real line breaks.
_JSONP_ESCAPE = re.compile(r"\\(\\?)n")


def _text_packet(text: str) -> EioPacket:
    kind = _TYPES_OF_DIGITS.get(text[:1])
    if kind is None:
        raise ProtocolError("unknown Engine.IO packet type")
    return EioPacket(kind, text[1:])


def _binary_packet(data: bytes) -> EioPacket:
    if _TYPES_OF_BYTES.get(data[0] if data else -1) is not EioType.MESSAGE:
        raise ProtocolError("binary data in a packet that is no message")
    return EioPacket(EioType.MESSAGE, data[1:])


def _base64_packet(text: str) -> EioPacket:
    if text[1:2] != str(EioType.MESSAGE.value):
        raise ProtocolError("binary data in a packet that is no message")
    try:
        return EioPacket(EioType.MESSAGE, base64.b64decode(text[2:], validate=True))
    except (binascii.Error, ValueError):
        raise ProtocolError("invalid base64") from None


def _part(text: str) -> EioPacket:
    return _base64_packet(text) if text[:1] == "b" else _text_packet(_once(text))


def _once(text: str) -> str:
    """Undo socket.io-client 1.x's own UTF-8 under the one of HTTP; 2.x has but one, under the same `EIO=3`.

    Text of 2.x is taken for 1.x's only where every character above U+007F is below U+0100 and together they are UTF-8.
    """
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _split_text(data: bytes) -> Iterator[EioPacket]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("payload is not UTF-8") from None
    slices = _slices(text) if text.isascii() or max(text) <= "\uffff" else _slices_of_units(text)
    return map(_part, slices)


def _slices(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        length, begin = _length(text, at)
        at = begin + length
        if length == 0 or at > len(text):
            raise ProtocolError("the payload ends within a packet")
        yield text[begin:at]


def _slices_of_units(text: str) -> Iterator[str]:
    """As `_slices`, where some characters are two UTF-16 units: JavaScript counts units."""
    units = "".join(map(chr, memoryview(text.encode("utf-16-le")).cast("H")))
    for part in _slices(units):
        try:
            yield part.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ProtocolError("a packet ends within a character") from None


def _length(text: str, at: int) -> tuple[int, int]:
    match = _LENGTH.match(text, at)
    if match is None:
        raise ProtocolError("a packet's length is missing or no number")
    return int(match[0]), match.end() + 1


def _split_binary(data: bytes) -> Iterator[EioPacket]:
    at = 0
    while at < len(data):
        form = data[at]
        end = data.find(_LENGTH_END, at + 1, at + 2 + MAX_LENGTH_DIGITS)
        digits = data[at + 1 : end] if end >= 0 else b""
        if form not in _DECODE or not digits or max(digits) > 9:
            raise ProtocolError("a packet's length is missing or no number")
        length = int("".join(map(str, digits)))
        at = end + 1 + length
        if length == 0 or at > len(data):
            raise ProtocolError("the payload ends within a packet")
        yield _DECODE[form](data[end + 1 : at])


def _decode_text(data: bytes) -> EioPacket:
    try:
        return _text_packet(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ProtocolError("payload is not UTF-8") from None


_DECODE: dict[int, Callable[[bytes], EioPacket]] = {_TEXT: _decode_text, _BINARY: _binary_packet}


def _binary_part(frame: Frame) -> bytes:
    form, data = (_BINARY, frame) if isinstance(frame, bytes) else (_TEXT, frame.encode())
    return bytes([form, *map(int, str(len(data))), _LENGTH_END]) + data


def _in_base64(kind: EioType, data: bytes) -> str:
    return f"b{kind.value}{base64.b64encode(data).decode('ascii')}"


def _text_part(packet: EioPacket) -> str:
    if isinstance(packet.data, bytes):
        text = _in_base64(packet.type, packet.data)
    else:
        text = f"{packet.type.value}{packet.data}"
    units = len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
    return f"{units}:{text}"


class EngineIO3:
    """Engine.IO protocol 3 with Socket.IO protocol 4: socket.io-client 1.x and 2.x."""

    eio = 3
    server_pings = False
    connects_by_itself = True
    recovers = False
    ascii_only = True

    def __init__(self, *, jsonp: bool = False, base64_only: bool = False) -> None:
        self._jsonp = jsonp
        # Socket.IO's packets are spelled alike but for CONNECT and ERROR.
        self._messages = EngineIO4(ascii_only=True)
        self._base64_only = base64_only
        # One object for all such sessions: what is sent to many is encoded once per codec.
        self._in_base64 = self if base64_only else EngineIO3(jsonp=jsonp, base64_only=True)

    def of_session(self, query: Query) -> Codec:
        """One that sends all binary data in base64 where the handshake says `b64` (protocol 3, "Transports")."""
        return self._in_base64 if any(query.get("b64", ())) else self

    def encode_packet(self, packet: EioPacket) -> Frame:
        """The type and the data, in text or in binary (Engine.IO protocol 3, "Packet")."""
        if isinstance(packet.data, bytes):
            if self._base64_only:
                return _in_base64(packet.type, packet.data)
            return bytes([packet.type.value]) + packet.data
        return f"{packet.type.value}{packet.data}"

    def decode_packet(self, frame: Frame) -> EioPacket:
        """The inverse; ProtocolError."""
        return _binary_packet(frame) if isinstance(frame, bytes) else _text_packet(frame)

    def check_poll(self, query: Query) -> None:
        """Refuse JSONP where it is off, and an index that is no number; RequestError."""
        if "j" in query and not self._jsonp:
            raise RequestError(ErrorCode.BAD_REQUEST, "JSONP is off: REPO_NOTIFY_JSONP switches it on")
        if "j" in query and not _JSONP_INDEX.fullmatch(query["j"][0]):
            raise RequestError(ErrorCode.BAD_REQUEST, "j is no number")

    def readable(self, query: Query) -> bool:
        """With JSONP."""
        return self._jsonp and "j" in query

    def encode_payload(self, packets: Sequence[EioPacket], query: Query) -> Body:
        """Text; binary where a packet is and the client takes it; a script for JSONP (protocol 3, "Payload")."""
        if "j" not in query and not self._base64_only and any(isinstance(packet.data, bytes) for packet in packets):
            return Body(b"".join(_binary_part(self.encode_packet(packet)) for packet in packets), BINARY)
        text = "".join(map(_text_part, packets))
        if "j" in query:
            return Body(f"___eio[{query['j'][0]}]({json.dumps(text)});".encode(), SCRIPT)
        return Body(text.encode())

    def decode_payload(self, body: Body, query: Query, max_packets: int) -> list[EioPacket]:
        """The inverse of all three forms; ProtocolError, also above `max_packets`."""
        data = body.data
        if "j" in query:
            data = _from_form(data)
        binary = body.content_type.partition(";")[0].strip().lower() == BINARY
        found: list[EioPacket] = []
        for packet in _split_binary(data) if binary else _split_text(data):
            if len(found) == max_packets:
                raise ProtocolError("too many packets in one payload")
            found.append(packet)
        if not found:
            raise ProtocolError("empty payload")
        return found

    def posted(self, query: Query) -> Body:
        """`ok`; in a page where a form was posted."""
        return Body(b"ok", PAGE) if "j" in query else Body(b"ok")

    def error_body(self, error: RequestError) -> Body:
        """`{"code", "message"}`, as the reference server answers."""
        return self._messages.error_body(error)

    def encode_message(self, packet: SioPacket) -> list[Frame]:
        """As Engine.IO 4's (Socket.IO protocol 4, "Packet encoding")."""
        return self._messages.encode_message(packet)

    def decode_message(self, text: str, max_attachments: int) -> SioPacket:
        """The inverse of its text part; ProtocolError."""
        return self._messages.decode_message(text, max_attachments)

    def connect_packet(self, namespace: str, sid: str, pid: str | None = None) -> SioPacket:  # noqa: ARG002 - as above
        """`0` and the namespace, without data: the client knows its id from the handshake."""
        return SioPacket(SioType.CONNECT, namespace)

    def refusal_packet(self, namespace: str, data: Any) -> SioPacket:
        """An ERROR packet with a JSON string where the newer protocol has an object with a message."""
        message = data.get("message", data) if isinstance(data, dict) else data
        return SioPacket(SioType.CONNECT_ERROR, namespace, data=message)

    def client_id(self, eio_sid: str, namespace: str, fresh: str) -> str:  # noqa: ARG002 - the common signature
        """The Engine.IO id; `/<namespace>#<id>` in a namespace, as 2.x shows it."""
        return eio_sid if namespace == "/" else f"{namespace}#{eio_sid}"


def _from_form(data: bytes) -> bytes:
    """The payload of a form that a JSONP client posts as `d`."""
    try:
        fields = parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise ProtocolError("the form cannot be read") from None
    return _JSONP_ESCAPE.sub(lambda match: "\\n" if match[1] else "\n", fields.get("d", [""])[0]).encode()
