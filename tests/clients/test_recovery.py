"""Real clients lose their connection and miss nothing (spec section 9): they are recovered, or join `since`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.clients.harness import POSITION, JsClients
from tests.clients.install import Node
from tests.clients.listener import Json, Listener
from tests.clients.matrix import ENGINE_IO_3, RECONNECT, RECOVERS, network
from tests.conftest import host_defaults
from tests.support.audience import Place
from tests.support.served import Served, User, host_app
from tests.support.tcp_proxy import TcpProxy
from tests.support.teamspaces import Teamspace
from tests.test_rooms_replies import succeeded

pytestmark = pytest.mark.clients

READER = "carol"
OLDER = ["1.4.0", "1.7.4", "2.0.4", "2.5.0", "3.1.3", "4.0", "4.5"]
TRANSPORTS = ["websocket", "polling"]
UPDATE = "containerUpdateTicket"


@dataclass
class Reader(Listener):
    """A client in a network of its own, which comes back by itself when that was lost."""

    link: TcpProxy | None = None

    @property
    def recovered(self) -> bool | None:
        """Whether the client says that it is who it was; None where it knows nothing of that."""
        return self.socket.recovered

    def join(self, room: Json) -> Json:
        """Join, and forget what was heard until then; returns the reply."""
        reply = self.ask("join", room)
        assert reply["event"] == "success", reply
        self.heard()
        return reply

    def numbers(self) -> list[int]:
        """Those of the updates that it heard since the last time; fails where it heard anything else."""
        heard = self.heard()
        assert {name for name, _ in heard} <= {UPDATE}, heard
        return [args[0]["data"]["number"] for _, args in heard]

    def lose(self, how: str, meanwhile: Callable[[], None]) -> str:
        """Be without a connection while that happens, and come back; returns the last position before."""
        assert self.link is not None
        # Until the network is there again, each attempt to come back fails.
        with self.link.refusing(open_too=how == "network"):
            if how != "network":
                getattr(self.socket, how)()
            self.socket.wait_disconnected()
            told = self.socket.positions[-1:]
            meanwhile()
        self.socket.wait_connected()
        return told[0] if told else ""


@pytest.fixture(scope="module")
def served(sample: str) -> Iterator[Served]:
    with host_app(host_defaults(sample)) as found:
        yield found


@pytest.fixture(scope="module")
def clients(node: Node, installed_clients: Path) -> Iterator[JsClients]:
    with JsClients(node, installed_clients) as found:
        yield found


@pytest.fixture
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    found = Place(teamspaces())
    found.teamspace.model({READER: "viewer"}, _id=found.model)
    return found


Connect = Callable[..., Reader]


@pytest.fixture
def connect(clients: JsClients, served: Served) -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(client: str, transport: str, *, to: Served | None = None, namespace: str = "") -> Reader:
            at = to or served
            link, url = stack.enter_context(network(at.port))
            socket = clients.connect(
                url + namespace,
                client=client,
                transports=[transport],
                headers={"Cookie": User(at).log_in(READER).cookie},
                reconnection=True,
                options=RECONNECT,
            )
            stack.callback(socket.disconnect)
            return Reader(socket, link=link)

        yield make


Update = Callable[..., None]


def updates(served: Served, place: Place, user: str = "alice") -> Update:
    """A user who publishes an update for each number; no later one stands for an earlier one."""
    writer = User(served).log_in(user)

    def publish(*numbers: int, **options: Any) -> None:
        for number in numbers:
            data = {"_id": f"t{number}", "number": number}
            writer.publish("TicketUpdated", **place.in_model, kind="container", data=data, **options)

    return publish


@pytest.fixture
def update(served: Served, place: Place) -> Update:
    return updates(served, place)


with_each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
recovering_clients = pytest.mark.parametrize("client", RECOVERS)
older_clients = pytest.mark.parametrize("client", OLDER)


@recovering_clients
@with_each_transport
@pytest.mark.parametrize("how", ["network", "drop", "close_transport"])
def test_what_was_missed_comes_once_and_in_order(
    connect: Connect, place: Place, update: Update, client: str, transport: str, how: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    first = reader.socket.id
    update(1)
    assert reader.numbers() == [1]
    for missed in ([2, 3, 4], [5], []):
        reader.lose(how, partial(update, *missed))
        assert reader.recovered is True
        assert reader.socket.id == first
        assert reader.numbers() == missed
    # It is in its room, which it has not joined again.
    update(6)
    assert reader.numbers() == [6]


@recovering_clients
@with_each_transport
def test_its_id_names_it_as_the_emitter_all_the_while(
    connect: Connect, served: Served, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    own = partial(updates(served, place, READER), socket_id=reader.socket.id)
    own(1)

    def meanwhile() -> None:
        own(2)
        update(3)

    reader.lose("network", meanwhile)
    own(4)
    update(5)
    assert reader.numbers() == [3, 5]


@recovering_clients
@with_each_transport
def test_events_meet_a_client_that_is_coming_back(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    reader.socket.drop()
    # Some of them are missed, others arrive while it comes back or later; no matter which.
    update(*range(50))
    reader.socket.wait_connected()
    assert reader.recovered is True
    assert reader.numbers() == list(range(50))


@recovering_clients
def test_the_other_namespace_is_recovered_too(connect: Connect, served: Served, place: Place, client: str) -> None:
    reader = connect(client, "websocket", namespace="/legacy_v4")
    reader.ask("join", {"account": place.name, "model": place.model})
    reader.heard()
    writer = User(served).log_in("alice")
    issues = partial(writer.publish, "IssuesCreated", teamspace=place.name, model=place.model, issues=[{"_id": "i"}])
    reader.lose("network", issues)
    assert reader.recovered is True
    assert reader.heard() == [(f"{place.name}::{place.model}::newIssues", [[{"_id": "i"}]])]


@recovering_clients
@with_each_transport
def test_where_the_history_was_left_behind_it_is_told_of_the_gap(
    serve_host: Callable[..., Served], connect: Connect, place: Place, client: str, transport: str
) -> None:
    served = serve_host(REPO_NOTIFY_HISTORY_EVENTS=3)
    update = updates(served, place)
    reader = connect(client, transport, to=served)
    reader.join(place.in_model)
    first = reader.socket.id
    reader.lose("network", partial(update, *range(10)))
    assert (reader.recovered, reader.socket.id == first) == (False, False)
    ((event, (told,)),) = reader.heard()
    assert (event, told["event"]) == ("message", "gap")
    assert isinstance(told["data"]["reason"], str)
    # It is in no room, and whoever joins is recovered again from there on.
    update(10)
    assert reader.heard() == []
    reader.join(place.in_model)
    reader.lose("network", partial(update, 11))
    assert reader.recovered is True
    assert reader.numbers() == [11]


@recovering_clients
@with_each_transport
def test_who_says_goodbye_is_somebody_new(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    first = reader.socket.id
    reader.socket.disconnect()
    assert reader.socket.wait_disconnected() == "io client disconnect"
    update(1)
    reader.socket.open()
    reader.socket.wait_connected()
    assert reader.recovered is False
    assert reader.socket.id != first
    update(2)
    assert reader.heard() == []


@recovering_clients
@with_each_transport
def test_a_listener_that_throws_loses_nothing(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    reader.socket.throw_at(UPDATE)
    update(1)
    assert reader.socket.wait_thrown() == UPDATE
    reader.lose("network", partial(update, 2))
    assert reader.recovered is True
    # The position that follows an event is an event of its own.
    assert reader.numbers() == [1, 2]


@recovering_clients
@with_each_transport
def test_where_a_listener_of_the_position_throws_events_come_once_more(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reader.join(place.in_model)
    # socket.io-client keeps an offset when the listeners are done.
    reader.socket.throw_at(POSITION)
    update(1)
    assert reader.numbers() == [1]
    reader.socket.wait_thrown()
    reader.lose("network", partial(update, 2))
    assert reader.recovered is True
    assert reader.numbers() == [1, 2]


@older_clients
@with_each_transport
def test_older_clients_come_back_as_they_always_did(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    first = reader.socket.id
    assert reader.ask("join", place.in_model) == succeeded("join", place.in_model)
    reader.heard()
    update(1)
    assert reader.numbers() == [1]
    reader.lose("network", partial(update, 2))
    assert reader.recovered is None
    assert reader.socket.id != first
    update(3)
    assert reader.heard() == []
    reader.join(place.in_model)
    update(4)
    assert reader.numbers() == [4]
    # Engine.IO 3 is told no position that nobody asked for.
    assert bool(reader.socket.positions) is (client not in ENGINE_IO_3)


@older_clients
@with_each_transport
def test_older_clients_join_since_what_they_had(
    connect: Connect, place: Place, update: Update, client: str, transport: str
) -> None:
    reader = connect(client, transport)
    reply = reader.join({**place.in_model, "since": None})
    assert set(reply) == {"event", "data", "position"}
    update(1)
    assert reader.numbers() == [1]
    for missed in ([2, 3, 4], [5], []):
        position = reader.lose("network", partial(update, *missed))
        asked = {**place.in_model, "since": position}
        reply = reader.ask("join", asked)
        update(6)
        assert reply["data"] == {"action": "join", "data": asked}
        assert reply["replayed"] == len(missed)
        assert set(reply) == {"event", "data", "position", "replayed"}
        # The reply, what was missed, and then what is live.
        (name, args), *heard = reader.heard()
        assert (name, args) == ("message", [reply])
        assert [args[0]["data"]["number"] for _, args in heard] == [*missed, 6]
        assert {name for name, _ in heard} == {UPDATE}


@older_clients
@with_each_transport
@pytest.mark.parametrize("since", ["made-up", 7], ids=str)
def test_a_made_up_position_is_a_gap(
    connect: Connect, place: Place, update: Update, client: str, transport: str, since: Json
) -> None:
    update(1)
    reader = connect(client, transport)
    reply = reader.ask("join", {**place.in_model, "since": since})
    assert reply["gap"] is True
    assert set(reply) == {"event", "data", "position", "gap"}
    update(2)
    assert [name for name, _ in reader.heard()] == ["message", UPDATE]
    # From the position of that reply on there is none.
    position = reader.lose("network", partial(update, 3))
    assert position
    assert reader.ask("join", {**place.in_model, "since": position})["replayed"] == 1
