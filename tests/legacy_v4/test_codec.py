"""The Engine.IO 3 codec: one table of vectors both ways, and what must hold for any input."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("legacy_v4")

from legacy_v4.codec import BINARY, PAGE, SCRIPT, EngineIO3
from repo_notify.engine.wire.codec import TEXT, Body, Query
from repo_notify.engine.wire.errors import ErrorCode, ProtocolError, RequestError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.packets import EioPacket, EioType, SioPacket, SioType
from tests.legacy_v4.vectors import (
    BASE64,
    DECODED,
    FRAMES,
    MESSAGES,
    PAYLOADS,
    PLAIN,
    READ_MESSAGES,
    WRONG,
    WRONG_FRAMES,
    WRONG_MESSAGES,
    Payload,
    binary,
    text,
)

CODEC = EngineIO3(jsonp=True)
MOST = 100
JSONP: Query = {"j": ["7"]}


def table(rows: dict[str, Any]) -> list[Any]:
    return [pytest.param(row, id=name) for name, row in rows.items()]


def decode(vector: Payload, body: bytes, most: int = MOST) -> list[EioPacket]:
    return CODEC.decode_payload(Body(body, vector.content_type), vector.query, most)


@pytest.mark.parametrize("vector", table(PAYLOADS))
def test_a_payload_is_written(vector: Payload) -> None:
    assert CODEC.of_session(vector.query).encode_payload(vector.packets, vector.query) == vector.as_body


@pytest.mark.parametrize("vector", table(PAYLOADS | DECODED))
def test_a_payload_is_read(vector: Payload) -> None:
    assert decode(vector, vector.body) == list(vector.packets)


@pytest.mark.parametrize("vector", table(PAYLOADS))
def test_a_payload_cut_between_packets_is_whole_and_elsewhere_refused(vector: Payload) -> None:
    found = []
    for cut in range(len(vector.body)):
        with contextlib.suppress(ProtocolError):
            found.append(decode(vector, vector.body[:cut]))
    assert found == [list(vector.packets[:number]) for number in range(1, len(vector.packets))]


@pytest.mark.parametrize("trailing", [b"x", b"\x00", b"9", b":", b"\xff"])
@pytest.mark.parametrize("vector", table(PAYLOADS))
def test_trailing_bytes_are_refused(vector: Payload, trailing: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(vector, vector.body + trailing)


@pytest.mark.parametrize(("body", "content_type"), [pytest.param(*row, id=name) for name, row in WRONG.items()])
def test_a_wrong_payload_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode_payload(Body(body, content_type), PLAIN, MOST)


def test_packets_are_counted_while_they_are_read() -> None:
    vector = Payload(b"1:2" * 3, (text("", EioType.PING),) * 3)
    assert decode(vector, vector.body, 3) == list(vector.packets)
    with pytest.raises(ProtocolError, match="too many packets"):
        # What follows the last allowed packet is not looked at.
        decode(vector, vector.body + b"1:2" + b"\xc3\xa9", 3)


def test_the_media_type_decides_the_form() -> None:
    vector = PAYLOADS["binary"]
    for content_type in ("Application/Octet-Stream", "application/octet-stream; charset=x"):
        assert CODEC.decode_payload(Body(vector.body, content_type), PLAIN, MOST) == list(vector.packets)
    assert CODEC.decode_payload(Body(b"2:4x", ""), PLAIN, MOST) == [text("x")]


def test_a_script_carries_the_text_form() -> None:
    packets = [text('"\u2028\u2029</script>'), binary(b"\x00")]
    body = CODEC.encode_payload(packets, JSONP)
    assert body.content_type == SCRIPT
    assert body.data.isascii()
    assert body.data.startswith(b"___eio[7](")
    assert body.data.endswith(b");")
    payload = json.loads(body.data[len("___eio[7](") : -len(");")])
    assert CODEC.decode_payload(Body(payload.encode()), PLAIN, MOST) == packets


@pytest.mark.parametrize("index", ["0", "123456789"])
def test_an_index_of_a_script_is_a_number(index: str) -> None:
    CODEC.check_poll({"j": [index]})
    CODEC.check_poll(PLAIN)


@pytest.mark.parametrize("index", ["", "a", "1;alert(1)", "-1", "1" * 10, "٢", "1\n"])
def test_an_index_that_is_no_number_is_refused(index: str) -> None:
    with pytest.raises(RequestError, match="j is no number"):
        CODEC.check_poll({"j": [index]})


@pytest.mark.parametrize("body", [b"", b"x=1", b"d=", b"d=%", b"\xff", b"&".join([b"d=2%3A4x"] * 11), b"d=2:4%FF"])
def test_a_form_that_holds_no_payload_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode_payload(Body(body, "application/x-www-form-urlencoded"), JSONP, MOST)


def test_answers_of_http() -> None:
    assert CODEC.posted(PLAIN) == Body(b"ok", TEXT)
    assert CODEC.posted(JSONP) == Body(b"ok", PAGE)
    error = CODEC.error_body(RequestError(ErrorCode.UNKNOWN_SID))
    assert json.loads(error.data) == {"code": 1, "message": "Session ID unknown"}


@pytest.mark.parametrize(("frame", "packet"), [pytest.param(*row, id=name) for name, row in FRAMES.items()])
def test_a_frame(frame: Frame, packet: EioPacket) -> None:
    assert CODEC.encode_packet(packet) == frame
    assert CODEC.decode_packet(frame) == packet


@pytest.mark.parametrize("frame", table(WRONG_FRAMES))
def test_a_wrong_frame_is_refused(frame: Frame) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode_packet(frame)


@pytest.mark.parametrize(("message", "packet"), [pytest.param(*row, id=name) for name, row in MESSAGES.items()])
def test_a_message_is_written(message: str, packet: SioPacket) -> None:
    assert CODEC.encode_message(packet) == [message]


@pytest.mark.parametrize(
    ("message", "packet"), [pytest.param(*row, id=name) for name, row in (MESSAGES | READ_MESSAGES).items()]
)
def test_a_message_is_read(message: str, packet: SioPacket) -> None:
    assert CODEC.decode_message(message, 10)._replace(spelling=None) == packet


@pytest.mark.parametrize("message", table(WRONG_MESSAGES))
def test_a_wrong_message_is_refused(message: str) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode_message(message, 10)


def test_binary_values_are_attachments() -> None:
    event = SioPacket(SioType.EVENT, "/legacy_v4", data=["f", {"a": b"\x00", "b": [b"\x01"]}])
    header, *parts = CODEC.encode_message(event)
    assert header == (
        '52-/legacy_v4,["f",{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}]}]'
    )
    assert parts == [b"\x00", b"\x01"]
    assert CODEC.encode_message(SioPacket(SioType.ACK, id=1, data=[b"\x02"]))[0].startswith("61-1[")  # type: ignore[arg-type]  # text
    with pytest.raises(ValueError, match="CONNECT_ERROR packet carries no binary"):
        CODEC.encode_message(SioPacket(SioType.CONNECT_ERROR, data=b"\x00"))


def test_what_a_client_is_told_of_its_namespaces() -> None:
    assert CODEC.connect_packet("/legacy_v4", "anything") == SioPacket(SioType.CONNECT, "/legacy_v4")
    assert CODEC.client_id("a", "/", "fresh") == "a"
    assert CODEC.client_id("a", "/legacy_v4", "fresh") == "/legacy_v4#a"


@pytest.mark.parametrize("data", ["no", {"message": "no"}, {"message": "no", "data": {"why": 1}}])
def test_a_refusal_is_its_message_alone(data: Any) -> None:
    assert CODEC.refusal_packet("/x", data) == SioPacket(SioType.CONNECT_ERROR, "/x", data="no")


# Properties.

kinds = st.sampled_from([kind for kind in EioType if kind is not EioType.UPGRADE])


def _is_written_twice(data: str) -> bool:
    """Whether a payload's text looks like 1.x's UTF-8 within UTF-8: it cannot be told apart."""
    try:
        return not data.isascii() and data.encode("latin-1").decode("utf-8") != data
    except UnicodeError:
        return False


texts = st.text(st.characters(codec="utf-8")).filter(lambda data: not _is_written_twice(data))
text_packets = st.builds(EioPacket, kinds, texts)
packets = text_packets | st.builds(binary, st.binary())
payloads = st.lists(packets, min_size=1, max_size=8)
queries = st.sampled_from([PLAIN, BASE64])
pieces = st.lists(
    st.sampled_from([*"0123456789:b4", "2:4x", "4:4🏗x", "é", "b4AAAA", '2["a"]', "\x00\x01\xff\x04", "\xff", "", "d="])
).map("".join)
bodies = st.binary() | pieces.map(str.encode) | pieces.map(lambda data: data.encode("latin-1", "ignore"))


@given(payloads, queries)
def test_what_is_written_is_read(sent: list[EioPacket], query: Query) -> None:
    assert CODEC.decode_payload(CODEC.encode_payload(sent, query), query, MOST) == sent


@given(payloads, st.data())
def test_a_cut_payload_yields_whole_packets_or_our_error(sent: list[EioPacket], data: st.DataObject) -> None:
    body = CODEC.encode_payload(sent, PLAIN)
    cut = body.data[: data.draw(st.integers(0, len(body.data)))]
    try:
        found = CODEC.decode_payload(Body(cut, body.content_type), PLAIN, MOST)
    except ProtocolError:
        return
    assert found == sent[: len(found)]


@given(st.lists(text_packets, min_size=1))
def test_a_length_counts_units(sent: list[EioPacket]) -> None:
    written = CODEC.encode_payload(sent, PLAIN).data.decode().encode("utf-16-le")
    for packet in sent:
        digits = str(len(packet.data.encode("utf-16-le")) // 2 + 1) if isinstance(packet.data, str) else ""
        head = f"{digits}:{packet.type.value}{packet.data!s}".encode("utf-16-le")
        assert written.startswith(head)
        written = written[len(head) :]
    assert not written


@given(bodies, st.sampled_from([TEXT, BINARY, ""]), st.sampled_from([PLAIN, BASE64, JSONP]))
@example(b"1:" + b"9" * 20, TEXT, PLAIN)
def test_any_body_is_packets_or_our_error(body: bytes, content_type: str, query: Query) -> None:
    try:
        found = CODEC.decode_payload(Body(body, content_type), query, MOST)
    except ProtocolError:
        return
    assert found
    assert all(isinstance(packet, EioPacket) for packet in found)


@given(packets)
def test_a_frame_that_is_written_is_read(packet: EioPacket) -> None:
    assert CODEC.decode_packet(CODEC.encode_packet(packet)) == packet


@given(st.text() | st.binary())
def test_any_frame_is_a_packet_or_our_error(frame: Frame) -> None:
    try:
        packet = CODEC.decode_packet(frame)
    except ProtocolError:
        return
    assert CODEC.encode_packet(packet) == frame


heads = st.sampled_from(["2", "20", "2/legacy_v4,7", "51-", "0", "0/a?b=c,", "1", "37", "4", "61-/a,"])
tails = st.text(st.sampled_from('[]{}",:ae0123456789\\-/?,🏗é '))


@given(st.text() | st.tuples(heads, tails).map("".join))
def test_any_message_is_a_packet_or_our_error(message: str) -> None:
    try:
        packet = CODEC.decode_message(message, 10)
    except ProtocolError:
        return
    assert isinstance(packet, SioPacket)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
events = st.builds(
    lambda namespace, number, values: SioPacket(SioType.EVENT, namespace, number, ["event", *values]),
    st.sampled_from(["/", "/legacy_v4"]),
    st.none() | st.integers(0, 2**53 - 1),
    st.lists(json_values, max_size=3),
)


@given(events)
def test_an_event_that_is_written_is_read_and_is_ascii(event: SioPacket) -> None:
    (message,) = CODEC.encode_message(event)
    assert isinstance(message, str)
    assert message.isascii()
    assert CODEC.decode_message(message, 10)._replace(spelling=None) == event
