"""The frame parser and builder against RFC 6455, and against arbitrary bytes split at arbitrary places."""

from __future__ import annotations

import os
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine.wire import frames
from repo_notify.engine.wire.frames import Close, CloseCode, Event, FrameError, FrameParser, Message, Ping, Pong

LIMIT = 100_000
MASK = b"\x37\xfa\x21\x3d"


def client_frame(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    length = len(payload)
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", length)
    return head + (MASK + frames.unmask(payload, MASK) if masked else payload)


def text(value: str, **options: bool) -> bytes:
    return client_frame(frames.TEXT, value.encode(), **options)


# RFC 6455 section 5.7 and what follows from sections 5.4 and 5.5.
GOOD: list[tuple[str, bytes, list[Event]]] = [
    ("the RFC's Hello", bytes.fromhex("818537fa213d7f9f4d5158"), [Message("Hello")]),
    ("empty text", text(""), [Message("")]),
    ("binary", client_frame(frames.BINARY, b"\x00\xff"), [Message(b"\x00\xff")]),
    ("16 bit length", text("x" * 300), [Message("x" * 300)]),
    ("64 bit length", text("x" * 70_000), [Message("x" * 70_000)]),
    ("two in one", text("a") + text("ü"), [Message("a"), Message("ü")]),
    (
        "fragments with a ping between",
        text("He", final=False) + client_frame(frames.PING, b"p") + client_frame(frames.CONTINUATION, b"llo"),
        [Ping(b"p"), Message("Hello")],
    ),
    (
        "a character split between fragments",
        client_frame(frames.TEXT, b"\xc3", final=False) + client_frame(frames.CONTINUATION, b"\xbc"),
        [Message("ü")],
    ),
    ("pong", client_frame(frames.PONG, b""), [Pong()]),
    ("close without a code", client_frame(frames.CLOSE, b""), [Close(None)]),
    ("close", client_frame(frames.CLOSE, b"\x03\xe8bye"), [Close(1000)]),
    ("an application's close code", client_frame(frames.CLOSE, b"\x0f\xa0"), [Close(4000)]),
]

BAD: list[tuple[str, bytes, CloseCode]] = [
    ("reserved bit", client_frame(frames.TEXT, b"", reserved=0x40), CloseCode.PROTOCOL_ERROR),
    ("unmasked", client_frame(frames.TEXT, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
    ("unknown data opcode", client_frame(0x3, b""), CloseCode.PROTOCOL_ERROR),
    ("unknown control opcode", client_frame(0xB, b""), CloseCode.PROTOCOL_ERROR),
    ("fragmented ping", client_frame(frames.PING, b"", final=False), CloseCode.PROTOCOL_ERROR),
    ("long ping", client_frame(frames.PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
    ("continuation of nothing", client_frame(frames.CONTINUATION, b""), CloseCode.PROTOCOL_ERROR),
    ("text within a message", text("a", final=False) + text("b"), CloseCode.PROTOCOL_ERROR),
    ("not UTF-8", client_frame(frames.TEXT, b"\xff"), CloseCode.INVALID_DATA),
    ("a surrogate", client_frame(frames.TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_DATA),
    ("close of one byte", client_frame(frames.CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
    ("close code that nobody sends", client_frame(frames.CLOSE, b"\x03\xee"), CloseCode.PROTOCOL_ERROR),
    ("close reason not UTF-8", client_frame(frames.CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_DATA),
    ("too big, by the header alone", bytes([0x81, 0xFF]) + struct.pack(">Q", LIMIT + 1), CloseCode.TOO_BIG),
    ("a length with its first bit", bytes([0x81, 0xFF]) + b"\xff" * 8, CloseCode.PROTOCOL_ERROR),
    ("a length not in the shortest form", bytes([0x81, 0xFE, 0, 5]), CloseCode.PROTOCOL_ERROR),
    (
        "too big over fragments",
        text("x" * 60_000, final=False) + bytes([0x80, 0xFE]) + struct.pack(">H", 50_000),
        CloseCode.TOO_BIG,
    ),
    (
        "endless empty fragments",
        text("", final=False) + client_frame(frames.CONTINUATION, b"", final=False) * (LIMIT + 1),
        CloseCode.TOO_BIG,
    ),
]


def fed(chunks: list[bytes], limit: int = LIMIT) -> list[Event]:
    parser = FrameParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(("data", "events"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_good_frames_whole_byte_by_byte_and_with_more_behind(data: bytes, events: list[Event]) -> None:
    assert fed([data]) == events
    assert fed([data[at : at + 1] for at in range(len(data))]) == events
    assert fed([data + text("more")[:3]]) == events


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_frames_are_refused_with_the_rfcs_code(data: bytes, code: CloseCode) -> None:
    with pytest.raises(FrameError) as caught:
        fed([data])
    assert caught.value.code is code


@pytest.mark.parametrize("split", range(1, 14))
def test_a_message_split_in_two_at_every_place(split: int) -> None:
    data = text("Hellö w")
    assert fed([data[:split], data[split:]]) == [Message("Hellö w")]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=20))
def test_any_bytes_give_events_or_our_error_wherever_they_are_split(data: bytes, places: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[Event], CloseCode | None]:
        parser, events = FrameParser(200), list[Event]()
        for chunk in chunks:
            try:
                events += parser.feed(chunk)
            except FrameError as error:
                return events, error.code
        return events, None

    at = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(at)]
    assert outcome(pieces)[1] == outcome([data[index : index + 1] for index in range(len(data))])[1]


@given(st.one_of(st.text(), st.binary()), st.integers(1, 50))
def test_what_is_built_is_what_a_client_would_parse(data: str | bytes, size: int) -> None:
    built = frames.build(data)
    payload = data.encode() if isinstance(data, str) else data
    opcode = frames.TEXT if isinstance(data, str) else frames.BINARY
    assert built == client_frame(opcode, payload, masked=False)
    sent = client_frame(opcode, payload)
    assert fed([sent[at : at + size] for at in range(0, len(sent), size)]) == [Message(data)]


def test_bytes_that_trickle_in_are_parsed_once() -> None:
    payload = os.urandom(90_000)
    data = client_frame(frames.BINARY, payload)
    parser = FrameParser(LIMIT)
    assert not any(parser.feed(data[at : at + 1]) for at in range(len(data) - 1))
    assert parser.feed(data[-1:]) == [Message(payload)]
