from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import PING
from .support import EIO4, Served

pytestmark = pytest.mark.slow

ABUSES = 300


def settle(engine: Served, is_settled: Callable[[Any], bool]) -> Any:
    """The server's state, once it is as it should be."""
    deadline = time.monotonic() + 10
    while not is_settled(state := engine.call("/state")):
        assert time.monotonic() < deadline, state
    return state


def come_and_go(engine: Served) -> tuple[str, list[list[str]]]:
    """One client's visit, until its end is told: its Engine.IO id, and what was told of it."""
    client = engine.websocket()
    sid = json.loads(str(client.receive())[1:])["sid"]
    client.send("40")
    client.receive()
    client.close()
    return sid, told_of(engine, sid)


def come_upgrade_and_go(engine: Served) -> tuple[str, list[list[str]]]:
    """The same of a client that begins with polling."""
    poller = engine.polling_client()
    client = engine.websocket(sid=poller.sid)
    client.send("2probe")
    assert client.receive() == "3probe"
    client.send("5")
    client.send('42["message",1]')
    assert client.receive() == '42["message-back",1]'
    client.close()
    return poller.sid, told_of(engine, poller.sid)


def told_of(engine: Served, sid: str) -> list[list[str]]:
    told: list[list[str]] = []
    deadline = time.monotonic() + 5
    while len(told) < 2:
        told = engine.call("/gone", sid=sid)
        assert time.monotonic() < deadline
    return told


def upgrade_and_vanish(engine: Served) -> None:
    poller = engine.poller()
    engine.websocket(sid=poller.sid).send("2probe")


def reset(engine: Served) -> None:
    client = engine.client()
    client.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.tcp.close()


def say(*packets: str | bytes) -> Callable[[Served], None]:
    def abuse(engine: Served) -> None:
        client = engine.client()
        for packet in packets:
            client.send(packet)
        client.close()

    return abuse


ABUSIVE: list[Callable[[Served], Any]] = [
    lambda engine: engine.poller(),
    lambda engine: engine.polling_client().post("abc"),
    lambda engine: engine.polling_client().post('42["join","leaky"]'),
    lambda engine: engine.request("GET", EIO="x"),
    lambda engine: engine.websocket(),
    upgrade_and_vanish,
    reset,
    say('42["join","leaky"]'),
    say('42["join","leaky"]', "40/custom,", "4abc"),
    say('459-["message"]', b"x"),
    say('42["kick"]'),
]


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_nothing_is_left_of_abusive_connections(start: Callable[..., Served], kind: str) -> None:
    engine = start(kind, **PING, connect_timeout=0.5, upgrade_timeout=0.3, close_timeout=0.3)
    ABUSIVE[0](engine)
    idle = settle(engine, lambda state: state["connections"] == 0 and state["tasks"] <= 2)
    for number in range(ABUSES):
        ABUSIVE[number % len(ABUSIVE)](engine)
    nothing = {"connections": 0, "rooms": 0, "namespaces": [], "environs": 0, "counts": {}}
    settle(engine, lambda state: state["tasks"] <= idle["tasks"] and nothing.items() <= state.items())


@pytest.mark.parametrize("kind", ["gevent", "gevent, pywsgi", "gevent, TLS"])
@pytest.mark.parametrize("visit", [come_and_go, come_upgrade_and_go])
def test_connections_leave_nothing_to_the_garbage_collector(
    start: Callable[..., Served], kind: str, visit: Callable[[Served], object]
) -> None:
    engine = start(kind)
    connections = 50
    visit(engine)
    engine.call("/garbage")
    for _ in range(connections):
        visit(engine)
    assert engine.call("/garbage") < connections


def test_connections_are_counted(engine: Served) -> None:
    clients = [engine.client(), engine.client(), engine.poller()]
    counts = engine.call("/state")["counts"]
    assert counts["4 websocket"] >= 2
    assert counts["4 polling"] >= 1
    del clients


def test_opening_and_closing_are_told(engine: Served) -> None:
    sid, told = come_and_go(engine)
    assert told == [["open", sid], ["close", sid, "transport close"]]


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_shutdown_tells_everybody(start: Callable[..., Served], kind: str) -> None:
    engine = start(kind, close_timeout=1)
    socket_client, poller = engine.client(), engine.polling_client()
    engine.call("/shutdown")
    # No Engine.IO close packet: to some clients it says that they shall not come back.
    assert socket_client.receive_all() == []
    assert poller.get().status in {200, 400}
    refused = engine.request("GET", None, None, **EIO4, transport="polling")
    assert (refused.status, refused.json["message"]) == (503, "The server is shutting down")
    settle(engine, lambda state: state["connections"] == 0 and state["environs"] == 0)


def test_shutdown_answers_the_open_poll(start: Callable[..., Served]) -> None:
    from .test_polling import in_background, wait_for_poll

    engine = start()
    poller = engine.polling_client()
    poll = in_background(poller.get)
    wait_for_poll(engine, poller)
    engine.call("/shutdown")
    assert poll().text == "1"
