"""What an unmodified backend publishes, through a real RabbitMQ, to clients of both generations (spec section 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from repo_notify.backend.messages import MAX_BODY_BYTES
from repo_notify.demo.seed import BRIDGE, DECK, TOWER
from tests.backend.conftest import IN_PROJECT, LEGACY, OTHER_V4_ROOM, ROOM, V4_ROOM, Site
from tests.support.backend import new_session_id
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.raw import RawSocket
from tests.support.returning import Returning
from tests.support.teamspaces import Teamspace

pytest.importorskip("legacy_v4")
pytestmark = pytest.mark.slow

OWN = {"notifications": True}
DATA = {
    "_id": str(uuid4()),
    "decimal": {"__type__": "decimal", "__value__": "1.5"},
    "text": "ü\u2028\U0001f600",
    "n": 1.5,
}


@pytest.mark.parametrize("namespace", ["/", LEGACY])
def test_a_model_event_of_v5_is_heard_by_whichever_object_one_joined(site: Site, namespace: str) -> None:
    clients = [site.joined("carol", room, namespace=namespace) for room in (ROOM, V4_ROOM)]
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    for client in clients:
        assert client.hear() == ("containerNewTicket", (told,))


@pytest.mark.parametrize("namespace", ["/", LEGACY])
def test_a_model_event_of_v4_is_heard_by_whichever_object_one_joined(site: Site, namespace: str) -> None:
    clients = [site.joined("carol", room, namespace=namespace) for room in (ROOM, V4_ROOM)]
    name = site.backend.v4_event("issueCreated", ROOM, [DATA])
    for client in clients:
        assert client.hear() == (name, ([DATA],))


def test_a_member_by_both_objects_hears_once(site: Site) -> None:
    client = site.joined("alice", ROOM, V4_ROOM, {"account": "acme"}, OWN)
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    name = site.backend.v4_event("issueCreated", ROOM, DATA)
    assert site.awaited(client, "alice") == [("containerNewTicket", (told,)), (name, (DATA,))]


def test_an_admin_of_the_teamspace_hears_of_all_its_models(site: Site) -> None:
    client = site.joined("alice", {"account": "acme"})
    name = site.backend.v4_event("issueCreated", ROOM, DATA)
    assert client.hear() == (name, (DATA,))


def test_others_hear_nothing(site: Site) -> None:
    client = site.joined("alice", {"teamspace": "acme", "project": BRIDGE, "model": DECK}, OTHER_V4_ROOM, OWN)
    site.backend.model_event("containerNewTicket", ROOM, DATA)
    site.backend.v4_event("issueCreated", ROOM, DATA)
    site.backend.project_event("newContainer", IN_PROJECT, DATA)
    site.backend.notification("notificationUpserted", "bob", DATA)
    assert site.awaited(client, "alice") == []


def test_a_project_event(site: Site) -> None:
    member, other = site.joined("bob", IN_PROJECT), site.joined("bob", ROOM, OWN)
    told = site.backend.project_event("newContainer", IN_PROJECT, DATA)
    assert member.hear() == ("newContainer", (told,))
    assert site.awaited(other, "bob") == []


@pytest.mark.parametrize("room", [OWN, {"account": "bob"}])
def test_own_notifications(site: Site, room: dict[str, Any]) -> None:
    # By v4's object one's own notifications are joined as ever; it is a teamspace's rights that one has no more.
    client = site.joined("bob", room)
    name = site.backend.notification("notificationUpserted", "bob", DATA)
    assert client.hear() == (name, (DATA,))


def test_ids_are_compared_as_joins_compare_them(site: Site) -> None:
    client = site.joined("carol", ROOM)
    shouted = {**ROOM, "project": ROOM["project"].upper(), "model": ROOM["model"].upper()}
    told = site.backend.model_event("containerNewTicket", shouted, DATA)
    assert client.hear() == ("containerNewTicket", (told,))


def test_a_model_id_may_hold_the_separator(site: Site, teamspaces: Callable[..., Teamspace]) -> None:
    teamspace = teamspaces()
    model = teamspace.model({"carol": "viewer"}, "a::b::c")
    room = {"teamspace": teamspace.name, "project": teamspace.project([model]), "model": model}
    clients = [site.joined("carol", one) for one in (room, {"account": teamspace.name, "model": model})]
    told = site.backend.model_event("containerNewTicket", room, DATA)
    for client in clients:
        assert client.hear() == ("containerNewTicket", (told,))


def test_several_recipients_are_one_delivery(site: Site) -> None:
    client = site.joined("alice", ROOM, IN_PROJECT, V4_ROOM, OWN)
    model = "::".join((ROOM["teamspace"], ROOM["project"], ROOM["model"]))
    recipients = [model, model, f"acme::{TOWER}", f"acme::{BRIDGE}"]
    site.backend.publish({"event": "both", "data": 1, "recipients": recipients})
    assert site.awaited(client, "alice") == [("both", (1,))]


@pytest.mark.parametrize("told", [{}, {"data": None}])
@pytest.mark.parametrize("to", ["recipients", "channel"])
def test_missing_data_is_null(site: Site, told: dict[str, Any], to: str) -> None:
    room = "::".join((ROOM["teamspace"], ROOM["project"], ROOM["model"]))
    with RawSocket.connect(site.served.url, site.cookie("carol")) as client:
        client.send("42" + json.dumps(["join", ROOM]))
        assert "success" in client.receive()
        site.backend.publish({"event": "empty", to: room if to == "channel" else [room], **told})
        assert client.receive() == '42["empty",null]'


@pytest.mark.parametrize("data", ["text", 3, [], [1, [2]], False, {"_placeholder": True, "num": 0}])
def test_data_may_be_anything(site: Site, data: Any) -> None:
    client = site.joined("carol", ROOM)
    name = site.backend.v4_event("anything", ROOM, data)
    assert client.hear() == (name, (data,))


@pytest.mark.parametrize("which", ["id", "engine_id"])
@pytest.mark.parametrize("generation", ["sender", "emitter"])
def test_the_emitter_does_not_hear(site: Site, generation: str, which: str) -> None:
    emitter, other = (site.joined("carol", ROOM, OWN, namespace=namespace) for namespace in ("/", LEGACY))
    named = getattr(emitter, which)
    if generation == "sender":
        site.backend.model_event("containerNewTicket", ROOM, DATA, sender=named)
    else:
        site.backend.v4_event("issueCreated", ROOM, DATA, emitter=named)
    assert len(site.awaited(other)) == 1
    assert site.awaited(emitter) == []


@pytest.mark.parametrize("sender", [None, "", "nobody", "x" * 5000])
def test_a_sender_that_is_nobody_keeps_nobody_out(site: Site, sender: str | None) -> None:
    client = site.joined("carol", ROOM)
    told = site.backend.model_event("containerNewTicket", ROOM, DATA, sender=sender)
    assert client.hear() == ("containerNewTicket", (told,))


def test_old_clients_hear_the_same(site: Site) -> None:
    with RawSocket.connect(site.served.url, site.cookie("carol"), eio=3) as client:
        client.send("42" + json.dumps(["join", V4_ROOM]))
        assert "joined" in client.receive()
        assert "success" in client.receive()
        name = site.backend.v4_event("issueCreated", ROOM, {"text": "ü"})
        assert client.receive() == f'42["{name}",{{"text":"\\u00fc"}}]'


def test_what_was_missed_is_recovered(site: Site) -> None:
    with Returning(site.served.url, site.cookie("carol")) as client:
        client.connect()
        client.join(ROOM)
        seen = site.backend.model_event("containerNewTicket", ROOM, {"n": 1})
        assert client.hear(1) == [("containerNewTicket", [seen])]
        client.drop()
        missed = site.backend.model_event("containerNewTicket", ROOM, {"n": 2})
        name = site.backend.v4_event("issueCreated", ROOM, {"n": 3})
        assert client.sid is not None
        site.backend.model_event("containerUpdateTicket", ROOM, {"n": "its own"}, sender=client.sid)
        client.connect()
        assert client.recovered
        assert client.hear(2) == [("containerNewTicket", [missed]), (name, [{"n": 3}])]
        live = site.backend.model_event("containerNewTicket", ROOM, {"n": 4})
        assert client.hear(1) == [("containerNewTicket", [live])]


def test_a_join_since_a_position_brings_what_the_backend_said(site: Site) -> None:
    client = site.joined("carol", {**ROOM, "since": None})
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    assert client.hear() == ("containerNewTicket", (told,))
    client.heard_so_far()
    since = client.position
    missed = site.backend.model_event("containerNewTicket", ROOM, {"n": 2})
    client.close()
    again = site.connect("carol")
    reply = again.ask("join", {**ROOM, "since": since})
    assert reply["replayed"] == 1
    assert [heard for heard in again.heard_so_far() if heard[0] != "message"] == [("containerNewTicket", (missed,))]


def test_the_order_of_publication_is_kept(site: Site) -> None:
    client = site.joined("carol", ROOM)
    for number in range(100):
        site.backend.v4_event("counted", ROOM, number)
    assert [client.hear()[1] for _ in range(100)] == [(number,) for number in range(100)]


BAD_BODIES = [
    b"",
    b"hello",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"event":"e","recipients":"acme"}',
    b'{"event":"e","channel":"acme::undefined::m"}',
    b'{"event":"e","channel":"repo_notify:[]"}',
    b'{"internal":true,"event":"loggedOut","data":{"sessionIds":[{"$gt":""}]}}',
    b'{"internal":true,"event":"loggedIn","data":null}',
    b"[" * 100_000,
    b'{"event":"e","recipients":[],"data":"' + b"x" * MAX_BODY_BYTES + b'"}',
    b" " * 20_000_000,
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_what_is_no_message_is_passed_over(site: Site, body: bytes) -> None:
    client = site.joined("carol", ROOM)
    before = metric(site.served, "repo_notify_backend_passed_over_total")
    site.backend.publish_body(body)
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    assert client.hear() == ("containerNewTicket", (told,))
    assert metric(site.served, "repo_notify_backend_passed_over_total") == before + 1


def test_properties_of_a_message_do_not_matter(site: Site) -> None:
    client = site.joined("carol", ROOM)
    body = {"event": "e", "channel": "::".join(ROOM.values()), "data": {"__type__": "x"}}
    for properties in (
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
        {"content_type": "application/json", "content_encoding": "utf-16"},
        {"content_encoding": "zlib", "application_headers": {"compression": "x-bzip2"}},
    ):
        site.backend.publish_body(json.dumps(body).encode(), **properties)
        assert client.hear() == ("e", ({"__type__": "x"},))


def test_messages_are_counted_by_kind(site: Site) -> None:
    client = site.joined("carol", OWN)
    kinds = ("rooms", "sessions", "logged_in", "logged_out")
    name = "repo_notify_backend_messages_total"
    before = [metric(site.served, name, kind=kind) for kind in kinds]
    site.backend.tell_sessions("loggedOut", {}, new_session_id())
    site.backend.logged_in(new_session_id(), "nobody")
    site.backend.logged_out(new_session_id())
    site.awaited(client)
    assert [metric(site.served, name, kind=kind) for kind in kinds] == [count + 1 for count in before]
    assert metric(site.served, "repo_notify_backend_up") == 1


def test_rights_of_older_data_are_off(site: Site, teamspaces: Callable[..., Teamspace], chat: Any) -> None:
    teamspace = teamspaces("dora")
    room = {"teamspace": teamspace.name, "project": teamspace.project([teamspace.model()])}
    client: ChatClient = site.connect("dora")
    assert client.ask("join", room)["code"] == "ROOM_NOT_FOUND"


def test_a_setting_brings_older_rights_back(make_site: Callable[..., Site], teamspaces: Any) -> None:
    site = make_site("older", REPO_NOTIFY_LEGACY_PERMISSIONS=True)
    teamspace = teamspaces("dora2")
    room = {"teamspace": teamspace.name, "project": teamspace.project([teamspace.model()])}
    assert site.connect("dora2").ask("join", room)["event"] == "success"


def test_a_server_of_the_hosts_own_passes_it_on_too(make_site: Callable[..., Site]) -> None:
    site = make_site("stock", STOCK_SOCKETIO={"async_mode": "gevent"})
    client = site.joined("carol", ROOM, OWN)
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    site.backend.publish({"event": "empty", "channel": "::".join(ROOM.values())})
    assert site.awaited(client) == [("containerNewTicket", (told,)), ("empty", (None,))]


def test_a_threaded_server_passes_it_on_too(make_site: Callable[..., Site]) -> None:
    site = make_site("threads", REPO_NOTIFY_ASYNC_MODE="threading", PATCH=False)
    client = site.joined("carol", ROOM, OWN, transports=("polling",))
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    assert site.awaited(client) == [("containerNewTicket", (told,))]


def test_a_removed_model_is_no_longer_found(make_site: Callable[..., Site], teamspaces: Any, mongo: Any) -> None:
    site = make_site("removed", REPO_NOTIFY_PERMISSION_CACHE_SECONDS=60, REPO_NOTIFY_CHANGE_STREAMS=False)
    teamspace = teamspaces()
    model = teamspace.model({"carol": "viewer"})
    room = {"teamspace": teamspace.name, "project": teamspace.project([model]), "model": model}
    client = site.joined("carol", room, OWN)
    teamspace.take("settings", model)
    assert client.ask("join", room)["event"] == "success", "not cached"
    site.backend.model_event("containerRemoved", room, {})
    site.awaited(client)
    assert client.ask("join", room)["code"] == "ROOM_NOT_FOUND"


def test_a_history_that_is_off(make_site: Callable[..., Site]) -> None:
    site = make_site("nohistory", REPO_NOTIFY_HISTORY="off")
    client = site.joined("carol", ROOM)
    told = site.backend.model_event("containerNewTicket", ROOM, DATA)
    assert client.hear() == ("containerNewTicket", (told,))
