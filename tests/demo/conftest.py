"""The demo's app served for real, by a process of its own on an embedded database, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pymongo import MongoClient

from tests.demo.support import Client, Document, Listen
from tests.support.chat import ChatClient
from tests.support.served import forked
from tests.support.unmeasured import embedded_mongo


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """A database apart from the other tests', because these change the sample data."""
    with embedded_mongo() as embedded:
        yield embedded.uri


@pytest.fixture(scope="session")
def mongo(mongo_uri: str) -> Iterator[MongoClient[Document]]:
    client: MongoClient[Document]
    with MongoClient(mongo_uri) as client:
        yield client


@pytest.fixture(scope="session")
def port(mongo_uri: str) -> Iterator[int]:
    """The port of the served demo app."""
    with forked("tests.demo.server", mongo_uri) as served:
        yield served.port


@pytest.fixture
def anonymous(port: int) -> Client:
    return Client(port)


@pytest.fixture(scope="session")
def users(port: int) -> dict[str, Client]:
    """Every sample user, logged in, and nobody under `""`."""
    names = ("alice", "bob", "carol", "dave", "mallory")
    return {"": Client(port)} | {name: Client(port).log_in(name) for name in names}


@pytest.fixture
def listen(port: int, chat: Callable[..., ChatClient]) -> Listen:
    """Connect a Socket.IO client with the session of an HTTP client."""
    return lambda client: chat(f"http://127.0.0.1:{port}", cookie=client.cookie)
