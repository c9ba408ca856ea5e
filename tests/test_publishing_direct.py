"""`POST /notify/events` passes Flask by where nothing of the host's is around it, with the same answers."""

from __future__ import annotations

import io
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any
from uuid import uuid4

import flask
import pytest
from flask import Flask, Response, jsonify, request
from flask.sessions import SecureCookieSessionInterface
from flask.signals import appcontext_popped, request_started
from pymongo import MongoClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from repo_notify import RepoNotify
from repo_notify.app import create_app
from repo_notify.demo.seed import STRUCTURE
from repo_notify.serving import state_of
from tests.conftest import host_defaults
from tests.support.served import SECONDS, Served, host_app
from tests.test_extension import make_app

KEY = "key"
PATH = "/notify/events"
EVENT = {"type": "IssuesCreated", "teamspace": "acme", "model": STRUCTURE, "issues": []}
BODY = b'{"type": "NotificationDeleted", "username": "carol", "data": {"_id": "1"}}'
SETTINGS: dict[str, Any] = {"REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_MAX_EVENT_BYTES": 2_000}

Seen = list[str]
Build = Callable[[Flask, Seen], object]


def post(app: Flask, path: str = PATH, **options: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
    return app.test_client(use_cookies=False).post(path, **{"json": EVENT, **options}, headers=headers)


def passes_flask(app: Flask, **options: Any) -> bool:
    """Whether Flask dispatches a request to publish, which is accepted."""
    called: set[str] = set()

    def note(frame: FrameType, what: str, _: Any) -> None:
        if what == "call":
            called.add(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        answer = post(app, **options)
    finally:
        sys.setprofile(None)
    assert answer.status_code == 202
    return "full_dispatch_request" in called


@contextmanager
def mounted(**config: Any) -> Iterator[Flask]:
    app = make_app(**SETTINGS, **config)
    notify = RepoNotify(app)
    yield app
    notify.close(app)


def test_a_plain_app_is_passed_by() -> None:
    with mounted() as app:
        assert not passes_flask(app)
        # After a request that Flask has answered, too.
        assert app.test_client().get("/notify/healthz").status_code == 200
        assert not passes_flask(app)


@pytest.mark.parametrize("sessions", [{}, {"SESSION_TYPE": "mongodb"}], ids=["cookies", "Flask-Session"])
def test_the_service_on_its_own_is_passed_by(mongo_uri: str, sessions: dict[str, str]) -> None:
    options = {"SECRET_KEY": "x", "REPO_NOTIFY_MONGO_URI": mongo_uri, "REPO_NOTIFY_ASYNC_MODE": "threading"}
    app = create_app({**SETTINGS, **options, **sessions})
    assert not passes_flask(app)
    state_of(app).close()


@pytest.mark.parametrize("prefix", ["/notify", "/other"])
def test_the_path_is_that_of_the_settings(prefix: str) -> None:
    with mounted(REPO_NOTIFY_HTTP_PREFIX=prefix) as app:
        assert not passes_flask(app, path=f"{prefix}/events")
        assert post(app, "/other/events" if prefix == "/notify" else "/notify/events").status_code == 404


def test_below_a_prefix_and_behind_proxies() -> None:
    app = make_app(**SETTINGS)
    # As Flask's documentation has it; its types call that a method.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    RepoNotify(app)
    assert not passes_flask(app, headers={"X-Forwarded-Prefix": "/rest"})
    assert not passes_flask(app, environ_overrides={"SCRIPT_NAME": "/api"})


# What a host may have around its routes; each leaves a trace when a request passes it.


def before_request(app: Flask, seen: Seen) -> None:
    app.before_request(lambda: seen.append("before"))


def after_request(app: Flask, seen: Seen) -> None:
    @app.after_request
    def after(response: Response) -> Response:
        seen.append("after")
        return response


def teardown_request(app: Flask, seen: Seen) -> None:
    app.teardown_request(lambda _: seen.append("teardown"))


def teardown_appcontext(app: Flask, seen: Seen) -> None:
    app.teardown_appcontext(lambda _: seen.append("teardown"))


def url_value_preprocessor(app: Flask, seen: Seen) -> None:
    app.url_value_preprocessor(lambda *_: seen.append("values"))


def a_hook_for_our_blueprint(app: Flask, seen: Seen) -> None:
    """As an extension does that takes the name of a blueprint."""
    app.before_request_funcs.setdefault("repo_notify", []).append(lambda: seen.append("before"))


def sessions_of_its_own(app: Flask, seen: Seen) -> None:
    class Sessions(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: Any) -> Any:
            seen.append("session")
            return super().open_session(app, request)

    app.session_interface = Sessions()


def requests_of_its_own(app: Flask, seen: Seen) -> None:
    class Request(flask.Request):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append("request")

    app.request_class = Request


def responses_of_its_own(app: Flask, seen: Seen) -> None:
    class OfTheHost(Response):
        def __call__(self, environ: Any, start_response: Any) -> Any:
            seen.append("response")
            return super().__call__(environ, start_response)

    app.response_class = OfTheHost


def dispatch_of_its_own(app: Flask, seen: Seen) -> None:
    stock = app.dispatch_request

    def dispatch_request() -> Any:
        seen.append("dispatch")
        return stock()

    # As tools for tracing do; Flask's types call that a method.
    app.dispatch_request = dispatch_request  # type: ignore[method-assign]


def middleware(app: Flask, seen: Seen) -> None:
    stock = app.wsgi_app

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        seen.append("middleware")
        return stock(environ, start_response)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]


AROUND: dict[str, Build] = {
    build.__name__: build
    for build in (
        before_request, after_request, teardown_request, teardown_appcontext, url_value_preprocessor,
        a_hook_for_our_blueprint, sessions_of_its_own, requests_of_its_own, responses_of_its_own, dispatch_of_its_own,
        middleware,
    )
}  # fmt: skip


@pytest.mark.parametrize("when", ["before init_app", "after init_app", "after a request"])
@pytest.mark.parametrize("build", AROUND.values(), ids=AROUND)
def test_what_a_host_has_around_its_routes_is_passed(build: Build, when: str) -> None:
    app, seen = make_app(**SETTINGS), Seen()
    if when == "before init_app":
        build(app, seen)
    RepoNotify(app)
    if when == "after a request":
        assert post(app).status_code == 202
    if when != "before init_app":
        build(app, seen)
    assert post(app).status_code == 202
    assert len(seen) == 1


def test_a_view_that_the_host_wraps() -> None:
    """As Flask-Limiter does with views that it limits."""
    with mounted() as app:
        stock, seen = app.view_functions["repo_notify.events"], Seen()

        def wrapped() -> Any:
            seen.append("view")
            return stock()

        app.view_functions["repo_notify.events"] = wrapped
        assert post(app).status_code == 202
        assert seen == ["view"]


def test_a_flask_of_the_hosts_own() -> None:
    seen = Seen()

    class App(Flask):
        def finalize_request(self, *args: Any, **kwargs: Any) -> Response:
            seen.append("finalize")
            return super().finalize_request(*args, **kwargs)

    app = App("host")
    app.config.update(make_app(**SETTINGS).config)
    RepoNotify(app)
    assert post(app).status_code == 202
    assert seen == ["finalize"]


@pytest.mark.parametrize("signal", [request_started, appcontext_popped])
def test_who_listens_to_flasks_signals(signal: Any) -> None:
    with mounted() as app:
        seen = Seen()
        with signal.connected_to(lambda *_, **__: seen.append("signal"), sender=app):
            assert post(app).status_code == 202
        assert seen == ["signal"]
        assert not passes_flask(app)


def test_a_session_or_a_socket_that_a_request_brings() -> None:
    with mounted() as app:
        assert passes_flask(app, headers={"Cookie": "session=x"})
        assert passes_flask(app, headers={"x-socket-id": "x"})


def test_a_client_of_a_test_sees_the_request_afterwards() -> None:
    with mounted() as app, app.test_client() as client:
        assert client.post(PATH, json=EVENT).status_code == 401
        assert request.path == PATH


def test_the_hosts_limit_of_bodies() -> None:
    with mounted() as app:
        app.config["MAX_CONTENT_LENGTH"] = 10
        answer = post(app)
        assert (answer.status_code, answer.mimetype) == (413, "text/html")


@pytest.mark.skipif("TRUSTED_HOSTS" not in Flask.default_config, reason="Flask before 3.1 has no such key")
def test_the_hosts_that_an_app_trusts() -> None:
    with mounted(TRUSTED_HOSTS=["api.example.org"]) as app:
        assert post(app, base_url="http://api.example.org").status_code == 202
        assert post(app, base_url="http://elsewhere.example.org").status_code == 400


def test_an_app_that_matches_subdomains() -> None:
    app = Flask("host", subdomain_matching=True)
    app.config.update(make_app(**SETTINGS, SERVER_NAME="example.org").config)
    RepoNotify(app)
    assert post(app, base_url="http://example.org").status_code == 202
    assert post(app, base_url="http://sub.example.org").status_code == 404


def test_a_route_of_the_hosts_own_is_left_alone() -> None:
    app = make_app(**SETTINGS)
    app.add_url_rule(PATH, view_func=lambda: jsonify(own=True), methods=["POST"])
    RepoNotify(app)
    assert post(app).json == {"own": True}


class Broken(io.RawIOBase):
    """The body of a client that has gone."""

    def read(self, _: int = -1) -> bytes:
        raise OSError("the client has gone")


GONE = {"wsgi.input": Broken(), "wsgi.input_terminated": True, "CONTENT_LENGTH": "10"}


def test_the_hosts_error_handlers_are_asked() -> None:
    with mounted() as app:

        @app.errorhandler(OSError)
        def gone(error: OSError) -> tuple[str, int]:
            return f"{request.path}: {error}", 418

        answer = post(app, json=None, environ_overrides=GONE)
        assert (answer.status_code, answer.text) == (418, f"{PATH}: the client has gone")


def test_an_error_without_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with mounted() as app:
        assert post(app, json=None, environ_overrides=GONE).status_code == 500
        (record,) = [found for found in caplog.records if found.name == app.logger.name]
        assert record.getMessage() == f"Exception on {PATH} [POST]"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], OSError)


