"""The service in a host's app as hosts set theirs up: below a prefix, behind proxies, beside other extensions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort, request
from flask_socketio import SocketIO
from flask_socketio.namespace import Namespace
from flask_wtf import CSRFProtect  # type: ignore[import-untyped]  # Flask-WTF has no types
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from repo_notify import RepoNotify, SettingsError
from repo_notify.demo.seed import STRUCTURE
from tests.test_extension import make_app

HANDSHAKE = "/chat/?EIO=4&transport=polling"
FORWARDED = {"X-Forwarded-Host": "app.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/rest"}
# The scheme and host that a page loaded it from, and the path.
CONFIG = re.compile(r'"chatHost": (.*), "chatPath": (".*")')


def config_of(app: Any, path: str = "", **headers: str) -> tuple[str, str]:
    """Return what `config.js` tells the browser: the host as it is written, and the path."""
    answer = Client(app).get(f"{path}/config/config.js", headers={"Host": "localhost", **headers})
    assert answer.status_code == 200
    found = CONFIG.search(answer.text)
    assert found is not None
    return found[1], json.loads(found[2])


def test_below_a_dispatchers_prefix() -> None:
    app = make_app()
    RepoNotify(app)
    root = DispatcherMiddleware(Flask("root"), {"/api": app})
    assert config_of(root, "/api")[1] == "/api/chat"
    assert Client(root).get("/api" + HANDSHAKE).status_code == 200
    assert Client(root).get(HANDSHAKE).status_code == 404
    assert config_of(app)[1] == "/chat"


@pytest.mark.parametrize(
    ("proxies", "prefix", "path"),
    [
        (1, "/rest", "/rest/chat"),
        (1, "/rest/", "/rest/chat"),
        (1, "//elsewhere.example", "/chat"),
        (1, "no path", "/chat"),
        (0, "/rest", "/chat"),
    ],
)
def test_a_prefix_that_a_proxy_forwards(proxies: int, prefix: str, path: str) -> None:
    app = make_app(REPO_NOTIFY_TRUSTED_PROXIES=proxies, REPO_NOTIFY_CHAT_HOST="https://chat.example.org")
    RepoNotify(app)
    assert config_of(app, **{"X-Forwarded-Prefix": prefix})[1] == path
    answer = app.test_client().get("/config/config.js", headers={"X-Forwarded-Prefix": prefix})
    assert answer.headers["Cache-Control"] == "no-store"
    assert "X-Forwarded-Prefix" in answer.headers["Vary"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_the_hosts_own_proxy_fix_counts(first: bool) -> None:
    app = make_app()

    def fix() -> None:
        # As Flask's documentation has it; its types call that a method.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)  # type: ignore[method-assign]

    if first:
        fix()
    RepoNotify(app)
    if not first:
        fix()
    host, path = config_of(app, **FORWARDED)
    assert "app.example.org" in host
    assert path == "/rest/chat"
    # The page's origin is the service's own, as its browser sees both.
    for origin, status in (("https://app.example.org", 200), ("http://localhost", 400)):
        headers = {**FORWARDED, "Origin": origin, "Host": "localhost"}
        assert Client(app).get(HANDSHAKE, headers=headers).status_code == status


def test_without_one_nothing_that_is_forwarded_counts() -> None:
    app = make_app()
    RepoNotify(app)
    host, path = config_of(app, **FORWARDED)
    assert "app.example.org" not in host
    assert path == "/chat"
    headers = {**FORWARDED, "Origin": "https://app.example.org"}
    assert Client(app).get(HANDSHAKE, headers=headers).status_code == 400


def published(app: Flask) -> int:
    event = {"type": "IssuesCreated", "teamspace": "acme", "model": STRUCTURE, "issues": []}
    answer = app.test_client().post("/notify/events", json=event, headers={"Authorization": "Bearer key"})
    return answer.status_code


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_csrf_protection_does_not_shut_the_service(first: bool) -> None:
    app = make_app(REPO_NOTIFY_API_KEY="key")

    @app.post("/form")
    def form() -> str:
        return "taken"

    if first:
        CSRFProtect(app)
    RepoNotify(app)
    if not first:
        CSRFProtect(app)
    assert published(app) == 202
    assert app.test_client().post("/form").status_code == 400


def test_a_check_before_every_request_can_tell_which_are_ours() -> None:
    app = make_app(REPO_NOTIFY_API_KEY="key")
    RepoNotify(app)

    @app.before_request
    def check() -> None:
        """As docs/servers.md has it."""
        if request.blueprint != "repo_notify":
            abort(401)

    assert published(app) == 202
    client = app.test_client()
    assert client.get("/notify/healthz").status_code == 200
    assert client.get("/config/config.js").status_code == 200
    assert client.get("/log-in/carol").status_code == 401
    assert Client(app).get(HANDSHAKE).status_code == 200
    ours = {rule.endpoint for rule in app.url_map.iter_rules() if rule.endpoint.startswith("repo_notify.")}
    assert ours >= {f"repo_notify.{name}" for name in ("config_js", "healthz", "readyz", "metrics", "events")}


class Rooms(Namespace):
    def on_join(self, _: Any) -> None:
        """A host's own."""


def by_name(socketio: SocketIO, namespace: str) -> None:
    socketio.on_event("leave", lambda _: None, namespace=namespace)


def by_class(socketio: SocketIO, namespace: str) -> None:
    rooms: Any = Rooms
    socketio.on_namespace(rooms(namespace))


Register = Callable[[SocketIO, str], None]
CURE = "should be a namespace on which the app itself handles no `(join|leave)`.*register the app's handler on another"


@pytest.mark.parametrize("register", [by_name, by_class])
@pytest.mark.parametrize(
    ("namespace", "key"), [("/", "REPO_NOTIFY_NAMESPACE"), ("/legacy_v4", "REPO_NOTIFY_LEGACY_V4_NAMESPACE")]
)
def test_the_hosts_own_join_stops_the_start(register: Register, namespace: str, key: str) -> None:
    app = make_app()
    socketio = SocketIO(app, path="chat", async_mode="threading")
    register(socketio, namespace)
    with pytest.raises(SettingsError, match=f"^{key} {CURE}"):
        RepoNotify(app, socketio=socketio)
    assert "repo_notify" not in app.extensions


@pytest.mark.parametrize("register", [by_name, by_class])
@pytest.mark.parametrize("own", [True, False], ids=["own", "stock"])
def test_a_join_of_the_hosts_after_ours_is_an_error_where_it_is(register: Register, own: bool) -> None:
    app = make_app()
    socketio = None if own else SocketIO(app, path="chat", async_mode="threading")
    notify = RepoNotify(app, socketio=socketio)
    with pytest.raises(SettingsError, match=CURE):
        register(notify.socketio, "/")
    register(notify.socketio, "/elsewhere")
