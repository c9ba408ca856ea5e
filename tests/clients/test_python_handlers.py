"""python-socketio's own client, whose handlers take one argument: nothing that it is sent has two (spec section 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.audience import Place
from tests.support.chat import ChatClient, Heard
from tests.support.served import Served, User
from tests.support.teamspaces import Teamspace
from tests.test_events_v5 import ROWS, Row
from tests.test_rooms_replies import succeeded


class OneArgument(ChatClient):
    """A client whose handlers take one argument; called with another number they fail, and the event is not heard."""

    def listen(self, *names: str) -> None:
        for name in names:
            self.socket.on(name, self._handler(name), namespace=self.namespace)

    def _handler(self, name: str) -> Callable[[object], None]:
        def handler(payload: object) -> None:
            self._hears(name, payload)

        return handler


@pytest.fixture
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    return Place(teamspaces())


Connect = Callable[[], OneArgument]


@pytest.fixture
def connect(host: Served, place: Place) -> Iterator[Connect]:
    opened: list[OneArgument] = []

    def make() -> OneArgument:
        client = OneArgument(host.url, cookie=User(host).log_in(place.name).cookie)
        opened.append(client)
        # The position of a session that begins comes before its handlers are there.
        client.listen("message", "error", "position", "loggedOut", *{row.event for row in ROWS})
        return client

    yield make
    for client in opened:
        client.close()


def publish(host: Served, place: Place, rows: list[Row]) -> list[Heard]:
    """Publish what the rows say; returns what is to be heard of it."""
    writer = User(host).log_in("ann")
    expected: list[Heard] = []
    for row in rows:
        room = place.in_model if row.room == "model" else place.in_project
        given = {} if row.type == "ModelRemoved" else {"data": row.data}
        writer.publish(row.type, **room, **given, kind=row.kind)
        expected.append((row.event, ({**room, "data": row.data},)))
    return expected


def test_handlers_of_one_argument_hear_everything(host: Served, place: Place, connect: Connect) -> None:
    client = connect()
    for room in (place.in_model, place.in_project):
        assert client.ask("join", room) == succeeded("join", room)
    assert [name for name, _ in client.heard_so_far()] == ["message", "message"]
    expected = publish(host, place, list(ROWS))
    assert client.heard_so_far() == expected
    position = client.position
    assert position is not None
    client.close()

    missed = [row for row in ROWS if row.type.startswith("Ticket")]
    expected = publish(host, place, missed)
    client = connect()
    reply = client.ask("join", {**place.in_model, "since": position})
    assert reply["replayed"] == len(missed)
    assert client.heard_so_far() == [("message", (reply,)), *expected]
    User(host).log_in(place.name, client.id).post("/logout", socket_id=client.id)
    assert client.hear_event("loggedOut")["reason"]
