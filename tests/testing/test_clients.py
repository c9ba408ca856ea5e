"""The clients that a host's tests use, against an app served by threads and by a process of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from flask import Flask
from flask_socketio import SocketIO

from repo_notify import RepoNotify, events
from repo_notify.demo.seed import STRUCTURE
from repo_notify.testing.client import Client, Heard, JoinRefused, NotHeard
from repo_notify.testing.served import CannotServe, ThreadServer, in_process, in_thread
from repo_notify.testing.websocket import Closed, HandshakeRefused
from tests.support.until import until
from tests.test_extension import ROOM, make_app

TICKET = "containerUpdateTicket"
ROOMS: dict[Literal["v5", "v4"], dict[str, Any]] = {"v5": ROOM, "v4": {"account": "acme", "model": STRUCTURE}}


def ticket(number: Any) -> events.TicketUpdated:
    return events.TicketUpdated(**ROOM, kind="container", data={"n": number})


@pytest.fixture
def notify() -> RepoNotify:
    return RepoNotify()


@pytest.fixture
def app(sample: str, notify: RepoNotify) -> Iterator[Flask]:
    app = make_app(sample, REPO_NOTIFY_MAX_OUTBOX_BYTES=200_000)
    notify.init_app(app)
    yield app
    notify.close(app)


@pytest.fixture
def server(app: Flask) -> Iterator[ThreadServer]:
    with in_thread(app) as server:
        yield server


def logged_in(app: Flask, name: str = "carol") -> Any:
    client = app.test_client()
    client.get(f"/log-in/{name}")
    return client


@pytest.mark.parametrize(("generation", "namespace"), [("v5", "/"), ("v4", "/"), ("v4", "/legacy_v4")])
def test_it_joins_and_hears(
    app: Flask, server: ThreadServer, notify: RepoNotify, generation: Literal["v5", "v4"], namespace: str
) -> None:
    client = server.client(logged_in(app), generation=generation, namespace=namespace)
    client.join(**ROOMS[generation])
    notify.publish(events.ModelSettingsUpdated(**ROOM, kind="container", data={"status": "ok"}))
    [(_, first)] = client.heard()
    assert first
    client.leave(**ROOMS[generation])
    notify.publish(events.ModelSettingsUpdated(**ROOM, kind="container", data={"status": "ok"}))
    assert client.heard() == []


def test_what_was_not_waited_for_stays(app: Flask, server: ThreadServer, notify: RepoNotify) -> None:
    client = server.client(logged_in(app))
    client.join(**ROOM)
    for number in (1, b"\x00\x01"):
        notify.publish(ticket(number))
    notify.publish(events.ModelSettingsUpdated(**ROOM, kind="container", data={"status": "ok"}))
    client.wait_for("containerSettingsUpdate")
    assert client.heard() == [Heard(TICKET, {**ROOM, "data": {"n": number}}) for number in (1, b"\x00\x01")]
    with pytest.raises(NotHeard, match=r"containerUpdateTicket was not heard \(not in time\), but \[\]"):
        client.wait_for("containerUpdateTicket", timeout=0.1)


def test_a_refused_join_says_why(app: Flask, server: ThreadServer) -> None:
    for login, code in ((None, "UNAUTHORISED"), (logged_in(app, "mallory"), "ROOM_NOT_FOUND")):
        client = server.client(login)
        with pytest.raises(JoinRefused) as refused:
            client.join(**ROOM)
        assert refused.value.reply["code"] == code
        assert client.heard() == []


def test_the_emitter_does_not_hear_of_it(app: Flask, server: ThreadServer, notify: RepoNotify) -> None:
    one, two = server.client(logged_in(app)), server.client(logged_in(app))
    for client in (one, two):
        client.join(**ROOM)
    with app.test_request_context(headers={"x-socket-id": one.id, "Cookie": ""}):
        from flask import session

        session["user"] = {"username": "carol"}
        notify.publish(ticket(1))
    assert two.wait_for(TICKET)["data"] == {"n": 1}
    assert one.heard() == []


@pytest.mark.parametrize("generation", ROOMS)
def test_a_lost_link_is_noticed(app: Flask, server: ThreadServer, generation: Literal["v5", "v4"]) -> None:
    client = server.client(logged_in(app), generation=generation)
    server.wait_for_connections(1)
    client.drop()
    server.wait_for_connections(0)
    with pytest.raises(Closed):
        client.emit("x")
    with pytest.raises(TimeoutError, match="0 connections are open, not 1"):
        server.wait_for_connections(1, timeout=0.1)


def test_a_stalled_reader_is_cut_off(app: Flask, server: ThreadServer, notify: RepoNotify) -> None:
    stalled, other = server.client(logged_in(app), receive_buffer=4096), server.client(logged_in(app))
    stalled.join(**ROOM)
    other.join(**ROOM)

    def cut() -> bool:
        # Of updates only the last one would wait.
        notify.publish(events.TicketCreated(**ROOM, kind="container", data={"n": "x" * 50_000}))
        other.wait_for("containerNewTicket")
        return server.connections == 1

    until(cut)
    stalled.wait_until_closed()
    notify.publish(ticket(1))
    assert other.wait_for(TICKET)["data"] == {"n": 1}


def test_v4_pings_while_it_waits(sample: str, notify: RepoNotify) -> None:
    app = make_app(sample, REPO_NOTIFY_PING_INTERVAL=0.2, REPO_NOTIFY_PING_TIMEOUT=0.5)
    notify.init_app(app)
    with in_thread(app) as server:
        for generation in ROOMS:
            client = server.client(generation=generation)
            with pytest.raises(NotHeard, match="not in time"):
                client.wait_for("nothing", timeout=1.5)
            client.close()
    notify.close(app)


def test_it_is_served_again_and_leaves_nothing_behind(app: Flask, notify: RepoNotify) -> None:
    before = set(threading.enumerate())
    for _ in range(2):
        with in_thread(app) as server:
            client = server.client(logged_in(app))
            client.join(**ROOM)
            notify.publish(ticket(1))
            client.wait_for(TICKET)
    notify.close(app)
    until(lambda: set(threading.enumerate()) <= before, lambda: set(threading.enumerate()) - before)


def test_on_the_hosts_own_flask_socketio(sample: str, notify: RepoNotify) -> None:
    app = make_app(sample)
    del app.config["REPO_NOTIFY_ASYNC_MODE"]
    notify.init_app(app, socketio=SocketIO(app, path="chat", async_mode="threading"))
    with in_thread(app) as server:
        client = server.client(logged_in(app))
        client.join(**ROOM)
        notify.publish(ticket(1))
        assert client.heard() == [Heard(TICKET, {**ROOM, "data": {"n": 1}})]
    notify.close(app)


def test_what_cannot_be_served_says_what_helps(app: Flask, server: ThreadServer) -> None:
    with pytest.raises(CannotServe, match=r"call notify\.init_app"), in_thread(Flask("none")):
        pass
    with pytest.raises(ValueError, match="no cookie `session`: log in with it before"):
        server.client(app.test_client())
    with pytest.raises(HandshakeRefused, match="404") as refused:
        Client(server.url, path="/elsewhere")
    assert refused.value.status == 404
    with pytest.raises(Closed, match="refused the namespace /none"):
        server.client(namespace="/none")


MODULE = """
import os
from flask import Flask, jsonify, request, session
from repo_notify import RepoNotify, events

notify = RepoNotify()

def create_app():
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="x", REPO_NOTIFY_MONGO_URI=os.environ["MONGO"], REPO_NOTIFY_USERS_COLLECTION="users",
        REPO_NOTIFY_ASYNC_MODE=os.environ.get("MODE", "gevent"),
    )
    notify.init_app(app)

    @app.post("/tickets")
    def ticket():
        notify.publish(events.TicketUpdated(**request.get_json()))
        return jsonify({})

    return app
"""


def test_in_a_process_of_its_own(sample: str, app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "host_of_one.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    with in_process("host_of_one:create_app", env={"MONGO": sample}) as server:
        client = server.client(logged_in(app))
        client.join(**ROOM)
        fields: Any = {**ROOM, "kind": "container", "data": {"n": 1}}
        requests.post(f"{server.url}/tickets", json=fields, timeout=10).raise_for_status()
        assert client.wait_for(TICKET) == json.loads(json.dumps({**ROOM, "data": {"n": 1}}))
    with pytest.raises(CannotServe, match="host_of_one:nothing did not start"), in_process("host_of_one:nothing"):
        pass
