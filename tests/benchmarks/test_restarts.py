"""The load of the restarts scenario: clients that try until they are in, and a publisher that insists."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.load.audience import LoadError
from benchmarks.load.frames import event_frame
from benchmarks.load.publisher import Publisher
from benchmarks.load.returning import END, Plan, Stay, delay, stay
from tests.benchmarks.test_recovery import JOINED, OPEN, SWITCHING, event, frame, ticket
from tests.support.ports import free_port

HOST = "127.0.0.1"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
PLACES = [{"model": "a"}, {"model": "b"}]
SECONDS = 20.0


def test_attempts_are_as_far_apart_as_those_of_socket_io_client() -> None:
    assert [delay(attempts, 0) for attempts in range(5)] == [1, 2, 4, 5, 5]
    assert (delay(0, -1), delay(0, 1), delay(2, 1)) == (0.5, 1.5, 5)


def follow(port: int, clients: int = 1, seconds: float = SECONDS) -> Stay:
    return stay(Plan(HOST, port, b"GET", [event_frame("join", room) for room in PLACES], clients, seconds))


@contextmanager
def answering(port: int, *connections: tuple[bytes, ...]) -> Iterator[None]:
    """Serve connections one after the other: each is what to answer whatever the client sends. The last stays open."""

    def serve(listener: socket.socket) -> None:
        for number, answers in enumerate(connections, 1):
            connection, _ = listener.accept()
            with closing(connection):
                for answer in answers:
                    connection.recv(65_536)
                    connection.sendall(answer)
                while number == len(connections) and connection.recv(65_536):
                    pass

    with closing(socket.create_server((HOST, port))) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield
        thread.join(SECONDS)
        assert not thread.is_alive()


def greeted(pid: str) -> tuple[bytes, bytes]:
    return SWITCHING + frame(OPEN), frame(b"40" + json.dumps({"sid": "x", "pid": pid}).encode())


def test_a_lost_connection_is_recovered_and_what_is_heard_is_counted() -> None:
    port = free_port()
    first = (*greeted("p"), event(*JOINED) + ticket(1) + ticket(2))
    upgrade, connected = greeted("p")
    second = (upgrade, connected + ticket(2) + ticket(3) + ticket(END))
    with answering(port, first, (BAD_GATEWAY,), second):
        found = follow(port)
    assert found.heard == Counter({1: 1, 2: 1, 3: 1, END: 1})
    assert found.again == Counter({2: 1})
    assert (found.lost, found.refused, found.away) == (1, 1, 0)
    assert (found.reconnections, found.recovered) == (1, 1)
    assert found.longest >= 1.5


def test_where_nobody_listens_the_others_are_not_held_up_and_it_ends() -> None:
    found = follow(free_port(), clients=3, seconds=2.0)
    assert found.away == 3
    assert found.refused >= 3
    assert (found.lost, found.reconnections, found.back) == (0, 0, 0)


def test_a_gap_is_told() -> None:
    port = free_port()
    told = event("message", {"event": "gap", "data": {"reason": "too old"}})
    upgrade, connected = greeted("p")
    with answering(port, (upgrade, connected + told, event(*JOINED) + ticket(END))):
        found = follow(port)
    assert found.gaps == Counter({"too old": 1})


class Taking(BaseHTTPRequestHandler):
    """Takes every third event."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.send_response(202 if len(self.asked) % 3 == 0 else 503)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the library's name
        """Be quiet."""


@pytest.fixture
def taking() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Taking,), {"asked": asked})
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def test_each_event_is_published_until_it_is_accepted_and_the_end_to_each_room(
    taking: tuple[int, list[dict[str, Any]]],
) -> None:
    port, asked = taking
    # Where nobody listens nothing is published.
    with Publisher(HOST, [free_port(), port], "key", PLACES, 1_000, SECONDS) as publisher:
        while len(asked) < 12:
            threading.Event().wait(0.01)
    assert {number: times for number, times in publisher.posted.items() if number in (1, 2, 3)} == {1: 3, 2: 3, 3: 3}
    assert publisher.posted[END] == 3 * len(PLACES)
    assert publisher.accepted >= {END, 1, 2, 3}
    assert [found["model"] for found in asked[:6:3]] == ["b", "a"]
    assert [found["model"] for found in asked[-6::3]] == ["a", "b"]


def test_an_event_that_nobody_takes_is_said_so() -> None:
    with pytest.raises(LoadError, match="event 1 was not accepted"):  # noqa: SIM117 - it is raised at the end
        with Publisher(HOST, [free_port()], "key", PLACES, 1_000, 0.2) as publisher:
            threading.Event().wait(0.5)
    assert not publisher.posted
