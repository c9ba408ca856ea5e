"""The queue's envelope: it gives back what it was given, and numbers show repeats and holes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.delivery.messages import (
    ALIVE,
    EVENT,
    Arrival,
    Backlog,
    Message,
    NotEncodable,
    NotUnderstood,
    Origins,
    decode,
    dump,
    envelope,
)
from tests.test_payload import plain_values


def there_and_back(content: dict[str, Any]) -> Message:
    return decode(envelope("o", 7, EVENT, dump(content)))


@given(st.dictionaries(st.text(), plain_values, max_size=4))
def test_a_content_comes_back_as_it_was(content: dict[str, Any]) -> None:
    assert there_and_back(content) == Message("o", 7, EVENT, content)


@given(st.dictionaries(st.text(st.characters(categories=["Cs", "Lu"])), st.binary(), max_size=3))
def test_lone_surrogates_come_back(content: dict[str, Any]) -> None:
    assert there_and_back(content).content == content


@given(st.dictionaries(st.text(), st.binary(), max_size=3))
def test_an_object_that_looks_like_an_attachment_stays_what_it_is(inner: Any) -> None:
    looks_like = {"marker": "m", "attachments": ["eA=="], "content": {"m": 0}, **inner}
    assert there_and_back({"bytes": b"x", "inner": looks_like}).content == {"bytes": b"x", "inner": looks_like}


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**5000, object(), {1, 2}], ids=type)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(NotEncodable):
        dump({"value": value})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"v":2,"origin":"o","number":1,"kind":"event","content":{}}',
        b'{"v":1,"origin":"o","number":true,"kind":"event","content":{}}',
        b'{"v":1,"origin":"o","number":-1,"kind":"event","content":{}}',
        b'{"v":1,"origin":"o","number":1,"kind":"event","content":[]}',
        b'{"v":1,"origin":"o","number":1,"kind":"event","content":{"n":NaN}}',
        b'{"v":1,"origin":"o","number":1,"kind":"event","content":{"n":{"m":1}},"marker":"m","attachments":["eA=="]}',
        b'{"v":1,"origin":"o","number":1,"kind":"event","content":{},"attachments":[]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        decode(body)


@pytest.mark.parametrize(
    ("heard", "says"),
    [
        ([(EVENT, 5)], Arrival()),
        ([(EVENT, 5), (EVENT, 6)], Arrival()),
        ([(EVENT, 5), (EVENT, 5)], Arrival(repeat=True)),
        ([(EVENT, 5), (EVENT, 6), (EVENT, 5)], Arrival(repeat=True)),
        ([(EVENT, 5), (EVENT, 8)], Arrival(missing=2)),
        ([(EVENT, 5), (EVENT, 8), (EVENT, 9)], Arrival()),
        ([(EVENT, 5), (ALIVE, 5)], Arrival()),
        ([(EVENT, 5), (ALIVE, 4), (EVENT, 6)], Arrival()),
        ([(EVENT, 5), (ALIVE, 7)], Arrival(missing=2)),
        ([(EVENT, 5), (ALIVE, 7), (EVENT, 8)], Arrival()),
        ([(ALIVE, 0), (EVENT, 1)], Arrival()),
        ([(ALIVE, 0), (EVENT, 2)], Arrival(missing=1)),
    ],
)
def test_what_a_number_says(heard: list[tuple[str, int]], says: Arrival) -> None:
    origins = Origins()
    assert [origins.arrived(Message("o", number, kind, {})) for kind, number in heard][-1] == says


def test_origins_are_told_apart_and_bounded() -> None:
    origins = Origins(limit=2)
    for origin in "abac":
        assert not origins.arrived(Message(origin, 1, ALIVE, {})).missing
    assert len(origins) == 2
    assert origins.arrived(Message("a", 1, EVENT, {})).repeat
    assert not origins.arrived(Message("b", 1, EVENT, {})).repeat


def test_a_backlog_is_bounded_in_number_and_in_bytes() -> None:
    backlog = Backlog(3, 10)
    assert [backlog.put(1, b"12345"), backlog.put(2, b"123456"), backlog.put(3, b"12345")] == [
        None,
        "backlog_bytes",
        None,
    ]
    assert backlog.first() == (1, b"12345")
    backlog.remove_first()
    assert [backlog.put(4, b"1"), backlog.put(5, b"1"), backlog.put(6, b"1")] == [None, None, "backlog_messages"]
    assert (len(backlog), backlog.bytes) == (3, 7)
