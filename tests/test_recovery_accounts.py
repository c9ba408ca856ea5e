"""Published times members is sent, replayed and dropped, by reason, whatever happens to the connections (section 9)."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.returning import Returning
from tests.support.served import Served, User
from tests.support.teamspaces import Teamspace
from tests.support.until import until
from tests.test_recovery import READER, lose, place, publisher

__all__ = ["place"]

Json = Any
CLIENTS = 8
# The whole story takes two minutes with REPO_NOTIFY_TEST_RECOVERY_SECONDS=120.
SECONDS = float(os.environ.get("REPO_NOTIFY_TEST_RECOVERY_SECONDS", "6"))
pytestmark = pytest.mark.timeout(SECONDS + 120)
OUTCOMES = ("sent", "replayed", "slow", "gone", "gap", "superseded")


def accounts(served: Served) -> dict[str, float]:
    return {outcome: metric(served, "repo_notify_delivery_outcomes", outcome=outcome) for outcome in OUTCOMES}


def owed(served: Served) -> float:
    return metric(served, "repo_notify_deliveries_owed_total")


class Crowd:
    """Clients in one room, some of them away; `published` events of one sort, each with its number."""

    def __init__(self, served: Served, place: Place, stack: ExitStack) -> None:
        self.served, self.place = served, place
        self.who = publisher(served)
        self.published = 0
        self.heard: list[list[int]] = [[] for _ in range(CLIENTS)]
        cookie = User(served).log_in(READER).cookie
        self.clients = [Returning(served.url, cookie).connect() for _ in range(CLIENTS)]
        for client in self.clients:
            stack.callback(client.close)
            client.join(place.in_model)
        self.away: set[int] = set()

    def publish(self, type_: str = "TicketCreated", **more: Json) -> None:
        data = {"_id": str(self.published), **more}
        self.who.publish(type_, **self.place.in_model, kind="container", data=data)
        self.published += 1

    def drop(self, number: int, *, noticed: bool = True) -> None:
        """A client is gone without having read what was sent to it last; whether the server is to notice it first."""
        self.away.add(number)
        if noticed:
            lose(self.served, self.clients[number])
        else:
            self.clients[number].drop()

    def back(self, number: int) -> None:
        self.clients[number].connect()
        assert self.clients[number].recovered
        self.away.discard(number)

    def listen(self, number: int) -> None:
        self.heard[number] += [int(payload["data"]["_id"]) for _, (payload,) in self.clients[number].heard_so_far()]


def test_the_sum_holds_while_connections_are_lost(serve_host: Callable[..., Served], place: Place) -> None:
    served = serve_host(REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)
    chance = random.Random(14)
    with ExitStack() as stack:
        crowd = Crowd(served, place, stack)
        end = monotonic() + SECONDS
        while monotonic() < end or crowd.published < 40:
            number = chance.randrange(CLIENTS)
            if chance.random() < 0.5:
                crowd.publish()
            elif number in crowd.away:
                crowd.back(number)
            elif chance.random() < 0.5:
                crowd.drop(number, noticed=chance.random() < 0.5)
            else:
                crowd.listen(number)
        for number in list(crowd.away):
            crowd.back(number)
        for number in range(CLIENTS):
            crowd.listen(number)
        everything = list(range(crowd.published))
        # What had reached a client behind its last position may have come once more.
        assert [sorted(set(heard)) for heard in crowd.heard] == [everything] * CLIENTS
        found = accounts(served)
        assert owed(served) == crowd.published * CLIENTS == sum(found.values())
        assert found["replayed"] > 0
        assert found["slow"] == found["gone"] == found["gap"] == found["superseded"] == 0


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_who_is_gone_while_its_last_event_is_handled_is_counted(
    serve_host: Callable[..., Served], sample: str, place: Place, teamspaces: Callable[[], Teamspace], mode: str
) -> None:
    threads = {"PATCH": False, "REPO_NOTIFY_ASYNC_MODE": "threading"} if mode == "threading" else {}
    with MongoProxy(sample) as database, ExitStack() as stack:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2, **threads)
        crowd = Crowd(served, place, stack)
        crowd.publish()
        other = Place(teamspaces())
        database.hold(other.teamspace.name)
        crowd.clients[0].send("42" + json.dumps(["join", other.in_model]))
        assert database.asked.wait(10)
        crowd.away.add(0)
        crowd.clients[0].drop()
        until(lambda: metric(served, "repo_notify_connections") == CLIENTS - 1)
        crowd.publish()
        crowd.publish()
        assert metric(served, "repo_notify_lost_clients") == 0
        database.release()
        until(lambda: metric(served, "repo_notify_lost_clients") == 1)
        crowd.publish()
        crowd.back(0)
        for number in range(CLIENTS):
            crowd.listen(number)
            assert crowd.heard[number] == list(range(crowd.published))
        found = accounts(served)
        assert found["replayed"] == crowd.published
        assert owed(served) == crowd.published * CLIENTS == sum(found.values())


def test_each_way_to_miss_something_is_counted(serve_host: Callable[..., Served], place: Place) -> None:
    served = serve_host(
        REPO_NOTIFY_HISTORY_SECONDS=6, REPO_NOTIFY_HISTORY_EVENTS=10, REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2
    )
    with ExitStack() as stack:
        crowd = Crowd(served, place, stack)
        crowd.publish()
        crowd.drop(0)
        crowd.drop(1)
        for _ in range(3):
            crowd.publish("TicketUpdated", status="the same fields")
        data = [{"_id": "one", "status": number} for number in range(3)]
        for each in data:
            crowd.who.publish("TicketUpdated", **place.in_model, kind="container", data=each)
        crowd.published += len(data)
        crowd.back(0)
        heard = crowd.clients[0].heard_so_far()
        assert [payload["data"]["_id"] for _, (payload,) in heard][-1] == "one"
        assert accounts(served)["superseded"] == len(data) - 1
        # Nobody comes back for the other one.
        until(lambda: metric(served, "repo_notify_lost_clients") == 0)
        found = accounts(served)
        assert found["gone"] > 0
        assert owed(served) == sum(found.values())


def test_what_is_replayed_again_counts_once(serve_host: Callable[..., Served], place: Place) -> None:
    served = serve_host(REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)
    with ExitStack() as stack:
        crowd = Crowd(served, place, stack)
        crowd.publish()
        crowd.listen(0)
        crowd.drop(0)
        crowd.publish()
        crowd.publish()
        for _ in range(3):
            # Each time it is gone before it has read anything.
            crowd.back(0)
            crowd.publish()
            crowd.drop(0)
        crowd.back(0)
        crowd.listen(0)
        assert crowd.heard[0] == list(range(crowd.published))
        found = accounts(served)
        assert found["replayed"] == crowd.published - 1
        assert owed(served) == crowd.published * CLIENTS == sum(found.values())


@pytest.mark.parametrize("events", [1, 5])
def test_who_is_told_of_a_gap_has_its_events_counted(
    serve_host: Callable[..., Served], place: Place, events: int
) -> None:
    served = serve_host(REPO_NOTIFY_HISTORY_EVENTS=5, REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)
    with ExitStack() as stack:
        crowd = Crowd(served, place, stack)
        crowd.publish()
        crowd.listen(0)
        crowd.drop(0)
        for _ in range(5 + events):
            crowd.publish()
        crowd.clients[0].connect()
        assert not crowd.clients[0].recovered
        found = accounts(served)
        assert found["gap"] == 5 + events
        assert owed(served) == crowd.published * CLIENTS == sum(found.values())
