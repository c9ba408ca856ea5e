"""Where one request ends and the next begins is never a guess (RFC 9112): 400 and the connection is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import host_defaults
from tests.engine.support import Served as Engine
from tests.support.ports import free_port
from tests.support.served import Served, host_app
from tests.support.service import command, service, service_environment

from .wire import answer, asked, connect, until_closed

pytestmark = pytest.mark.slow

GET = "GET /chat/?EIO=4&transport=polling HTTP/1.1\r\n"
POST = "POST /chat/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
WEBSOCKET = f"GET /chat/?EIO=4&transport=websocket HTTP/1.1\r\n{UPGRADE}"
# What a server that reads it in another way than a proxy would take for a request of its own.
SMUGGLED = "GET /notify/metrics HTTP/1.1\r\nHost: h\r\n\r\n"

ODD: dict[str, str] = {
    "a length with an underscore": f"{POST}Content-Length: 3_0\r\n\r\n",
    "a length with a sign": f"{POST}Content-Length: +3\r\n\r\nabc",
    "a negative length": f"{POST}Content-Length: -1\r\n\r\n",
    "a length in hex": f"{POST}Content-Length: 0x3\r\n\r\nabc",
    "an empty length": f"{POST}Content-Length:\r\n\r\n",
    "a length in other digits": f"{POST}Content-Length: \u00b2\r\n\r\nab",
    "a list of lengths": f"{POST}Content-Length: 3, 3\r\n\r\nabc",
    "two lengths": f"{POST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a length beyond all numbers": f"{POST}Content-Length: {'9' * 5000}\r\n\r\n",
    "a length and chunks": f"{POST}Content-Length: 4\r\n{CHUNKED}\r\n0\r\n\r\n",
    "chunks and a length": f"{POST}{CHUNKED}Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two encodings": f"{POST}{CHUNKED}{CHUNKED}\r\n0\r\n\r\n",
    "two encodings in one": f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": f"{POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an encoding that nobody knows": f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before the encoding": f"{POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "an empty encoding": f"{POST}Transfer-Encoding:\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": f"{POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded encoding": f"{POST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": f"{POST}{CHUNKED}\r\n0\r\n\r\n".replace("/1.1", "/1.0", 1),
    "two hosts": f"{GET}Host: a\r\nHost: b\r\n\r\n",
    "one host, twice": f"{GET}Host: a\r\nHost: a\r\n\r\n",
    "no host": f"{GET}Accept: */*\r\n\r\n",
    "a host with a space": f"{GET}Host: a b\r\n\r\n",
    "a host with a path": f"{GET}Host: a/b\r\n\r\n",
    "a host with a user": f"{GET}Host: a@b\r\n\r\n",
    "two hosts of a WebSocket": f"{WEBSOCKET}Host: a\r\nHost: b\r\n\r\n",
    "no host of a WebSocket": f"{WEBSOCKET}\r\n",
    "HTTP/0.9": "GET /chat/\r\n",
    "HTTP/1.2": f"{GET}Host: h\r\n\r\n".replace("/1.1", "/1.2", 1),
    "HTTP/2.0": f"{GET}Host: h\r\n\r\n".replace("/1.1", "/2.0", 1),
    "a version in lower case": f"{GET}Host: h\r\n\r\n".replace("HTTP", "http", 1),
    "a signed version": f"{GET}Host: h\r\n\r\n".replace("/1.1", "/+1.1", 1),
    "a bare LF behind the request": f"{GET}Host: h\r\n\r\n".replace("\r\n", "\n", 1),
    "a bare LF behind a field": f"{GET}Host: h\nAccept: a\r\n\r\n",
    "a bare LF at the end": f"{GET}Host: h\r\n\n",
    "a bare LF everywhere": f"{GET}Host: h\r\n\r\n".replace("\r\n", "\n"),
    "a bare CR": f"{GET}Host: h\r\nA: b\rc\r\n\r\n",
    "spaces around the target": f"{GET}Host: h\r\n\r\n".replace(" ", "  ", 1),
    "a method that is none": f"{GET}Host: h\r\n\r\n".replace("GET", "G@T", 1),
    "no-break spaces in the request": f"{GET}Host: h\r\n\r\n".replace(" ", "\xa0"),
    "HEAD with a body": f"{POST}Content-Length: 2\r\n\r\nab".replace("POST", "HEAD", 1),
}


@pytest.fixture(scope="module", params=["serve", "a stock Flask-SocketIO", "gunicorn"])
def served(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    if request.param == "gunicorn":
        port = free_port()
        with service(command("gunicorn", port), service_environment(sample), port) as found:
            yield found
        return
    stock = {"STOCK_SOCKETIO": {"async_mode": "gevent"}} if request.param != "serve" else {}
    with host_app({**host_defaults(sample), **stock}) as found:
        yield found


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_is_answered_with_400_and_nothing_behind_it_at_all(served: Served, odd: str) -> None:
    with connect(served.port) as raw:
        raw.sendall((ODD[odd] + SMUGGLED).encode("latin-1"))
        said = until_closed(raw, 5.0)
    status, _, rest = said.partition(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert b"\r\nconnection: close\r\n" in said.lower()
    assert b"HTTP/1.1" not in rest


CHUNKS: dict[str, str] = {
    "a size that is none": "x\r\na\r\n0\r\n\r\n",
    "an empty size": "\r\na\r\n0\r\n\r\n",
    "a signed size": "+1\r\na\r\n0\r\n\r\n",
    "a size in the other notation": "0x1\r\na\r\n0\r\n\r\n",
    "a size with an underscore": "0_1\r\na\r\n0\r\n\r\n",
    "a size beyond all numbers": f"{'f' * 17}\r\na\r\n0\r\n\r\n",
    "a bare LF behind the size": "1\na\r\n0\r\n\r\n",
    "a bare LF in an extension": "1;\na\r\na\r\n0\r\n\r\n",
    "a bare LF behind the data": "1\r\na\n0\r\n\r\n",
    "more data than told": "1\r\nabc\r\n0\r\n\r\n",
    "a trailer that is no field": "1\r\na\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "a bare LF behind a trailer": "1\r\na\r\n0\r\na: b\nc: d\r\n\r\n",
    "a bare LF at the end": "1\r\na\r\n0\r\n\n",
}


@pytest.mark.parametrize("chunks", CHUNKS)
def test_odd_chunks_end_the_connection(served: Served, chunks: str) -> None:
    """The application is told of the error where it reads the body; what is behind it is no request in any case."""
    request = "POST /notify/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key\r\n"
    with connect(served.port) as raw:
        raw.sendall((request + f"{CHUNKED}\r\n" + CHUNKS[chunks] + SMUGGLED).encode())
        said = until_closed(raw, 5.0)
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in said.lower()


GOOD: dict[str, str] = {
    "a length": "Content-Length: 2\r\n\r\n{}",
    "a length, twice the same": "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "chunks": f"{CHUNKED}\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n",
    "chunks with extensions and a trailer": f"{CHUNKED}\r\n1;a\r\n{{\r\n1 ; a=b\r\n}}\r\n00;c\r\na: b\r\n\r\n",
    "chunks in capitals": "Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a body that was told to come": "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("body", GOOD)
@pytest.mark.parametrize("kind", ["gevent", "gevent, pywsgi"])
def test_what_is_right_is_read_and_the_connection_is_kept(engines: dict[str, Engine], kind: str, body: str) -> None:
    with connect(engines[kind].port) as raw:
        for _ in range(3):
            # An empty line before a request is let pass (RFC 9112 section 2.2).
            raw.sendall(f"\r\nPOST /echo HTTP/1.1\r\nHost: h\r\n{GOOD[body]}".encode())
            found = answer(raw, "POST")
            assert (found.status, found.body) == (200, b'"{}"')
            assert "connection" not in found.headers


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    found = {"gevent": Engine("gevent"), "gevent, pywsgi": Engine("gevent", "pywsgi")}
    yield found
    for engine in found.values():
        engine.stop()


@pytest.mark.parametrize("number", [50, 51, 100, 5000])
def test_more_than_50_parameters_are_refused(served: Served, request: pytest.FixtureRequest, number: int) -> None:
    """A stock server takes any number; the extension does not look for a cookie among so many."""
    query = "&".join(f"a{n}=1" for n in range(number - 2))
    target = f"/chat/?EIO=4&transport=polling&{query}"[:8000]
    found = asked(served.port, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    stock = "stock" in request.node.callspec.id
    assert found.status == (200 if number == 50 or stock else 400)
