"""Faults of the database: nobody keeps a room whose right is gone, nobody loses one that he may have (section 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo import MongoClient

from repo_notify import RepoNotify
from repo_notify.membership import revocation
from repo_notify.serving import state_of
from repo_notify.testing.client import Client, JoinRefused
from repo_notify.testing.embedded import EmbeddedMongo
from tests.conftest import USERS, host_defaults
from tests.support.audience import Place
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import Failure, MongoProxy
from tests.support.people import People
from tests.support.served import Served
from tests.support.streams import await_stream
from tests.support.teamspaces import Teamspace
from tests.support.threaded import serving
from tests.support.unmeasured import unmeasured_children
from tests.support.until import until

Make = Callable[..., Teamspace]
Serve = Callable[..., Served]

NEVER = 3_600
CONFIG: dict[str, Any] = {
    "REPO_NOTIFY_RECHECK_SECONDS": NEVER,
    "REPO_NOTIFY_PERMISSION_TIMEOUT": 1.0,
    "REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2,
}
TIMES = 4
# ChangeStreamHistoryLost, and what no second attempt with the same token would mend either.
TOKENS_LOST = {
    "history lost": Failure(286, "the resume point may no longer be in the oplog"),
    "fatal": Failure(280, "cannot resume stream; the resume token was not found"),
    "invalid token": Failure(260, "Attempting to resume a change stream using 'resumeAfter' is not allowed"),
}
RESUMABLE = ("ResumableChangeStreamError",)
# What the members of a replica set answer while they elect another primary, or one of them ends; and a shard's router.
ELECTIONS = {
    "not primary": Failure(10107, "not primary"),
    "stepped down": Failure(189, "not primary so we cannot begin or continue transactions"),
    "interrupted": Failure(11602, "operation was interrupted", RESUMABLE),
    "ends": Failure(91, "The server is in quiesce mode and will shut down", RESUMABLE),
    "no primary to be found": Failure(133, "Could not find host matching read preference", RESUMABLE),
}


def is_up(served: Served) -> bool:
    return metric(served, "repo_notify_change_stream_up") == 1


def place_of(teamspace: Teamspace) -> Place:
    """A model that both may read, and another."""
    place = Place(teamspace)
    for model in (place.model, place.other_model):
        teamspace.model({"uma": "viewer", "una": "viewer"}, _id=model)
    return place


def taken(joined: dict[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    told = {"code": "ROOM_NOT_FOUND", "message": "Model not found", "details": {"action": "join", "data": joined}}
    return [("error", (told,))]


def assert_still_hears(people: People, client: ChatClient, joined: dict[str, Any]) -> None:
    people.user("ann").publish("TicketCreated", **joined, kind="container", data={})
    assert [name for name, _ in client.heard_so_far()] == ["containerNewTicket"]


@pytest.fixture
def database(sample: str) -> Iterator[MongoProxy]:
    with MongoProxy(sample) as proxy:
        yield proxy


@pytest.fixture
def people(database: MongoProxy, serve_host: Serve) -> Iterator[People]:
    """People of an app whose database is behind the proxy."""
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **CONFIG)
    await_stream(served)
    with closing(People(served)) as found:
        yield found


def test_a_stream_that_is_killed_again_and_again_misses_nothing(
    people: People, database: MongoProxy, teamspaces: Make
) -> None:
    place = place_of(teamspaces())
    uma, una = people.client("uma"), people.client("una")
    una.join(place.in_model)
    for _ in range(TIMES):
        place.teamspace.model({"uma": "viewer", "una": "viewer"}, _id=place.model)
        until(lambda: uma.ask("join", place.in_model).get("event") == "success")
        uma.heard_so_far()
        with database.refusing():
            until(lambda: not is_up(people.served))
            place.teamspace.model({"una": "viewer"}, _id=place.model)
        assert uma.hear_event("error")["details"]["data"] == place.in_model
        until(lambda: is_up(people.served))
    assert_still_hears(people, una, place.in_model)
    assert uma.heard_so_far() == []


@pytest.mark.parametrize("election", ELECTIONS)
def test_a_change_of_primary_misses_nothing_and_is_no_loss(
    people: People, database: MongoProxy, teamspaces: Make, election: str
) -> None:
    place = place_of(teamspaces())
    uma, una = people.client("uma"), people.client("una")
    for client in (uma, una):
        client.join(place.in_model)
    database.no_primary = ELECTIONS[election]
    until(lambda: not is_up(people.served))
    place.teamspace.model({"una": "viewer"}, _id=place.model)
    assert una.ask("join", {**place.in_model, "model": place.other_model})["code"] == "SERVICE_UNAVAILABLE"
    assert uma.heard_so_far() == []
    database.no_primary = None
    assert [uma.hear()] == taken(place.in_model)
    # By the change itself: the stream goes on from where it was, and nobody else had to be looked at.
    assert metric(people.served, "repo_notify_evictions_total", cause="change") == 1
    assert metric(people.served, "repo_notify_change_stream_losses_total") == 0
    una.heard_so_far()
    assert_still_hears(people, una, place.in_model)
    until(lambda: is_up(people.served))


def test_nothing_is_read_on_for_nobody(people: People, database: MongoProxy, teamspaces: Make) -> None:
    place = place_of(teamspaces())
    uma = people.client("uma")
    uma.join(place.in_model)
    before = database.open
    database.hold_collection("projects")
    other = {**place.in_model, "model": place.other_model}
    assert uma.ask("join", other)["code"] == "SERVICE_UNAVAILABLE"
    database.release()
    # Its connection is of no use to anybody else.
    until(lambda: database.open == before - 1, lambda: (database.open, before))
    until(lambda: uma.ask("join", other).get("event") == "success")


@pytest.mark.parametrize("reason", TOKENS_LOST)
def test_where_history_is_lost_everybody_is_looked_at_and_it_is_counted(
    people: People, database: MongoProxy, teamspaces: Make, reason: str
) -> None:
    place = place_of(teamspaces())
    uma, una = people.client("uma"), people.client("una")
    for client in (uma, una):
        client.join(place.in_model)
    database.no_resuming = TOKENS_LOST[reason]
    with database.refusing():
        until(lambda: not is_up(people.served))
        place.teamspace.model({"una": "viewer"}, _id=place.model)
    assert uma.hear_event("error")["details"]["data"] == place.in_model
    until(lambda: is_up(people.served))
    assert metric(people.served, "repo_notify_change_stream_losses_total") == 1
    assert metric(people.served, "repo_notify_evictions_total", cause="sweep") == 1
    assert_still_hears(people, una, place.in_model)


def test_a_teamspace_that_is_dropped_and_made_anew_keeps_those_who_may_be_there(
    people: People, teamspaces: Make
) -> None:
    place = place_of(teamspaces())
    uma, una = people.client("uma"), people.client("una")
    for client in (uma, una):
        client.join(place.in_model)
    project = place.teamspace.mongo[place.name]["projects"].find_one({"models": place.model})
    assert project is not None
    place.teamspace.mongo.drop_database(place.name)
    place.teamspace.put("projects", **project)
    place.teamspace.model({"una": "viewer"}, _id=place.model)
    assert [uma.hear()] == taken(place.in_model)
    assert_still_hears(people, una, place.in_model)


def test_a_database_that_restarts_on_its_data_ends_what_it_says_and_nothing_else(
    serve_host: Serve, tmp_path: Path
) -> None:
    with unmeasured_children(), EmbeddedMongo(tmp_path) as first, MongoProxy(first.uri) as database:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **CONFIG)
        await_stream(served)
        with MongoClient[dict[str, Any]](database.uri) as mongo, closing(People(served)) as people:
            place = place_of(Teamspace(mongo, USERS))
            uma, una = people.client("uma"), people.client("una")
            for client in (uma, una):
                client.join(place.in_model)
            first.__exit__(None, None, None)
            until(lambda: not is_up(served))
            assert una.heard_so_far() == uma.heard_so_far() == []
            with EmbeddedMongo(tmp_path) as second:
                database.move(second.uri)
                place.teamspace.model({"una": "viewer"}, _id=place.model)
                assert [uma.hear()] == taken(place.in_model)
                assert_still_hears(people, una, place.in_model)
                # And from then on as before.
                until(lambda: is_up(served))
                una.join({**place.in_model, "model": place.other_model})
                place.teamspace.model({}, _id=place.other_model)
                assert [una.hear()] == taken({**place.in_model, "model": place.other_model})
                database.move("mongodb://127.0.0.1:9")


def joins(client: Client, room: dict[str, Any]) -> bool:
    """Join a room; return whether it was granted."""
    try:
        client.join(**room)
    except JoinRefused:
        return False
    return True


@pytest.mark.parametrize("recheck", [0, NEVER])
def test_nothing_is_kept_of_those_who_have_left(
    sample: str, teamspaces: Make, recheck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "FORGET_SECONDS", 0.2)
    app = Flask("host")
    settings = {"SECRET_KEY": "k", "REPO_NOTIFY_ASYNC_MODE": "threading", "REPO_NOTIFY_RECHECK_SECONDS": recheck}
    app.config.update(host_defaults(sample), **settings)
    notify = RepoNotify(app)

    @notify.identity_loader
    def everybody() -> str:
        return "uma"

    revalidation = state_of(app).revalidation
    register = revalidation._register
    place = place_of(teamspaces())
    spelled = {**place.in_model, "model": place.other_model.upper(), "why": "more"}
    with serving(app) as url:
        for _ in range(TIMES):
            with Client(url) as client:
                for joined in (place.in_model, spelled):
                    # A right that was gained is not announced: the refusal from before counts for a moment.
                    until(partial(joins, client, joined))
                place.teamspace.model({}, _id=place.model)
                client.wait_for("error")
                client.leave(**spelled)
                client.join(**spelled)
                place.teamspace.model({"uma": "viewer"}, _id=place.model)

        def kept() -> dict[str, Any]:
            owners = {**vars(register), **vars(revalidation)}
            names = ("_keys", "_objects", "_lengths", "_concerns", "_later")
            return {name: owners[name] for name in names if owners[name]}

        until(lambda: not kept(), kept)
