"""spec section 3: a database that does not answer, and clients that ask too much."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import UNHURRIED
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.ports import free_port
from tests.support.raw import RawSocket
from tests.support.served import Served, User

pytestmark = pytest.mark.slow

Json = Any
Serve = Callable[..., Served]
Connect = Callable[..., ChatClient]
NOTIFICATIONS = {"notifications": True}
MODEL = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
PROJECT = {"teamspace": "acme", "project": TOWER}
# The service says goodbye to a database that has gone before it.
BRIEF = {"REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2}
UNAVAILABLE = {"code": "SERVICE_UNAVAILABLE", "message": "Permissions cannot be checked right now"}


@pytest.fixture(params=["silent", "closed"])
def dead_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database that never answers, or of none."""
    with ExitStack() as stack:
        if request.param == "silent":
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = listener.getsockname()[1]
        else:
            port = free_port()
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true"


@pytest.mark.parametrize("asked", [MODEL, PROJECT], ids=["model", "project"])
@pytest.mark.parametrize("action", ["join", "leave"])
def test_a_database_that_does_not_answer_is_told_in_time(
    serve_host: Serve, chat: Connect, dead_database: str, asked: Json, action: str
) -> None:
    served = serve_host(REPO_NOTIFY_MONGO_URI=dead_database, REPO_NOTIFY_PERMISSION_TIMEOUT=0.5, **BRIEF)
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    started = monotonic()
    reply = client.ask(action, asked)
    assert monotonic() - started < 2
    assert reply == {**UNAVAILABLE, "details": {"action": action, "data": asked}}
    assert client.heard_so_far() == [("error", (reply,))]
    # What needs no database goes on, for the same socket and for others.
    client.join(NOTIFICATIONS)
    assert client.ask(action, {"room": 1})["message"] == "Cannot identify the room indicated"
    assert client.ask(action, {**asked, "teamspace": "admin"})["code"] == "ROOM_NOT_FOUND"


def test_it_is_said_in_five_seconds_by_default_to_all_at_once(serve_host: Serve, chat: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?directConnection=true"
        served = serve_host(REPO_NOTIFY_MONGO_URI=uri, **BRIEF)
        clients = [chat(served.url, cookie=User(served).log_in(name).cookie) for name in ("carol", "dave")]
        started = monotonic()
        for client in clients:
            client.socket.emit("join", MODEL)
        for client in clients:
            assert client.hear_event("error", seconds=8)["code"] == "SERVICE_UNAVAILABLE"
        assert monotonic() - started < 6


def test_leaving_a_room_does_not_ask_the_database_and_joins_recover(
    sample: str, serve_host: Serve, chat: Connect
) -> None:
    with MongoProxy(sample) as database:
        settings = {"REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0, "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.4}
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **settings, **BRIEF, **UNHURRIED)
        client = chat(served.url, cookie=User(served).log_in("carol").cookie)
        for asked in (MODEL, {**MODEL, "model": STRUCTURE.upper()}):
            client.join(MODEL)
            database.hold()
            assert client.ask("leave", asked)["event"] == "success"
            assert client.ask("leave", asked)["code"] == "SERVICE_UNAVAILABLE"
            assert client.ask("join", asked)["code"] == "SERVICE_UNAVAILABLE"
            database.release()
            while client.ask("join", asked).get("event") != "success":
                pass  # refused at once for a moment, then each question waits for the driver's new connection


# A burst that is over at once, and a rate at which some tens take about a second.
SLOW = {"REPO_NOTIFY_JOIN_BURST": 3, "REPO_NOTIFY_JOIN_RATE": 50}


def test_nobody_is_refused_for_haste_and_all_are_answered_in_order(serve_host: Serve, chat: Connect) -> None:
    served = serve_host(**SLOW)
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    other = chat(served.url, cookie=User(served).log_in("carol").cookie)
    started = monotonic()
    for number in range(53):
        client.socket.emit("leave" if number % 2 else "join", {**NOTIFICATIONS, "number": number})
    # Others are served meanwhile as if nobody hurried; the allowance is the connection's, not the user's.
    assert other.ask("join", NOTIFICATIONS)["event"] == "success"
    assert monotonic() - started < 1
    replies = [client.hear_event("message") for _ in range(53)]
    assert monotonic() - started >= 1
    assert [reply["data"]["data"]["number"] for reply in replies] == list(range(53))
    # All but the three of the burst, and those that were sent so slowly that another was allowed by then.
    assert metric(served, "repo_notify_join_wait_seconds_count") >= 40


def test_two_thousand_are_answered_at_once(host: Served, chat: Connect) -> None:
    client = chat(host.url, cookie=User(host).log_in("carol").cookie)
    before = metric(host, "repo_notify_join_wait_seconds_count")
    for number in range(2_000):
        client.socket.emit("join", {**NOTIFICATIONS, "number": number})
    for _ in range(2_000):
        client.hear_event("message")
    assert metric(host, "repo_notify_join_wait_seconds_count") == before


@pytest.mark.parametrize("generation", [3, 4])
def test_who_is_held_back_keeps_the_connection(serve_host: Serve, generation: int) -> None:
    if generation == 3:
        pytest.importorskip("legacy_v4")
    served = serve_host(
        REPO_NOTIFY_JOIN_BURST=1, REPO_NOTIFY_JOIN_RATE=400, REPO_NOTIFY_PING_INTERVAL=0.4, REPO_NOTIFY_PING_TIMEOUT=0.4
    )
    asked = 3_000
    cookie = User(served).log_in("carol").cookie
    with RawSocket.connect(served.url, cookie, eio=generation) as hasty:
        for number in range(asked):
            hasty.send(f'42["join",{{"notifications":true,"number":{number}}}]')
        answered, pinged = 0, monotonic()
        while answered < asked:
            # Its pongs, or pings, stand behind all that it has sent.
            packet = hasty.receive()
            assert packet, f"the connection ended after {answered} answers"
            answered += packet.startswith("42")
            if generation == 3 and monotonic() - pinged > 0.2:
                hasty.send("2")
                pinged = monotonic()
