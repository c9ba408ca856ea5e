"""The packets of both protocol layers, as values. How they are spelled on the wire is the codecs' matter."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from . import jsoncodec
from .errors import ProtocolError
from .frames import Frame, build_message

if TYPE_CHECKING:
    from .codec import Codec

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


class SioPacket(NamedTuple):
    """One Socket.IO packet; `data` is its JSON value (None: absent), `attachments` how many binary messages follow it.

    The type is the plain one: binary parts are seen from `data` when encoding, from `attachments` when decoded.
    """

    type: SioType
    namespace: str = "/"
    id: int | None = None
    data: Any = None
    attachments: int = 0


def split_binary(data: object) -> tuple[str, list[bytes]]:
    """`data` as JSON with placeholders, and the binary parts they stand for (Socket.IO protocol, "Packet encoding").

    Raises TypeError or ValueError where `data` is not JSON.
    """
    attachments: list[bytes] = []

    def placeholder(value: object) -> object:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"{type(value).__name__} has no form in JSON")
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}

    return jsoncodec.dumps(data, placeholder), attachments


def join_binary(data: Any, attachments: list[bytes]) -> Any:
    """`data` with its placeholders replaced, in place, by the binary parts; ProtocolError if one names none."""
    root = [data]
    stack: list[Any] = [root]
    while stack:
        container = stack.pop()
        entries = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(entries):
            if isinstance(value, dict) and value.get("_placeholder") is True:
                container[key] = _attachment(value.get("num"), attachments)
            elif isinstance(value, (list, dict)):
                stack.append(value)
    return root[0]


def _attachment(number: object, attachments: list[bytes]) -> bytes:
    if type(number) is not int or not 0 <= number < len(attachments):
        raise ProtocolError("placeholder without attachment")
    return attachments[number]


class Outgoing:
    """A packet on its way to any number of connections, encoded once per codec and once per (codec, frame form)."""

    __slots__ = ("_encode", "_frames", "_packets", "_wire")

    def __init__(self, encode: Callable[[Codec], list[EioPacket]]) -> None:
        self._encode = encode
        self._packets: dict[int, list[EioPacket]] = {}
        self._frames: dict[int, list[Frame]] = {}
        self._wire: dict[int, bytes] = {}

    def packets(self, codec: Codec) -> list[EioPacket]:
        """The Engine.IO packets, for a transport that packs several into one payload."""
        packets = self._packets.get(codec.eio)
        if packets is None:
            packets = self._packets[codec.eio] = self._encode(codec)
        return packets

    def frames(self, codec: Codec) -> list[Frame]:
        """The WebSocket messages."""
        frames = self._frames.get(codec.eio)
        if frames is None:
            frames = self._frames[codec.eio] = [codec.encode_packet(packet) for packet in self.packets(codec)]
        return frames

    def wire(self, codec: Codec) -> bytes:
        """The WebSocket frames that carry it, back to back, as they leave a server (RFC 6455 section 5.2)."""
        wire = self._wire.get(codec.eio)
        if wire is None:
            wire = self._wire[codec.eio] = b"".join(map(build_message, self.frames(codec)))
        return wire

    def size(self, codec: Codec) -> int:
        """How much data there is of it, in characters or bytes."""
        return sum(len(packet.data) for packet in self.packets(codec))


def control(kind: EioType, data: str = "") -> Outgoing:
    """An Engine.IO packet of its own."""
    return Outgoing(lambda _codec: [EioPacket(kind, data)])


def message(packet: SioPacket) -> Outgoing:
    """A Socket.IO packet with its attachments."""
    return Outgoing(lambda codec: [EioPacket(EioType.MESSAGE, part) for part in codec.encode_message(packet)])
