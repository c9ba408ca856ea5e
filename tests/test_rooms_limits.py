"""spec section 3: a database that does not answer, and clients that ask too much."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import UNHURRIED, host_defaults
from tests.support.chat import ChatClient
from tests.support.mongo_proxy import MongoProxy
from tests.support.ports import free_port
from tests.support.raw import RawSocket
from tests.support.served import Served, User, host_app

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


def _retry_after(reply: Json) -> float:
    assert reply["code"] == "RATE_LIMITED"
    found = re.search(r"try again in ([0-9.]+) seconds", reply["message"])
    assert found is not None, reply
    return float(found[1])


@pytest.mark.parametrize("user", ["carol"])
def test_a_hundred_at_once_are_answered_and_the_next_is_told_when_to_try_again(
    host: Served, chat: Connect, user: str
) -> None:
    client = chat(host.url, cookie=User(host).log_in(user).cookie)
    other = chat(host.url, cookie=User(host).log_in(user).cookie)
    for n in range(170):
        client.socket.emit("leave" if n % 2 else "join", {**NOTIFICATIONS, "n": n})
    replies = [client.hear() for _ in range(170)]
    assert [name for name, _ in replies[:100]] == ["message"] * 100
    last = [args[0] for name, args in replies if name == "error"]
    assert last, "nothing was refused"
    # At 50 a second the next one is due within 20 ms.
    assert 0 < _retry_after(last[-1]) <= 0.021
    assert last[-1]["details"]["data"]["notifications"] is True
    # Others are not touched, and the socket is answered again when it has waited.
    assert other.ask("join", NOTIFICATIONS)["event"] == "success"
    started = monotonic()
    while client.ask("join", NOTIFICATIONS).get("code") == "RATE_LIMITED":
        assert monotonic() - started < 1


def test_burst_and_rate_are_settings(serve_host: Serve, chat: Connect) -> None:
    served = serve_host(REPO_NOTIFY_JOIN_BURST=3, REPO_NOTIFY_JOIN_RATE=0.01)
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    replies = [client.ask("join", NOTIFICATIONS) for _ in range(5)]
    assert [reply.get("event") for reply in replies] == ["success"] * 3 + [None] * 2
    assert 90 < _retry_after(replies[-1]) <= 100


def test_the_allowance_is_the_connections_not_the_users(serve_host: Serve, chat: Connect) -> None:
    served = serve_host(REPO_NOTIFY_JOIN_BURST=2, REPO_NOTIFY_JOIN_RATE=0.01)
    cookie = User(served).log_in("carol").cookie
    for _ in range(2):
        client = chat(served.url, cookie=cookie)
        assert [client.ask("join", NOTIFICATIONS).get("code") for _ in range(3)] == [None, None, "RATE_LIMITED"]


@pytest.fixture(scope="module")
def short_of_patience(sample: str) -> Iterator[Served]:
    hasty = {"REPO_NOTIFY_JOIN_BURST": 5, "REPO_NOTIFY_JOIN_RATE": 0.01, "REPO_NOTIFY_JOIN_FLOOD": 20}
    with host_app({**host_defaults(sample), **hasty}) as served:
        yield served


@pytest.mark.parametrize("event", ["join", "leave", "nonsense"])
@pytest.mark.parametrize("user", ["carol", None])
def test_far_beyond_it_the_connection_is_closed(
    short_of_patience: Served, chat: Connect, event: str, user: str | None
) -> None:
    cookie = User(short_of_patience).log_in(user).cookie if user else ""
    other = chat(short_of_patience.url, cookie=cookie)
    with RawSocket.connect(short_of_patience.url, cookie) as flood:
        for _ in range(26):
            flood.send(f'42["{event}",{{"notifications":true}}]')
        replies = list(iter(flood.receive, ""))
    # What was refused was said; then the connection ended.
    assert sum(reply.startswith("42") for reply in replies) == 25
    assert other.ask("join", {"room": 1})["code"] in ("ROOM_NOT_FOUND", "UNAUTHORISED")
