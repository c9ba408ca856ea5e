from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine import Body, EioPacket, EioType, EngineIO4, ProtocolError, SioPacket, SioType
from repo_notify.engine.wire.packets import Unfinished

CODEC = EngineIO4()

# WebSocket message, polling form, packet: read in both directions.
PACKETS = [
    ("0{}", "0{}", EioPacket(EioType.OPEN, "{}")),
    ("1", "1", EioPacket(EioType.CLOSE)),
    ("2", "2", EioPacket(EioType.PING)),
    ("2probe", "2probe", EioPacket(EioType.PING, "probe")),
    ("3", "3", EioPacket(EioType.PONG)),
    ("4hello", "4hello", EioPacket(EioType.MESSAGE, "hello")),
    ("4€", "4€", EioPacket(EioType.MESSAGE, "€")),
    ("4", "4", EioPacket(EioType.MESSAGE)),
    (b"\1\2\3\4", "bAQIDBA==", EioPacket(EioType.MESSAGE, b"\1\2\3\4")),
    (b"", "b", EioPacket(EioType.MESSAGE, b"")),
    ("5", "5", EioPacket(EioType.UPGRADE)),
    ("6", "6", EioPacket(EioType.NOOP)),
]


@pytest.mark.parametrize(("frame", "part", "packet"), PACKETS)
def test_packets(frame: str | bytes, part: str, packet: EioPacket) -> None:
    assert CODEC.encode_packet(packet) == frame
    assert CODEC.decode_packet(frame) == packet
    assert CODEC.encode_payload([packet], {}).data.decode() == part
    assert CODEC.decode_payload(Body(part.encode()), {}, 1) == [packet]


def test_a_payload_of_all() -> None:
    packets = [packet for _, _, packet in PACKETS]
    body = CODEC.encode_payload(packets, {})
    assert body.data.decode() == "\x1e".join(part for _, part, _ in PACKETS)
    assert CODEC.decode_payload(body, {}, len(packets)) == packets
    with pytest.raises(ProtocolError, match="too many"):
        CODEC.decode_payload(body, {}, len(packets) - 1)


# The text, the packet: read in both directions.
MESSAGES = [
    ("0", SioPacket(SioType.CONNECT)),
    ('0{"sid":"x"}', SioPacket(SioType.CONNECT, data={"sid": "x"})),
    ('0/admin,{"token":1}', SioPacket(SioType.CONNECT, "/admin", data={"token": 1})),
    ("1", SioPacket(SioType.DISCONNECT)),
    ("1/admin,", SioPacket(SioType.DISCONNECT, "/admin")),
    ('2["hey","Jude"]', SioPacket(SioType.EVENT, data=["hey", "Jude"])),
    ('2/admin,456["project:delete",123]', SioPacket(SioType.EVENT, "/admin", 456, ["project:delete", 123])),
    ("3/admin,456[]", SioPacket(SioType.ACK, "/admin", 456, [])),
    ("30[1]", SioPacket(SioType.ACK, id=0, data=[1])),
    ('4{"message":"Not authorized"}', SioPacket(SioType.CONNECT_ERROR, data={"message": "Not authorized"})),
]


@pytest.mark.parametrize(("text", "packet"), MESSAGES)
def test_messages(text: str, packet: SioPacket) -> None:
    assert CODEC.encode_message(packet) == [text]
    assert CODEC.decode_message(text, 10)._replace(spelling=None) == packet


def joined(packet: SioPacket, parts: list[bytes]) -> Any:
    """The data of a packet with its attachments, which complete it when the last has come."""
    unfinished = Unfinished(packet, sys.maxsize)
    *early, last = [unfinished.add(part) for part in parts]
    assert last is not None
    assert early == [None] * (len(parts) - 1)
    return last.data


def test_binary_messages() -> None:
    packet = SioPacket(SioType.EVENT, "/a", 7, ["x", b"\1", {"y": [bytearray(b"\2")]}, memoryview(b"\3")])
    text, *parts = CODEC.encode_message(packet)
    assert parts == [b"\1", b"\2", b"\3"]
    assert isinstance(text, str)
    assert text.startswith('53-/a,7["x",{"_placeholder":true,"num":0},{"y":[')
    found = CODEC.decode_message(text, 3)
    assert (found.type, found.attachments) == (SioType.EVENT, 3)
    assert joined(found, [b"\1", b"\2", b"\3"]) == ["x", b"\1", {"y": [b"\2"]}, b"\3"]
    with pytest.raises(ProtocolError, match="too many attachments"):
        CODEC.decode_message(text, 2)


@pytest.mark.parametrize("kind", [SioType.CONNECT, SioType.CONNECT_ERROR])
def test_only_events_and_acknowledgements_carry_binary(kind: SioType) -> None:
    with pytest.raises(ValueError, match="carries no binary"):
        CODEC.encode_message(SioPacket(kind, data={"x": b""}))


def test_what_json_has_no_form_for() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        CODEC.encode_message(SioPacket(SioType.EVENT, data=["x", {1}]))


def outcome(call: Any) -> Any:
    try:
        return call()
    except ProtocolError as error:
        return error


@given(st.text() | st.binary())
def test_any_frame_is_a_packet_or_our_error(frame: str | bytes) -> None:
    found = outcome(lambda: CODEC.decode_packet(frame))
    if isinstance(found, EioPacket):
        assert CODEC.encode_packet(found) == frame


@given(st.binary() | st.text(alphabet="0123456b=AQ\x1eé").map(str.encode))
def test_any_body_is_packets_or_our_error(body: bytes) -> None:
    found = outcome(lambda: CODEC.decode_payload(Body(body), {}, 100))
    if isinstance(found, list):
        assert CODEC.decode_payload(CODEC.encode_payload(found, {}), {}, 100) == found


HEADERS = st.from_regex(r"\A[0-9]?([0-9]{0,2}-)?(/[a-z?]{0,3},?)?[0-9]{0,3}", fullmatch=False)


@given(st.text() | st.tuples(HEADERS, st.text(alphabet='[]{}",:0123456789abc')).map("".join))
def test_any_text_is_a_message_or_our_error(text: str) -> None:
    found = outcome(lambda: CODEC.decode_message(text, 10))
    if isinstance(found, SioPacket) and not found.attachments:
        again = CODEC.encode_message(found)[0]
        alike = found._replace(spelling=None)
        assert CODEC.decode_message(str(again), 10)._replace(spelling=None) == alike


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(JSON), st.integers(0, 2**53 - 1) | st.none(), st.sampled_from(["/", "/a", "/é b"]))
def test_any_event_arrives_as_it_was_sent(arguments: list[Any], ack: int | None, namespace: str) -> None:
    text, *parts = CODEC.encode_message(SioPacket(SioType.EVENT, namespace, ack, ["name", *arguments]))
    assert isinstance(text, str)
    found = CODEC.decode_message(text, 10_000)
    assert (found.namespace, found.id, found.attachments) == (namespace, ack, len(parts))
    data = joined(found, [part for part in parts if isinstance(part, bytes)]) if parts else found.data
    assert data == ["name", *arguments]
