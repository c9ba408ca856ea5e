"""Joins since a position: for every client, old and new (spec section 9, the plain form)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from tests.conftest import ENGINES
from tests.support.audience import Place
from tests.support.returning import Returning
from tests.support.served import Served, User, host_app
from tests.support.teamspaces import Teamspace
from tests.test_recovery import READER, large_updates, numbers, publisher, update

Json = Any
Make = Callable[..., Teamspace]
Connect = Callable[..., Returning]


@pytest.fixture(scope="module")
def served(sample: str) -> Iterator[Served]:
    options = {"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": "users"}
    with host_app({**options, "REPO_NOTIFY_POSITION_HEADER": True}) as found:
        yield found


@pytest.fixture(params=["Engine.IO 4", "Engine.IO 3"])
def connect(request: pytest.FixtureRequest, served: Served) -> Iterator[Connect]:
    eio = int(request.param[-1])
    with ExitStack() as stack:

        def make(user: str = READER) -> Returning:
            client = Returning(served.url, User(served).log_in(user).cookie, eio=eio).connect()
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def place(teamspaces: Make) -> Place:
    found = Place(teamspaces())
    for model in (found.model, found.other_model):
        found.teamspace.model({READER: "viewer"}, _id=model)
    return found


def position(served: Served) -> str:
    found: str = requests.get(f"{served.url}/notify/position", timeout=10).json()["position"]
    return found


def rooms(place: Place) -> list[dict[str, str]]:
    return [place.in_model, {"account": place.name, "model": place.model}]


def test_a_first_load_has_no_hole(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    update(served, place, 1, 2)
    client = connect()
    reply = client.emit("join", {**place.in_model, "since": since})
    assert reply["event"] == "success"
    assert reply["data"] == {"action": "join", "data": {**place.in_model, "since": since}}
    assert (reply["position"], reply["replayed"]) == (since, 2)
    update(served, place, 3)
    said, *heard = client.hear(4)
    assert said == ("message", [reply])
    assert numbers(heard) == [1, 2, 3]
    assert client.offset == position(served)


def test_nothing_missed_is_nothing_replayed(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    update(served, place, 1)
    since = position(served)
    reply = client.emit("join", {**place.in_model, "since": since})
    assert (reply["position"], reply["replayed"]) == (since, 0)
    assert client.hear(1) == [("message", [reply])]
    assert client.heard_so_far() == []


def test_from_a_null_on_one_is_told_where_one_is(served: Served, connect: Connect, place: Place) -> None:
    client = connect()
    reply = client.emit("join", {**place.in_model, "since": None})
    assert set(reply) == {"event", "data", "position"}
    assert reply["position"] == position(served)
    update(served, place, 1)
    client.hear(2)
    assert client.offset == position(served)


@pytest.mark.parametrize("since", [0, 7, True, [], ["x"], {}, "", "made-up", "0" * 10_000, "abcdefabcdef.1", "é"])
def test_what_is_no_position_is_a_gap(served: Served, connect: Connect, place: Place, since: Json) -> None:
    client = connect()
    update(served, place, 1)
    reply = client.emit("join", {**place.in_model, "since": since})
    assert (reply["gap"], reply["position"]) == (True, position(served))
    assert "replayed" not in reply
    assert client.hear(1) == [("message", [reply])]
    update(served, place, 2)
    assert numbers(client.hear(1)) == [2]


def test_nothing_that_one_has_had_comes_again(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    client = connect()
    update(served, place, 1)
    client.join(place.in_model)
    update(served, place, 2)
    assert numbers(client.hear(1)) == [2]
    reply = client.emit("join", {**place.in_model, "since": since})
    assert reply["replayed"] == 1
    assert numbers(client.hear(2)[1:]) == [1]
    reply = client.emit("join", {**place.in_model, "since": since})
    assert reply["replayed"] == 0


def test_only_that_room_is_replayed(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    client = connect()
    update(served, place, 1)
    update(served, place, 2, model=place.other_model)
    reply = client.emit("join", {**place.in_model, "since": since})
    assert reply["replayed"] == 1
    assert numbers(client.hear(2)[1:]) == [1]


def test_who_may_not_is_refused_and_hears_nothing(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    update(served, place, 1)
    client = connect("mallory")
    asked = {**place.in_model, "since": since}
    reply = client.emit("join", asked)
    assert reply == {
        "code": "ROOM_NOT_FOUND", "message": "Model not found", "details": {"action": "join", "data": asked}
    }  # fmt: skip
    assert [event for event, _ in client.hear(1)] == ["error"]
    assert client.heard_so_far() == []


def test_a_v4_join_has_it_too(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    publisher(served).publish("IssuesCreated", teamspace=place.name, model=place.model, issues=[{"_id": "i"}])
    client = connect()
    reply = client.emit("join", {"account": place.name, "model": place.model, "since": since})
    assert reply["replayed"] == 1
    joined, said, heard = client.hear(3)
    assert joined == ("joined", [{"account": place.name, "model": place.model}])
    assert said == ("message", [reply])
    assert heard == (f"{place.name}::{place.model}::newIssues", [[{"_id": "i"}]])


@pytest.mark.parametrize("many", [2, 400], ids=["a page", "many pages"])
def test_the_acknowledgement_comes_before_what_is_replayed(
    served: Served, connect: Connect, place: Place, many: int
) -> None:
    since = position(served)
    large_updates(served, place, many)
    client = connect()
    reply = client.emit("join", {**place.in_model, "since": since}, told=False)
    assert reply["replayed"] == many
    assert client.heard == [("message", [reply])]
    assert len(client.hear(many + 1)) == many + 1


def test_a_long_replay_goes_before_what_is_live(served: Served, connect: Connect, place: Place) -> None:
    since = position(served)
    many = 400
    large_updates(served, place, many)
    client = connect()
    client.join(rooms(place)[1])
    client.send(f'421{json.dumps(["join", {**place.in_model, "since": since}])}')
    update(served, place, many)
    said, *heard = client.hear(many + 2)
    assert said[1][0]["replayed"] == many
    assert [payload["data"].get(f"n{at}") for at, (_, (payload,)) in enumerate(heard)] == list(range(many + 1))


def test_what_is_published_meanwhile_in_another_room_comes_once_and_in_order(
    served: Served, connect: Connect, place: Place
) -> None:
    since = position(served)
    many = 400
    # More than what the kernel takes for a client that does not read.
    large_updates(served, place, many, 25_000)
    client = connect()
    other = {**place.in_model, "model": place.other_model}
    client.emit("join", {**other, "since": None}, told=False)
    update(served, place, -1, model=place.other_model)
    assert numbers(client.hear(2)[1:]) == [-1]
    reply = client.emit("join", {**place.in_model, "since": since}, told=False)
    assert reply["replayed"] == many
    update(served, place, many, model=place.other_model)
    heard = client.hear(many + 2)
    told = [payload["data"] for event, (payload,) in heard if event != "message"]
    assert [data.get(f"n{at}") for at, data in enumerate(told)] == list(range(many + 1))
    assert client.heard_so_far() == []


@pytest.mark.parametrize("other", ["null", "no position", "a later one"])
def test_no_reply_is_ahead_of_what_is_replayed_still(
    served: Served, connect: Connect, place: Place, other: str
) -> None:
    since = position(served)
    many = 400
    # More than what the kernel takes for a client that does not read.
    large_updates(served, place, many, 25_000)
    client = connect()
    client.send(f'42{json.dumps(["join", {**place.in_model, "since": since}])}')
    later = {"null": None, "no position": "made-up", "a later one": position(served)}[other]
    reply = client.emit("join", {**place.in_model, "model": place.other_model, "since": later}, told=False)
    had = sum(event == "containerUpdateTicket" for event, _ in client.heard)
    assert had < many
    # It is lost before the rest arrives, and comes back by what it was told last.
    client.drop()
    client = connect()
    assert client.emit("join", {**place.in_model, "since": reply["position"]})["replayed"] >= many - had


def test_answers_of_the_app_say_how_far_the_history_was(served: Served) -> None:
    answer = requests.get(f"{served.url}/plain", timeout=10)
    assert answer.headers["X-Notify-Position"] == position(served)


def test_a_stock_server_has_no_history(serve_host: Callable[..., Served]) -> None:
    found = serve_host(**ENGINES["stock"])
    assert requests.get(f"{found.url}/notify/position", timeout=10).status_code == 404
