"""A restart of the service, as the newest JavaScript client lives through it (spec section 1)."""

from __future__ import annotations

import signal

import pytest

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.clients.harness import JsClients
from tests.support.ports import free_port
from tests.support.served import SECONDS, User, host_app
from tests.support.service import command, service, service_environment

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
