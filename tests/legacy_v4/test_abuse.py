"""What ends a connection of Engine.IO 3, what its client is told, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import websocket

pytestmark = pytest.mark.slow

pytest.importorskip("legacy_v4")

from repo_notify.demo.seed import STRUCTURE
from tests.legacy_v4.clients import ROOM, Client, Polling, WebSocket, ask, event, join, join_room, receive_event
from tests.legacy_v4.conftest import state_of
from tests.support.served import Served, User
from tests.support.until import until

Connect = Callable[..., Client]
BINARY = "application/octet-stream"


def whole(connection: socket.socket) -> bytes:
    """An HTTP answer with its body."""
    with connection.makefile("rb") as file:
        head = b"".join(iter(file.readline, b"\r\n"))
        (length,) = (line.split()[1] for line in head.splitlines() if line.lower().startswith(b"content-length"))
        return head + file.read(int(length))


def test_a_session_of_the_other_generation(observed: Served) -> None:
    old = Polling(observed.port)
    other = ask(observed.port, "GET", {**old.query, "EIO": "4"})
    assert (other.status, other.message) == (400, "The session is of another protocol version")
    opened = ask(observed.port, "GET", {"EIO": "4", "transport": "polling"})
    new = json.loads(opened.text.split("\x1e")[0][1:])["sid"]
    other = ask(observed.port, "GET", {**old.query, "sid": new})
    assert (other.status, other.message) == (400, "The session is of another protocol version")
    with pytest.raises(websocket.WebSocketBadStatusException):
        WebSocket(observed.port, sid=new)
    assert old.receive() == "40"
    old.close()


def test_two_polls_at_once(observed: Served) -> None:
    client = Polling(observed.port)
    assert client.receive() == "40"
    with client.open_poll() as first, client.open_poll() as second:
        answers = whole(first), whole(second)
    refused, answered = sorted(answers, key=lambda answer: b" 200 " in answer)
    assert b" 400 " in refused
    assert b"second concurrent request while polling" in refused
    assert answered.endswith(b"1:1")
    assert client.is_gone


def test_a_poll_that_is_left_hanging(hasty: Served, cookie: str) -> None:
    before = state_of(hasty)["connections"]
    client = Polling(hasty.port)
    assert client.receive() == "40"
    client.open_poll().close()
    until(lambda: state_of(hasty)["connections"] == before)
    assert client.is_gone


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "text/plain", "empty payload"),
        (b"9:4", "text/plain", "the payload ends within a packet"),
        (b"999999999:4", "text/plain", "the payload ends within a packet"),
        (b"9999999999:4", "text/plain", "a packet's length is missing or no number"),
        (b"x", "text/plain", "a packet's length is missing or no number"),
        (b"2:9x", "text/plain", "unknown Engine.IO packet type"),
        (b"2:3x", "text/plain", "unexpected PONG packet"),
        (b"2:0x", "text/plain", "unexpected OPEN packet"),
        (b"3:b49", "text/plain", "invalid base64"),
        (b"\x01\x02\xff\x04x", BINARY, "binary data without a packet that announces it"),
        (b"\x01\x02\xff\x02x", BINARY, "binary data in a packet that is no message"),
        (b"3:47x", "text/plain", "unknown Socket.IO packet type"),
        (b"3:42x", "text/plain", "invalid JSON"),
        (b'39:451-["x",{"_placeholder":true,"num":0}]4:42[]', "text/plain", "text where an attachment is due"),
        (b"1:2" * 1_001, "text/plain", "too many packets in one payload"),
        (b"2:40", "text/plain", "already connected to the namespace"),
    ],
)
def test_a_wrong_payload_ends_the_session(observed: Served, body: bytes, content_type: str, says: str) -> None:
    client = Polling(observed.port)
    assert client.receive() == "40"
    refused = client.post(body, content_type)
    assert (refused.status, refused.message) == (400, says)
    assert client.is_gone


def test_a_payload_beyond_the_limit_ends_the_session(serve_host: Callable[..., Served]) -> None:
    served = serve_host(REPO_NOTIFY_MAX_MESSAGE_BYTES=1_000)
    client = Polling(served.port)
    assert client.receive() == "40"
    refused = client.post(join("4" + "x" * 1_000))
    assert (refused.status, refused.message) == (413, "Payload too large")
    assert client.is_gone


@pytest.mark.parametrize(
    "frames",
    [["9"], ["x"], ["3"], ["0"], ["b4AAAA"], [b"\x02probe"], [b"\x04x"], ['451-["x",{}]', "42[]"], ["42"], ["40"]],
)
def test_a_wrong_frame_ends_the_connection(observed: Served, frames: list[str | bytes]) -> None:
    with WebSocket(observed.port) as client:
        assert client.receive() == "40"
        client.send(*frames)
        assert client.is_gone


def test_nobody_else_notices(observed: Served, connect: Connect, cookie: str) -> None:
    witness = connect(observed, cookie=cookie)
    join_room(witness)
    client = Polling(observed.port)
    assert client.post(b"x").status == 400
    User(observed).publish("IssuesCreated", teamspace="acme", model=STRUCTURE, issues=[])
    assert receive_event(witness, f"acme::{STRUCTURE}::newIssues") == []


# Nothing is left of 2,000 such connections, nor of as many as the variable says.
ABUSES = int(os.environ.get("REPO_NOTIFY_TEST_ABUSES", "2000"))
AT_ONCE = 8


def _opened(client: Client) -> Client:
    assert client.receive() == "40"
    return client


def _hang_up(client: Polling) -> None:
    client.open_poll().close()


def _two_polls(client: Polling) -> None:
    with client.open_poll() as first, client.open_poll() as second:
        first.recv(4096)
        second.recv(4096)


def _vanish(client: WebSocket) -> None:
    client.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.connection.sock.close()


def _half_an_upgrade(client: Polling) -> None:
    socket = WebSocket(client.port, sid=client.sid)
    socket.send("2probe")
    _vanish(socket)


def _half_a_body(client: Polling) -> None:
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        query = "&".join(f"{name}={value}" for name, value in client.query.items())
        raw.sendall(f"POST /chat/?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n3:42".encode())


POLLING_ABUSES: list[Callable[[Polling], object]] = [
    lambda client: client.post(b"9:4"),
    lambda client: client.post(b"2:9x"),
    lambda client: client.post(b"\x01\x02\xff\x04x", BINARY),
    lambda client: client.post(b"2:2x1:3"),
    _two_polls,
    _hang_up,
    _half_an_upgrade,
    _half_a_body,
    lambda client: ask(client.port, "GET", {**client.query, "EIO": "4"}),
]
SOCKET_ABUSES: list[Callable[[WebSocket], object]] = [
    lambda client: client.send("9"),
    lambda client: client.send(b"\x02x"),
    lambda client: client.send('451-["x",{"_placeholder":true,"num":0}]', "2"),
    lambda client: client.send("4" + "x" * 10),
    lambda client: None,
]


def _abuse(port: int, cookie: str, number: int) -> None:
    several = len(POLLING_ABUSES) + len(SOCKET_ABUSES)
    which = number % several
    if which < len(POLLING_ABUSES):
        polling = Polling(port, cookie)
        # The abuse may come before the join is done, or after it.
        _opened(polling).send(event("join", ROOM))
        POLLING_ABUSES[which](polling)
        return
    client = WebSocket(port, cookie)
    _opened(client).send(event("join", ROOM))
    SOCKET_ABUSES[which - len(POLLING_ABUSES)](client)
    _vanish(client)


@pytest.mark.timeout(600)
@pytest.mark.unmeasured
def test_nothing_is_left_of_many(hasty: Served) -> None:
    cookie = User(hasty).log_in("carol").cookie
    # The first connection starts what lives as long as the process.
    join_room(_opened(Polling(hasty.port, cookie)))
    until(lambda: state_of(hasty)["connections"] == 0)
    before = state_of(hasty)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda number: _abuse(hasty.port, cookie, number), range(ABUSES)):
            pass
    until(lambda: state_of(hasty) == before, lambda: (before, state_of(hasty)))
