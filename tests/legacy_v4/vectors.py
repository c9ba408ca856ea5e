"""Engine.IO 3 payloads and Socket.IO 4 packets as they are on the wire, for our codec and for the old parsers."""

from __future__ import annotations

from dataclasses import dataclass, field

from legacy_v4.codec import BINARY
from repo_notify.engine.wire.codec import TEXT, Body, Query
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.packets import EioPacket, EioType, SioPacket, SioType

Packets = tuple[EioPacket, ...]
PLAIN: Query = {}
BASE64: Query = {"b64": ["1"]}


def text(data: str = "", kind: EioType = EioType.MESSAGE) -> EioPacket:
    return EioPacket(kind, data)


def binary(data: bytes) -> EioPacket:
    return EioPacket(EioType.MESSAGE, data)


@dataclass(frozen=True)
class Payload:
    """Packets and their body; `query` says how the client asks for it."""

    body: bytes
    packets: Packets
    query: Query = field(default_factory=dict)
    content_type: str = TEXT

    @property
    def as_body(self) -> Body:
        return Body(self.body, self.content_type)


# Both directions (Engine.IO protocol 3, "Payload").
PAYLOADS = {
    "open": Payload(b'12:0{"sid":"a"}', (text('{"sid":"a"}', EioType.OPEN),)),
    "empty message": Payload(b"1:4", (text(),)),
    "control packets": Payload(
        b"1:11:21:31:6", tuple(text("", EioType(number)) for number in (1, 2, 3, 6))
    ),
    "several": Payload(b"2:406:42[10]6:2probe", (text("0"), text("2[10]"), text("probe", EioType.PING))),
    "separators within": Payload(b"9:4:1:4b:::3:41:", (text(":1:4b:::"), text("1:"))),
    "ten and more": Payload(b"11:4" + b"x" * 10 + b"101:4" + b"y" * 100, (text("x" * 10), text("y" * 100))),
    "line breaks": Payload(b"6:4\r\n\\n\x00", (text("\r\n\\n\x00"),)),
    "an astral character is two units": Payload("4:4🏗x2:4y".encode(), (text("🏗x"), text("y"))),
    "a character above U+00FF": Payload("3:4Žé".encode(), (text("Žé"),)),
    "binary": Payload(b"\x01\x04\xff\x04\x00\x01\xff", (binary(b"\x00\x01\xff"),), content_type=BINARY),
    "binary among text": Payload(
        b"\x00\x03\xff4\xc3\xa9" + b"\x01\x01\x00\xff\x04" + b"\x09" * 9,
        (text("é"), binary(b"\x09" * 9)),
        content_type=BINARY,
    ),
    "base64": Payload(b"6:b4AAH/2:4x", (binary(b"\x00\x01\xff"), text("x")), BASE64),
    "empty base64": Payload(b"2:b4", (binary(b""),), BASE64),
}

# What only clients send.
DECODED = {
    "1.x writes UTF-8 twice": Payload("3:4Ã©".encode(), (text("é"),)),
    "1.x, an astral character": Payload("5:4ð\x9f\x8f\x97".encode(), (text("🏗"),)),
    "2.x, Latin-1 that is not UTF-8": Payload("3:4éa".encode(), (text("éa"),)),
    "text in the binary form": Payload(b"\x00\x02\xff4x", (text("x"),), content_type=BINARY),
    "a leading zero": Payload(b"02:4x", (text("x"),)),
    "JSONP": Payload(b"d=9%3A4a%5C%5Cnb%5Cnc%2B%26", (text("a\\nb\nc+&"),), {"j": ["0"]}),
}

WRONG = {
    "empty": (b"", TEXT),
    "no length": (b":4x", TEXT),
    "no colon": (b"24x", TEXT),
    "a length of zero": (b"0:", TEXT),
    "a negative length": (b"-1:4", TEXT),
    "a length that is no ASCII number": ("٢:4x".encode(), TEXT),
    "a length of ten digits": (b"0000000002:4x", TEXT),
    "a length beyond the end": (b"3:4x", TEXT),
    "a length within an astral character": ("2:4🏗".encode(), TEXT),
    "trailing bytes": (b"2:4xy", TEXT),
    "not UTF-8": (b"2:4\xff", TEXT),
    "a packet of unknown type": (b"2:7x", TEXT),
    "a packet without a type": (b"1:x", TEXT),
    "base64 of a packet that is no message": (b"6:b2AAAA", TEXT),
    "base64 without a type": (b"1:b", TEXT),
    "no base64": (b"6:b4A*AA", TEXT),
    "base64 that ends early": (b"3:b4A", TEXT),
    "base64 that is not ASCII": ("3:b4é".encode(), TEXT),
    "binary, no end of the length": (b"\x00\x02", BINARY),
    "binary, a length of zero": (b"\x01\x00\xff", BINARY),
    "binary, no length": (b"\x01\xff\x04", BINARY),
    "binary, a digit above nine": (b"\x01\x0a\xff\x04", BINARY),
    "binary, a length beyond the end": (b"\x01\x03\xff\x04x", BINARY),
    "binary, a length of ten digits": (b"\x01" + b"\x00" * 9 + b"\x01\xff\x04", BINARY),
    "binary, an unknown form": (b"\x02\x01\xff\x04", BINARY),
    "binary, a packet that is no message": (b"\x01\x02\xff\x02x", BINARY),
    "binary, a text that is not UTF-8": (b"\x00\x02\xff4\xff", BINARY),
    "text in the name of binary": (b"2:4x", BINARY),
}

