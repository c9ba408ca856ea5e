"""A host app that tells what is alive in it, and clients of Engine.IO 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests

from tests.conftest import host_defaults
from tests.legacy_v4.clients import TRANSPORTS, Client
from tests.support.served import SECONDS, Served, User, forked

# Short enough for a test, in seconds.
HASTY = {"REPO_NOTIFY_PING_INTERVAL": 0.3, "REPO_NOTIFY_PING_TIMEOUT": 0.3}
TIMING = {"upgrade_timeout": 0.4, "close_timeout": 0.4}


def state_of(served: Served) -> dict[str, Any]:
    """What is alive in a served host app."""
    found: dict[str, Any] = requests.get(served.url + "/state", timeout=SECONDS).json()
    return found


@contextmanager
def observed_host(config: dict[str, Any]) -> Iterator[Served]:
    with forked("tests.legacy_v4.serve", json.dumps(config)) as served:
        yield served


@pytest.fixture(scope="module")
def observed(sample: str) -> Iterator[Served]:
    """A host app with the default times, which serves JSONP too."""
    with observed_host({**host_defaults(sample), "REPO_NOTIFY_JSONP": True}) as served:
        yield served


@pytest.fixture(scope="module")
def hasty(sample: str) -> Iterator[Served]:
    """A host app that soon loses its patience."""
    with observed_host({**host_defaults(sample), **HASTY, "TIMING": TIMING}) as served:
        yield served


@pytest.fixture(scope="module")
def cookie(observed: Served) -> str:
    """A session of carol's at `observed`."""
    return User(observed).log_in("carol").cookie


@pytest.fixture
def connect(transport: str) -> Iterator[Callable[..., Client]]:
    """Connect on the test's transport and take the `40`; closed after the test."""
    with ExitStack() as stack:

        def opened(served: Served, *, cookie: str = "", **query: str) -> Client:
            client = TRANSPORTS[transport](served.port, cookie, **query)
            stack.callback(client.close)
            assert client.receive() == "40"
            return client

        yield opened
