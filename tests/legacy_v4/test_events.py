"""spec section 5, the v4 column: names, payloads and rooms, each once, and who does not hear it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.support.audience import Audience, Place
from tests.support.people import LEGACY, People
from tests.support.served import Served
from tests.support.teamspaces import Teamspace

Json = Any
Room = Literal["model", "teamspace"]


@dataclass(frozen=True)
class Row:
    """`names` in both sets, after the part that stands for where it happened."""

    type: str
    fields: Json
    room: Room
    first: tuple[str, ...]
    second: tuple[str, ...]
    payload: Json

    def __str__(self) -> str:
        return f"{self.type} {self.fields.get('kind', '')}"


ISSUE = {"_id": "i1", "name": "Gap", "number": 7}
COMMENT = {"guid": "c1", "comment": "hm", "owner": "ann"}
REVISION = {"_id": "r1", "tag": "v1", "author": "ann", "timestamp": 5, "desc": "first"}
CREATED = {"_id": "m9", "name": "New"}


def _both(name: str) -> tuple[str, ...]:
    """Of an issue, and of the model that it is in."""
    return (f"<model>::i1::{name}", f"<model>::{name}")


KINDS = ("container", "federation", "drawing")
ROWS = (
    *(Row("ModelCreated", {"kind": kind, "data": CREATED}, "teamspace", ("newModel",), ("modelCreated",), CREATED)
      for kind in KINDS),
    *(Row("ModelSettingsUpdated", {"kind": kind, "data": {"status": "ok", "name": "n"}}, "model",
          ("<model>::modelStatusChanged",), ("<model>::modelStatusChanged",), {"status": "ok", "name": "n"})
      for kind in KINDS),
    *(Row("RevisionCreated", {"kind": kind, "data": REVISION}, "model",
          ("<model>::modelStatusChanged",), ("<model>::modelStatusChanged",), REVISION)
      for kind in KINDS),
    Row("IssuesCreated", {"issues": [ISSUE, {"_id": "i2"}]}, "model",
        ("<model>::newIssues",), ("<model>::issueCreated",), [ISSUE, {"_id": "i2"}]),
    Row("IssuesCreated", {"issues": []}, "model", ("<model>::newIssues",), ("<model>::issueCreated",), []),
    Row("IssueUpdated", {"issue": "i1", "data": ISSUE}, "model", _both("issueChanged"), _both("issueUpdated"), ISSUE),
    Row("IssueUpdated", {"issue": "i1", "data": {"status": "closed"}}, "model",
        _both("issueChanged"), _both("issueUpdated"), {"_id": "i1", "status": "closed"}),
    Row("CommentCreated", {"issue": "i1", "data": COMMENT}, "model",
        _both("newComment"), _both("commentCreated"), {**COMMENT, "issueId": "i1"}),
    Row("CommentUpdated", {"issue": "i1", "data": COMMENT}, "model",
        _both("commentChanged"), _both("commentUpdated"), {**COMMENT, "issueId": "i1"}),
    Row("CommentDeleted", {"issue": "i1", "data": {"guid": "c1"}}, "model",
        _both("commentDeleted"), _both("commentDeleted"), {"guid": "c1", "issueId": "i1"}),
)
# What v4 has no name for.
SILENT = (
    ("ModelSettingsUpdated", {"data": {"name": "n"}, "kind": "container"}),
    ("RevisionUpdated", {"data": {"_id": "r1"}, "kind": "container"}),
    ("ModelRemoved", {"kind": "container"}),
    ("TicketCreated", {"data": {"_id": "t"}, "kind": "container"}),
    ("TicketUpdated", {"data": {"_id": "t"}, "kind": "federation"}),
    ("TicketCommentCreated", {"data": {"_id": "c", "ticket": "t"}, "kind": "container"}),
    ("TicketCommentUpdated", {"data": {"_id": "c", "ticket": "t"}, "kind": "federation"}),
    ("TicketGroupUpdated", {"data": {"_id": "g", "ticket": "t"}, "kind": "federation"}),
)
IN_TEAMSPACE = ("teamspace", "teamspace, own namespace", "own account", "model and teamspace", "v5 too")
IN_MODEL = ("model", "model, own namespace", "model, polling", *IN_TEAMSPACE)
V5_ONLY = ("ModelCreated", "ModelSettingsUpdated", "RevisionCreated")


@pytest.fixture(scope="module")
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    return Place(teamspaces())


@pytest.fixture(scope="module")
def audience(people: People, place: Place, teamspaces: Callable[..., Teamspace]) -> Iterator[Audience]:
    place.teamspace.admins("tess")
    other = Place(teamspaces())
    in_model, in_teamspace = {"account": place.name, "model": place.model}, {"account": place.name}
    with closing(Audience(people)) as found:
        found.add("model", "tess", in_model)
        found.add("model, own namespace", "tess", {**in_model, "model": place.model.upper()}, namespace=LEGACY)
        found.add("model, polling", "tess", in_model, transport="polling")
        found.add("teamspace", "tess", in_teamspace)
        found.add("teamspace, own namespace", "tess", {**in_teamspace, "model": ""}, namespace=LEGACY)
        found.add("own account", place.name, in_teamspace)
        found.add("model and teamspace", "tess", in_model, in_teamspace, namespace=LEGACY)
        found.add("v5 too", "tess", in_model, in_teamspace, {"notifications": True})
        found.add("other model", "tess", {**in_model, "model": place.other_model})
        found.add("other teamspace", other.name, {"account": other.name, "model": other.model}, {"account": other.name})
        found.add("notifications", "tess", {"notifications": True})
        found.add("nora", "nora", {"account": "nora"}, {"notifications": True})
        found.add("nora, own namespace", "nora", {"account": "nora", "model": None}, namespace=LEGACY)
        left = found.add("left", "tess", in_model, in_teamspace, namespace=LEGACY)
        for room in (in_model, in_teamspace):
            assert left.ask("leave", room)["event"] == "success"
        left.heard_so_far()
        yield found


def where_of(place: Place, type_: str) -> Json:
    if type_ == "ModelCreated":
        return place.in_project
    v4_only = type_.startswith(("Issue", "Comment"))
    return {"teamspace": place.name, "model": place.model} if v4_only else place.in_model


def names_of(place: Place, names: tuple[str, ...]) -> list[str]:
    return [f"{place.name}::{name.replace('<model>', place.model)}" for name in names]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_event_reaches_its_rooms_once_and_nobody_else(
    people: People, audience: Audience, place: Place, row: Row
) -> None:
    people.user("ann").publish(row.type, **where_of(place, row.type), **row.fields)
    heard = [(name, (row.payload,)) for name in names_of(place, row.first)]
    assert audience.heard() == dict.fromkeys(IN_MODEL if row.room == "model" else IN_TEAMSPACE, heard)


@pytest.mark.parametrize(("type_", "fields"), SILENT)
def test_v4_does_not_hear_what_it_has_no_name_for(
    people: People, audience: Audience, place: Place, type_: str, fields: Json
) -> None:
    people.user("ann").publish(type_, **where_of(place, type_), **fields)
    assert audience.heard() == {}


@pytest.mark.parametrize("name", ["Upserted", "Deleted"])
def test_notifications_reach_their_user_once_on_either_room(people: People, audience: Audience, name: str) -> None:
    people.user("ann").publish(f"Notification{name}", username="nora", data={"_id": "n1"})
    heard = [(f"nora::notification{name}", ({"_id": "n1"},))]
    assert audience.heard() == {"nora": heard, "nora, own namespace": heard}


@pytest.mark.parametrize("row", [row for row in ROWS if row.type in V5_ONLY], ids=str)
def test_one_event_feeds_rooms_of_both_generations(people: People, place: Place, row: Row) -> None:
    """A socket in a v5 room and a v4 room hears the v5 name once and the v4 name once."""
    with closing(Audience(people)) as audience:
        v4_rooms = ({"account": place.name}, {"account": place.name, "model": place.model})
        audience.add("both", place.name, place.in_model, place.in_project, *v4_rooms)
        people.user("ann").publish(row.type, **where_of(place, row.type), **row.fields)
        heard = audience.heard()["both"]
        (v4,) = names_of(place, row.first)
        assert [(name, args[0]) for name, args in heard if "::" in name] == [(v4, row.payload)]
        assert [args[0]["data"] for name, args in heard if "::" not in name] == [row.payload]
        assert len(heard) == 2


def test_the_emitter_does_not_hear_of_it_on_either_namespace_by_whichever_id(people: People, place: Place) -> None:
    with closing(Audience(people)) as audience:
        room = {"account": place.name, "model": place.model}
        emitter = audience.add("emitter", place.name, room, place.in_model)
        audience.add("other", place.name, room, namespace=LEGACY)
        user = people.user(place.name)
        for socket_id in (emitter.id, emitter.engine_id, f"{LEGACY}#{emitter.engine_id}"):
            user.publish("IssuesCreated", socket_id, teamspace=place.name, model=place.model, issues=[])
            assert list(audience.heard()) == ["other"]


def test_the_ids_of_both_namespaces_name_the_connection(people: People, place: Place) -> None:
    from tests.support.raw import RawSocket

    cookie = people.user(place.name).cookie
    room = f'["join",{{"account":"{place.name}","model":"{place.model}"}}]'
    with RawSocket.connect(people.served.url, cookie) as client:
        client.send(f"40{LEGACY},")
        legacy_id = client.receive().split('"sid":"')[1].split('"')[0]
        client.send(f"42{room}")
        client.send(f"42{LEGACY},{room}")
        assert len([client.receive() for _ in range(4)]) == 4
        user = people.user(place.name)
        user.publish("IssuesCreated", legacy_id, teamspace=place.name, model=place.model, issues=[{"n": 1}])
        user.publish("IssuesCreated", teamspace=place.name, model=place.model, issues=[{"n": 2}])
        name = f"{place.name}::{place.model}::newIssues"
        # Once per namespace, and not the one that it caused.
        assert sorted(client.receive() for _ in range(2)) == sorted(
            [f'42["{name}",[{{"n":2}}]]', f'42{LEGACY},["{name}",[{{"n":2}}]]']
        )


def test_no_name_of_an_account_spells_another_room(people: People, teamspaces: Callable[..., Teamspace]) -> None:
    with closing(Audience(people)) as audience:
        rooms = {name: (name, model) for name, model in (("a::b", "c"), ("a", "b::c"))}
        for name, (teamspace, model) in rooms.items():
            made = teamspaces(teamspace)
            made.model(_id=model)
            made.project([model])
            audience.add(name, teamspace, {"account": teamspace, "model": model})
        # Both events are called a::b::c::newIssues; who hears it is another matter.
        for name, (teamspace, model) in rooms.items():
            people.user("ann").publish("IssuesCreated", teamspace=teamspace, model=model, issues=[])
            assert audience.heard() == {name: [("a::b::c::newIssues", ([],))]}


@pytest.mark.parametrize(("setting", "sets"), [("second", ("second",)), ("both", ("first", "second"))])
def test_a_setting_says_which_names_are_emitted(
    serve_host: Callable[..., Served], teamspaces: Callable[..., Teamspace], setting: str, sets: tuple[str, ...]
) -> None:
    place = Place(teamspaces())
    people = People(serve_host(REPO_NOTIFY_LEGACY_V4_NAMES=setting))
    with closing(Audience(people)) as audience:
        audience.add("listener", place.name, {"account": place.name})
        for row in ROWS:
            people.user("ann").publish(row.type, **where_of(place, row.type), **row.fields)
            names = dict.fromkeys(name for names in sets for name in names_of(place, getattr(row, names)))
            assert audience.heard() == {"listener": [(name, (row.payload,)) for name in names]}


def test_the_end_of_a_session_is_told_on_every_namespace(people: People, place: Place) -> None:
    from tests.support.raw import RawSocket
    from tests.support.served import User

    user = User(people.served).log_in(place.name)
    room = f'["join",{{"account":"{place.name}"}}]'
    with RawSocket.connect(people.served.url, user.cookie) as client:
        client.send(f"40{LEGACY},")
        client.receive()
        client.send(f"42{room}")
        client.send(f"42{LEGACY},{room}")
        assert len([client.receive() for _ in range(4)]) == 4
        session = user.http.get(people.served.url + "/session", timeout=5).json()["session_id"]
        people.user("ann").publish("SessionsEnded", session_ids=[session], reason="Bye")
        people.user("ann").publish("IssuesCreated", teamspace=place.name, model=place.model, issues=[])
        told = '["loggedOut",{"reason":"Bye"}]'
        assert sorted(client.receive() for _ in range(2)) == sorted([f"42{told}", f"42{LEGACY},{told}"])
        # Nothing of the issues; the refusals are what comes next.
        client.send("42" + room)
        client.send(f"42{LEGACY},{room}")
        assert all('"UNAUTHORISED"' in client.receive() for _ in range(4))


def packet_of(client: Any) -> str:
    """The next packet that tells no position."""
    while "position" in (packet := str(client.recv())):
        """It stands behind whatever the server sends."""
    return packet


@pytest.mark.parametrize("socket_id", ["default", LEGACY, "engine"])
def test_a_request_that_names_either_namespace_binds_the_connection(
    people: People, place: Place, socket_id: str
) -> None:
    import json

    import websocket

    address = people.served.url.replace("http", "ws", 1) + "/chat/?EIO=4&transport=websocket"
    with closing(websocket.create_connection(address, timeout=5)) as client:
        ids = {"engine": json.loads(str(client.recv())[1:])["sid"]}
        for name, prefix in (("default", ""), (LEGACY, f"{LEGACY},")):
            client.send(f"40{prefix}")
            ids[name] = json.loads(packet_of(client).removeprefix(f"40{prefix}"))["sid"]
        headers = {"x-socket-id": ids[socket_id]}
        people.user(place.name).http.get(people.served.url + "/plain", headers=headers, timeout=5)
        for prefix in ("", f"{LEGACY},"):
            client.send(f'42{prefix}["join",{{"account":"{place.name}"}}]')
            assert packet_of(client).startswith(f'42{prefix}["joined"')
            assert packet_of(client).startswith(f'42{prefix}["message"')
