"""The machine's clock is set while the service runs: nobody loses a room by it, and nobody keeps one (section 10)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from pymongo import MongoClient

from tests.support.audience import Place
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.people import People
from tests.support.served import SECONDS, Served
from tests.support.streams import await_stream
from tests.support.teamspaces import Teamspace
from tests.support.until import until

KEY = "an operator's key"
SESSIONS = ("admin", "sessions_and_clocks")
HOUR = 3_600
CONFIG: dict[str, Any] = {
    "CLOCK": True,
    "REPO_NOTIFY_API_KEY": KEY,
    "REPO_NOTIFY_RECHECK_SECONDS": 0.2,
    "SESSIONS": "mongodb",
    "SESSION_MONGODB_DB": SESSIONS[0],
    "SESSION_MONGODB_COLLECT": SESSIONS[1],
}
JUMPS = {"forwards": HOUR, "backwards": -HOUR}


@pytest.fixture
def people(serve_host: Callable[..., Served]) -> Iterator[People]:
    served = serve_host(**CONFIG)
    await_stream(served)
    with closing(People(served)) as found:
        yield found


def swept(people: People) -> float:
    return metric(people.served, "repo_notify_revalidations_total", cause="sweep", outcome="kept")


def sets_clock(people: People, seconds: float) -> None:
    people.user("ann").post("/clock", {"seconds": seconds}).raise_for_status()
    # Everybody has been looked at since, more than once.
    seen = swept(people)
    until(lambda: swept(people) > seen + 10)


def asks_for_sessions(people: People, mongo: MongoClient[dict[str, Any]], client: ChatClient) -> None:
    """Wait until a session that is gone has ended, which shows that the store was asked."""
    sid = unquote(people.user("ulf").cookie.partition("=")[2])
    assert mongo[SESSIONS[0]][SESSIONS[1]].delete_one({"id": f"session:{sid}"}).deleted_count == 1
    client.hear_event("loggedOut")


def last_ended(people: People, username: str, model: dict[str, str]) -> str:
    """Return what the operator's view says of a user without a connection, once it says so."""
    said: list[str] = []

    def is_told() -> bool:
        answer = requests.get(
            people.served.url + "/notify/explain",
            params={"username": username, **model},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=SECONDS,
        )
        (found,) = (check["why"] for check in answer.json()["checks"] if check["check"] == "connected")
        said.append(found)
        return "the last ended" in found

    until(is_told, lambda: said)
    return said[-1]


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_takes_nobodys_room_and_keeps_nobody_in_one(
    people: People, teamspaces: Callable[..., Teamspace], mongo: MongoClient[dict[str, Any]], seconds: float
) -> None:
    place = Place(teamspaces())
    for model in (place.model, place.other_model):
        place.teamspace.model({"uma": "viewer", "una": "viewer"}, _id=model)
    in_other = {**place.in_model, "model": place.other_model}
    uma, una, ulf = people.client("uma"), people.client("una"), people.client("ulf")
    for client in (uma, una):
        client.join(place.in_model)
        client.join(in_other)
    # Sessions that are good for less than the jump.
    soon = datetime.now(timezone.utc) + timedelta(seconds=HOUR / 2)
    mongo[SESSIONS[0]][SESSIONS[1]].update_many({}, {"$set": {"expiration": soon}})

    sets_clock(people, seconds)
    asks_for_sessions(people, mongo, ulf)
    assert uma.heard_so_far() == una.heard_so_far() == []
    people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
    for client in (uma, una):
        client.hear_event("containerNewTicket")

    place.teamspace.model({"una": "viewer"}, _id=place.model)
    assert uma.hear_event("error")["details"]["data"] == place.in_model
    assert uma.ask("join", place.in_model)["code"] == "ROOM_NOT_FOUND"
    uma.heard_so_far()
    # And set right again.
    sets_clock(people, 0)
    place.teamspace.model({"una": "viewer"}, _id=place.other_model)
    assert uma.hear_event("error")["details"]["data"] == in_other
    people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
    una.hear_event("containerNewTicket")
    assert uma.heard_so_far() == una.heard_so_far() == []


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS)
def test_how_long_ago_a_connection_ended_is_no_matter_of_the_clock(people: People, seconds: float) -> None:
    model = {"teamspace": "acme", "model": "m"}
    with closing(people.connect("una")) as client:
        client.join({"notifications": True})
    last_ended(people, "una", model)
    people.user("ann").post("/clock", {"seconds": seconds}).raise_for_status()
    ago = re.search(r"the last ended (\d+) s ago", last_ended(people, "una", model))
    assert ago is not None
    assert 0 <= int(ago[1]) < SECONDS
