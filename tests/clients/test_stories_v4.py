"""spec sections 4 and 5 as the real JavaScript client sees them, on both namespaces: every row of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("legacy_v4")

from tests.clients.harness import JsClients
from tests.clients.install import Node
from tests.clients.listener import Listener
from tests.conftest import UNHURRIED, host_defaults
from tests.legacy_v4.test_events import ROWS, Row, names_of, where_of
from tests.legacy_v4.test_rooms import GRANTED, REFUSED, Granted, Refused
from tests.support.audience import Place
from tests.support.people import LEGACY, People
from tests.support.served import host_app
from tests.support.teamspaces import Teamspace
from tests.test_rooms_replies import failed as failure
from tests.test_rooms_replies import succeeded as success

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def clients(node: Node, installed_clients: Path) -> Iterator[JsClients]:
    with JsClients(node, installed_clients) as found:
        yield found


@pytest.fixture(scope="module")
def people(sample: str) -> Iterator[People]:
    """On our own engine, which is what the real clients are to try."""
    with host_app({**host_defaults(sample), **UNHURRIED}) as served:
        yield People(served)


Listen = Callable[[str | None], Listener]


@pytest.fixture(scope="module", params=["", LEGACY], ids=["default", "legacy_v4"])
def listen(request: pytest.FixtureRequest, clients: JsClients, people: People) -> Listen:
    """A user's connection, opened once."""
    found: dict[str | None, Listener] = {}

    def connect(user: str | None) -> Listener:
        if user not in found:
            headers = {"Cookie": people.user(user).cookie} if user else None
            found[user] = Listener(clients.connect(people.served.url + request.param, headers=headers))
        return found[user]

    return connect


@pytest.mark.parametrize("row", GRANTED, ids=lambda row: row.says)
def test_rooms_are_entered_and_left(listen: Listen, row: Granted) -> None:
    listener = listen(row.user)
    reply = success("join", row.asked)
    assert listener.ask("join", row.asked) == reply
    assert sorted(listener.heard()) == [("joined", [row.joined]), ("message", [reply])]
    reply = success("leave", row.asked)
    assert listener.ask("leave", row.asked) == reply
    assert listener.heard() == [("message", [reply])]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.says)
def test_rooms_are_refused(listen: Listen, row: Refused) -> None:
    listener = listen(row.user)
    reply = failure("join", row.asked, row.code, row.message)
    assert listener.ask("join", row.asked) == reply
    told = {"code": row.code, "message": row.message}
    assert sorted(listener.heard()) == [("credentialError", [told]), ("error", [reply])]


@pytest.fixture(scope="module")
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    return Place(teamspaces())


@pytest.mark.parametrize("whole", [False, True], ids=["model", "teamspace"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_events_arrive(listen: Listen, people: People, place: Place, row: Row, whole: bool) -> None:
    listener = listen(place.name)
    room = {"account": place.name} if whole else {"account": place.name, "model": place.model}
    expected = [(name, [row.payload]) for name in names_of(place, row.first)]
    assert listener.ask("join", room)["event"] == "success"
    listener.heard()
    people.user("ann").publish(row.type, **where_of(place, row.type), **row.fields)
    assert listener.heard() == (expected if whole or row.room == "model" else [])
    people.user(place.name).publish(row.type, listener.socket.id, **where_of(place, row.type), **row.fields)
    assert listener.heard() == []
    assert listener.ask("leave", room)["event"] == "success"
    people.user("ann").publish(row.type, **where_of(place, row.type), **row.fields)
    assert [name for name, _ in listener.heard()] == ["message"]
