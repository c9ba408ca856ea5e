from __future__ import annotations

import time

import websocket

from .support import Served, Socket


def raw_receive(client: Socket) -> object:
    """The next message, also a ping; None when the server has closed."""
    try:
        return client._connection.recv() or None
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return None


def test_the_server_pings_a_polling_client(hasty: Served) -> None:
    poller = hasty.poller()
    poller.send("40")
    assert poller.get().text.startswith("40")
    for _ in range(3):
        assert poller.get().text == "2"
        assert poller.post("3").text == "ok"


def test_the_server_pings_a_websocket_client(hasty: Served) -> None:
    client = hasty.client()
    for _ in range(3):
        assert raw_receive(client) == "2"
        client.send("3")


def test_a_polling_client_that_does_not_pong_is_closed(hasty: Served) -> None:
    poller = hasty.poller()
    assert poller.get().text == "2"
    assert poller.get().text == "1"
    assert poller.is_gone


def test_a_client_that_never_polls_is_closed(hasty: Served) -> None:
    poller = hasty.poller()
    poller.post("40")
    deadline = time.monotonic() + 2
    while hasty.call("/gone", sid=poller.sid)[1:] != [["close", poller.sid, "ping timeout"]]:
        assert time.monotonic() < deadline
    assert poller.is_gone


def test_a_websocket_client_that_does_not_pong_is_closed(hasty: Served) -> None:
    client = hasty.client()
    before = time.monotonic()
    assert client.receive() is None
    assert 0.3 < time.monotonic() - before < 2


def test_other_packets_are_no_pong(hasty: Served) -> None:
    client = hasty.client()
    assert raw_receive(client) == "2"
    before = time.monotonic()
    while time.monotonic() - before < 1:
        try:
            client.send('42["message"]')
            if client.receive() is None:
                break
        except OSError:
            break
    assert time.monotonic() - before < 0.8


def test_the_client_may_not_ping(hasty: Served) -> None:
    client = hasty.client()
    client.send("2")
    assert client.receive() is None


def test_a_client_that_enters_no_namespace_is_closed(hasty: Served) -> None:
    client = hasty.websocket()
    client.receive()
    before = time.monotonic()
    while raw_receive(client) == "2":
        client.send("3")
    assert 0.2 < time.monotonic() - before < 1
