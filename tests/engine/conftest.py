"""The engine served under each async mode, and under gevent by each server and handler that hosts have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .support import Served

# Short enough for a test, in seconds.
PING = {"ping_interval": 0.3, "ping_timeout": 0.2}
KINDS = {
    "gevent": ("gevent", "ours"),
    "gevent, pywsgi": ("gevent", "pywsgi"),
    "gevent-websocket": ("gevent", "stock"),
    "threading": ("threading", "ours"),
}
# The same engine where it cannot have the raw sockets, and with a handler that does not wait long for a request.
FURTHER = {
    "gevent, TLS": ("gevent", "tls"),
    "gevent, hasty": ("gevent", "hasty"),
    "gevent, pywsgi, hasty": ("gevent", "hasty pywsgi"),
}


@contextmanager
def served(kind: str, **options: Any) -> Iterator[Served]:
    found = Served(*KINDS[kind], **options)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session", params=list(KINDS))
def engine(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server with the default times."""
    with served(request.param) as found:
        yield found


# gevent's own server differs in how a request is read, which has no part in what is waited for here.
@pytest.fixture(scope="session", params=[kind for kind in KINDS if kind != "gevent, pywsgi"])
def hasty(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server that soon loses its patience."""
    with served(request.param, **PING, connect_timeout=0.4, upgrade_timeout=0.3, close_timeout=0.3) as found:
        yield found


@pytest.fixture(scope="session")
def plain() -> Iterator[dict[str, Served]]:
    """Servers whose handler leaves the WebSocket handshake to the engine, by async mode."""
    with served("gevent") as gevent, served("threading") as threading:
        yield {"gevent": gevent, "threading": threading}


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Served]]:
    """Start a server of one's own: `start(kind, **options)`."""
    started: list[Served] = []

    def begin(kind: str = "gevent", **options: Any) -> Served:
        started.append(Served(*{**KINDS, **FURTHER}[kind], **options))
        return started[-1]

    yield begin
    for found in started:
        found.stop()
