"""socket.io-client 2.0.4 in a browser, on a page of another origin: the same story as in the matrix, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

pytest.importorskip("legacy_v4")

from tests.clients.harness import Json
from tests.clients.matrix import MODEL, V4_MODEL, Story, join, publish_bson, steps_of
from tests.clients.page import PageClients, serve_page
from tests.clients.test_matrix import CONFIG
from tests.conftest import host_defaults
from tests.console.browser import chromium
from tests.support.ports import free_port
from tests.support.served import User, host_app

pytestmark = [pytest.mark.browser, pytest.mark.clients]

CLIENT = "2.0.4"
TRICKY = "Zürich 🏗 \u2028 \n \\n \\\\n \" & + % </script>"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path) as driver:
        yield driver


@pytest.fixture
def page(installed_clients: Path, browser: webdriver.Chrome) -> Iterator[tuple[str, PageClients]]:
    """The page's origin, and the page."""
    build = installed_clients / "node_modules" / f"sio-{CLIENT}" / "dist" / "socket.io.js"
    with serve_page(build) as origin:
        yield origin, PageClients(browser, origin)


def test_the_story_in_a_browser(sample: str, page: tuple[str, PageClients]) -> None:
    origin, clients = page
    config = {**host_defaults(sample), **CONFIG, "REPO_NOTIFY_ALLOWED_ORIGINS": [origin], "PORT": free_port()}
    with host_app(config) as served:
        story = Story(clients, CLIENT, ("polling", "websocket"), served, [])
        story.live()
        socket = story.connect(User(served).log_in("alice"), reconnection=True)
        join(socket, V4_MODEL)
    socket.wait_disconnected()
    with host_app(config):
        story.come_back(socket)
    assert story.done == steps_of(CLIENT)


@pytest.mark.parametrize("options", [{"forceJSONP": True}, {"forceBase64": True}, {}], ids=str)
def test_polling_as_browsers_of_every_age_do_it(sample: str, page: tuple[str, PageClients], options: Json) -> None:
    origin, clients = page
    config = {"REPO_NOTIFY_ALLOWED_ORIGINS": [origin], "REPO_NOTIFY_JSONP": True}
    with host_app({**host_defaults(sample), **config}) as served:
        carol = {"Cookie": User(served).log_in("carol").cookie}
        opts = {"client": CLIENT, "transports": ["polling"], "reconnection": False, "options": options}
        socket = clients.connect(served.url, headers=carol, wait=True, **opts)
        assert socket.transport() == "polling"
        # The echo shows that the text came and went as it is.
        join(socket, {**V4_MODEL, "note": TRICKY})
        # Binary values among what is published, in the form that this transport has for them.
        ticket = {"_id": "t", "title": TRICKY, "thumbnail": b"\x00\xff\n"}
        join(socket, MODEL)
        publish_bson(served, "TicketCreated", {**MODEL, "kind": "container", "data": ticket})
        (heard,) = socket.wait_for("containerNewTicket")
        assert heard == {**MODEL, "data": ticket}
        socket.disconnect()
