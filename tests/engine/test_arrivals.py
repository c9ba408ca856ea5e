"""A request's head that comes in one piece is read at once, others line by line; nothing else may differ by it."""

from __future__ import annotations

import json
import re
import socket
import string
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repo_notify.engine.pywsgi.headers import MAX_FIELDS, RequestHead
from repo_notify.engine.wire import frames

from .support import Served

Servers = dict[str, Served]
MAX = 16_384
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
# Other for each connection or server.
OF_ANOTHER = b"GET /environ HTTP/1.1\r\nHost: h\r\n\r\n"
OF_THE_CONNECTION = ("REMOTE_PORT", "SERVER_PORT", "SERVER_NAME")


@pytest.fixture(scope="module")
def both() -> Iterator[Servers]:
    """Our server, and gevent's own with the same handler."""
    servers = {"ours": Served("gevent"), "pywsgi": Served("gevent", "pywsgi")}
    yield servers
    for served in servers.values():
        served.stop()


def asked(served: Served, request: bytes, *, cut: int = 0) -> tuple[int, Any]:
    """What the application made of a request, which may be cut in two: status, and the environ where it was asked."""
    with served.raw() as raw:
        if cut:
            raw.sendall(request[:cut])
            # Somebody else is served meanwhile, so the first piece has been seen.
            assert asked(served, OF_ANOTHER)[0] == 200
        raw.sendall(request[cut:] if cut else request)
        return answered(raw)


def answered(raw: socket.socket) -> tuple[int, Any]:
    with HTTPResponse(raw) as answer:
        answer.begin()
        content = answer.read()
        if answer.status != 200:
            return answer.status, None
        environ = json.loads(content)
        return 200, {name: value for name, value in environ.items() if name not in OF_THE_CONNECTION}


def alike(both: Servers, request: bytes) -> tuple[int, Any]:
    """What both servers make of it, at once and line by line."""
    found = [asked(served, request, cut=cut) for served in both.values() for cut in (0, 1)]
    assert found == [found[0]] * 4
    return found[0]


