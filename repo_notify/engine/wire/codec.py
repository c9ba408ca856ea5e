"""The wire codec: everything that differs between protocol generations, chosen once per connection from `EIO=`.

A codec holds no socket, no clock and no state. Another generation is another object with these members, registered with
the server.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import jsoncodec
from .errors import ProtocolError, RequestError
from .frames import Frame
from .packets import BINARY_FORM, PLAIN_FORM, Attachments, EioPacket, EioType, EventData, SioPacket, SioType, Spelling

SEPARATOR = "\x1e"
# Number.MAX_SAFE_INTEGER: what a JavaScript client can count to.
MAX_ACK_ID = 2**53 - 1
TEXT = "text/plain; charset=UTF-8"
Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Body:
    """An HTTP body and its media type."""

    data: bytes
    content_type: str = TEXT


class Codec(Protocol):
    """What a protocol generation has to say. `query` is the request's parsed query string."""

    @property
    def eio(self) -> int:
        """The Engine.IO number of the `EIO` parameter."""

    @property
    def server_pings(self) -> bool:
        """Who sends the heartbeat's ping: the server, or else the client."""

    @property
    def connects_by_itself(self) -> bool:
        """Whether the default namespace is connected by the handshake, without a CONNECT of the client."""

    @property
    def ascii_only(self) -> bool:
        """Whether JSON leaves in ASCII, else as UTF-8 has it."""

    def of_session(self, query: Query) -> Codec:
        """The codec of the session that a handshake with that query begins."""

    def encode_packet(self, packet: EioPacket) -> Frame:
        """One WebSocket message."""

    def decode_packet(self, frame: Frame) -> EioPacket:
        """The packet of one WebSocket message; ProtocolError."""

    def check_poll(self, query: Query) -> None:
        """Refuse polling parameters that this generation does not know; RequestError."""

    def readable(self, query: Query) -> bool:
        """Whether any page can read the answer, by embedding it as a script."""

    def encode_payload(self, packets: Sequence[EioPacket], query: Query) -> Body:
        """The body of the answer to a poll."""

    def decode_payload(self, body: Body, query: Query, max_packets: int) -> list[EioPacket]:
        """The packets of a POST; ProtocolError, also above `max_packets`."""

    def posted(self, query: Query) -> Body:
        """The body of the answer to a POST."""

    def error_body(self, error: RequestError) -> Body:
        """The body of an HTTP error."""

    def encode_message(self, packet: SioPacket) -> list[Frame]:
        """A Socket.IO packet as messages: its text, then its attachments; TypeError or ValueError if not JSON."""

    def decode_message(self, text: str, max_attachments: int) -> SioPacket:
        """The Socket.IO packet of a text message, its placeholders still in place; ProtocolError."""

    @property
    def recovers(self) -> bool:
        """Whether its clients may come back as who they were, by a `pid`."""

    def connect_packet(self, namespace: str, sid: str, pid: str | None = None) -> SioPacket:
        """What tells a client that it is in a namespace; `pid` is the secret by which it comes back."""

    def refusal_packet(self, namespace: str, data: Any) -> SioPacket:
        """What tells a client that it may not enter a namespace."""

    def client_id(self, eio_sid: str, namespace: str, fresh: str) -> str:
        """The id under which the client knows itself in a namespace; `fresh` is one that nobody has."""


_EIO_TYPES = {str(kind.value): kind for kind in EioType}
_SIO_TYPES = {str(kind.value): kind for kind in SioType}
# By type: asking an enumeration's member for its value takes longer.
_DIGITS = tuple(_SIO_TYPES)
_HEADER = re.compile(r"(?P<type>[0-9])(?:(?P<count>[0-9]*)-)?(?P<namespace>/[^,]*(?:,|$))?(?P<id>[0-9]*)", re.ASCII)


def _is_event(data: object) -> bool:
    if not isinstance(data, list) or not data:
        return False
    return isinstance(data[0], (str, int, float)) and not isinstance(data[0], bool)


# Which JSON value each packet type may carry; `...` stands for none (Socket.IO protocol, "Packet types").
_CARRIES: dict[SioType, Callable[[object], bool]] = {
    SioType.CONNECT: lambda data: data is ... or isinstance(data, dict),
    SioType.DISCONNECT: lambda data: data is ...,
    SioType.EVENT: _is_event,
    SioType.ACK: lambda data: isinstance(data, list),
    SioType.CONNECT_ERROR: lambda data: isinstance(data, (dict, str)),
}
_MAY_HAVE_ID = {SioType.EVENT, SioType.ACK}


