"""Clients of both generations side by side: rooms, fan-out, emitters, session ends and metrics treat them alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import requests

pytest.importorskip("legacy_v4")

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import UNHURRIED, host_defaults
from tests.legacy_v4.clients import NAMESPACE, ROOM, TRANSPORTS, Client, event, join_room, receive_event
from tests.legacy_v4.conftest import observed_host
from tests.support.chat import ChatClient
from tests.support.served import SECONDS, Served, User
from tests.support.until import until

TRANSPORT_NAMES = ("websocket", "polling")
MODEL = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
ISSUES = f"acme::{STRUCTURE}::newIssues"


@pytest.fixture(scope="module")
def served(sample: str) -> Iterator[Served]:
    with observed_host({**host_defaults(sample), **UNHURRIED}) as found:
        yield found


@pytest.fixture(params=TRANSPORT_NAMES, ids="EIO=4 {}".format)
def new(request: pytest.FixtureRequest, served: Served, chat: Callable[..., ChatClient], user: User) -> ChatClient:
    """A client of Engine.IO 4, in the v4 room of the model."""
    client = chat(served.url, cookie=user.cookie, transports=(request.param,))
    client.join(ROOM)
    return client


@pytest.fixture(params=TRANSPORT_NAMES, ids="EIO=3 {}".format)
def old(request: pytest.FixtureRequest, served: Served, user: User) -> Iterator[Client]:
    """A client of Engine.IO 3, in the same room."""
    client = TRANSPORTS[request.param](served.port, user.cookie)
    assert client.receive() == "40"
    join_room(client)
    yield client
    client.close()


@pytest.fixture
def user(served: Served) -> User:
    return User(served).log_in("carol")


def publish(user: User, what: str, socket_id: str | None = None) -> list[dict[str, str]]:
    """Open an issue; returns what is heard of it."""
    issues = [{"name": what}]
    user.publish("IssuesCreated", socket_id=socket_id, teamspace="acme", model=STRUCTURE, issues=issues)
    return issues


def connections(served: Served) -> dict[tuple[str, str], float]:
    """Open connections by generation and transport, as an operator sees them."""
    text = requests.get(served.url + "/notify/metrics", timeout=SECONDS).text
    found = re.findall(r'repo_notify_connections\{generation="(\d)",transport="(\w+)"\} (\S+)', text)
    return {(generation, transport): float(number) for generation, transport, number in found}


def test_both_hear_the_same(user: User, old: Client, new: ChatClient) -> None:
    issues = publish(user, "Zürich 🏗")
    assert receive_event(old, ISSUES) == issues
    assert new.hear_event(ISSUES) == issues


def test_v5_events_too(user: User, old: Client, new: ChatClient) -> None:
    old.send(event("join", MODEL))
    assert receive_event(old, "message")["event"] == "success"
    new.join(MODEL)
    ticket = {"_id": "t", "title": "Zürich 🏗"}
    user.publish("TicketCreated", **MODEL, kind="container", data=ticket)
    assert receive_event(old, "containerNewTicket") == new.hear_event("containerNewTicket") == {**MODEL, "data": ticket}


def test_an_emitter_is_left_out_whichever_it_is(user: User, old: Client, new: ChatClient) -> None:
    of_old = publish(user, "by the old one", old.sid)
    assert new.hear_event(ISSUES) == of_old
    of_new = publish(user, "by the new one", new.id)
    assert receive_event(old, ISSUES) == of_new
    afterwards = publish(user, "by nobody")
    assert receive_event(old, ISSUES) == new.hear_event(ISSUES) == afterwards


def test_an_emitter_is_left_out_of_all_its_namespaces(user: User, old: Client, new: ChatClient) -> None:
    old.send(f"40{NAMESPACE}")
    assert old.receive() == f"40{NAMESPACE},"
    join_room(old, NAMESPACE)
    publish(user, "by the old one", f"{NAMESPACE}#{old.sid}")
    issues = publish(user, "by nobody")
    assert [receive_event(old, ISSUES) for _ in range(2)] == [issues, issues]
    assert new.hear_event(ISSUES) != issues
    assert new.hear_event(ISSUES) == issues


def test_both_hear_that_their_session_ended(user: User, old: Client, new: ChatClient) -> None:
    user.post("/logout").raise_for_status()
    assert receive_event(old, "loggedOut") == new.hear_event("loggedOut")
    publish(user, "not for them")
    old.send(event("join", ROOM))
    assert receive_event(old, "credentialError")["code"] == "UNAUTHORISED"
    assert new.heard_so_far() == []


def test_the_metrics_tell_the_generations_apart(
    request: pytest.FixtureRequest, served: Served, old: Client, new: ChatClient
) -> None:
    transports = re.findall("=([34]) (websocket|polling)", request.node.name)
    found = connections(served)
    assert all(found[generation, transport] >= 1 for generation, transport in transports)
    old.close()
    until(lambda: not any(generation == "3" for generation, _ in connections(served)))
    assert any(generation == "4" for generation, _ in connections(served))
