"""Bodies that never come, trailers that never end, answers that nobody reads: each connection has an end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import host_defaults
from tests.engine.support import Served as Engine
from tests.engine.support import any_certificate
from tests.support.ports import free_port
from tests.support.served import Served, host_app
from tests.support.service import command, service, service_environment
from tests.support.until import until

from .wire import answer, asked, connect, until_closed, until_refused

pytestmark = pytest.mark.slow

# What the servers here allow, and what is more than enough for them, in seconds.
PATIENCE, ENOUGH = "0.5", 6.0
KEY = "Content-Type: application/json\r\nAuthorization: Bearer key\r\n"
POLLING = "/chat/?EIO=4&transport=polling"


def post(target: str, length: int = 100, headers: str = "", body: str = "") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{headers}\r\n{body}".encode()


def chunked(target: str, body: str = "") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}".encode()


# By what is waited for: the request, and what is sent again and again.
STAGES: dict[str, tuple[bytes, bytes]] = {
    "401": (post("/notify/events"), b""),
    "401, a large body": (post("/notify/events", 1_000_000), b""),
    "404": (post("/nowhere"), b""),
    "a handshake's": (post(POLLING).replace(b"POST", b"GET", 1), b""),
    "a POST as handshake": (post(POLLING), b""),
    "OPTIONS": (post(POLLING).replace(b"POST", b"OPTIONS", 1), b""),
    "the first chunk": (chunked("/nowhere"), b""),
    "the rest of a chunk": (chunked("/nowhere", "ff\r\nhalf"), b""),
    "the end of a trailer": (chunked("/nowhere", "1\r\nx\r\n0\r\n"), b"a: b\r\n" * 100),
    "the end of an extension": (chunked("/nowhere", "1;"), b"a=b;" * 100),
    "a body that was told to come": (post("/notify/events", headers=f"Expect: 100-continue\r\n{KEY}"), b""),
    "a body that is not wanted": (post("/nowhere", headers="Expect: 100-continue\r\n"), b""),
    "a body that is read": (post("/notify/events", headers=KEY, body="{"), b""),
    "a session's POST": (b"", b""),
}


@pytest.fixture(scope="module", params=["serve", "a stock Flask-SocketIO", "gunicorn"])
def impatient(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    settings = {"REPO_NOTIFY_API_KEY": "key", "REPO_NOTIFY_REQUEST_TIMEOUT": PATIENCE}
    if request.param == "gunicorn":
        port = free_port()
        with service(command("gunicorn", port), service_environment(sample, **settings), port) as served:
            yield served
        return
    stock = {"STOCK_SOCKETIO": {"async_mode": "gevent"}} if request.param != "serve" else {}
    with host_app({**host_defaults(sample), **settings, **stock}) as served:
        yield served


def session(port: int) -> str:
    opened = asked(port, f"GET {POLLING} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    sid: str = json.loads(opened.body.decode()[1:].partition("\x1e")[0])["sid"]
    return sid


@pytest.mark.parametrize("stage", STAGES)
def test_what_does_not_come_is_not_waited_for(impatient: Served, stage: str) -> None:
    request, feed = STAGES[stage]
    if stage == "a session's POST":
        request = post(f"{POLLING}&sid={session(impatient.port)}")
    with connect(impatient.port) as raw:
        raw.sendall(request)
        until_closed(raw, ENOUGH, feed)
    # Others are served as before.
    assert asked(impatient.port, b"GET /notify/healthz HTTP/1.1\r\nHost: h\r\n\r\n").status == 200


def test_answers_that_nobody_reads_are_not_kept(impatient: Served) -> None:
    with connect(impatient.port, receives=4096) as raw:
        until_refused(raw, 2 * ENOUGH, b"GET /notify/metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 100)


@pytest.mark.parametrize("kind", ["hasty", "hasty pywsgi"])
def test_a_long_answer_that_nobody_reads_is_not_kept(kind: str) -> None:
    served = Engine("gevent", kind)
    try:
        with connect(served.port, receives=4096) as raw:
            raw.sendall(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
            # Said what it wants, it neither reads nor writes; what it hears in the end stops in the middle.
            until(lambda: served.call("/state")["tasks"] <= 1)
            assert not until_closed(raw, ENOUGH).endswith(b"0\r\n\r\n")
        assert "Traceback" not in served.stop()
    finally:
        served.stop()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a beginning"])
def test_a_tls_handshake_that_does_not_come_is_not_waited_for(sent: bytes) -> None:
    served = Engine("gevent", "hasty tls")
    try:
        with connect(served.port) as raw:
            raw.sendall(sent)
            until_closed(raw, ENOUGH)
        assert served.call("/state")["connections"] == 0
        assert "Traceback" not in served.stop()
    finally:
        served.stop()


def test_a_body_over_tls_that_does_not_come_is_not_waited_for() -> None:
    served = Engine("gevent", "hasty tls")
    try:
        with connect(served.port) as raw, any_certificate().wrap_socket(raw) as secured:
            secured.sendall(post("/echo"))
            # The application let the error pass, and is not blamed for it.
            assert secured.recv(100).startswith(b"HTTP/1.1 408 ")
            while secured.recv(100):
                pass
        assert "Traceback" not in served.stop()
    finally:
        served.stop()


@pytest.mark.parametrize("kind", ["hasty", "hasty pywsgi"])
def test_who_is_slow_but_steady_is_served(kind: str) -> None:
    """The limit is on pauses and on how little comes, not on how long a large body takes."""
    served = Engine("gevent", kind)
    data = json.dumps({"text": "x" * 2_000_000}).encode()
    try:
        with connect(served.port) as raw:
            raw.sendall(f"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {len(data)}\r\n\r\n".encode())
            pause = threading.Event()
            for start in range(0, len(data), 100_000):
                raw.sendall(data[start : start + 100_000])
                pause.wait(0.05)
            assert answer(raw, "POST").status == 200
    finally:
        served.stop()