class EngineIO4:
    """Engine.IO protocol 4 with Socket.IO protocol 5: socket.io-client 3.x and 4.x."""

    eio = 4
    server_pings = True
    connects_by_itself = False
    recovers = True

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.ascii_only = ascii_only

    def of_session(self, query: Query) -> Codec:  # noqa: ARG002 - the codecs' common signature
        """This one: nothing in the query changes it."""
        return self

    def encode_packet(self, packet: EioPacket) -> Frame:
        """Binary as it is, text after its type's digit (Engine.IO protocol 4, "Packet encoding", WebSocket)."""
        if isinstance(packet.data, bytes):
            return packet.data
        return f"{int(packet.type)}{packet.data}"

    def decode_packet(self, frame: Frame) -> EioPacket:
        """The inverse; ProtocolError."""
        if isinstance(frame, bytes):
            return EioPacket(EioType.MESSAGE, frame)
        kind = _EIO_TYPES.get(frame[:1])
        if kind is None:
            raise ProtocolError("unknown Engine.IO packet type")
        return EioPacket(kind, frame[1:])

    def check_poll(self, query: Query) -> None:
        """Everything else in the query is the application's; JSONP left the protocol with version 4."""

    def readable(self, query: Query) -> bool:  # noqa: ARG002 - the common signature
        """Never: nothing is answered as a script."""
        return False

    def encode_payload(self, packets: Sequence[EioPacket], query: Query) -> Body:  # noqa: ARG002 - the common signature
        """Packets between U+001E, binary as `b` and base64 (Engine.IO protocol 4, "Packet encoding")."""
        return Body(SEPARATOR.join(map(self._encode_part, packets)).encode())

    def _encode_part(self, packet: EioPacket) -> str:
        frame = self.encode_packet(packet)
        return "b" + base64.b64encode(frame).decode("ascii") if isinstance(frame, bytes) else frame

    def decode_payload(self, body: Body, query: Query, max_packets: int) -> list[EioPacket]:  # noqa: ARG002 - as above
        """The inverse; ProtocolError, also above `max_packets`."""
        try:
            text = body.data.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("payload is not UTF-8") from None
        if text.count(SEPARATOR) >= max_packets:
            raise ProtocolError("too many packets in one payload")
        return [self._decode_part(part) for part in text.split(SEPARATOR)]

    def _decode_part(self, part: str) -> EioPacket:
        if part[:1] != "b":
            return self.decode_packet(part)
        try:
            return EioPacket(EioType.MESSAGE, base64.b64decode(part[1:], validate=True))
        except (binascii.Error, ValueError):
            raise ProtocolError("invalid base64") from None

    def posted(self, query: Query) -> Body:  # noqa: ARG002 - the codecs' common signature
        """`ok` (Engine.IO protocol 4, "Sending data")."""
        return Body(b"ok")

    def error_body(self, error: RequestError) -> Body:
        """`{"code", "message"}`, as the reference server answers."""
        data = json.dumps({"code": error.code.value, "message": error.message})
        return Body(data.encode(), "application/json")

    def encode_message(self, packet: SioPacket) -> list[Frame]:
        """`<type>[<n>-][<namespace>,][<id>][<JSON>]`, then attachments (Socket.IO protocol 5, "Packet encoding")."""
        kind, data, text = packet.type, packet.data, ""
        attachments: Sequence[bytes] = ()
        if isinstance(data, EventData):
            text, attachments = data.json(self.ascii_only)
        elif data is not None:
            attachments = found = Attachments()
            text = jsoncodec.dumps(data, found.placeholder, ascii_only=self.ascii_only)
        namespace = "" if packet.namespace == "/" else f"{packet.namespace},"
        number = "" if packet.id is None else packet.id
        if not attachments:
            return [f"{_DIGITS[kind]}{namespace}{number}{text}"]
        if kind not in BINARY_FORM:
            raise ValueError(f"a {kind.name} packet carries no binary data")
        return [f"{_DIGITS[BINARY_FORM[kind]]}{len(attachments)}-{namespace}{number}{text}", *attachments]

    def decode_message(self, text: str, max_attachments: int) -> SioPacket:
        """The inverse of its text part; ProtocolError."""
        header = _HEADER.match(text)
        kind = _SIO_TYPES.get(header["type"]) if header else None
        if header is None or kind is None:
            raise ProtocolError("unknown Socket.IO packet type")
        attachments = 0
        if kind in PLAIN_FORM:
            attachments = _count(header["count"], max_attachments)
            kind = PLAIN_FORM[kind]
        elif header["count"] is not None:
            raise ProtocolError("attachments on a packet that has none")
        number = _ack_id(header["id"]) if header["id"] else None
        if (number is not None and kind not in _MAY_HAVE_ID) or (number is None and kind is SioType.ACK):
            raise ProtocolError("acknowledgement id missing or out of place")
        rest = text[header.end() :]
        data = jsoncodec.loads(rest) if rest else ...
        if not _CARRIES[kind](data):
            raise ProtocolError(f"invalid payload of a {kind.name} packet")
        # Clients may append a query to the namespace, which is none of its name.
        namespace = (header["namespace"] or "/").rstrip(",").partition("?")[0]
        spelling = Spelling(len(text) if text.isascii() else len(text.encode()), self.ascii_only)
        return SioPacket(kind, namespace, number, None if data is ... else data, attachments, spelling)

    def connect_packet(self, namespace: str, sid: str, pid: str | None = None) -> SioPacket:
        """`0{"sid":…}` (Socket.IO protocol 5, "Connection to a namespace"), with `pid` where there is one."""
        return SioPacket(SioType.CONNECT, namespace, data={"sid": sid} if pid is None else {"sid": sid, "pid": pid})

    def refusal_packet(self, namespace: str, data: Any) -> SioPacket:
        """`4{"message":…}` (Socket.IO protocol 5, "Connection to a namespace")."""
        return SioPacket(SioType.CONNECT_ERROR, namespace, data=data)

    def client_id(self, eio_sid: str, namespace: str, fresh: str) -> str:  # noqa: ARG002 - the codecs' common signature
        """An id per namespace, unlike the Engine.IO one."""
        return fresh


def _count(digits: str | None, most: int) -> int:
    if not digits:
        raise ProtocolError("attachment count missing")
    if len(digits) > 9 or int(digits) > most:
        raise ProtocolError("too many attachments")
    return int(digits)


def _ack_id(digits: str) -> int:
    if len(digits) > 16 or int(digits) > MAX_ACK_ID:
        raise ProtocolError("acknowledgement id out of range")
    return int(digits)
