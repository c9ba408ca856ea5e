"""Publishers on the real JavaScript client: acknowledged, in order, refused without the key, back after a lost link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.clients.harness import JsClients, JsSocket
from tests.clients.matrix import RECONNECT
from tests.conftest import host_defaults
from tests.support.chat import ChatClient
from tests.support.publishers import NAMESPACE
from tests.support.served import Served, host_app

pytestmark = pytest.mark.clients

KEY = "a key of the tests'"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
HEARD = "containerUpdateTicket"


@pytest.fixture(scope="module")
def server(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), "REPO_NOTIFY_API_KEY": KEY}) as served:
        yield served


def connect(js_clients: JsClients, server: Served, key: str = KEY, **options: Any) -> JsSocket:
    auth = {"auth": {"key": key}, **options.pop("options", {})}
    return js_clients.connect(server.url + NAMESPACE, options=auth, **options)


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"type": "TicketUpdated", **ROOM, "kind": "container", "data": {"n": number}} for number in numbers]


def numbers_of(member: ChatClient, count: int) -> list[int]:
    return [member.hear_event(HEARD)["data"]["n"] for _ in range(count)]


@pytest.mark.parametrize("client", ["3.1.3", "4"])
@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def test_a_publisher(
    js_clients: JsClients, server: Served, member: ChatClient, client: str, transports: list[str]
) -> None:
    publisher = connect(js_clients, server, client=client, transports=transports)
    for event in numbered(*range(50)):
        publisher.emit("publish", event)
    assert publisher.call("publish", numbered(50, 51)) == [{"accepted": 2}]
    assert numbers_of(member, 52) == list(range(52))
    assert publisher.call("publish", {"type": "Nothing"})[0]["errors"][0]["index"] == 0
    assert (publisher.events, publisher.positions) == ([], [])


def test_without_the_key(js_clients: JsClients, server: Served) -> None:
    publisher = connect(js_clients, server, key="wrong", wait=False)
    assert publisher.wait_refused() == "auth should be {key: …} with the REPO_NOTIFY_API_KEY"


def test_what_is_sent_while_the_link_is_lost_is_published_after_it(
    js_clients: JsClients, server: Served, member: ChatClient
) -> None:
    publisher = connect(js_clients, server, reconnection=True, options=RECONNECT)
    assert publisher.call("publish", numbered(1)) == [{"accepted": 1}]
    publisher.drop()
    publisher.wait_disconnected()
    publisher.emit("publish", numbered(2)[0])
    publisher.wait_connected()
    assert publisher.call("publish", numbered(3)) == [{"accepted": 1}]
    assert numbers_of(member, 3) == [1, 2, 3]
    assert not publisher.recovered
