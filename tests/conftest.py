"""A database on the real wire protocol, served apps and clients, for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pymongo import MongoClient

from repo_notify.demo.embedded import MEMORY, EmbeddedMongo
from repo_notify.demo.seed import seed
from tests.support.chat import ChatClient
from tests.support.served import Served, host_app

USERS = "users"


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """A MongoDB of the tests' own, or the one that REPO_NOTIFY_TEST_MONGO_URI names."""
    if given := os.environ.get("REPO_NOTIFY_TEST_MONGO_URI"):
        yield given
        return
    with EmbeddedMongo(MEMORY) as embedded:
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
            defaults = {"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": USERS}
            return stack.enter_context(host_app({**defaults, **config}))

        yield serve


@pytest.fixture(scope="session")
def host(sample: str) -> Iterator[Served]:
    """One host app with default settings, for tests that leave nothing behind."""
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": USERS}) as served:
        yield served


@pytest.fixture
def chat() -> Iterator[Callable[..., ChatClient]]:
    """Connect v5 clients; they are closed after the test."""
    with ExitStack() as stack:

        def connect(url: str, **options: Any) -> ChatClient:
            client = ChatClient(url, **options)
            stack.callback(client.close)
            return client

        yield connect
