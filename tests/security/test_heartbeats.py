"""Heartbeats by the hundred thousand cost no memory, and a pong answers a ping."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from repo_notify.engine.wire.frames import TEXT
from tests.engine.support import EIO4, Served
from tests.engine.test_frames_abuse import FINAL, HANDSHAKE, ending, frame, opened
from tests.engine.test_heartbeat import raw_receive
from tests.support.until import until

Start = Callable[..., Served]
FLOOD = 100_000


def open_old(port: int) -> socket.socket:
    """A WebSocket of Engine.IO 3 whose default namespace is connected."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    raw.sendall(HANDSHAKE.replace(b"EIO=4", b"EIO=3"))
    seen = b""
    # What the connect handler emits is the last thing.
    while not seen.endswith(b'42["auth",{}]'):
        more = raw.recv(4096)
        assert more, seen
        seen += more
    return raw


def test_a_pong_without_a_ping_ends_the_connection(engine: Served) -> None:
    client = engine.client()
    client.send("3")
    assert client.receive() is None
    poller = engine.polling_client()
    refused = poller.post("3")
    assert (refused.status, refused.json["message"]) == (400, "pong without a ping")
    assert poller.is_gone


def test_the_second_pong_of_a_ping_ends_the_connection(hasty: Served) -> None:
    client = hasty.client()
    assert raw_receive(client) == "2"
    client.send("3")
    client.send("3")
    assert client.receive() is None


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_a_heartbeat_goes_on_however_the_times_are_set(start: Start, kind: str) -> None:
    # The pong moves the next ping to before the time at which the client would have been late.
    served = start(kind, ping_interval=0.05, ping_timeout=30)
    client = served.client()
    for _ in range(20):
        assert raw_receive(client) == "2"
        client.send("3")
    assert served.call("/timers") < 64 + 10


@pytest.mark.unmeasured
def test_a_flood_of_pings_leaves_no_timers(start: Start) -> None:
    pytest.importorskip("legacy_v4")
    served = start(both_generations=True)
    with open_old(served.port) as raw:
        before = served.call("/timers")
        pings = frame(FINAL | TEXT, b"2") * 1000
        taken = 0
        for _ in range(FLOOD // 1000):
            raw.sendall(pings)
            while taken < 3 * 1000:
                taken += len(raw.recv(65_536))
            taken -= 3 * 1000
        assert served.call("/timers") <= before


def test_connections_that_end_leave_no_timers(start: Start) -> None:
    served = start()
    before = served.call("/timers")
    for _ in range(200):
        with opened(served.port) as raw:
            raw.sendall(frame(FINAL | 0x8))
            ending(raw)
    until(lambda: served.call("/state")["connections"] == 0)
    # Those that are cancelled are cleared away when they are the most.
    until(lambda: served.call("/timers") <= before + 64 + 10)


def test_a_silent_client_is_noticed_all_the_same(hasty: Served) -> None:
    poller = hasty.poller()
    until(lambda: hasty.request("GET", None, None, **EIO4, transport="polling", sid=poller.sid).status == 400)
