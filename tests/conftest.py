"""A database on the real wire protocol, served apps and clients, for every test."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from flask import current_app, has_app_context
from hypothesis import HealthCheck, settings
from pymongo import MongoClient

from repo_notify.demo.seed import STRUCTURE, TOWER, seed
from tests.support.chat import ChatClient
from tests.support.measured_threads import pytest_configure
from tests.support.people import People
from tests.support.served import Served, User, host_app
from tests.support.teamspaces import Teamspace
from tests.support.unmeasured import embedded_mongo, unmeasured

__all__ = ["pytest_configure"]

# A busy machine is no fault of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

USERS = "users"
# Our own engine, and a Flask-SocketIO that the host has already.
ENGINES: dict[str, dict[str, Any]] = {"own": {}, "stock": {"STOCK_SOCKETIO": {"async_mode": "gevent"}}}
# Tests that share a connection ask more of it than a client may.
UNHURRIED = {"REPO_NOTIFY_JOIN_BURST": 1_000_000}
# Nobody looks at the members, as a sweep does, and a change stream when it begins: only clients have rights read.
UNWATCHED = {"REPO_NOTIFY_CHANGE_STREAMS": False, "REPO_NOTIFY_RECHECK_SECONDS": 3_600}

# Every server's fixture rests on one of these: the lines that such a test is about run in the server.
OF_SERVERS = frozenset({"sample", "engine", "hasty", "plain", "start", "port"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function) -> Generator[None, object, object]:
    """A test that talks to a server is measured in the server's process alone; examples by the hundred not at all."""
    if OF_SERVERS.isdisjoint(item.fixturenames) and not getattr(item.obj, "is_hypothesis_test", False):
        return (yield)
    with unmeasured():
        return (yield)


def host_defaults(mongo_uri: str) -> dict[str, Any]:
    """What every host app is configured with; v5 is served all the same where `legacy_v4` was deleted."""
    return {
        "REPO_NOTIFY_MONGO_URI": mongo_uri,
        "REPO_NOTIFY_USERS_COLLECTION": USERS,
        "REPO_NOTIFY_LEGACY_V4": importlib.util.find_spec("legacy_v4") is not None,
    }


@pytest.fixture(autouse=True)
def no_context_is_left() -> Iterator[None]:
    """Have the test that leaves an app's context behind fail, and not those that come after it."""
    yield
    proxy: Any = current_app
    left = proxy._get_current_object() if has_app_context() else None
    assert left is None, f"the context of {left} was left behind"


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """A MongoDB of the tests' own, or the one that REPO_NOTIFY_TEST_MONGO_URI names."""
    if given := os.environ.get("REPO_NOTIFY_TEST_MONGO_URI"):
        yield given
        return
    with embedded_mongo() as embedded:
        yield embedded.uri


@pytest.fixture(scope="session")
def mongo(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongo_uri) as client:
        yield client


@pytest.fixture(scope="session")
def sample(mongo: MongoClient[dict[str, Any]], mongo_uri: str) -> str:
    """The demo's sample data in that database; its address."""
    seed(mongo, users_collection=USERS)
    return mongo_uri


@pytest.fixture
def serve_host(sample: str) -> Iterator[Callable[..., Served]]:
    """Serve a host app with these settings, for the length of the test."""
    with ExitStack() as stack:

        def serve(**config: Any) -> Served:
            return stack.enter_context(host_app({**host_defaults(sample), **config}))

        yield serve


@pytest.fixture(scope="session")
def host(sample: str) -> Iterator[Served]:
    """One host app with default settings, for tests that leave nothing behind."""
    with host_app(host_defaults(sample)) as served:
        yield served


@pytest.fixture(scope="session", params=ENGINES)
def server_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def any_host(server_kind: str, sample: str) -> Iterator[Served]:
    """A host app on our engine, and one on a stock Flask-SocketIO; each for every test, joins without a limit."""
    with host_app({**host_defaults(sample), **UNHURRIED, **ENGINES[server_kind]}) as served:
        yield served


@pytest.fixture(scope="session")
def people(any_host: Served) -> Iterator[People]:
    """Users of `any_host` and their shared connections."""
    with closing(People(any_host)) as people:
        yield people


@pytest.fixture(params=["websocket", "polling"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def teamspaces(mongo: MongoClient[dict[str, Any]]) -> Iterator[Callable[..., Teamspace]]:
    """Make teamspaces of the module's own; they are dropped after it."""
    with ExitStack() as stack:

        def make(name: str | None = None) -> Teamspace:
            made = Teamspace(mongo, USERS, **({"name": name} if name else {}))
            stack.callback(made.drop)
            return made

        yield make


@pytest.fixture
def chat() -> Iterator[Callable[..., ChatClient]]:
    """Connect v5 clients; they are closed after the test."""
    with ExitStack() as stack:

        def connect(url: str, **options: Any) -> ChatClient:
            client = ChatClient(url, **options)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def member(server: Served, chat: Callable[..., ChatClient]) -> ChatClient:
    """Bring carol into the sample model's room on the module's own `server`."""
    client = chat(server.url, cookie=User(server).log_in("carol").cookie)
    client.join({"teamspace": "acme", "project": TOWER, "model": STRUCTURE})
    return client
