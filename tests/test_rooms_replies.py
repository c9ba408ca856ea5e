"""spec section 3: every room, every refusal, and the replies word by word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from repo_notify.demo.seed import BRIDGE, DECK, PLAN, STRUCTURE, TOWER, WHOLE
from repo_notify.engine.wire.jsoncodec import MAX_DEPTH
from tests.support.chat import ChatClient, Heard, echoed
from tests.support.people import People
from tests.support.served import Served, User

Json = Any
NOTIFICATIONS: Json = {"notifications": True}


def model(project: Json, model: Json, teamspace: Json = "acme", **more: Json) -> Json:
    return {"teamspace": teamspace, "project": project, "model": model, **more}


def project(project: Json, teamspace: Json = "acme", **more: Json) -> Json:
    return {"teamspace": teamspace, "project": project, **more}


def deep(levels: int) -> Json:
    value: Json = "bottom"
    for _ in range(levels):
        value = [value]
    return value


@dataclass(frozen=True)
class Granted:
    says: str
    user: str
    asked: Json


@dataclass(frozen=True)
class Refused:
    says: str
    user: str | None
    asked: Json
    code: str
    message: str


GRANTED = (
    Granted("any user: own notifications", "mallory", NOTIFICATIONS),
    Granted("viewer: container", "carol", model(TOWER, STRUCTURE)),
    Granted("commenter: federation", "dave", model(TOWER, WHOLE)),
    Granted("project admin: drawing", "bob", model(TOWER, PLAN)),
    Granted("teamspace admin: container", "alice", model(BRIDGE, DECK)),
    Granted("project admin: project", "bob", project(TOWER)),
    Granted("teamspace admin: project", "alice", project(BRIDGE)),
    Granted("upper case, model", "carol", model(TOWER.upper(), STRUCTURE.upper())),
    Granted("upper case, project", "bob", project(TOWER.upper())),
    Granted("unknown keys", "mallory", {**NOTIFICATIONS, "more": [1, 2.5, None, {"$gt": ""}], "project": 5}),
    Granted("unicode", "carol", model(TOWER, STRUCTURE, Zürich="\u2028 🏗 \u0000 </script>")),
    Granted("binary", "carol", model(TOWER, STRUCTURE, raw=[b"\x00\x01\xff", {"b": b""}])),
    Granted("lone surrogate", "mallory", {**NOTIFICATIONS, "odd": "\ud800"}),
    Granted("nested", "mallory", {**NOTIFICATIONS, "deep": deep(90)}),
)

NOT_LOGGED_IN = ("UNAUTHORISED", "You are not logged in")
NO_MODEL = ("ROOM_NOT_FOUND", "Model not found")
NO_PROJECT = ("ROOM_NOT_FOUND", "Project not found")
UNKNOWN = ("ROOM_NOT_FOUND", "Cannot identify the room indicated")

NOWHERE = "11111111-2222-3333-4444-555555555555"
LONG = "x" * 10_000
NO_TEAMSPACES = {
    "reserved: admin": "admin",
    "reserved: local": "local",
    "reserved: config": "config",
    "reserved in capitals": "Admin",
    "slash": "ac/me",
    "backslash": "ac\\me",
    "dot": "acme.settings",
    "blank": "ac me",
    "quote": 'ac"me',
    "dollar": "$acme",
    "null byte": "acme\0",
    "64 bytes": "x" * 64,
    "64 bytes of UTF-8": "ü" * 32,
    "10,000 characters": LONG,
    "lone surrogate": "\udfff",
    "not there": "emca",
    "other case": "ACME",
}
NO_IDS = {
    "empty": "",
    "null": None,
    "number": 5,
    "boolean": True,
    "list": ["acme"],
    "operator": {"$gt": ""},
    "nested operators": {"$or": [{"$where": "1"}, {"$ne": None}]},
    "binary": b"acme",
}
NO_OBJECTS = {"null": None, "string": "acme", "number": 5, "boolean": True, "list": [NOTIFICATIONS], "binary": b"\x00"}

REFUSED = (
    *(Refused(f"not logged in, {says}", None, asked, *NOT_LOGGED_IN) for says, asked in {
        "notifications": NOTIFICATIONS,
        "model": model(TOWER, STRUCTURE),
        "project": project(TOWER),
        "no such model": model(TOWER, NOWHERE),
        "no shape": {"room": 1},
        "no object": 5,
        "operator": model({"$gt": ""}, STRUCTURE),
    }.items()),
    Refused("no such model", "alice", model(TOWER, NOWHERE), *NO_MODEL),
    Refused("model of another project", "alice", model(TOWER, DECK), *NO_MODEL),
    Refused("project does not exist", "alice", model(NOWHERE, STRUCTURE), *NO_MODEL),
    Refused("no read access", "mallory", model(TOWER, STRUCTURE), *NO_MODEL),
    Refused("read access to another model", "carol", model(TOWER, WHOLE), *NO_MODEL),
    Refused("admin of another project", "bob", model(BRIDGE, DECK), *NO_MODEL),
    Refused("project of a model is no UUID", "alice", model("Tower", STRUCTURE), *NO_MODEL),
    Refused("project of a model in braces", "alice", model(f"{{{TOWER}}}", STRUCTURE), *NO_MODEL),
    Refused("project of a model without hyphens", "alice", model(TOWER.replace("-", ""), STRUCTURE), *NO_MODEL),
    Refused("project of a model with a line end", "alice", model(TOWER + "\n", STRUCTURE), *NO_MODEL),
    Refused("model with a null byte", "alice", model(TOWER, STRUCTURE + "\0"), *NO_MODEL),
    Refused("model of 10,000 characters", "alice", model(TOWER, LONG), *NO_MODEL),
    Refused("model with a lone surrogate", "alice", model(TOWER, "\ud800"), *NO_MODEL),
    Refused("no such project", "alice", project(NOWHERE), *NO_PROJECT),
    Refused("admin of another project only", "bob", project(BRIDGE), *NO_PROJECT),
    Refused("viewer of a model in the project", "carol", project(TOWER), *NO_PROJECT),
    Refused("project is no UUID", "alice", project("Tower"), *NO_PROJECT),
    Refused("project of 10,000 characters", "alice", project(LONG), *NO_PROJECT),
    Refused("project with a null byte", "alice", project(TOWER + "\0"), *NO_PROJECT),
    *(Refused(f"model, teamspace {says}", "alice", model(TOWER, STRUCTURE, name), *NO_MODEL)
      for says, name in NO_TEAMSPACES.items()),
    *(Refused(f"project, teamspace {says}", "alice", project(TOWER, name), *NO_PROJECT)
      for says, name in NO_TEAMSPACES.items()),
    *(Refused(f"model, {field} {says}", "alice", {**model(TOWER, STRUCTURE), field: wrong}, *UNKNOWN)
      for field in ("teamspace", "project", "model") for says, wrong in NO_IDS.items()),
    *(Refused(f"project, {field} {says}", "alice", {**project(TOWER), field: wrong}, *UNKNOWN)
      for field in ("teamspace", "project") for says, wrong in NO_IDS.items()),
    *(Refused(f"not an object: {says}", "alice", asked, *UNKNOWN) for says, asked in NO_OBJECTS.items()),
    *(Refused(f"no shape: {says}", "alice", asked, *UNKNOWN) for says, asked in {
        "empty": {},
        "teamspace alone": {"teamspace": "acme"},
        "project alone": {"project": TOWER},
        "model alone": {"model": STRUCTURE},
        "no project": {"teamspace": "acme", "model": STRUCTURE},
        "no teamspace": {"project": TOWER, "model": STRUCTURE},
        "notifications false": {"notifications": False},
        "notifications as text": {"notifications": "true"},
        "notifications 1": {"notifications": 1},
        "notifications null": {"notifications": None},
        "operator": {"$where": "1"},
    }.items()),
)


def succeeded(action: str, asked: Json) -> Json:
    return {"event": "success", "data": {"action": action, "data": echoed(asked)}}


def failed(action: str, asked: Json, code: str, message: str) -> Json:
    return {"code": code, "message": message, "details": {"action": action, "data": echoed(asked)}}


def answered(client: ChatClient, action: str, asked: Json) -> tuple[Json, list[Heard]]:
    """The acknowledgement and the events of one question."""
    return client.ask(action, asked), client.heard_so_far()


@pytest.mark.parametrize("row", GRANTED, ids=lambda row: row.says)
def test_a_room_is_entered_and_left_and_the_object_comes_back_unchanged(
    people: People, transport: str, row: Granted
) -> None:
    client = people.client(row.user, transport=transport)
    # Joining twice is a success, and so is leaving what one may enter but is not in.
    for action in ("join", "join", "leave", "leave"):
        reply = succeeded(action, row.asked)
        assert answered(client, action, row.asked) == (reply, [("message", (reply,))])


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.says)
def test_a_refusal_says_its_code_and_message_and_what_was_asked(people: People, row: Refused) -> None:
    client = people.client(row.user)
    for action in ("join", "leave"):
        reply = failed(action, row.asked, row.code, row.message)
        assert answered(client, action, row.asked) == (reply, [("error", (reply,))])


@pytest.mark.parametrize("row", REFUSED[::9], ids=lambda row: row.says)
def test_refusals_arrive_over_polling_alike(people: People, row: Refused) -> None:
    reply = failed("join", row.asked, row.code, row.message)
    assert answered(people.client(row.user, transport="polling"), "join", row.asked) == (reply, [("error", (reply,))])


@pytest.mark.parametrize("action", ["join", "leave"])
@pytest.mark.parametrize(("user", "refusal"), [("alice", UNKNOWN), (None, NOT_LOGGED_IN)])
def test_a_missing_argument_is_no_room(
    people: People, transport: str, action: str, user: str | None, refusal: tuple[str, str]
) -> None:
    client = people.client(user, transport=transport)
    reply = failed(action, None, *refusal)
    assert client.socket.call(action, timeout=5) == reply
    assert client.heard_so_far() == [("error", (reply,))]


def test_further_arguments_are_ignored(people: People) -> None:
    client = people.client("mallory")
    reply = succeeded("join", NOTIFICATIONS)
    assert client.socket.call("join", (NOTIFICATIONS, "more"), timeout=5) == reply
    assert client.heard_so_far() == [("message", (reply,))]


def test_without_an_acknowledgement_the_reply_is_an_event_alone(people: People, transport: str) -> None:
    client = people.client("carol", transport=transport)
    asked = model(TOWER, STRUCTURE)
    client.socket.emit("join", asked)
    client.socket.emit("join", 5)
    assert client.heard_so_far() == [
        ("message", (succeeded("join", asked),)),
        ("error", (failed("join", 5, *UNKNOWN),)),
    ]


def test_one_sockets_questions_are_answered_in_their_order(people: People, transport: str) -> None:
    client = people.client("alice", transport=transport)
    # Those that need the database and those that do not, cached and not.
    questions = [
        ("join" if number % 3 else "leave", asked)
        for number, asked in enumerate(
            asked
            # A stock server takes 16 packets from one POST.
            for n in range(15 if transport == "websocket" else 3)
            for asked in (
                model(TOWER, STRUCTURE, n=n), {**NOTIFICATIONS, "n": n}, project(NOWHERE, n=n), {"n": n},
            )
        )
    ]
    for action, asked in questions:
        client.socket.emit(action, asked)
    echoes = [(args[0].get("data") or args[0]["details"]) for _, args in client.heard_so_far()]
    assert [(echo["action"], echo["data"]) for echo in echoes] == questions


def test_what_is_left_is_left_even_when_the_join_is_still_under_way(people: People) -> None:
    client = people.connect("carol")
    asked = {**model(TOWER, STRUCTURE)}
    client.socket.emit("join", asked)
    client.socket.emit("leave", asked)
    assert [name for name, _ in client.heard_so_far()] == ["message", "message"]
    people.user("alice").publish("ModelRemoved", **asked, kind="container")
    assert client.heard_so_far() == []
    client.close()


def test_a_connection_without_a_user_stays_open_and_usable_after_bad_input(people: People) -> None:
    client = people.client(None)
    for _ in range(3):
        assert client.ask("join", [])["code"] == "UNAUTHORISED"
    assert client.socket.connected


@pytest.mark.parametrize("event", ["message", "error", "subscribe", "connection", ""])
def test_an_unknown_event_gets_a_clear_error(
    host: Served, chat: Callable[..., ChatClient], transport: str, event: str
) -> None:
    # On our own server; on the host's, its other events are the host's business.
    client = chat(host.url, transports=(transport,))
    reply = client.ask(event, {"x": 1})
    assert reply["code"] == "UNKNOWN_EVENT"
    assert reply["details"] == {"action": event, "data": {"x": 1}}
    assert client.heard_so_far() == [("error", (reply,))]


def test_the_echo_never_fails_on_how_deep_it_is_nested(host: Served) -> None:
    from tests.support.raw import RawSocket

    # In the packet's own list, and in an object.
    levels = MAX_DEPTH - 2
    nested = "[" * levels + "]" * levels
    cookie = User(host).log_in("carol").cookie
    with RawSocket.connect(host.url, cookie) as client:
        for ack, (event, asked) in enumerate(
            (
                ("message", f'{{"notifications":true,"deep":{nested}}}'),
                ("error", f'{{"deep":{nested}}}'),
                ("error", nested),
            )
        ):
            client.send(f'42{ack}["join",{asked}]')
            told, acknowledged = client.receive(), client.receive()
            assert told.startswith(f'42["{event}",')
            assert acknowledged.startswith(f"43{ack}[")
            assert asked in told
            assert asked in acknowledged
        client.send('429["join",{"notifications":true}]')
        assert client.receive().startswith('42["message",{"event":"success",')