def test_the_position_as_it_was_before() -> None:
    with mounted(REPO_NOTIFY_POSITION_HEADER=True) as app:
        told = [post(app).headers["X-Notify-Position"] for _ in range(3)]
        now = app.test_client().get("/notify/position").get_json()["position"]
        assert not passes_flask(app)
    assert len({*told, now}) == 4


def test_a_process_whose_first_request_publishes_goes_on_with_the_stored_history(mongo_uri: str) -> None:
    database = f"history_{uuid4().hex}"
    stored = {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": database}
    options: dict[str, Any] = {"mongo_uri": mongo_uri, "REPO_NOTIFY_POSITION_HEADER": True, **stored}
    with mounted(**options) as app:
        assert post(app).status_code == 202
        name = post(app).headers["X-Notify-Position"].partition(".")[0]
    with mounted(**options) as app:
        assert post(app).headers["X-Notify-Position"].partition(".")[0] == name
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongo_uri) as client:
        client.drop_database(database)


@pytest.fixture(scope="module")
def servers(sample: str) -> Iterator[list[Served]]:
    """The same app, asked directly and through Flask."""
    with ExitStack() as stack:
        configs = [{**host_defaults(sample), **SETTINGS, "HOOK": hook} for hook in (False, True)]
        yield [stack.enter_context(host_app(config)) for config in configs]


