"""Recovery over every transport of our own engine, on gevent and on threads (spec section 9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from engineio.payload import Payload

from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.returning import Returning
from tests.support.served import Served, User
from tests.support.teamspaces import Teamspace
from tests.support.until import until
from tests.test_recovery import READER, large_updates, lose, numbers, place, update

__all__ = ["place"]

Json = Any
Make = Callable[..., Teamspace]
SEPARATOR = "\x1e"


@pytest.fixture(params=["gevent", "threading"])
def served(serve_host: Callable[..., Served], request: pytest.FixtureRequest) -> Served:
    threads = {"PATCH": False, "REPO_NOTIFY_ASYNC_MODE": "threading"} if request.param == "threading" else {}
    return serve_host(REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2, **threads)


class Poller:
    """A polling client that comes back; `events` are what it heard, positions apart."""

    def __init__(self, served: Served) -> None:
        self._address = f"{served.url}/chat/?EIO=4&transport=polling"
        self._http = requests.Session()
        self._http.headers["Cookie"] = User(served).log_in(READER).cookie
        self._session = ""
        self.auth: Json = None
        self.recovered = False
        self.events: list[tuple[str, list[Json]]] = []

    def connect(self) -> Poller:
        opened = self._http.get(self._address, timeout=10).text
        self._session = f"{self._address}&sid={json.loads(opened[1:])['sid']}"
        self.send("40" + (json.dumps(self.auth) if self.auth else ""))
        answer, *rest = self._poll()
        told = json.loads(answer[2:])
        self.recovered = self.auth is not None and told["pid"] == self.auth["pid"]
        self.auth = {"pid": told["pid"], "offset": self.auth["offset"] if self.auth else None}
        self._take(rest)
        return self

    def send(self, packet: str) -> None:
        assert self._http.post(self._session, data=packet, timeout=10).text == "ok"

    def hear(self, number: int) -> list[tuple[str, list[Json]]]:
        while len(self.events) < number:
            self._take(self._poll())
        found, self.events = self.events[:number], self.events[number:]
        return found

    def drop(self) -> None:
        """As a page that goes away: an Engine.IO close, which the server is told."""
        self.send("1")

    def _poll(self) -> list[str]:
        packets = self._http.get(self._session, timeout=20).text.split(SEPARATOR)
        # python-engineio's clients take no more, and end the connection.
        assert len(packets) <= Payload.max_decode_packets
        return packets

    def _take(self, packets: list[str]) -> None:
        for packet in packets:
            if packet == "2":
                self.send("3")
                continue
            event, *arguments = json.loads(packet[2:])
            if event == "position":
                self.auth["offset"] = arguments[0]
            else:
                self.events.append((event, arguments))


def test_a_polling_client_comes_back(served: Served, place: Place) -> None:
    client = Poller(served).connect()
    client.send("42" + json.dumps(["join", place.in_model]))
    client.hear(1)
    client.drop()
    until(lambda: metric(served, "repo_notify_lost_clients") > 0)
    update(served, place, 1, 2)
    client.connect()
    assert client.recovered
    update(served, place, 3)
    assert numbers(client.hear(3)) == [1, 2, 3]


def test_a_long_replay_over_polling(served: Served, place: Place) -> None:
    client = Poller(served).connect()
    client.send("42" + json.dumps(["join", place.in_model]))
    client.hear(1)
    client.drop()
    until(lambda: metric(served, "repo_notify_lost_clients") > 0)
    many = 200
    large_updates(served, place, many)
    client.connect()
    assert client.recovered
    update(served, place, many)
    heard = client.hear(many + 1)
    assert [payload["data"].get(f"n{at}") for at, (_, (payload,)) in enumerate(heard)] == list(range(many + 1))


def test_a_websocket_comes_back(served: Served, place: Place) -> None:
    with Returning(served.url, User(served).log_in(READER).cookie) as client:
        client.connect()
        client.join(place.in_model)
        lose(served, client)
        update(served, place, 1, 2)
        client.connect()
        assert client.recovered
        update(served, place, 3)
        assert numbers(client.heard_so_far()) == [1, 2, 3]
        reply = client.emit("join", {**place.in_model, "since": client.offset})
        assert reply["replayed"] == 0
