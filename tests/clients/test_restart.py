"""A restart of the service, as the newest JavaScript client lives through it (spec section 1)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
from pymongo import MongoClient

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.clients.harness import JsClients
from tests.clients.listener import Listener
from tests.clients.matrix import RECONNECT, RECOVERS, network
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.service import API_KEY, command, service, service_environment

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}


@pytest.mark.clients
@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("way", ["wsgi.py", "gunicorn"])
def test_clients_come_back_after_a_restart(sample: str, js_clients: JsClients, way: str, transport: str) -> None:
    port = free_port()
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid"}) as rest:
        cookie = User(rest).log_in("carol").cookie
    start = command(way, port), service_environment(sample), port
    with service(*start) as served:
        client = js_clients.connect(
            served.url,
            headers={"Cookie": cookie},
            transports=[transport],
            reconnection=True,
            options={"reconnectionDelay": 100, "reconnectionDelayMax": 200},
        )
        served.process.send_signal(signal.SIGTERM)
        client.wait_disconnected(SECONDS)
        assert served.process.wait(SECONDS) == 0
    with service(*start):
        client.wait_connected(SECONDS)
        assert client.call("join", ROOM)[0]["event"] == "success"


@pytest.fixture
def stored(mongo: MongoClient[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Settings of a history that survives a restart."""
    name = f"history_{uuid4().hex}"
    yield {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": name}
    mongo.drop_database(name)


def publish(served: Served, *revisions: str) -> None:
    """Publish by HTTP; returns once it is stored."""
    events: Any = [
        {"type": "RevisionCreated", **ROOM, "kind": "container", "data": {"_id": revision}} for revision in revisions
    ]
    headers = {"Authorization": f"Bearer {API_KEY}"}
    answer = requests.post(f"{served.url}/notify/events", json=events, headers=headers, timeout=SECONDS)
    assert answer.status_code == 202


@pytest.mark.clients
@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("client", RECOVERS)
def test_a_client_is_recovered_over_a_restart(
    sample: str, js_clients: JsClients, stored: dict[str, str], client: str, transport: str
) -> None:
    port = free_port()
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid"}) as rest:
        cookie = User(rest).log_in("carol").cookie
    start = command("wsgi.py", port), service_environment(sample, **stored), port
    options: dict[str, Any] = {"transports": [transport], "reconnection": True, "options": RECONNECT}
    with network(port) as (link, url):
        with service(*start) as served:
            socket = js_clients.connect(url, client=client, headers={"Cookie": cookie}, **options)
            listener = Listener(socket)
            assert listener.ask("join", ROOM)["event"] == "success"
            publish(served, "r1")
            listener.heard()
            first = socket.id
            with link.refusing():
                socket.wait_disconnected()
                publish(served, "r2", "r3")
                served.process.send_signal(signal.SIGTERM)
                assert served.process.wait(SECONDS) == 0
        with service(*start) as served:
            assert socket.wait_connected(SECONDS) == first
            assert socket.recovered is True
            publish(served, "r4")
            heard = listener.heard()
    assert [(name, args[0]["data"]["_id"]) for name, args in heard] == [
        ("containerNewRevision", revision) for revision in ("r2", "r3", "r4")
    ]
