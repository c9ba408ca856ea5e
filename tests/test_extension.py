"""The extension in a host's app: several apps, the host's own Socket.IO, and what it leaves untouched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask, Response, jsonify, session
from flask_socketio import SocketIO, emit

from repo_notify import InvalidEvent, RepoNotify, SettingsError, events
from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.errors import NotInitialised
from repo_notify.serving import state_of
from tests.conftest import USERS, host_defaults
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.served import SECONDS, Served, User, running
from tests.support.threaded import serving

ROOT = Path(__file__).parent.parent
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
Connect = Callable[..., ChatClient]


def ticket(number: int) -> events.TicketUpdated:
    return events.TicketUpdated(**ROOM, kind="container", data={"n": number})


def make_app(mongo_uri: str = "mongodb://127.0.0.1:1", **config: Any) -> Flask:
    app = Flask("host")
    app.config.update(
        SECRET_KEY="x",
        REPO_NOTIFY_MONGO_URI=mongo_uri,
        REPO_NOTIFY_USERS_COLLECTION=USERS,
        REPO_NOTIFY_ASYNC_MODE="threading",
        REPO_NOTIFY_RECHECK_SECONDS=0,
    )
    app.config.update(config)

    @app.get("/log-in/<name>")
    def log_in(name: str) -> Response:
        session["user"] = {"username": name}
        return jsonify({})

    return app


def cookie_of(url: str, name: str = "carol") -> str:
    user = requests.Session()
    user.get(f"{url}/log-in/{name}", timeout=SECONDS).raise_for_status()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in user.cookies)


def test_several_apps_in_one_process(sample: str, chat: Connect) -> None:
    notify = RepoNotify()
    one, two = make_app(sample), make_app(sample, REPO_NOTIFY_CHAT_PATH="/other", REPO_NOTIFY_HTTP_PREFIX="/n")
    for app in (one, two):
        notify.init_app(app)
    with serving(one) as url_one, serving(two) as url_two:
        here = chat(url_one, cookie=cookie_of(url_one))
        there = chat(url_two, cookie=cookie_of(url_two), path="other")
        for client in (here, there):
            client.join(ROOM)
        with one.app_context():
            notify.publish(ticket(1))
        with two.app_context():
            notify.publish(ticket(2))
        assert here.hear_event("containerUpdateTicket")["data"] == {"n": 1}
        assert there.hear_event("containerUpdateTicket")["data"] == {"n": 2}
        assert here.heard_so_far() == there.heard_so_far() == []
        with pytest.raises(NotInitialised, match=r"with several apps work within `with app\.app_context"):
            notify.publish(ticket(3))
        assert requests.get(url_two + "/n/healthz", timeout=SECONDS).status_code == 200
        assert requests.get(url_one + "/n/healthz", timeout=SECONDS).status_code == 404


def test_with_one_app_no_context_is_needed(sample: str, chat: Connect) -> None:
    app = make_app(sample)
    notify = RepoNotify(app)
    with serving(app) as url:
        client = chat(url, cookie=cookie_of(url))
        client.join(ROOM)
        notify.publish(ticket(1))
        assert client.hear_event("containerUpdateTicket") == {**ROOM, "data": {"n": 1}}
        assert notify.socketio is state_of(app).socketio


def test_without_an_app() -> None:
    with pytest.raises(NotInitialised, match="init_app"):
        RepoNotify().publish(ticket(1))


def test_in_the_context_of_an_app_that_has_none() -> None:
    notify = RepoNotify(make_app())
    with Flask("another").app_context(), pytest.raises(NotInitialised, match="init_app"):
        notify.publish(ticket(1))


@pytest.mark.parametrize("again", [RepoNotify, RepoNotify().init_app])
def test_an_app_takes_it_once(again: Callable[[Flask], Any]) -> None:
    app = make_app()
    RepoNotify(app)
    with pytest.raises(RuntimeError, match="has repo_notify already; call init_app once"):
        again(app)


def test_wrong_settings_stop_init_app_and_leave_the_app_as_it_was() -> None:
    app = make_app(REPO_NOTIFY_JOIN_RATE=0, REPO_NOTIFY_OOPS=1)
    before = app.wsgi_app
    with pytest.raises(SettingsError) as caught:
        RepoNotify(app)
    assert len(caught.value.problems) == 2
    assert "repo_notify" not in app.extensions
    assert app.wsgi_app == before


def test_a_wrong_event_is_told_to_the_caller() -> None:
    notify = RepoNotify(make_app())
    with pytest.raises(InvalidEvent) as caught:
        notify.publish(events.TicketUpdated(teamspace="", project=TOWER, model="m", kind="drawing", data={}))
    assert sorted(caught.value.fields) == ["kind", "teamspace"]
    with pytest.raises(TypeError, match=r"an event of repo_notify\.events can be published, not dict"):
        notify.publish({"type": "ModelRemoved"})  # type: ignore[arg-type]  # wrong on purpose


def test_an_identity_loader_of_the_hosts_own(sample: str, chat: Connect) -> None:
    app = make_app(sample)
    notify = RepoNotify(app)

    @notify.identity_loader
    def loader() -> str | None:
        from flask import request

        if request.headers.get("X-Fails"):
            raise LookupError("the host's own trouble")
        return request.headers.get("X-User")

    with serving(app) as url:
        client = chat(url, headers={"X-User": "carol"})
        assert client.ask("join", ROOM)["event"] == "success"
        nobody = chat(url)
        assert nobody.ask("join", ROOM)["code"] == "UNAUTHORISED"
        answer = requests.get(url + "/log-in/x", headers={"X-Fails": "1", "x-socket-id": nobody.id}, timeout=SECONDS)
        assert answer.status_code == 200
        requests.get(url + "/log-in/x", headers={"X-User": "carol", "x-socket-id": nobody.id}, timeout=SECONDS)
        assert nobody.ask("join", ROOM)["event"] == "success"


def test_beside_the_hosts_own_socketio(sample: str, chat: Connect) -> None:
    app = make_app(sample)
    socketio = SocketIO(app, path="chat", async_mode="threading")
    heard: list[str] = []

    def connect() -> None:
        heard.append("connect")
        emit("welcome", {"from": "host"})

    def disconnect(*_: Any) -> None:
        heard.append("disconnect")

    def echo(data: Any) -> Any:
        emit("echoed", data)
        return data

    socketio.on_event("connect", connect)
    notify = RepoNotify(app, socketio=socketio)
    socketio.on_event("disconnect", disconnect)
    socketio.on_event("echo", echo)

    with serving(app) as url:
        client = chat(url, cookie=cookie_of(url), transports=("polling",))
        assert client.hear_event("welcome") == {"from": "host"}
        assert client.ask("echo", 3) == 3
        assert client.hear_event("echoed") == 3
        client.join(ROOM)
        notify.publish(ticket(1))
        assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}
        assert notify.socketio is socketio
        client.close()
    assert heard == ["connect", "disconnect"]


def with_routes(app: Flask) -> Flask:
    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/reads")
    def reads() -> Response:
        return jsonify(user=session.get("user"))

    @app.errorhandler(404)
    def not_found(_: Exception) -> tuple[Response, int]:
        return jsonify(host="does not have it"), 404

    return app


@pytest.mark.parametrize("path", ["/plain", "/reads", "/nowhere", "/chatter"])
@pytest.mark.parametrize("headers", [{}, {"x-socket-id": "nobody's"}, {"Cookie": "session=forged"}])
def test_the_hosts_answers_are_the_same_to_the_byte(path: str, headers: dict[str, str]) -> None:
    without = with_routes(make_app())
    within = with_routes(make_app())
    RepoNotify(within)
    answers = []
    for app in (without, within):
        answer = app.test_client().get(path, headers=headers)
        answers.append((answer.status, list(answer.headers), answer.data))
    assert answers[0] == answers[1]


def test_the_hosts_session_cookie_keeps_its_name_and_interface() -> None:
    app = with_routes(make_app(SESSION_COOKIE_NAME="own"))
    interface = app.session_interface
    RepoNotify(app)
    client = app.test_client()
    client.get("/log-in/carol")
    assert client.get_cookie("own") is not None
    assert client.get("/reads").get_json() == {"user": {"username": "carol"}}
    assert app.session_interface is interface


def test_the_hosts_own_route_wins(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    app.add_url_rule("/config/config.js", "own", lambda: "the host's own")
    RepoNotify(app)
    assert app.test_client().get("/config/config.js").data == b"the host's own"
    assert "/config/config.js" in caplog.text
    assert app.test_client().get("/notify/healthz").status_code == 200


def test_config_js_can_be_off() -> None:
    app = make_app(REPO_NOTIFY_CONFIG_JS="")
    RepoNotify(app)
    assert app.test_client().get("/config/config.js").status_code == 404


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_an_old_generation_is_refused_in_words_while_v4_is_off(
    serve_host: Callable[..., Served], transport: str
) -> None:
    served = serve_host(REPO_NOTIFY_LEGACY_V4=False)
    answer = requests.get(f"{served.url}/chat/?EIO=3&transport={transport}", timeout=SECONDS)
    assert answer.status_code == 400
    assert "protocol" in answer.text.lower() or "EIO" in answer.text
    assert "Traceback" not in answer.text


HOST_APP = ROOT / "tests" / "support" / "host_app.py"
# The tree itself may be installed so that every process finds it; `legacy_v4` is to be gone from everywhere.
WITHOUT_V4 = """
import runpy, sys
from pathlib import Path
sys.path[:] = [path for path in sys.path if not (Path(path) / "legacy_v4").exists()]
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The source tree with the folder legacy_v4 deleted."""
    shutil.copytree(ROOT / "repo_notify", tmp_path / "repo_notify", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def command_without_v4(sample: str, **config: Any) -> list[str]:
    return [sys.executable, "-c", WITHOUT_V4, str(HOST_APP), json.dumps({**host_defaults(sample), **config})]


def test_v5_works_with_legacy_v4_deleted(sample: str, tree: Path, chat: Connect) -> None:
    command = command_without_v4(sample, REPO_NOTIFY_LEGACY_V4=False)
    with running(command, environment(PYTHONPATH=str(tree))) as process:
        assert process.stdout is not None
        served = Served(f"http://127.0.0.1:{process.stdout.readline().strip()}", process)
        user = User(served).log_in("carol")
        client = chat(served.url, cookie=user.cookie)
        assert client.ask("join", {"account": "carol"})["code"] == "ROOM_NOT_FOUND"
        client.heard_so_far()
        client.join(ROOM)
        user.publish("IssuesCreated", teamspace="acme", model=STRUCTURE, issues=[])
        user.publish("TicketUpdated", **ROOM, kind="container", data={"n": 1})
        assert client.hear_event("containerUpdateTicket") == {**ROOM, "data": {"n": 1}}


def test_legacy_v4_deleted_with_the_setting_on(sample: str, tree: Path) -> None:
    done = subprocess.run(
        command_without_v4(sample, REPO_NOTIFY_LEGACY_V4=True),
        env=environment(PYTHONPATH=str(tree)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed" in done.stderr
