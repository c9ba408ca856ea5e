"""Packets on their way to any number of connections."""

from __future__ import annotations

from collections.abc import Callable

from .codec import Codec
from .frames import Frame, build_message
from .packets import EioPacket, EioType, SioPacket


class Outgoing:
    """A packet on its way to any number of connections, encoded once per codec and once per (codec, frame form)."""

    __slots__ = ("_encode", "_frames", "_packets", "_wire")

    def __init__(self, encode: Callable[[Codec], list[EioPacket]]) -> None:
        self._encode = encode
        self._packets: dict[Codec, list[EioPacket]] = {}
        self._frames: dict[Codec, list[Frame]] = {}
        self._wire: dict[Codec, bytes] = {}

    def packets(self, codec: Codec) -> list[EioPacket]:
        """The Engine.IO packets, for a transport that packs several into one payload."""
        packets = self._packets.get(codec)
        if packets is None:
            packets = self._packets[codec] = self._encode(codec)
        return packets

    def frames(self, codec: Codec) -> list[Frame]:
        """The WebSocket messages."""
        frames = self._frames.get(codec)
        if frames is None:
            frames = self._frames[codec] = [codec.encode_packet(packet) for packet in self.packets(codec)]
        return frames

    def wire(self, codec: Codec) -> bytes:
        """The WebSocket frames that carry it, back to back, as they leave a server (RFC 6455 section 5.2)."""
        wire = self._wire.get(codec)
        if wire is None:
            wire = self._wire[codec] = b"".join(map(build_message, self.frames(codec)))
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
