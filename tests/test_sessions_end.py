"""spec section 2: `loggedOut`, to every socket of an ended session and to no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from pymongo import MongoClient

from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.extension import LOGGED_IN_ELSEWHERE, LOGGED_OUT
from tests.support.audience import Audience
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.people import People
from tests.support.served import Served, User
from tests.support.until import until

Json = Any
Connect = Callable[..., ChatClient]
NOTIFICATIONS = {"notifications": True}
MODEL = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
ELSEWHERE = "You have logged in else where"
# The service says goodbye to a database that has gone before it.
BRIEF = {"REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2}
NOT_LOGGED_IN = ("UNAUTHORISED", "You are not logged in")


def session_of(user: User) -> str:
    return str(user.http.get(user.server.url + "/session", timeout=5).json()["session_id"])


def end(people: People, *sessions: str, reason: str = ELSEWHERE) -> None:
    people.user("ann").publish("SessionsEnded", session_ids=list(sessions), reason=reason)


def test_the_reason_is_the_originals() -> None:
    assert LOGGED_IN_ELSEWHERE == ELSEWHERE


def test_logged_out_reaches_every_socket_of_the_session_and_no_other(people: People) -> None:
    served = people.served
    ended, kept = User(served).log_in("carol"), User(served).log_in("carol")
    with closing(Audience(people)) as audience:
        for name, user in (("one", ended), ("two", ended), ("kept", kept)):
            transport = "polling" if name == "two" else "websocket"
            client = ChatClient(served.url, cookie=user.cookie, transports=(transport,))
            audience.adopt(name, client)
            client.join(NOTIFICATIONS)
            client.join(MODEL)
        later = audience.adopt("bound later", ChatClient(served.url))
        ended.post("/logout-nowhere", socket_id=later.id)
        later.join(NOTIFICATIONS)
        audience.add("other user", "dave", NOTIFICATIONS)
        end(people, session_of(ended), "no session at all")
        told = [("loggedOut", ({"reason": ELSEWHERE},))]
        assert audience.heard() == {"one": told, "two": told, "bound later": told}
        # Out of every room, and not logged in.
        people.user("ann").publish("TicketCreated", **MODEL, kind="container", data={})
        people.user("ann").publish("NotificationUpserted", username="carol", data={})
        assert list(audience.heard()) == ["kept"]
        for name in ("one", "two", "bound later"):
            for action in ("join", "leave"):
                reply = audience.listeners[name].ask(action, MODEL)
                assert (reply["code"], reply["message"]) == NOT_LOGGED_IN
        audience.heard()
        # The end of a session that has ended concerns nobody.
        end(people, session_of(ended))
        assert audience.heard() == {}


def test_a_socket_whose_session_ended_may_be_bound_again_even_to_another_user(people: People) -> None:
    user = User(people.served).log_in("carol")
    with closing(ChatClient(people.served.url, cookie=user.cookie)) as client:
        client.join(MODEL)
        end(people, session_of(user))
        assert client.hear_event("loggedOut") == {"reason": ELSEWHERE}
        User(people.served).log_in("dave", client.id)
        client.join(NOTIFICATIONS)
        people.user("ann").publish("NotificationUpserted", username="dave", data={})
        people.user("ann").publish("TicketCreated", **MODEL, kind="container", data={})
        assert client.heard_so_far() == [("dave::notificationUpserted", ({},))]


def test_a_newer_session_of_the_same_user_takes_the_socket_over(people: People) -> None:
    older, newer = User(people.served).log_in("carol"), User(people.served)
    with closing(ChatClient(people.served.url, cookie=older.cookie)) as client:
        client.join(NOTIFICATIONS)
        newer.log_in("carol", client.id)
        end(people, session_of(older))
        assert client.heard_so_far() == []
        assert client.ask("join", MODEL)["event"] == "success"
        client.heard_so_far()
        end(people, session_of(newer), reason="Bye")
        assert client.heard_so_far() == [("loggedOut", ({"reason": "Bye"},))]


@pytest.mark.parametrize("kind", ["cookie", "mongodb", "flask-login"])
def test_a_logout_ends_its_session_alone(serve_host: Callable[..., Served], chat: Connect, kind: str) -> None:
    served = serve_host(SESSIONS=kind)
    users = [User(served).log_in("carol") for _ in range(2)]
    clients = [chat(served.url, cookie=user.cookie) for user in users]
    later = chat(served.url)
    users[0].post("/publish", {"type": "NotificationDeleted", "username": "nobody", "data": {}}, later.id)
    for client in (*clients, later):
        client.join(NOTIFICATIONS)
    users[0].post("/logout").raise_for_status()
    told = [("loggedOut", ({"reason": LOGGED_OUT},))]
    assert [client.heard_so_far() for client in (*clients, later)] == [told, [], told]
    assert session_of(users[0]) == "None"


def test_a_server_side_session_is_ended_by_its_cookies_value(
    serve_host: Callable[..., Served], chat: Connect, mongo: MongoClient[dict[str, Any]]
) -> None:
    """As a REST API in another language does it, which knows the cookie and nothing else."""
    served = serve_host(SESSIONS="mongodb")
    user = User(served).log_in("carol")
    client = chat(served.url, cookie=user.cookie)
    client.join(NOTIFICATIONS)
    User(served).publish("SessionsEnded", session_ids=[user.http.cookies["session"]], reason=ELSEWHERE)
    assert client.heard_so_far() == [("loggedOut", ({"reason": ELSEWHERE},))]


@pytest.mark.parametrize("again", [False, True], ids=["ended", "ended and bound to another user"])
def test_a_join_under_way_when_the_session_ends_does_not_enter(
    sample: str, serve_host: Callable[..., Served], chat: Connect, again: bool
) -> None:
    with MongoProxy(sample) as database:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
        user, publisher = User(served).log_in("carol"), User(served)
        client = chat(served.url, cookie=user.cookie)
        database.hold()
        client.socket.emit("join", MODEL)
        assert database.asked.wait(5)
        publisher.publish("SessionsEnded", session_ids=[session_of(user)], reason=ELSEWHERE)
        assert client.hear_event("loggedOut") == {"reason": ELSEWHERE}
        if again:
            User(served).log_in("dave", client.id)
        database.release()
        refusal = client.hear_event("error")
        assert (refusal["code"], refusal["message"]) == NOT_LOGGED_IN
        publisher.publish("TicketCreated", **MODEL, kind="container", data={})
        assert client.heard_so_far() == []


def test_a_socket_that_closes_while_it_joins_leaves_nothing_behind(
    sample: str, serve_host: Callable[..., Served], chat: Connect
) -> None:
    with MongoProxy(sample) as database:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
        user = User(served).log_in("carol")
        going, staying = chat(served.url, cookie=user.cookie), chat(served.url, cookie=user.cookie)
        database.hold()
        going.socket.emit("join", MODEL)
        assert database.asked.wait(5)
        going.close()
        database.release()
        staying.join(NOTIFICATIONS)
        # The join that was under way is over before the socket's leaving is handled.
        until(lambda: metric(served, "repo_notify_rooms") == 1)
