"""Apps under test on a free loopback port, with clients that are closed with them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from os import environ as environment
from time import monotonic
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server

from repo_notify.errors import NotifyError
from repo_notify.state import State

from .client import SECONDS, Client

POLL_SECONDS = 0.02
STOP_SECONDS = 15.0

Login = str | FlaskClient | None


class CannotServe(NotifyError):
    """The app under test cannot be served; the text says why and what helps."""


class Server:
    """A served app; `url` is its address."""

    def __init__(self, url: str, *, path: str = "/chat") -> None:
        self.url = url
        self._path = path
        self._clients = ExitStack()

    def client(self, login: Login = None, **options: Any) -> Client:
        """Connect a client, which is closed with the server; `options` are those of `Client`.

        `login` says whose it is: a Flask test client that has logged in, or the header `Cookie`; nobody's without.
        """
        cookie = cookie_of(login) if isinstance(login, FlaskClient) else login or ""
        return self._clients.enter_context(Client(self.url, cookie=cookie, **{"path": self._path, **options}))

    def close(self) -> None:
        """Close every client."""
        self._clients.close()


class ThreadServer(Server):
    """An app served by threads of this process: it shares the test's objects, and what the test publishes arrives."""

    def __init__(self, url: str, state: State) -> None:
        super().__init__(url, path=state.settings.chat_path)
        self._state = state

    @property
    def connections(self) -> int:
        """How many connections are open at the server."""
        return sum(self._state.sockets.counts().values())

    def wait_for_connections(self, number: int, timeout: float = SECONDS) -> None:
        """Wait until so many connections are open, as after a lost link; raises `TimeoutError`."""
        ends, pause = monotonic() + timeout, threading.Event()
        while (found := self.connections) != number:
            if monotonic() >= ends:
                raise TimeoutError(f"{found} connections are open, not {number}")
            pause.wait(POLL_SECONDS)


def cookie_of(client: FlaskClient) -> str:
    """Return the session cookie of a Flask test client as a header; raises `ValueError` where it has none."""
    app = client.application
    name, interface = app.config["SESSION_COOKIE_NAME"], app.session_interface
    server = (app.config.get("SERVER_NAME") or "localhost").partition(":")[0]
    domain = interface.get_cookie_domain(app) or server
    cookie = client.get_cookie(name, domain, interface.get_cookie_path(app))
    if cookie is None:
        raise ValueError(f"the test client has no cookie `{name}`: log in with it before it is given to a client")
    return f"{name}={cookie.value}"


class _Silent(WSGIRequestHandler):
    """Logs no requests, which would come between the test's own lines."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@contextmanager
def in_thread(app: Flask) -> Iterator[ThreadServer]:
    """Serve an app in threading mode by threads of this process; it can be served again afterwards."""
    state = app.extensions.get("repo_notify")
    if not isinstance(state, State):
        raise CannotServe("the app has no extension repo_notify: call notify.init_app(app) in its factory")
    if state.socketio.async_mode != "threading":
        raise CannotServe(
            "an app in gevent mode is not served by threads: give the app under test REPO_NOTIFY_ASYNC_MODE = "
            "'threading', or serve it in a process of its own with notify_process('your_package:create_app')"
        )
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    # A client that is still connected must not keep the server from ending.
    server.daemon_threads = True  # type: ignore[attr-defined]  # of socketserver.ThreadingMixIn
    server.block_on_close = False  # type: ignore[attr-defined]  # as above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="repo_notify-testing")
    thread.start()
    served = ThreadServer(f"http://127.0.0.1:{server.server_port}", state)
    try:
        with closing(served):
            yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_process(target: str, *, path: str = "/chat", env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Serve `package.module:app_or_factory` on gevent in a process of its own, started in the current directory."""
    command = [sys.executable, "-m", "repo_notify.testing.serve", target]
    # It lives as long as its standard input: the system closes that pipe however this process ends.
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment, **(env or {})}
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise CannotServe(f"{target} did not start; its process has said why on standard error")
            with closing(Server(url, path=path)) as server:
                yield server
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