REQUESTS = {
    "a handshake": f"GET /environ/a?b=c&d=%20 HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "escapes": f"GET /environ/%C3%A9%2F%zz?%C3 HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "a second question mark": f"GET /environ?a?b HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "an empty query": f"GET /environ? HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "blanks around a value": f"GET /environ HTTP/1.1\r\nHost: \t h \t \r\n{UPGRADE}\r\n",
    "an empty value": f"GET /environ HTTP/1.1\r\nHost:\r\n{UPGRADE}\r\n",
    "two cookies": f"GET /environ HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nCookie: b=2\r\n{UPGRADE}\r\n",
    "two of another": f"GET /environ HTTP/1.1\r\nHost: h\r\nX-Some: a\r\nx-some: b\r\n{UPGRADE}\r\n",
    "a name with underscores": f"GET /environ HTTP/1.1\r\nHost: h\r\nX_Some: a\r\n{UPGRADE}\r\n",
    "two upgrades": f"GET /environ HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n{UPGRADE}\r\n",
    "not Latin-1 alone": f"GET /environ HTTP/1.1\r\nHost: h\r\nX-Some: \xe9\r\n{UPGRADE}\r\n",
    "no HTTP/1.1": f"GET /environ HTTP/1.0\r\nHost: h\r\n{UPGRADE}\r\n",
    "a version that is none": f"GET /environ HTTP/3\r\nHost: h\r\n{UPGRADE}\r\n",
    "another method": f"POST /environ HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "a body": f"GET /environ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Type: a/b\r\n{UPGRADE}\r\n{{}}",
    "a post": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\n{}",
    "a post without a body": "POST /environ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a length twice": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length that is none": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n{}",
    "an empty length": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
    "a type twice": "POST /environ HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n",
    "chunks": "POST /environ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and a length": "POST /environ HTTP/1.1\r\nHost: h\r\n"
    "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": "GET /environ HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "no host's name": "GET /environ HTTP/1.1\r\nHost: h/h\r\n\r\n",
    "two connections": "GET /environ HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
    "an empty line before": "\r\nGET /environ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method of somebody's own": "pa-tch /environ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method that is none": "GE[T /environ HTTP/1.1\r\nHost: h\r\n\r\n",
    "a length of nothing": f"GET /environ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{UPGRADE}\r\n",
    "a bare LF": f"GET /environ HTTP/1.1\nHost: h\r\n{UPGRADE}\r\n",
    "a bare CR": f"GET /environ HTTP/1.1\r\nHost: h\rh\r\n{UPGRADE}\r\n",
    "a folded line": f"GET /environ HTTP/1.1\r\nHost: h\r\n h\r\n{UPGRADE}\r\n",
    "no colon": f"GET /environ HTTP/1.1\r\nHost\r\n{UPGRADE}\r\n",
    "too many fields": f"GET /environ HTTP/1.1\r\n{'X: x' * 2}\r\n" + "A: a\r\n" * MAX_FIELDS + f"{UPGRADE}\r\n",
    "a long target": f"GET /environ?{'x' * 7000} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "a target too long": f"GET /environ?{'x' * 9000} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "a target with blanks": f"GET /environ? a HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "no WebSocket": "GET /environ HTTP/1.1\r\nHost: h\r\n\r\n",
    "nothing but a line": "GET /environ HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_what_it_is_line_by_line(both: Servers, name: str) -> None:
    alike(both, REQUESTS[name].encode("latin-1"))


# A second Host is refused; the others have rules of their own.
_NOT_ASKED = {"host", "content-length", "content-type", "transfer-encoding", "expect", "connection"}
NAMES = st.text("-!_" + string.ascii_letters + string.digits, min_size=1, max_size=40).filter(
    lambda name: name.lower() not in _NOT_ASKED
)
VALUES = st.text([chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100), 9)], max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    target=st.text([chr(code) for code in range(0x21, 0x7F)], max_size=30),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=8),
)
def test_whatever_is_asked(both: Servers, target: str, fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = f"GET /environ{target} HTTP/1.1\r\nHost: h\r\n{UPGRADE}{lines}\r\n".encode("latin-1")
    assert alike(both, request)[0] == 200


@pytest.mark.parametrize(
    ("name", "method", "length"),
    [("a handshake", "GET", 0), ("a post", "POST", 2), ("a post without a body", "POST", 0)],
)
def test_a_head_in_one_piece_is_read_at_once(name: str, method: str, length: int) -> None:
    request = REQUESTS[name].encode()
    found = RequestHead.parse(request + b"frames", MAX)
    assert found is not None
    assert (found.method, found.length) == (method, length)
    assert found.target == request.split(b" ")[1].decode()
    assert found.size == len(request) - length


@given(st.binary())
def test_whatever_comes_is_no_head_unless_it_is_one(data: bytes) -> None:
    assert RequestHead.parse(data, MAX) is None


@pytest.mark.parametrize("cut", [20, -3, -1])
def test_a_handshake_may_come_in_pieces(both: Servers, cut: int) -> None:
    """Whether the server sees them apart or together."""
    request = REQUESTS["a handshake"].encode()
    assert asked(both["ours"], request, cut=cut) == asked(both["ours"], request)


def test_a_handshake_that_is_answered_over_http_keeps_its_connection(both: Servers) -> None:
    connection = HTTPConnection("127.0.0.1", both["ours"].port, timeout=10)
    fields = dict(line.split(": ") for line in UPGRADE.strip().split("\r\n"))
    local = None
    for _ in range(3):
        connection.request("GET", "/environ", headers=fields)
        answer = connection.getresponse()
        environ = json.loads(answer.read())
        assert environ["HTTP_SEC_WEBSOCKET_KEY"] == KEY
        assert local in (None, environ["REMOTE_PORT"])
        local = environ["REMOTE_PORT"]
    connection.close()


def test_requests_that_wait_behind_one_another_are_answered_in_order(both: Servers) -> None:
    requests = [f"GET /environ?{number} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n" for number in range(3)]
    requests.append("POST /environ?3 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n123")
    requests.append("POST /environ?4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n")
    requests.append("GET /environ?5 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    with both["ours"].raw() as raw, raw.makefile("rb") as answers:
        raw.sendall("".join(requests).encode())
        assert re.findall(rb'"QUERY_STRING": "(.)"', answers.read()) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def masked(text: str) -> bytes:
    payload = text.encode()
    return bytes((0x81, 0x80 | len(payload))) + b"abcd" + frames.unmask(payload, b"abcd")


@pytest.mark.parametrize("raw_sockets", [True, False])
def test_what_is_sent_behind_the_handshake_is_not_lost(start: Callable[..., Served], raw_sockets: bool) -> None:
    served = start(raw_sockets=raw_sockets)
    handshake = f"GET /chat/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n".encode()
    with served.raw() as raw:
        # More than a reader's buffer holds.
        events = [masked(f'42{number}["message-with-ack","{"x" * 80}"]') for number in range(200)]
        raw.sendall(handshake + masked("40") + b"".join(events))
        found = b""
        while b"43199[" not in found:
            data = raw.recv(65_536)
            assert data, found
            found += data
    assert found.startswith(b"HTTP/1.1 101 ")
    assert [int(number) for number in re.findall(rb"43(\d+)\[", found)] == list(range(200))


def test_who_comes_and_goes_without_a_word_leaves_nothing(both: Servers) -> None:
    served = both["ours"]
    before = served.call("/state")
    for _ in range(50):
        served.raw().close()
    assert served.call("/state") == before


@pytest.mark.parametrize("server", ["ours", "pywsgi"])
def test_headers_and_body_of_an_answer_are_sent_together(both: Servers, server: str) -> None:
    """Else the body waits for the acknowledgement of the headers, where the listener does not have TCP_NODELAY."""
    with both[server].raw() as raw:
        for _ in range(20):
            raw.sendall(b"GET /environ HTTP/1.1\r\nHost: h\r\n\r\n")
            head, _, body = raw.recv(65_536).partition(b"\r\n\r\n")
            found = re.search(rb"Content-Length: (\d+)", head)
            assert found is not None
            assert len(body) == int(found[1])
