"""Of updates that wait for a slow client only the last that changes the same is sent (spec section 9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from tests.support.audience import Place
from tests.support.metrics import metric
from tests.support.raw import PING
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, User
from tests.support.until import until
from tests.test_recovery import READER, place, publisher
from tests.test_recovery_accounts import accounts, owed

__all__ = ["place"]

Json = Any
Serve = Callable[..., Served]
NAMESPACES = ("/", "/legacy_v4")


class Polling:
    """A client that asks for what waits when it is told to."""

    def __init__(self, url: str, cookie: str, room: Json) -> None:
        self._http = requests.Session()
        self._http.headers["Cookie"] = cookie
        self._url = f"{url}/chat/?EIO=4&transport=polling"
        self._url += "&sid=" + json.loads(self._get()[0][1:])["sid"]
        self._post("40")
        self._get()
        self._post(f'421{json.dumps(["join", room])}')
        while not any(packet.startswith("431") for packet in self._get()):
            """The answer."""

    def _post(self, packet: str) -> None:
        assert self._http.post(self._url, data=packet.encode(), timeout=SECONDS).text == "ok"

    def _get(self) -> list[str]:
        return self._http.get(self._url, timeout=SECONDS).text.split("\x1e")

    def poll_until(self, last: list[Json]) -> list[list[Json]]:
        """Ask until an event with its arguments is `last`; return these and all before."""
        found: list[list[Json]] = []
        while last not in found:
            found += [json.loads(packet[2:]) for packet in self._get() if packet != PING]
        return found


@pytest.fixture
def served(serve_host: Serve) -> Served:
    return serve_host(REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)


@pytest.fixture
def slow(served: Served, place: Place) -> Iterator[Callable[..., Returning]]:
    """Clients in the model's room that read nothing for now, and for whom something waits already."""
    with ExitStack() as stack:

        def make(namespace: str = "/") -> Returning:
            cookie = User(served).log_in(READER).cookie
            client = Returning(served.url, cookie, receive_buffer=4096, namespace=namespace).connect()
            stack.callback(client.close)
            client.join(place.in_model)
            return client

        yield make


def publish(served: Served, place: Place, type_: str, **data: Json) -> None:
    publisher(served).publish(type_, **place.in_model, kind="container", data=data)


def block(served: Served, place: Place) -> int:
    """Publish until the clients' sockets take no more; return how often."""
    who = publisher(served)
    for number in range(200):
        if metric(served, "repo_notify_outbox_bytes") > 0:
            return number
        data = {"_id": "block", "text": "x" * 200_000}
        who.publish("TicketCreated", **place.in_model, kind="container", data=data)
    raise AssertionError("the sockets take everything")


def story(served: Served, place: Place) -> list[Json]:
    """Publish updates, some of which later ones supersede; return the data of what is to be heard."""
    who = publisher(served)
    heard: list[Json] = []
    for number in range(20):
        last = number == 19
        for type_, data, is_heard in (
            ("TicketUpdated", {"_id": "a", "status": number}, last),
            ("TicketCreated", {"_id": "made", "status": number}, True),
            ("TicketUpdated", {"_id": "b", "status": number}, last),
            ("TicketUpdated", {"_id": "a", "status": number, "name": "x"}, last),
            ("TicketCommentUpdated", {"_id": "c", "ticket": "a", "status": number}, True),
            ("TicketUpdated", {"_id": "a", f"field {number}": number}, True),
        ):
            who.publish(type_, **place.in_model, kind="container", data=data)
            if is_heard:
                heard.append(data)
    return heard


SUPERSEDED = 3 * 19


def add_up(served: Served, superseded: int) -> None:
    found = accounts(served)
    assert found["superseded"] == superseded
    assert owed(served) == sum(found.values())


def data_of(heard: list[tuple[str, list[Json]]]) -> list[Json]:
    return [payload["data"] for _, (payload,) in heard]


def test_a_slow_client_gets_the_last_of_them_in_its_place(
    served: Served, place: Place, slow: Callable[..., Returning]
) -> None:
    client = slow()
    blocks = block(served, place)
    expected = story(served, place)
    add_up(served, SUPERSEDED)
    heard = data_of(client.hear(blocks + len(expected)))
    assert heard[blocks:] == expected
    assert client.heard_so_far() == []
    assert client.offset == requests.get(f"{served.url}/notify/position", timeout=SECONDS).json()["position"]
    # Nothing waits any more, and so nothing is left out.
    for number in range(3):
        publish(served, place, "TicketUpdated", _id="a", status=number)
    assert [each["status"] for each in data_of(client.hear(3))] == [0, 1, 2]
    add_up(served, SUPERSEDED)


