"""socket.io-client 2.0.4 in a browser, on a page of another origin: the same story as in the matrix, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

pytest.importorskip("legacy_v4")

from tests.clients.matrix import STEPS, V4_MODEL, Story, join
from tests.clients.page import PageClients, serve_page
from tests.clients.test_matrix import CONFIG
from tests.conftest import host_defaults
from tests.console.browser import chromium
from tests.support.ports import free_port
from tests.support.served import User, host_app

pytestmark = [pytest.mark.browser, pytest.mark.clients]

CLIENT = "2.0.4"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path) as driver:
        yield driver


def test_the_story_in_a_browser(sample: str, installed_clients: Path, browser: webdriver.Chrome) -> None:
    build = installed_clients / "node_modules" / f"sio-{CLIENT}" / "dist" / "socket.io.js"
    with serve_page(build) as origin:
        config = {
            **host_defaults(sample), **CONFIG, "REPO_NOTIFY_ALLOWED_ORIGINS": [origin], "PORT": free_port(),
        }
        clients = PageClients(browser, origin)
        with host_app(config) as served:
            story = Story(clients, CLIENT, ("polling", "websocket"), served, [])
            story.live()
            socket = story.connect(User(served).log_in("alice"), reconnection=True)
            join(socket, V4_MODEL)
        socket.wait_disconnected()
        with host_app(config):
            story.come_back(socket)
    assert story.done == list(STEPS)
