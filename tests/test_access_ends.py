"""Access ends when the right ends (spec section 10): by MongoDB's change stream, or by the sweep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from tests.conftest import ENGINES
from tests.support.audience import Place
from tests.support.brokers import redis
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.people import People
from tests.support.served import Served
from tests.support.streams import await_stream
from tests.support.teamspaces import Teamspace, binary
from tests.support.until import until

Make = Callable[..., Teamspace]
Serve = Callable[..., Served]

NEVER = 3_600
# Within a second of the write; a busy machine gets another half.
SECONDS = 1.5
FAREWELL_SECONDS = 0.5
ROOMS = 60
# The proxy ends before the app, which then waits for its database.
BEHIND_A_PROXY: dict[str, Any] = {
    "REPO_NOTIFY_RECHECK_SECONDS": NEVER,
    "REPO_NOTIFY_PERMISSION_TIMEOUT": 1.0,
    "REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2,
}
WAYS: dict[str, dict[str, Any]] = {
    "streams": {"REPO_NOTIFY_RECHECK_SECONDS": NEVER},
    "sweep": {"REPO_NOTIFY_RECHECK_SECONDS": 0.3, "REPO_NOTIFY_CHANGE_STREAMS": False},
}


@pytest.fixture(params=WAYS)
def people(serve_host: Serve, request: pytest.FixtureRequest) -> Iterator[People]:
    """People of an app that looks at rights in one of both ways, and caches for longer than it may."""
    served = serve_host(REPO_NOTIFY_PERMISSION_CACHE_SECONDS=NEVER, **WAYS[request.param])
    if request.param == "streams":
        await_stream(served)
    with closing(People(served)) as found:
        yield found


def refusal(joined: dict[str, Any], message: str = "Model not found") -> dict[str, Any]:
    return {"code": "ROOM_NOT_FOUND", "message": message, "details": {"action": "join", "data": joined}}


Take = Callable[[Place], object]
TAKES: dict[str, Take] = {
    "the model's permissions": lambda place: place.teamspace.model({}, _id=place.model),
    "the model": lambda place: place.teamspace.take("settings", place.model),
    "the model's project": lambda place: place.teamspace.take("projects", binary(place.project)),
    "the model from its project": lambda place: place.teamspace.put(
        "projects", _id=binary(place.project), models=[], permissions=[]
    ),
    "the collection": lambda place: place.teamspace.mongo[place.name]["settings"].drop(),
    "the collection's name": lambda place: place.teamspace.mongo[place.name]["settings"].rename("old_settings"),
    "the database": lambda place: place.teamspace.mongo.drop_database(place.name),
}


@pytest.mark.parametrize("taken", TAKES)
def test_who_may_read_no_more_leaves_and_is_told_within_a_second(
    people: People, teamspaces: Make, taken: str
) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = people.client("uma")
    client.join(place.in_model)
    started = monotonic()
    TAKES[taken](place)
    assert client.hear_event("error") == refusal(place.in_model)
    assert monotonic() - started < SECONDS
    people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
    assert client.ask("join", place.in_model) == refusal(place.in_model)
    assert client.heard_so_far() == [("error", (refusal(place.in_model),))]


def test_admins_of_projects_and_teamspaces_leave_too(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.admins("una", "uma")
    una = people.client("una")
    for room in (place.in_model, place.in_project, {"account": place.name}):
        una.join(room)
    uma = people.client("uma")
    uma.join(place.in_project)
    place.teamspace.admins("uma")
    heard = [una.hear() for _ in range(4)]
    told = [args[0] for name, args in heard if name == "error"]
    assert [name for name, _ in heard].count("credentialError") == 1
    assert {one["message"] for one in told} >= {"Model not found", "Project not found"}
    assert {"account": place.name} in [one["details"]["data"] for one in told]
    assert uma.heard_so_far() == []


def test_the_object_that_joined_is_repeated_as_it_was_sent(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    spelled = {"project": place.project.upper(), "teamspace": place.name, "model": place.model.upper(), "more": [1]}
    old = {"account": place.name, "model": place.model, "why": "v4"}
    client = people.client("uma")
    client.join(spelled)
    client.ask("join", old)
    client.heard_so_far()
    place.teamspace.model({}, _id=place.model)
    heard = [client.hear() for _ in range(3)]
    errors = {str(args[0]["details"]["data"]) for name, args in heard if name == "error"}
    assert errors == {str(spelled), str(old)}
    assert [name for name, _ in heard].count("credentialError") == 1


def test_who_joins_again_and_again_is_told_of_the_last_object(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = people.client("uma")
    # Together more than is kept of one connection.
    for number in range(30):
        client.join({**place.in_model, "more": f"{number}" + "x" * 10_000})
    place.teamspace.model({}, _id=place.model)
    assert client.hear_event("error")["details"]["data"]["more"].startswith("29x")


def test_members_of_what_is_removed_still_hear_that_it_is(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = people.client("uma")
    client.join(place.in_model)
    started = monotonic()
    place.teamspace.take("settings", place.model)
    people.user("ann").publish("ModelRemoved", **place.in_model, kind="container")
    assert client.hear()[0] == "containerRemoved"
    assert client.hear_event("error") == refusal(place.in_model)
    assert FAREWELL_SECONDS <= monotonic() - started < SECONDS


def test_who_keeps_the_right_notices_nothing(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer", "una": "viewer"}, _id=place.model)
    una, uma = people.client("una"), people.client("uma")
    for client in (una, uma):
        client.join(place.in_model)
    place.teamspace.model({"uma": "commenter"}, _id=place.model)
    una.hear_event("error")
    people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
    assert [name for name, _ in uma.heard_so_far()] == ["containerNewTicket"]
    assert una.heard_so_far() == []


def test_a_right_that_was_gained_counts_at_the_next_join(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    client = people.client("uma")
    assert client.ask("join", place.in_model)["code"] == "ROOM_NOT_FOUND"
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    until(lambda: client.ask("join", place.in_model).get("event") == "success")


@pytest.mark.parametrize("engine", ENGINES)
def test_on_either_engine(serve_host: Serve, teamspaces: Make, engine: str) -> None:
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=NEVER, **ENGINES[engine])
    await_stream(served)
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    with closing(People(served)) as people:
        client = people.client("uma")
        client.join(place.in_model)
        place.teamspace.model({}, _id=place.model)
        assert client.hear_event("error") == refusal(place.in_model)
        assert metric(served, "repo_notify_evictions_total", cause="change") == 1
        assert metric(served, "repo_notify_revocation_seconds_count") == 1


@dataclass(frozen=True)
class Watched:
    """People of an app that hears of changes in its database through a proxy."""

    database: MongoProxy
    served: Served
    people: People


@pytest.fixture
def watched(sample: str, serve_host: Serve) -> Iterator[Watched]:
    with MongoProxy(sample) as database:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BEHIND_A_PROXY)
        await_stream(served)
        with closing(People(served)) as people:
            yield Watched(database, served, people)


def test_a_join_that_was_under_way_at_the_write_does_not_stay(watched: Watched, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = watched.people.client("uma")
    with ThreadPoolExecutor(1) as pool:
        # The settings are read, the projects not yet.
        watched.database.hold_collection("projects")
        asked = pool.submit(client.ask, "join", place.in_model)
        assert watched.database.asked.wait(SECONDS)
        place.teamspace.model({}, _id=place.model)
        until(lambda: metric(watched.served, "repo_notify_change_stream_changes_total") > 0)
        watched.database.release()
        if asked.result().get("event") == "success":
            client.hear_event("message")
            client.hear_event("error")
    watched.people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
    assert "containerNewTicket" not in [name for name, _ in client.heard_so_far()]


def test_a_look_that_took_long_is_no_reason_to_stay_longer(watched: Watched, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = watched.people.client("uma")
    client.join(place.in_model)
    watched.database.hold_collection("settings")
    place.teamspace.take("settings", place.model)
    assert watched.database.asked.wait(SECONDS)
    # What is awaited is that the time passes for which the members of what is removed may stay.
    threading.Event().wait(FAREWELL_SECONDS)
    released = monotonic()
    watched.database.release()
    assert client.hear_event("error") == refusal(place.in_model)
    assert monotonic() - released < FAREWELL_SECONDS


def test_the_rooms_of_a_teamspace_that_is_dropped_are_looked_at_together(watched: Watched, teamspaces: Make) -> None:
    place = Place(teamspaces())
    models = [place.teamspace.model({"uma": "viewer"}) for _ in range(ROOMS)]
    project = place.teamspace.project(models)
    client = watched.people.client("uma")
    for model in models:
        client.join({"teamspace": place.name, "project": project, "model": model})
    before = watched.database.finds.total()
    place.teamspace.mongo.drop_database(place.name)
    assert [client.hear()[0] for _ in models] == ["error"] * ROOMS
    assert watched.database.finds.total() - before < ROOMS


def test_what_changed_while_the_stream_was_away_is_seen(watched: Watched, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = watched.people.client("uma")
    client.join(place.in_model)
    with watched.database.refusing():
        until(lambda: metric(watched.served, "repo_notify_change_stream_up") == 0)
        place.teamspace.model({}, _id=place.model)
        assert client.heard_so_far() == []
    assert client.hear_event("error") == refusal(place.in_model)
    assert metric(watched.served, "repo_notify_change_stream_restarts_total") > 0


def test_where_streams_are_refused_that_is_said_once_and_the_sweep_does_it(
    sample: str, serve_host: Serve, teamspaces: Make
) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    with MongoProxy(sample, streams=False) as database:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BEHIND_A_PROXY | {"REPO_NOTIFY_RECHECK_SECONDS": 0.3})
        with closing(People(served)) as people:
            client = people.client("uma")
            client.join(place.in_model)
            until(lambda: metric(served, "repo_notify_change_stream_restarts_total") > 0)
            place.teamspace.model({}, _id=place.model)
            assert client.hear_event("error") == refusal(place.in_model)
            assert metric(served, "repo_notify_change_stream_up") == 0


ODD: list[Any] = [None, 7, "viewer", [None], [{"user": 7}], [{"user": "una", "permission": None}], {"a": 1}]


@pytest.mark.parametrize("permissions", ODD)
def test_permissions_of_odd_shapes_end_access_and_nothing_else(
    people: People, teamspaces: Make, permissions: Any
) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    place.teamspace.model({"uma": "viewer"}, _id=place.other_model)
    client = people.client("uma")
    other = {**place.in_model, "model": place.other_model}
    client.join(place.in_model)
    client.join(other)
    place.teamspace.put("settings", _id=place.model, permissions=permissions)
    assert client.hear_event("error") == refusal(place.in_model)
    place.teamspace.model({}, _id=place.other_model)
    assert client.hear_event("error") == refusal(other)


@pytest.mark.parametrize("legacy", [True, False])
def test_older_data_grants_where_it_is_believed(serve_host: Serve, teamspaces: Make, legacy: bool) -> None:
    served = serve_host(REPO_NOTIFY_LEGACY_PERMISSIONS=legacy)
    place = Place(teamspaces())
    place.teamspace.model({"uma": "readers"}, _id=place.model)
    place.teamspace.account({"permissionTemplates": [{"_id": "readers", "permissions": ["view_model"]}]})
    named = {"event": "success"} if legacy else {"code": "ROOM_NOT_FOUND"}
    with closing(People(served)) as people:
        for user in ("uma", place.name):
            assert people.client(user).ask("join", place.in_model).items() >= named.items()


def test_thousands_of_changes_are_not_thousands_of_questions(watched: Watched, teamspaces: Make) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    client = watched.people.client("uma")
    client.join(place.in_model)
    before = watched.database.finds.total()
    for _ in range(1_000):
        place.teamspace.model({"uma": "viewer"}, _id=place.model)
    place.teamspace.model({}, _id=place.model)
    client.hear_event("error")
    # Two look-ups, and twice where the answer is no, for each twentieth of a second at most.
    assert watched.database.finds.total() - before < 400


@pytest.mark.parametrize("ends", ["username", "teamspace", "project", "model"])
def test_the_host_may_say_no_and_have_it_heard_at_once(serve_host: Serve, teamspaces: Make, ends: str) -> None:
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=NEVER, REPO_NOTIFY_CHANGE_STREAMS=False)
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer", "una": "viewer"}, _id=place.model)
    named = {"username": {"username": "uma"}, "teamspace": {"teamspace": place.name}}
    named["project"] = {**named["teamspace"], "project": place.project}
    named["model"] = {**named["project"], "model": place.model}
    with closing(People(served)) as people:
        uma, una = people.client("uma"), people.client("una")
        for client in (uma, una):
            client.join(place.in_model)
        people.user("ann").post("/deny", {"users": ["uma"], "ends": named[ends]})
        assert uma.hear_event("error") == refusal(place.in_model)
        assert uma.ask("join", place.in_model) == refusal(place.in_model)
        assert una.heard_so_far() == []
        assert metric(served, "repo_notify_evictions_total", cause="host") == 1
        # A checker that raises lets nobody in.
        people.user("ann").post("/deny", {"users": ["raise"]})
        assert una.ask("join", place.in_model) == refusal(place.in_model)


def test_the_hosts_word_reaches_every_process(
    serve_host: Serve, teamspaces: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer"}, _id=place.model)
    with redis(tmp_path_factory.mktemp("redis")) as url:
        config = {"REPO_NOTIFY_RECHECK_SECONDS": NEVER, "REPO_NOTIFY_MESSAGE_QUEUE": url}
        here, there = serve_host(**config), serve_host(**config)
        with closing(People(here)) as people, closing(People(there)) as others:
            client = others.client("uma")
            client.join(place.in_model)
            people.client("ann")
            until(lambda: metric(there, "repo_notify_queue_up") == 1)
            others.user("ann").post("/deny", {"users": ["uma"]})
            people.user("ann").post("/deny", {"users": [], "ends": {"username": "uma"}})
            assert client.hear_event("error") == refusal(place.in_model)
