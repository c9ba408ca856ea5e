"""The demo's app served for real, by a process of its own on an embedded database, and clients for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from repo_notify.demo.embedded import MEMORY, EmbeddedMongo
from tests.demo.support import SECONDS, Client, Document, Listener, free_port


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    with EmbeddedMongo(MEMORY) as embedded:
        yield embedded.uri


@pytest.fixture(scope="session")
def mongo(mongo_uri: str) -> Iterator[MongoClient[Document]]:
    client: MongoClient[Document]
    with MongoClient(mongo_uri) as client:
        yield client


@pytest.fixture(scope="session")
def port(mongo_uri: str) -> Iterator[int]:
    """The port of the served demo app."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("server.py")), mongo_uri, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "READY\n"
            yield port
        finally:
            process.terminate()
            process.wait(SECONDS)


@pytest.fixture
def anonymous(port: int) -> Client:
    return Client(port)


@pytest.fixture(scope="session")
def users(port: int) -> dict[str, Client]:
    """Every sample user, logged in, and nobody under `""`."""
    names = ("alice", "bob", "carol", "dave", "mallory")
    return {"": Client(port)} | {name: Client(port).log_in(name) for name in names}


@pytest.fixture
def listen() -> Iterator[Callable[[Client], Listener]]:
    """Connect a Socket.IO client; disconnected after the test."""
    listeners: list[Listener] = []

    def connect(client: Client) -> Listener:
        listeners.append(Listener(client))
        return listeners[-1]

    yield connect
    for listener in listeners:
        listener.socket.disconnect()
