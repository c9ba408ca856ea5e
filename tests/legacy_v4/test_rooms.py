"""PROTOCOL section 4: v4's rooms and replies, on the default namespace and on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from repo_notify.demo.seed import BRIDGE, DECK, PLAN, STRUCTURE, TOWER, WHOLE
from tests.support.chat import ChatClient, Heard, echoed
from tests.support.people import LEGACY, People

Json = Any
NOWHERE = "11111111-2222-3333-4444-555555555555"
NOT_LOGGED_IN = ("UNAUTHORISED", "You are not logged in")
NOT_PERMITTED = ("UNAUTHORISED", "You are not authorised to listen to this teamspace")
NO_MODEL = ("ROOM_NOT_FOUND", "Model not found")
UNKNOWN = ("ROOM_NOT_FOUND", "Cannot identify the room indicated")


def account(account: Json, **more: Json) -> Json:
    return {"account": account, **more}


@dataclass(frozen=True)
class Granted:
    says: str
    user: str
    asked: Json
    joined: Json


@dataclass(frozen=True)
class Refused:
    says: str
    user: str | None
    asked: Json
    code: str
    message: str


def _granted(says: str, user: str, asked: Json) -> Granted:
    return Granted(says, user, asked, {key: asked[key] for key in ("account", "model") if key in asked})


GRANTED = (
    _granted("viewer: container", "carol", account("acme", model=STRUCTURE)),
    _granted("commenter: federation", "dave", account("acme", model=WHOLE)),
    _granted("project admin: drawing", "bob", account("acme", model=PLAN)),
    _granted("teamspace admin: any model", "alice", account("acme", model=DECK)),
    _granted("upper case", "carol", account("acme", model=STRUCTURE.upper())),
    _granted("teamspace, model absent", "alice", account("acme")),
    _granted("teamspace, model null", "alice", account("acme", model=None)),
    _granted("teamspace, model empty", "alice", account("acme", model="")),
    _granted("own account", "mallory", account("mallory")),
    _granted("own account, model null", "mallory", account("mallory", model=None)),
    _granted("own account, a reserved name", "admin", account("admin")),
    _granted("own account, an impossible name", "a.b@example.org", account("a.b@example.org")),
    _granted("unknown keys, unicode and binary", "carol", account("acme", model=STRUCTURE, more=["ü\u2028", b"\xff"])),
    _granted("account decides, whatever else is there", "carol",
             account("acme", model=STRUCTURE, teamspace=5, project=None, notifications=True)),
)
NO_IDS: dict[str, Json] = {
    "empty": "", "null": None, "number": 5, "boolean": False, "list": ["acme"], "operator": {"$gt": ""},
    "binary": b"acme",
}
REFUSED = (
    Refused("not logged in, model", None, account("acme", model=STRUCTURE), *NOT_LOGGED_IN),
    Refused("not logged in, teamspace", None, account("acme"), *NOT_LOGGED_IN),
    Refused("not logged in, operator", None, account({"$gt": ""}), *NOT_LOGGED_IN),
    Refused("no read access", "mallory", account("acme", model=STRUCTURE), *NO_MODEL),
    Refused("read access to another", "carol", account("acme", model=WHOLE), *NO_MODEL),
    Refused("no such model", "alice", account("acme", model=NOWHERE), *NO_MODEL),
    Refused("model of another teamspace", "alice", account("alice", model=STRUCTURE), *NO_MODEL),
    Refused("null byte in the model", "alice", account("acme", model="\0"), *NO_MODEL),
    Refused("model of 10,000 characters", "alice", account("acme", model="x" * 10_000), *NO_MODEL),
    *(Refused(f"model, account {name[:12]!r}", "alice", account(name, model=STRUCTURE), *NO_MODEL)
      for name in ("admin", "local", "config", "a/b", "a b", "$where", "ac\0me", "x" * 10_000, "\ud800")),
    Refused("somebody else's account, viewer", "carol", account("acme"), *NOT_PERMITTED),
    Refused("somebody else's account, project admin", "bob", account("acme", model=None), *NOT_PERMITTED),
    Refused("somebody else's account, no teamspace", "alice", account("bob", model=""), *NOT_PERMITTED),
    *(Refused(f"account {name[:12]!r}", "alice", account(name), *NOT_PERMITTED)
      for name in ("admin", "local", "config", "a/b", "a b", "$where", "ac\0me", "x" * 10_000, "\ud800")),
    *(Refused(f"account {says}", "alice", account(wrong), *UNKNOWN) for says, wrong in NO_IDS.items()),
    *(Refused(f"account {says}, model", "alice", account(wrong, model=STRUCTURE), *UNKNOWN)
      for says, wrong in NO_IDS.items()),
    *(Refused(f"model {says}", "alice", account("acme", model=wrong), *UNKNOWN)
      for says, wrong in NO_IDS.items() if says not in ("empty", "null")),
)


@pytest.fixture(params=["/", LEGACY])
def namespace(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answered(client: ChatClient, action: str, asked: Json) -> tuple[Json, list[Heard]]:
    """The acknowledgement, and the events in the order of their names."""
    return client.ask(action, asked), sorted(client.heard_so_far())


def success(action: str, asked: Json) -> Json:
    return {"event": "success", "data": {"action": action, "data": echoed(asked)}}


def failure(action: str, asked: Json, code: str, message: str) -> Json:
    return {"code": code, "message": message, "details": {"action": action, "data": echoed(asked)}}


@pytest.mark.parametrize("row", GRANTED, ids=lambda row: row.says)
def test_joins_are_answered_with_joined_and_message(
    people: People, transport: str, namespace: str, row: Granted
) -> None:
    client = people.client(row.user, transport=transport, namespace=namespace)
    for _ in range(2):
        reply = success("join", row.asked)
        assert answered(client, "join", row.asked) == (reply, [("joined", (row.joined,)), ("message", (reply,))])
    for _ in range(2):
        reply = success("leave", row.asked)
        assert answered(client, "leave", row.asked) == (reply, [("message", (reply,))])


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.says)
def test_refusals_are_told_in_both_ways(people: People, namespace: str, row: Refused) -> None:
    told = {"code": row.code, "message": row.message}
    client = people.client(row.user, namespace=namespace)
    for action in ("join", "leave"):
        reply = failure(action, row.asked, row.code, row.message)
        assert answered(client, action, row.asked) == (reply, [("credentialError", (told,)), ("error", (reply,))])


@pytest.mark.parametrize(("user", "asked"), [
    ("mallory", {"notifications": True}),
    ("carol", {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}),
    ("alice", {"teamspace": "acme", "project": BRIDGE}),
], ids=["notifications", "model", "project"])
def test_v5_objects_work_on_the_namespace_of_v4(people: People, transport: str, user: str, asked: Json) -> None:
    client = people.client(user, transport=transport, namespace=LEGACY)
    for action in ("join", "leave"):
        reply = success(action, asked)
        assert answered(client, action, asked) == (reply, [("message", (reply,))])


@pytest.mark.parametrize(("user", "asked", "refusal"), [
    (None, {"notifications": True}, NOT_LOGGED_IN),
    ("mallory", {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}, NO_MODEL),
    ("carol", {"teamspace": "acme", "project": TOWER}, ("ROOM_NOT_FOUND", "Project not found")),
    ("carol", {"teamspace": "", "project": TOWER}, UNKNOWN),
], ids=["notifications", "model", "project", "unknown"])
def test_v5_objects_are_refused_as_v5_on_the_namespace_of_v4(
    people: People, user: str | None, asked: Json, refusal: tuple[str, str]
) -> None:
    reply = failure("join", asked, *refusal)
    client = people.client(user, namespace=LEGACY)
    assert answered(client, "join", asked) == (reply, [("error", (reply,))])


@pytest.mark.parametrize("asked", [None, 5, "acme", [], {}, {"room": 1}])
def test_what_is_no_room_object_is_refused_in_both_ways_on_the_namespace_of_v4(people: People, asked: Json) -> None:
    reply = failure("join", asked, *UNKNOWN)
    told = dict(zip(("code", "message"), UNKNOWN, strict=True))
    client = people.client("alice", namespace=LEGACY)
    assert answered(client, "join", asked) == (reply, [("credentialError", (told,)), ("error", (reply,))])
