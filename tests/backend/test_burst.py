"""A burst of large events to a room of fifty, one of whom reads slowly: all hear everything (spec section 11)."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any

import amqp
import pytest

from tests.backend.conftest import ROOM, Site
from tests.support.metrics import metric
from tests.support.raw import RawSocket

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured, pytest.mark.timeout(300)]

EVENTS, EVENT_BYTES, MEMBERS = 1_000, 5_000, 50
SLOW_BYTES_A_SECOND = 2_000_000
SECONDS = 200.0
MARK = b'["burst",'


@dataclass
class Reader:
    """A member's connection, read as raw bytes; `pace` in bytes a second, None for as fast as they come."""

    sock: socket.socket
    pace: float | None = None
    heard: int = 0
    size: int = 0
    _tail: bytes = b""

    def is_due(self, seconds: float) -> bool:
        return self.pace is None or self.size < self.pace * seconds

    def read(self) -> None:
        data = self.sock.recv(65_536)
        assert data, "the server has closed"
        self.size += len(data)
        text = self._tail + data
        self.heard += text.count(MARK)
        # A mark that is cut in two is found with the next piece, and none is counted twice.
        self._tail = text[-len(MARK) + 1 :]


def read_all(readers: list[Reader]) -> None:
    """Read until each has heard everything, or time is up."""
    began = monotonic()
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.sock, selectors.EVENT_READ, reader)
        while any(reader.heard < EVENTS for reader in readers) and monotonic() - began < SECONDS:
            for key, _ in selector.select(0.01):
                if key.data.is_due(monotonic() - began):
                    key.data.read()


def test_everybody_hears_a_burst(make_site: Callable[..., Site]) -> None:
    # Nobody answers pings meanwhile.
    site = make_site("burst", REPO_NOTIFY_PING_INTERVAL=SECONDS)
    channel = "::".join(ROOM.values())
    with ExitStack() as stack:
        readers = []
        for number in range(MEMBERS):
            client = stack.enter_context(RawSocket.connect(site.served.url, site.cookie("carol")))
            client.send("42" + json.dumps(["join", ROOM]))
            assert "success" in client.receive()
            connection: Any = client
            readers.append(Reader(connection._connection.sock, SLOW_BYTES_A_SECOND if number == 0 else None))
        with site.backend.connection.channel() as publishing:
            for number in range(EVENTS):
                body = {"event": "burst", "channel": channel, "data": {"n": number, "text": "x" * EVENT_BYTES}}
                publishing.basic_publish(amqp.Message(json.dumps(body).encode()), site.backend.exchange, "")
        read_all(readers)
        assert [reader.heard for reader in readers] == [EVENTS] * MEMBERS
        assert metric(site.served, "repo_notify_slow_clients_total") == 0
        assert metric(site.served, "repo_notify_backend_passed_over_total") == 0
