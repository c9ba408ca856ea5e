"""Deliveries as they are taken from a connection's bytes: whole, split at every byte, and what is no AMQP."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.backend.frames import Broken, Deliveries, Delivery, Frame, Item

MAX_BODY = 100
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
CLOSED = b"\x00\x0a\x00\x32rest"


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def header(size: int) -> bytes:
    return frame(2, pack(">HHQ", 60, 0, size) + b"\x10\x00\x02")


def announced(tag: int, *, again: bool = False) -> bytes:
    return frame(1, b"\x00\x3c\x00\x3c\x04ctag" + pack(">QB", tag, again) + b"\x00\x00")


def delivery(body: bytes, size: int = 8, tag: int = 1, *, again: bool = False) -> bytes:
    """A message whose body comes in frames of that many bytes."""
    parts = [frame(3, body[at : at + size]) for at in range(0, len(body), size)]
    return announced(tag, again=again) + header(len(body)) + b"".join(parts)


STREAM = b"".join(
    [
        delivery(b"first"),
        HEARTBEAT,
        delivery(b""),
        delivery(b"x" * 100),
        delivery(b"x" * 101),
        frame(1, CLOSED, channel=0),
        delivery("ü".encode(), tag=1 << 40, again=True),
    ]
)
ITEMS: list[Item] = [
    Delivery(1, False, 5, b"first"),
    Delivery(1, False, 0, b""),
    Delivery(1, False, 100, b"x" * 100),
    Delivery(1, False, 101, None),
    Frame(1, 0, CLOSED),
    Delivery(1 << 40, True, 2, "ü".encode()),
]


def fed(*chunks: bytes) -> list[Item]:
    deliveries = Deliveries(MAX_BODY)
    return [item for chunk in chunks for item in deliveries.feed(chunk)]


def test_deliveries_are_taken_out_and_other_frames_handed_back() -> None:
    assert fed(STREAM) == ITEMS


def test_bytes_may_arrive_one_by_one() -> None:
    assert fed(*[STREAM[at : at + 1] for at in range(len(STREAM))]) == ITEMS


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_bytes_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert fed(*[STREAM[start:end] for start, end in pairwise(edges)]) == ITEMS


def test_a_body_that_is_too_large_is_not_kept_meanwhile() -> None:
    deliveries, part, number = Deliveries(MAX_BODY), b"x" * 100_000, 200
    list(deliveries.feed(announced(1) + header(len(part) * number)))
    tracemalloc.start()
    try:
        items = [item for _ in range(number) for item in deliveries.feed(frame(3, part[:]))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert items == [Delivery(1, False, len(part) * number, None)]
    assert peak < 10 * len(part)


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(1, b"\x00\x3c\x00\x3c")[:-1] + b"\x00",
        pack(">BHI", 3, 1, 1 << 30),
        frame(3, b"a body of nothing"),
        header(3),
        announced(1) + frame(3, b"x"),
        announced(1) + frame(2, b"short"),
        announced(1) + header(2) + frame(3, b"xxx"),
        announced(1) + header(2) + announced(2),
        frame(1, b"\x00\x3c\x00\x3c"),
        frame(1, b"\x00\x3c\x00\x3c\x04ctag" + b"\x00" * 8),
        frame(7, b""),
    ],
)
def test_what_is_no_amqp_is_broken(stream: bytes) -> None:
    with pytest.raises(Broken):
        fed(stream)


@given(st.binary())
def test_any_bytes_are_items_or_broken(stream: bytes) -> None:
    try:
        items = fed(stream)
    except Broken:
        return
    assert all(isinstance(item, Delivery | Frame) for item in items)
