"""A backend's messages as they are read: every row of the table, and what is none (spec section 11)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.backend.messages import (
    MAX_BODY_BYTES,
    MAX_ROOMS,
    LoggedIn,
    LoggedOut,
    NotUnderstood,
    ToRooms,
    ToSessions,
    may_be_of_sessions,
    parse,
)
from repo_notify.events import ModelCreated, ModelRemoved
from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.rooms import Address
from repo_notify.protocol.v5 import MODEL, NOTIFICATIONS, PROJECT, V5

PROJECT_ID = "a608516e-0fef-4185-bca8-bf03a256ad3d"
IN_MODEL = Address("model", ("acme", PROJECT_ID, "m"))
TOLD = {"data": {"_id": "t"}, "teamspace": "acme", "project": PROJECT_ID, "model": "m"}

MESSAGES: dict[str, tuple[Any, Any]] = {
    "v5, model": (
        {"event": "containerNewTicket", "data": TOLD, "recipients": [f"acme::{PROJECT_ID}::m"]},
        ToRooms("containerNewTicket", TOLD, (IN_MODEL,)),
    ),
    "v5, model, with a sender": (
        {"event": "containerNewTicket", "data": TOLD, "recipients": [f"acme::{PROJECT_ID}::m"], "sender": "s"},
        ToRooms("containerNewTicket", TOLD, (IN_MODEL,), "s"),
    ),
    "v5, project": (
        {"event": "newContainer", "data": {}, "recipients": [f"acme::{PROJECT_ID}"]},
        ToRooms("newContainer", {}, (Address("project", ("acme", PROJECT_ID)),)),
    ),
    "to sessions": (
        {"event": "loggedOut", "data": {"reason": "r"}, "recipients": ["sessions::a+/=", "sessions::b"]},
        ToSessions("loggedOut", {"reason": "r"}, ("a+/=", "b")),
    ),
    "to sessions, v4": (
        {"event": "message", "recipients": ["sessions::a"], "data": {"event": "loggedOut", "reason": "r"}},
        ToSessions("message", {"event": "loggedOut", "reason": "r"}, ("a",)),
    ),
    "v4, model": (
        {"event": "acme::m::issueCreated", "channel": f"acme::{PROJECT_ID}::m", "emitter": "s", "data": [1]},
        ToRooms("acme::m::issueCreated", [1], (IN_MODEL,), "s"),
    ),
    "v4, own": (
        {"event": "bob::notificationUpserted", "channel": "notifications::bob", "emitter": None, "data": {}},
        ToRooms("bob::notificationUpserted", {}, (Address("user", ("bob",)),)),
    ),
    "logged in": (
        {"internal": True, "event": "loggedIn", "data": {"sessionID": "a", "socketId": "s"}},
        LoggedIn("a", "s"),
    ),
    "logged in on no socket": (
        {"internal": True, "event": "loggedIn", "data": {"sessionID": "a"}},
        LoggedIn("a", None),
    ),
    "logged out": (
        {"internal": True, "event": "loggedOut", "data": {"sessionIds": ["a", "b"]}},
        LoggedOut(("a", "b")),
    ),
    "without data": ({"event": "e", "recipients": [f"acme::{PROJECT_ID}::m"]}, ToRooms("e", None, (IN_MODEL,))),
    "to nobody": ({"event": "e", "recipients": []}, ToRooms("e", None, ())),
    "several rooms": (
        {"event": "e", "recipients": [f"acme::{PROJECT_ID}::m", f"acme::{PROJECT_ID}"]},
        ToRooms("e", None, (IN_MODEL, Address("project", ("acme", PROJECT_ID)))),
    ),
    "a model with the separator in its id": (
        {"event": "e", "channel": f"acme::{PROJECT_ID}::a::b::"},
        ToRooms("e", None, (Address("model", ("acme", PROJECT_ID, "a::b::")),)),
    ),
    "a project of older data": (
        {"event": "e", "channel": "acme::5bfc11fa50acb7e7432883aa::m"},
        ToRooms("e", None, (Address("model", ("acme", "5bfc11fa50acb7e7432883aa", "m")),)),
    ),
    "a teamspace that is named like a prefix": (
        {"event": "e", "recipients": [f"sessions::{PROJECT_ID}::m", f"notifications::{PROJECT_ID}::m"]},
        ToRooms(
            "e",
            None,
            (Address("model", ("sessions", PROJECT_ID, "m")), Address("model", ("notifications", PROJECT_ID, "m"))),
        ),
    ),
    "channel comes first": (
        {"event": "loggedIn", "channel": f"acme::{PROJECT_ID}::m", "internal": True, "recipients": [], "sender": "x"},
        ToRooms("loggedIn", None, (IN_MODEL,)),
    ),
    "internal comes before recipients": (
        {"internal": True, "event": "loggedOut", "data": {"sessionIds": []}, "recipients": [f"acme::{PROJECT_ID}::m"]},
        LoggedOut(()),
    ),
    "a sender that nobody can be": (
        {"event": "e", "recipients": [f"acme::{PROJECT_ID}::m"], "sender": "s" * 1000},
        ToRooms("e", None, (IN_MODEL,)),
    ),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_each_message_is_read(what: str) -> None:
    body, expected = MESSAGES[what]
    assert parse(json.dumps(body).encode()) == expected
    assert parse(json.dumps(body, ensure_ascii=False).encode()) == expected


def to(*recipients: Any) -> dict[str, Any]:
    return {"event": "e", "recipients": list(recipients)}


IN_ROOM = f"acme::{PROJECT_ID}::m"
WRONG_SHAPES: list[Any] = [
    [],
    3,
    None,
    {},
    {"event": "e"},
    {"event": "e", "data": {}},
    {"recipients": [IN_ROOM]},
    {"event": "", "recipients": []},
    {"event": 3, "recipients": []},
    {"event": ["e"], "channel": IN_ROOM},
    {"event": "e", "recipients": IN_ROOM},
    {"event": "e", "recipients": {"0": "x"}},
    {"event": "e", "channel": [IN_ROOM]},
    {"event": "e", "channel": {"$ne": 1}},
    {**to(), "sender": 3},
    {**to(), "sender": {"id": "s"}},
    {"event": "e", "channel": IN_ROOM, "emitter": ["s"]},
    {"internal": True},
    {"internal": True, "event": "loggedIn"},
    {"internal": True, "event": ["loggedIn"], "data": {}},
    {"internal": True, "event": "shutDown", "data": {}},
    {"internal": True, "event": "loggedIn", "data": {"sessionID": 3, "socketId": "s"}},
    {"internal": True, "event": "loggedIn", "data": {"sessionID": "", "socketId": "s"}},
    {"internal": True, "event": "loggedIn", "data": {"sessionID": "a", "socketId": {"$gt": ""}}},
    {"internal": True, "event": "loggedOut", "data": {}},
    {"internal": True, "event": "loggedOut", "data": {"sessionIds": "a"}},
    {"internal": True, "event": "loggedOut", "data": {"sessionIds": [1]}},
    {"internal": "true", "event": "loggedOut", "data": {"sessionIds": ["a"]}},
    to(*[f"acme::{PROJECT_ID}::m{number}" for number in range(MAX_ROOMS + 1)]),
    to("sessions::a", IN_ROOM),
    *[{"event": name, "recipients": []} for name in ("connect", "disconnect", "newListener")],
]
HOSTILE_ROOMS: list[Any] = [
    *("", "::", "::::", "acme", "acme::", f"::{PROJECT_ID}", f"::{PROJECT_ID}::m", f"acme::{PROJECT_ID}::"),
    *("acme::tower", "acme::tower::m", "acme::::m", "acme::undefined::m", "sessions::", "notifications::"),
    *[f"{name}::{PROJECT_ID}::m" for name in ("admin", "Local", "a.b", "a/b", "$x", "a b", "a\0", "x" * 64)],
    *[f"acme::{PROJECT_ID}::{model}" for model in ("a\0b", "\ud800", "x" * 1025)],
    *("notifications::\ud800", "notifications::" + "x" * 2000, "notifications::a\0"),
    *("repo_notify:[1]", "acme:" + PROJECT_ID, None, 3, {}, ["acme"]),
]
BAD: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "no UTF-8": b'{"event": "\xff", "recipients": []}',
    "UTF-16": json.dumps(to()).encode("utf-16"),
    "NaN": b'{"event": "e", "recipients": [], "data": NaN}',
    "a number out of range": b'{"event": "e", "recipients": [], "data": 1e999}',
    "an integer without end": b'{"event": "e", "recipients": [], "data": ' + b"1" * 100_000 + b"}",
    "too deep": b'{"event": "e", "recipients": [], "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too large": json.dumps({**to(), "data": "x" * MAX_BODY_BYTES}).encode(),
    **{f"shape {number}": json.dumps(body).encode() for number, body in enumerate(WRONG_SHAPES)},
    **{f"room {room!r:.40}": json.dumps(to(room)).encode() for room in HOSTILE_ROOMS},
}


@pytest.mark.parametrize("what", BAD)
def test_what_no_backend_sends_is_not_understood(what: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        parse(BAD[what])
    assert PROJECT_ID not in str(caught.value), "what is logged holds nothing of the body"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["sessions::a", f"acme::{PROJECT_ID}::m"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["event", "channel", "internal", "recipients", "data", "sender", "sessionIds"]),
            inner,
            max_size=6,
        )
    ),
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_any_body_is_a_message_or_not_understood(body: bytes) -> None:
    try:
        message = parse(body)
    except NotUnderstood:
        return
    assert isinstance(message, ToRooms | ToSessions | LoggedIn | LoggedOut)
    assert isinstance(message, ToRooms) or may_be_of_sessions(body)


def escaped(text: str) -> bytes:
    """Return JSON with each letter within its strings as JSON may write it."""
    return re.sub(r'[a-z](?=[^"]*"(?:[^"]*"[^"]*")*[^"]*\Z)', lambda found: f"\\u{ord(found[0]):04x}", text).encode()


@pytest.mark.parametrize("what", MESSAGES)
def test_what_is_of_sessions_is_told_from_most_of_the_rest_unread(what: str) -> None:
    document, expected = MESSAGES[what]
    text = json.dumps(document)
    assert parse(escaped(text)) == parse(text.encode())
    for body in (text.encode(), escaped(text)):
        assert isinstance(expected, ToRooms) or may_be_of_sessions(body)
    assert what != "v5, model" or not may_be_of_sessions(text.encode())


@pytest.fixture
def dialects() -> Dialects:
    legacy_v4 = pytest.importorskip("legacy_v4")
    return Dialects((V5("/"), legacy_v4.V4(namespace="/legacy_v4", names="first")))


def test_addresses_are_the_rooms_of_every_dialect(dialects: Dialects) -> None:
    from legacy_v4 import rooms

    shouted = PROJECT_ID.upper()
    assert dialects.rooms_at([Address("model", ("acme", shouted, "m")), IN_MODEL]) == [
        MODEL.room("acme", PROJECT_ID, "m").key,
        rooms.MODEL.room("acme", "m").key,
        rooms.TEAMSPACE.room("acme").key,
    ]
    assert dialects.rooms_at([Address("project", ("acme", PROJECT_ID))]) == [
        PROJECT.room("acme", PROJECT_ID).key,
        rooms.TEAMSPACE.room("acme").key,
    ]
    assert dialects.rooms_at([Address("user", ("bob",))]) == [NOTIFICATIONS.room("bob").key, rooms.OWN.room("bob").key]


def test_the_names_of_models_that_come_and_go() -> None:
    names = Dialects((V5("/"),)).names_of(ModelCreated, ModelRemoved)
    assert sorted(names) == sorted(
        [f"new{kind}" for kind in ("Container", "Federation", "Drawing")]
        + [f"{kind}Removed" for kind in ("container", "federation", "drawing")]
    )


def test_without_v4_the_rooms_are_those_of_v5() -> None:
    assert Dialects((V5("/"),)).rooms_at([IN_MODEL]) == [MODEL.room("acme", PROJECT_ID, "m").key]
