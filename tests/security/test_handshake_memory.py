"""What a handshake brings is not kept: not in the connection, and not in the interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from repo_notify.engine.engine_io.requests import for_opening, settle
from tests.engine.support import Served as Engine
from tests.support.until import until

from .wire import connect

pytestmark = pytest.mark.slow

KEPT = {"HTTP_HOST": "h", "HTTP_COOKIE": "a=1; b=2", "HTTP_ORIGIN": "http://friend.example", "HTTP_USER_AGENT": "u"}
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
FIELDS = "".join(f"{name.removeprefix('HTTP_').replace('_', '-')}: {value}\r\n" for name, value in KEPT.items())
MANY = "".join(f"X-{n}: {'x' * 100}\r\n" for n in range(80))


@pytest.fixture(scope="module", params=["gevent", "gevent, pywsgi", "gevent-websocket", "threading"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    kinds = {"gevent, pywsgi": ("gevent", "pywsgi"), "gevent-websocket": ("gevent", "stock")}
    served = Engine(*kinds.get(request.param, (request.param, "ours")))
    yield served
    served.stop()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_only_what_identity_needs_is_kept_of_the_headers(engine: Engine, transport: str) -> None:
    upgrade = UPGRADE if transport == "websocket" else ""
    request = f"GET /chat/?EIO=4&transport={transport} HTTP/1.1\r\n{FIELDS}{upgrade}{MANY}\r\n".encode()
    with connect(engine.port) as raw:
        raw.sendall(request)
        assert raw.recv(12) == (b"HTTP/1.1 200" if transport == "polling" else b"HTTP/1.1 101")
        # The threading server's driver answers before the connection is opened.
        until(lambda: f"transport={transport}" in str(engine.call("/headers")[-1:]))
        kept = engine.call("/headers")[-1]
    assert {name: value for name, value in kept.items() if name.startswith("HTTP_")} == KEPT


def test_who_decides_about_a_connection_sees_all_headers() -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_X_REMOTE_USER": "alice", **KEPT, "wsgi.errors": sys.stderr}
    opening = for_opening(environ)
    assert opening["HTTP_X_REMOTE_USER"] == "alice"
    settle(opening)
    assert {*opening} == {"REQUEST_METHOD", *KEPT, "wsgi.input"}


def test_nothing_of_a_client_is_interned() -> None:
    """Interned strings live as long as the interpreter on Python 3.12."""
    name, value = "".join(["HTTP_X_", "ONLY_HERE"]), "".join(["only ", "here"])
    environ = for_opening({name: value, "HTTP_HOST": "".join(["host", ".only.here"])})
    host = environ["HTTP_HOST"]
    settle(environ)
    # The first of its kind is what `intern` returns: an equal string that was interned before would be another object.
    for text in (name, value, host):
        copy = "".join(list(text))
        assert sys.intern(copy) is copy
