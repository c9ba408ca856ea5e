"""Packets on their way to any number of connections."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from .codec import Codec
from .frames import Frame, build
from .packets import EioPacket, EioType, SioPacket


@dataclass(eq=False, slots=True)
class Outgoing:
    """A packet on its way to any number of connections, encoded once per codec, its attachments with it.

    One with an equal `update`, where there is one, supersedes it where it still waits.
    """

    content: SioPacket | EioPacket
    update: Hashable | None = None
    _packets: dict[Codec, list[EioPacket]] = field(default_factory=dict)
    _wire: dict[Codec, bytes] = field(default_factory=dict)

    @property
    def parts(self) -> Sequence[Outgoing]:
        """Itself, or what it joins."""
        return (self,)

    def packets(self, codec: Codec) -> list[EioPacket]:
        """The Engine.IO packets, for a transport that packs several into one payload."""
        packets = self._packets.get(codec)
        if packets is None:
            content = self.content
            if isinstance(content, SioPacket):
                packets = [EioPacket(EioType.MESSAGE, part) for part in codec.encode_message(content)]
            else:
                packets = [content]
            self._packets[codec] = packets
        return packets

    def frames(self, codec: Codec) -> list[Frame]:
        """The WebSocket messages, for a driver that makes frames of them."""
        return [codec.encode_packet(packet) for packet in self.packets(codec)]

    def wire(self, codec: Codec) -> bytes:
        """The WebSocket frames that carry it, back to back, as they leave a server (RFC 6455 section 5.2)."""
        wire = self._wire.get(codec)
        if wire is None:
            content = self.content
            messages = codec.encode_message(content) if type(content) is SioPacket else ()
            if len(messages) == 1 and isinstance(text := messages[0], str):
                # Alike in every generation.
                wire = build(f"4{text}")
            else:
                wire = b"".join([build(codec.encode_packet(each)) for each in self.packets(codec)])
            self._wire[codec] = wire
        return wire

    def size(self, codec: Codec) -> int:
        """How much data there is of it, in characters or bytes."""
        return sum(len(packet.data) for packet in self.packets(codec))


def control(kind: EioType, data: str = "") -> Outgoing:
    """An Engine.IO packet of its own."""
    return Outgoing(EioPacket(kind, data))


class Joined(Outgoing):
    """Packets that leave together, in order and in one write; each is encoded once all the same."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Outgoing], update: Hashable | None = None) -> None:
        super().__init__(parts[0].content, update)
        self._parts = parts

    @property
    def parts(self) -> Sequence[Outgoing]:
        """What leaves together."""
        return self._parts

    def packets(self, codec: Codec) -> list[EioPacket]:
        """The Engine.IO packets of all of them."""
        packets = self._packets.get(codec)
        if packets is None:
            packets = self._packets[codec] = [packet for part in self._parts for packet in part.packets(codec)]
        return packets

    def wire(self, codec: Codec) -> bytes:
        """The frames of all of them."""
        wire = self._wire.get(codec)
        if wire is None:
            wire = self._wire[codec] = b"".join([part.wire(codec) for part in self._parts])
        return wire
