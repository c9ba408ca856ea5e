"""A host's tests see what its app publishes, without a client, a queue or a patched process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, jsonify
from flask_socketio import SocketIO, emit
from gevent import monkey

import repo_notify
from repo_notify import InvalidEvent, RepoNotify, events
from repo_notify.errors import NotInitialised
from repo_notify.testing.served import CannotServe, in_thread
from tests.support.chat import ChatClient
from tests.support.threaded import serving
from tests.support.until import until
from tests.test_extension import ROOM, cookie_of, make_app

Connect = Callable[..., ChatClient]
MODEL = {key: ROOM[key] for key in ("teamspace", "model")}


def app_with(notify: RepoNotify, **config: Any) -> Flask:
    app = make_app(**config)
    notify.init_app(app)

    @app.post("/issues")
    def create() -> Any:
        issue = {"_id": UUID(int=1), "name": "crack"}
        notify.publish(events.IssuesCreated(**MODEL, issues=[issue]))
        return jsonify(issue)

    return app


def test_what_a_view_publishes_is_recorded_as_it_would_go_out() -> None:
    notify = RepoNotify()
    app = app_with(notify)
    with notify.recorded() as published:
        app.test_client().post("/issues", headers={"x-socket-id": "abc"})
    assert published == [
        events.IssuesCreated(**MODEL, issues=[{"_id": str(UUID(int=1)), "name": "crack"}], emitter="abc")
    ]
    assert [event.teamspace for event in published.of(events.IssuesCreated)] == [MODEL["teamspace"]]
    assert published.of(events.SessionsEnded) == []


def test_the_end_of_a_session_and_what_comes_by_http_are_recorded_too() -> None:
    notify = RepoNotify()
    app = app_with(notify, REPO_NOTIFY_API_KEY="key")
    with notify.recorded() as published:
        answer = app.test_client().post(
            "/notify/events",
            json={"type": "NotificationUpserted", "username": "alice", "data": {}},
            headers={"Authorization": "Bearer key"},
        )
        assert answer.status_code == 202, answer.text
        notify.end_sessions(["s"])
    assert [type(event).__name__ for event in published] == ["NotificationUpserted", "SessionsEnded"]


def test_in_gevent_mode_nothing_need_be_patched() -> None:
    notify = RepoNotify()
    app = app_with(notify, REPO_NOTIFY_ASYNC_MODE="gevent")
    with notify.recorded() as published:
        app.test_client().post("/issues")
    assert [type(event) for event in published] == [events.IssuesCreated]
    assert not monkey.is_module_patched("socket")
    says = "REPO_NOTIFY_ASYNC_MODE = 'threading', or serve it in a process"
    with pytest.raises(CannotServe, match=says), in_thread(app):
        pass
    notify.close(app)


@pytest.mark.parametrize("data", [{"n": float("nan")}, {"n": object()}])
def test_what_is_recorded_was_checked(data: Any) -> None:
    notify = RepoNotify(make_app())
    with notify.recorded() as published, pytest.raises(InvalidEvent):
        notify.publish(events.NotificationUpserted(username="alice", data=data))
    assert published == []


def test_by_default_nobody_hears_of_it_and_with_deliver_everybody(sample: str, chat: Connect) -> None:
    notify = RepoNotify()
    app = app_with(notify, REPO_NOTIFY_MONGO_URI=sample)
    with serving(app) as url:
        client = chat(url, cookie=cookie_of(url))
        client.join(ROOM)
        ticket = events.TicketUpdated(**ROOM, kind="container", data={"n": 1})
        with notify.recorded() as outer:
            notify.publish(ticket)
            with notify.recorded(deliver=True) as inner:
                notify.publish(ticket)
        assert client.heard_so_far() == []
        with notify.recorded(deliver=True) as delivered:
            notify.publish(ticket)
        assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}
        notify.publish(ticket)
        assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}
    assert (outer, inner, delivered) == ([ticket, ticket], [ticket], [ticket])


def test_close_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    for _ in range(2):
        notify = RepoNotify()
        app = app_with(
            notify, REPO_NOTIFY_RECHECK_SECONDS=0.5, REPO_NOTIFY_MESSAGE_QUEUE="redis://127.0.0.1:1/0"
        )
        with notify.recorded():
            app.test_client().post("/issues")
        app.test_client().post("/issues")
        notify.close(app)
        with pytest.raises(NotInitialised):
            notify.publish(events.SessionsEnded(session_ids=["s"], reason=""))
    until(lambda: set(threading.enumerate()) <= before, lambda: set(threading.enumerate()) - before)


def test_flask_socketios_test_client_says_what_to_use() -> None:
    notify = RepoNotify()
    app = app_with(notify)
    with pytest.raises(NotImplementedError, match=r"use `with notify\.recorded\(\) as events:`.*notify_server"):
        notify.socketio.test_client(app)


def test_flask_socketios_test_client_works_on_the_hosts_own() -> None:
    app = make_app()
    socketio = SocketIO(app, async_mode="threading")
    RepoNotify(app, socketio=socketio)
    client = socketio.test_client(app)
    assert client.emit("join", {}, callback=True)["code"] == "UNAUTHORISED"


def test_handlers_may_come_before_the_app(sample: str, chat: Connect) -> None:
    notify = RepoNotify()
    errors: list[str] = []

    def ask(data: Any) -> None:
        emit("asked", data)

    def crash(_: Any) -> None:
        raise ValueError("crash")

    def on_error(error: Exception) -> str:
        errors.append(str(error))
        return "caught"

    notify.socketio.on("ask")(ask)
    notify.socketio.event(crash)
    notify.socketio.on_error()(on_error)
    for _ in range(2):
        with serving(app := app_with(notify, REPO_NOTIFY_MONGO_URI=sample)) as url:
            client = chat(url)
            client.socket.emit("ask", 7)
            assert client.hear() == ("asked", (7,))
            assert client.ask("crash", None) == "caught"
        notify.close(app)
    assert len(errors) == 2


def test_before_the_app_there_is_no_server() -> None:
    with pytest.raises(NotInitialised, match=r"no server before notify\.init_app"):
        RepoNotify().socketio.emit("x")


def test_dir_shows_what_is_exported() -> None:
    assert set(repo_notify.__all__) <= set(dir(repo_notify))