def test_what_has_left_in_part_is_sent_whole(served: Served, place: Place, slow: Callable[..., Returning]) -> None:
    client = slow()
    blocks = block(served, place)
    # Far more than the kernel takes.
    long = "x" * 7_000_000
    publish(served, place, "TicketUpdated", _id="a", text=long)
    client.hear(blocks)
    client.peek()
    publish(served, place, "TicketUpdated", _id="a", text="later")
    publish(served, place, "TicketUpdated", _id="a", text="last")
    assert [each["text"] for each in data_of(client.hear(2))] == [long, "last"]
    add_up(served, 1)


def test_who_is_lost_meanwhile_misses_nothing(served: Served, place: Place, slow: Callable[..., Returning]) -> None:
    client = slow()
    blocks = block(served, place)
    expected = story(served, place)
    had = data_of(client.hear(blocks + 5))[blocks:]
    client.drop()
    until(lambda: metric(served, "repo_notify_lost_clients") == 1)
    add_up(served, SUPERSEDED)
    client.connect()
    assert client.recovered
    had += data_of(client.heard_so_far())
    assert had == expected
    add_up(served, SUPERSEDED)


def test_each_namespace_of_a_connection_has_its_own(
    served: Served, place: Place, slow: Callable[..., Returning]
) -> None:
    client = slow()
    client.send("40/legacy_v4,")
    client.send(f'42/legacy_v4,{json.dumps(["join", place.in_model])}')
    until(lambda: metric(served, "repo_notify_joins_total", action="join", outcome="success") == 2)
    blocks = block(served, place)
    for number in range(3):
        publish(served, place, "TicketUpdated", _id="a", status=number)
    add_up(served, 2 * 2)
    received: list[str] = []
    while len(received) < 2 * (blocks + 1):
        packet = client._receive()
        if '"containerNewTicket"' in packet or '"containerUpdateTicket"' in packet:
            received.append(packet)
    assert [('"status":2' in packet, packet.startswith("42/")) for packet in received[-2:]] == [
        (True, False), (True, True),
    ]  # fmt: skip


def test_who_polls_late_gets_the_last_of_them(served: Served, place: Place) -> None:
    client = Polling(served.url, User(served).log_in(READER).cookie, place.in_model)

    def is_slow() -> bool:
        publish(served, place, "TicketUpdated", _id="late")
        return accounts(served)["superseded"] > 0

    until(is_slow)
    before = int(accounts(served)["superseded"])
    expected = story(served, place)
    position = requests.get(f"{served.url}/notify/position", timeout=SECONDS).json()["position"]
    heard = client.poll_until(["position", position])
    assert heard[-1] == ["position", position]
    data = [arguments[0]["data"] for event, *arguments in heard if event != "position"]
    assert [each for each in data if each["_id"] != "late"] == expected
    add_up(served, before + SUPERSEDED)


def test_who_polls_in_time_gets_all_of_them(served: Served, place: Place) -> None:
    client = Polling(served.url, User(served).log_in(READER).cookie, place.in_model)
    for number in range(3):
        publish(served, place, "TicketUpdated", _id="a", status=number)
    payload = {**place.in_model, "data": {"_id": "a", "status": 2}}
    heard = client.poll_until(["containerUpdateTicket", payload])
    assert [arguments["data"]["status"] for event, arguments in heard if event != "position"] == [0, 1, 2]
    add_up(served, 0)


def test_without_a_history_everything_is_sent(serve_host: Serve, place: Place) -> None:
    served = serve_host(REPO_NOTIFY_HISTORY="off", REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)
    client = Polling(served.url, User(served).log_in(READER).cookie, place.in_model)
    for number in range(3):
        publish(served, place, "TicketUpdated", _id="a", status=number)
    payload = {**place.in_model, "data": {"_id": "a", "status": 2}}
    heard = client.poll_until(["containerUpdateTicket", payload])
    assert [payload["data"]["status"] for _, payload in heard] == [0, 1, 2]
