"""spec section 5, the v5 column: every row and kind, its name, its room, its payload, and who does not hear it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from uuid import UUID

import bson
import pytest
from bson import Binary, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from tests.support.audience import Audience, Place
from tests.support.people import People
from tests.support.teamspaces import Teamspace

Json = Any
Room = Literal["model", "project"]
TICKET = {"_id": "t1", "title": "Crack", "properties": {"Priority": "High"}}
REVISION = {"_id": "r1", "tag": "v1", "author": "ann", "timestamp": 1_700_000_000_000, "desc": "first"}
OF_TICKET = {"_id": "c1", "ticket": "t1", "message": "hm"}


@dataclass(frozen=True)
class Row:
    type: str
    kind: str
    event: str
    room: Room
    data: Json

    def __str__(self) -> str:
        return f"{self.type}-{self.kind}"


ROWS = (
    *(Row("ModelCreated", kind, event, "project", {"_id": "m9", "name": "New", "unit": "mm"}) for kind, event in (
        ("container", "newContainer"), ("federation", "newFederation"), ("drawing", "newDrawing"))),
    *(Row("ModelSettingsUpdated", kind, event, "model", data) for kind, event in (
        ("container", "containerSettingsUpdate"), ("federation", "federationSettingsUpdate"),
        ("drawing", "drawingSettingsUpdate")) for data in ({"name": "Other"}, {"status": "processing"}, {})),
    *(Row("RevisionCreated", kind, event, "model", REVISION) for kind, event in (
        ("container", "containerNewRevision"), ("federation", "federationNewRevision"),
        ("drawing", "drawingNewRevision"))),
    Row("RevisionUpdated", "container", "containerRevisionUpdate", "model", {"_id": "r1", "void": True}),
    Row("RevisionUpdated", "drawing", "drawingRevisionUpdate", "model", {"_id": "r1", "void": False}),
    *(Row("ModelRemoved", kind, event, "model", {}) for kind, event in (
        ("container", "containerRemoved"), ("federation", "federationRemoved"), ("drawing", "drawingRemoved"))),
    *(Row(name, kind, kind + suffix, "model", data) for kind in ("container", "federation") for name, suffix, data in (
        ("TicketCreated", "NewTicket", TICKET),
        ("TicketUpdated", "UpdateTicket", {"_id": "t1", "title": "Gap"}),
        ("TicketCommentCreated", "NewTicketComment", OF_TICKET),
        ("TicketCommentUpdated", "UpdateTicketComment", OF_TICKET),
        ("TicketGroupUpdated", "UpdateTicketGroup", OF_TICKET))),
)


@pytest.fixture(scope="module")
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    return Place(teamspaces())


@pytest.fixture(scope="module")
def audience(people: People, place: Place) -> Iterator[Audience]:
    with closing(Audience(people)) as found:
        owner = place.name
        found.add("model", owner, place.in_model)
        shouted = {**place.in_model, "model": place.model.upper()}
        found.add("model, polling, shouted", owner, shouted, transport="polling")
        found.add("project", owner, place.in_project)
        found.add("model and project", owner, place.in_model, place.in_project, {"notifications": True})
        found.add("other model", owner, {**place.in_model, "model": place.other_model})
        found.add("other project", owner, {**place.in_project, "project": place.other_project})
        found.add("notifications", "nora", {"notifications": True})
        found.add("other user's notifications", "norbert", {"notifications": True})
        found.add("no room", owner)
        left = found.add("left", owner, place.in_model, place.in_project)
        for room in (place.in_model, place.in_project):
            assert left.ask("leave", room)["event"] == "success"
        left.heard_so_far()
        yield found


LISTENERS: dict[Room, tuple[str, ...]] = {
    "model": ("model", "model, polling, shouted", "model and project"),
    "project": ("project", "model and project"),
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_event_reaches_its_room_and_nobody_else(
    people: People, audience: Audience, place: Place, row: Row
) -> None:
    given = {"data": row.data} if row.type != "ModelRemoved" else {}
    where = place.in_model if row.room == "model" else place.in_project
    people.user("ann").publish(row.type, **where, **given, kind=row.kind)
    payload = {**where, "data": row.data}
    assert audience.heard() == {name: [(row.event, (payload,))] for name in LISTENERS[row.room]}


@pytest.mark.parametrize("name", ["Upserted", "Deleted"])
def test_a_notification_reaches_its_user_alone_and_the_payload_is_its_data(
    people: People, audience: Audience, name: str
) -> None:
    data = {"_id": "n1", "type": "IMPORT_FAILED"}
    people.user("ann").publish(f"Notification{name}", username="nora", data=data)
    assert audience.heard() == {"notifications": [(f"nora::notification{name}", (data,))]}


def test_ids_of_rooms_are_compared_without_regard_to_case(people: People, audience: Audience, place: Place) -> None:
    shouted = {**place.in_model, "project": place.project.upper(), "model": place.model.upper()}
    people.user("ann").publish("TicketCreated", **shouted, data=TICKET, kind="container")
    heard = [("containerNewTicket", ({**shouted, "data": TICKET},))]
    assert audience.heard() == dict.fromkeys(LISTENERS["model"], heard)


def test_no_name_of_a_teamspace_spells_another_room(people: People, teamspaces: Callable[..., Teamspace]) -> None:
    """`::` and what else a careless key would be joined by."""
    project = "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11"
    spelled = {
        "a::b c": ("a::b", "c"), "a b::c": ("a", "b::c"), 'a","b': ("a", '","b'), "a,b c": ("a,b", "c"),
        "a b,c": ("a", "b,c"),
    }
    with closing(Audience(people)) as audience:
        places = {}
        for name, (teamspace, model) in spelled.items():
            made = teamspaces(teamspace)
            made.put("projects", _id=Binary(UUID(project).bytes, 4), models=["c", "b::c", '","b', "b,c"])
            made.model(_id=model)
            places[name] = {"teamspace": teamspace, "project": project, "model": model}
            audience.add(name, teamspace, places[name])
        for name, where in places.items():
            people.user("ann").publish("TicketCreated", **where, data={}, kind="container")
            assert audience.heard() == {name: [("containerNewTicket", ({**where, "data": {}},))]}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_the_emitter_does_not_hear_of_its_own_change_by_whichever_id(
    people: People, place: Place, transport: str
) -> None:
    with closing(Audience(people)) as audience:
        emitter = audience.add("emitter", place.name, place.in_model, place.in_project, transport=transport)
        audience.add("other socket of the same user", place.name, place.in_model)
        user = people.user(place.name)
        for socket_id in (emitter.id, emitter.engine_id):
            user.publish("ModelRemoved", socket_id, **place.in_model, kind="drawing")
            assert list(audience.heard()) == ["other socket of the same user"]
            # Given by the publisher, it counts before the request's.
            user.publish("ModelRemoved", "nobody", **place.in_model, kind="drawing", emitter=socket_id)
            assert list(audience.heard()) == ["other socket of the same user"]
        for socket_id in ("nobody", "x" * 5_000, "/#" + "é"):
            user.publish("ModelRemoved", **place.in_model, kind="drawing", emitter=socket_id)
            assert len(audience.heard()) == 2


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_publications_arrive_in_order(people: People, place: Place, transport: str) -> None:
    with closing(Audience(people)) as audience:
        listener = audience.add("listener", place.name, place.in_model, place.in_project, transport=transport)
        user, number = people.user("ann"), 500 if transport == "websocket" else 100
        for n in range(number):
            if n % 5:
                user.publish("TicketUpdated", **place.in_model, data={"n": n}, kind="container")
            else:
                user.publish("ModelCreated", **place.in_project, data={"_id": "m", "n": n}, kind="drawing")
        assert [args[0]["data"]["n"] for _, args in listener.heard_so_far()] == list(range(number))


NOW = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=timezone.utc)
EPOCH_MS = 1_770_091_506_789
OID = ObjectId("65a1b2c3d4e5f60718293a4b")
GUID = UUID("808d98ee-aad1-11ec-b909-0242ac120002")
CONVERSIONS = {
    "uuid": (GUID, str(GUID)),
    "legacy uuid": (Binary(GUID.bytes, 3), str(GUID)),
    "object id": (OID, str(OID)),
    "time": (NOW, EPOCH_MS),
    "bytes": (b"\x00\x01\xff", b"\x00\x01\xff"),
    "other binary": (Binary(b"\x01\x02", 5), b"\x01\x02"),
    "unicode": ("Zürich \u2028 🏗", "Zürich \u2028 🏗"),
    "numbers": ([1, -2.5, 2**53, 0.1], [1, -2.5, 2**53, 0.1]),
    "nothing": ([None, True, {}, []], [None, True, {}, []]),
}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("tz", ["", "?tz_aware"])
def test_what_documents_hold_arrives_as_plain_values(
    people: People, server_kind: str, place: Place, transport: str, tz: str
) -> None:
    user = people.user("ann")
    # A stock server answers the poll that a binary attachment waits for with an error of its own.
    dropped = {"bytes", "other binary"} if (server_kind, transport) == ("stock", "polling") else set()
    options: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    data = {name: [given, {"inner": given}] for name, (given, _) in CONVERSIONS.items() if name not in dropped}
    expected = {name: [arrives, {"inner": arrives}] for name, (_, arrives) in CONVERSIONS.items() if name in data}
    event = {"type": "TicketUpdated", **place.in_model, "data": data, "kind": "container"}
    with closing(Audience(people)) as audience:
        audience.add("listener", place.name, place.in_model, transport=transport)
        body = bson.encode(event, codec_options=options)
        user.http.post(people.served.url + "/publish-bson" + tz, data=body, timeout=5).raise_for_status()
        payload = {**place.in_model, "data": expected}
        assert audience.heard() == {"listener": [("containerUpdateTicket", (payload,))]}


def test_times_of_other_zones_are_the_same_moment() -> None:
    from repo_notify.protocol.values import plain

    assert plain(NOW.astimezone(timezone(timedelta(hours=9)))) == EPOCH_MS


@pytest.mark.parametrize("type_", ["ModelCreated", "ModelRemoved"])
def test_a_model_created_or_removed_drops_what_is_cached_at_once(
    people: People, place: Place, type_: str
) -> None:
    reader = people.client("rita")
    model = place.teamspace.model({"rita": "viewer"})
    place.teamspace.put("projects", _id=Binary(UUID(place.other_project).bytes, 4), models=[model])
    room = {"teamspace": place.name, "project": place.other_project, "model": model}
    reader.join(room)
    reader.ask("leave", room)
    # The list is believed for three seconds, unless an event says that it is out of date.
    place.teamspace.take("settings", model)
    event = {"data": {"_id": model}} if type_ == "ModelCreated" else {"model": model}
    people.user("ann").publish(type_, teamspace=place.name, project=place.other_project, **event, kind="container")
    assert reader.ask("join", room)["message"] == "Model not found"


def test_a_refusal_is_not_cached_for_a_second(people: People, place: Place) -> None:
    from time import monotonic

    reader = people.client("rolf")
    model = place.teamspace.model()
    place.teamspace.put("projects", _id=Binary(UUID(place.other_project).bytes, 4), models=[model])
    room = {"teamspace": place.name, "project": place.other_project, "model": model}
    assert reader.ask("join", room)["code"] == "ROOM_NOT_FOUND"
    place.teamspace.model({"rolf": "viewer"}, _id=model)
    started = monotonic()
    while reader.ask("join", room).get("event") != "success":
        assert monotonic() - started < 1.0
    reader.ask("leave", room)
