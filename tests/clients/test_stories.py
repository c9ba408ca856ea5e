"""spec sections 3 and 5 as the real JavaScript client sees them: every row of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.harness import JsClients
from tests.clients.install import Node
from tests.clients.listener import Json, Listener
from tests.conftest import UNHURRIED, host_defaults
from tests.support.audience import Place
from tests.support.people import People
from tests.support.served import host_app
from tests.support.teamspaces import Teamspace
from tests.test_events_v5 import ROWS, Row
from tests.test_rooms_replies import GRANTED, REFUSED, Granted, Refused, failed, succeeded

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


@pytest.fixture(scope="module", params=["websocket", "polling"])
def listen(request: pytest.FixtureRequest, clients: JsClients, people: People) -> Listen:
    """A user's connection, opened once."""
    found: dict[str | None, Listener] = {}

    def connect(user: str | None) -> Listener:
        if user not in found:
            headers = {"Cookie": people.user(user).cookie} if user else None
            found[user] = Listener(clients.connect(people.served.url, headers=headers, transports=[request.param]))
        return found[user]

    return connect


@pytest.mark.parametrize("row", GRANTED, ids=lambda row: row.says)
def test_rooms_are_entered_and_left(listen: Listen, row: Granted) -> None:
    listener = listen(row.user)
    for action in ("join", "leave"):
        reply = succeeded(action, row.asked)
        assert listener.ask(action, row.asked) == reply
        assert listener.heard() == [("message", [reply])]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.says)
def test_rooms_are_refused(listen: Listen, row: Refused) -> None:
    listener = listen(row.user)
    reply = failed("join", row.asked, row.code, row.message)
    assert listener.ask("join", row.asked) == reply
    assert listener.heard() == [("error", [reply])]


@pytest.fixture(scope="module")
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    return Place(teamspaces())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_events_arrive(listen: Listen, people: People, place: Place, row: Row) -> None:
    listener = listen(place.name)
    room = place.in_model if row.room == "model" else place.in_project
    assert listener.ask("join", room)["event"] == "success"
    listener.heard()
    given: Json = {} if row.type == "ModelRemoved" else {"data": row.data}
    people.user("ann").publish(row.type, **room, **given, kind=row.kind)
    assert listener.heard() == [(row.event, [{**room, "data": row.data}])]
    # As the emitter it hears nothing, and nothing either when it has left.
    people.user(place.name).publish(row.type, listener.socket.id, **room, **given, kind=row.kind)
    assert listener.heard() == []
    assert listener.ask("leave", room)["event"] == "success"
    people.user("ann").publish(row.type, **room, **given, kind=row.kind)
    assert [name for name, _ in listener.heard()] == ["message"]


@pytest.mark.parametrize("name", ["Upserted", "Deleted"])
def test_notifications_and_the_end_of_the_session_arrive(
    clients: JsClients, people: People, name: str
) -> None:
    listener = Listener(clients.connect(people.served.url))
    user = type(people.user("ann"))(people.served).log_in("nora", listener.socket.id)
    assert listener.ask("join", {"notifications": True})["event"] == "success"
    listener.heard()
    people.user("ann").publish(f"Notification{name}", username="nora", data={"_id": "n"})
    assert listener.heard() == [(f"nora::notification{name}", [{"_id": "n"}])]
    user.post("/logout")
    assert listener.heard() == [("loggedOut", [{"reason": "You have been logged out"}])]
    assert listener.ask("join", {"notifications": True})["code"] == "UNAUTHORISED"