def asked(method: str = "POST", path: str = PATH, *headers: str, body: bytes = BODY, version: str = "1.1") -> bytes:
    lines = (f"{method} {path} HTTP/{version}", "Host: h", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def whole(*headers: str, body: bytes = BODY, **options: Any) -> bytes:
    return asked("POST", PATH, f"Authorization: Bearer {KEY}", f"Content-Length: {len(body)}", *headers, body=body,
                 **options)  # fmt: skip


CHUNKED = b"3\r\n[] \r\n0\r\n\r\n"
REQUESTS = {
    "one": whole(),
    "of HTTP/1.0": whole(version="1.0"),
    "none": whole(body=b"[]"),
    "no body": whole(body=b""),
    "no length": asked("POST", PATH, f"Authorization: Bearer {KEY}", body=b""),
    "in chunks": asked("POST", PATH, f"Authorization: Bearer {KEY}", "Transfer-Encoding: chunked", body=CHUNKED),
    "broken chunks": asked("POST", PATH, f"Authorization: Bearer {KEY}", "Transfer-Encoding: chunked", body=b"x\r\n"),
    "told to come": whole("Expect: 100-continue"),
    "no JSON": whole(body=b"{"),
    "wrong": whole(body=b'[{}, {"type": "\xc3\xa9"}]'),
    "too many": whole(body=b"[%b0]" % (b"0," * 1_000 + b"")),
    "too large": whole(body=b" " * 2_001),
    "without a key": asked("POST", PATH, "Content-Length: 2", body=b"[]"),
    "a query": whole().replace(PATH.encode(), PATH.encode() + b"?a=b"),
    "an encoded path": whole().replace(PATH.encode(), b"/notify/%65vents"),
    "two slashes": whole().replace(PATH.encode(), b"//notify/events"),
    "a slash behind": whole().replace(PATH.encode(), b"/notify/events/"),
    **{method: asked(method, body=b"") for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")},
}


def answer_to(served: Served, sent: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return the first line, the headers but for the time, and the body."""
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as raw:
        raw.sendall(sent)
        with raw.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    first, *headers = re.sub(rb"Date: [^\r]*\r\n", b"", head + b"\r\n").removesuffix(b"\r\n").split(b"\r\n")
    return first, sorted(headers), body


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_both_ways_answer_with_the_same_bytes(servers: list[Served], sent: bytes) -> None:
    direct, through_flask = (answer_to(served, sent) for served in servers)
    assert direct[0].startswith(b"HTTP/1.1 ")
    assert direct == through_flask
