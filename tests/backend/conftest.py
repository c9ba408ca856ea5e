"""A real RabbitMQ, a backend that publishes to it, and a service in the place of its chat service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
import requests
from pymongo import MongoClient

from repo_notify.demo.seed import DECK, STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support import brokers, express
from tests.support.backend import EXCHANGE, Backend, backend
from tests.support.chat import ChatClient
from tests.support.served import SECONDS, Served, host_app
from tests.support.until import until

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
IN_PROJECT = {"teamspace": "acme", "project": TOWER}
V4_ROOM = {"account": "acme", "model": STRUCTURE}
OTHER_V4_ROOM = {"account": "acme", "model": DECK}
LEGACY = "/legacy_v4"


def settings(sample: str, broker: str, exchange: str = EXCHANGE, **more: Any) -> dict[str, Any]:
    """What a host app behind a backend is configured with."""
    return {
        **host_defaults(sample),
        "REPO_NOTIFY_BACKEND_QUEUE": broker,
        "REPO_NOTIFY_BACKEND_EXCHANGE": exchange,
        "SESSION_COOKIE_NAME": express.COOKIE,
        "REPO_NOTIFY_EXPRESS_SECRET": express.SECRET,
        **more,
    }


def ready(served: Served) -> requests.Response:
    return requests.get(served.url + "/notify/readyz", timeout=SECONDS)


def until_ready(served: Served, status: int = 200) -> None:
    until(lambda: ready(served).status_code == status, lambda: ready(served).text, seconds=60)


@dataclass
class Site:
    """A service, its backend, and users of both, each with a session of the backend's."""

    served: Served
    backend: Backend
    _chat: Callable[..., ChatClient]
    _sessions: dict[str, str] = field(default_factory=dict)

    def session_id(self, name: str) -> str:
        """Return the id of the user's session."""
        if name not in self._sessions:
            self._sessions[name] = self.backend.save_session(name)
        return self._sessions[name]

    def cookie(self, name: str) -> str:
        """Return the cookie of the user's session."""
        return express.cookie(self.session_id(name))

    def connect(self, name: str | None, **options: Any) -> ChatClient:
        """Return a new connection of that user, None for nobody."""
        return self._chat(self.served.url, cookie=self.cookie(name) if name is not None else "", **options)

    def joined(self, name: str, *rooms: dict[str, Any], **options: Any) -> ChatClient:
        """Return a new connection of that user in these rooms."""
        client = self.connect(name, **options)
        for room in rooms:
            client.join(room)
        return client

    def awaited(self, client: ChatClient, name: str = "carol") -> list[tuple[str, tuple[Any, ...]]]:
        """Return what a client of that user in its notifications has heard of what the backend said until now."""
        barrier = {"barrier": uuid4().hex}
        end = self.backend.notification("notificationUpserted", name, barrier), (barrier,)
        found = []
        while (heard := client.hear()) != end:
            found.append(heard)
        return [(event, data) for event, data in found if event != end[0] or "barrier" not in data[0]]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture(scope="module")
def behind(sample: str, broker: str) -> Iterator[Served]:
    """A host app that hears of the backend."""
    with host_app(settings(sample, broker)) as served:
        until_ready(served)
        yield served


@pytest.fixture(scope="module")
def publishing(broker: str, mongo: MongoClient[dict[str, Any]]) -> Iterator[Backend]:
    with backend(broker, mongo) as found:
        yield found


@pytest.fixture
def site(behind: Served, publishing: Backend, chat: Callable[..., ChatClient]) -> Site:
    return Site(behind, publishing, chat)


@pytest.fixture
def make_site(
    sample: str, broker: str, mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient]
) -> Iterator[Callable[..., Site]]:
    """Serve a host app with further settings behind a backend on an exchange of its own, for the length of the test."""
    with ExitStack() as stack:

        def make(exchange: str, url: str = broker, **more: Any) -> Site:
            served = stack.enter_context(host_app(settings(sample, url, exchange, **more)))
            until_ready(served)
            return Site(served, stack.enter_context(backend(url, mongo, exchange)), chat)

        yield make