# A frame of a WebSocket and its packet.
FRAMES: dict[str, tuple[Frame, EioPacket]] = {
    "text": ('42["a"]', text('2["a"]')),
    "text is not ASCII": ("4é🏗", text("é🏗")),
    "probe": ("2probe", text("probe", EioType.PING)),
    "upgrade": ("5", text("", EioType.UPGRADE)),
    "binary": (b"\x04\x00\xff", binary(b"\x00\xff")),
    "empty binary": (b"\x04", binary(b"")),
}
WRONG_FRAMES: dict[str, Frame] = {
    "empty": "",
    "an unknown type": "7",
    "a type that is no ASCII digit": "٤x",
    "base64 where binary is possible": "b4AAAA",
    "empty binary": b"",
    "binary that is no message": b"\x02probe",
    "a digit for the type of binary": b"4x",
}

_BYTES = {"_placeholder": True, "num": 0}
# Socket.IO protocol 4, "Packet encoding": the text and the packet, placeholders in place; both directions.
MESSAGES: dict[str, tuple[str, SioPacket]] = {
    "connect": ("0", SioPacket(SioType.CONNECT)),
    "connect a namespace": ("0/legacy_v4,", SioPacket(SioType.CONNECT, "/legacy_v4")),
    "disconnect": ("1", SioPacket(SioType.DISCONNECT)),
    "disconnect a namespace": ("1/legacy_v4,", SioPacket(SioType.DISCONNECT, "/legacy_v4")),
    "event": ('2["join",{"account":"a"}]', SioPacket(SioType.EVENT, data=["join", {"account": "a"}])),
    "event that asks": ('2/legacy_v4,12["join"]', SioPacket(SioType.EVENT, "/legacy_v4", 12, ["join"])),
    "first question": ('20["join"]', SioPacket(SioType.EVENT, id=0, data=["join"])),
    "not ASCII": ('2["\\u00e9\\ud83c\\udfd7"]', SioPacket(SioType.EVENT, data=["é🏗"])),
    "answer": ('3/legacy_v4,12[{"a":1}]', SioPacket(SioType.ACK, "/legacy_v4", 12, [{"a": 1}])),
    "empty answer": ("37[]", SioPacket(SioType.ACK, id=7, data=[])),
    "error": ('4"Invalid namespace"', SioPacket(SioType.CONNECT_ERROR, data="Invalid namespace")),
    "error of a namespace": ('4/no,"Not you"', SioPacket(SioType.CONNECT_ERROR, "/no", data="Not you")),
}
READ_MESSAGES: dict[str, tuple[str, SioPacket]] = {
    "1.x connects": ("0/legacy_v4", SioPacket(SioType.CONNECT, "/legacy_v4")),
    "1.x connects with a query": ("0/legacy_v4?token=a%2Cb", SioPacket(SioType.CONNECT, "/legacy_v4")),
    "2.x connects with a query": ("0/legacy_v4?token=1,", SioPacket(SioType.CONNECT, "/legacy_v4")),
    "1.x disconnects": ("1/legacy_v4", SioPacket(SioType.DISCONNECT, "/legacy_v4")),
    "binary event": (
        '51-["f",{"_placeholder":true,"num":0}]',
        SioPacket(SioType.EVENT, data=["f", _BYTES], attachments=1),
    ),
    "binary answer": (
        '61-/legacy_v4,4[{"_placeholder":true,"num":0}]',
        SioPacket(SioType.ACK, "/legacy_v4", 4, [_BYTES], 1),
    ),
}
WRONG_MESSAGES = {
    "empty": "",
    "unknown type": "7",
    "no digit": "x",
    "event without a name": "2[]",
    "event without data": "2",
    "event that is an object": '2{"a":1}',
    "no JSON": '2["a"',
    "NaN": '2["a",NaN]',
    "answer without an id": "3[]",
    "disconnect with data": "1{}",
    "too many attachments": '511-["a"]',
    "attachments without a number": '5-["a"]',
    "attachments on a plain packet": '21-["a"]',
    "id out of range": '299999999999999999["a"]',
}
