"""What a host sees as `notify.socketio`: Flask-SocketIO around our own server, or around none yet."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from flask import Flask
from flask_socketio import SocketIO

from repo_notify.errors import NotInitialised

from .servers import require_patching

logger = logging.getLogger(__name__)

# Longer than a server takes to listen; one that cannot has raised by then.
LISTEN_SECONDS = 10.0
_POLL_SECONDS = 0.05

Handler = Callable[..., Any]


class OwnSocketIO(SocketIO):
    """Flask-SocketIO around a server of ours."""

    def __init__(self) -> None:
        stock: Any = super()
        stock.__init__()

    def test_client(self, *_: Any, **__: Any) -> NoReturn:
        """Raise, as Flask-SocketIO's test client replaces parts of the stock server that ours does not have."""
        raise NotImplementedError(
            "Flask-SocketIO's test client works with its own server only. To see what is published use "
            "`with notify.recorded() as events:`; to see what clients hear use the fixture `notify_server` of "
            "repo_notify.testing.plugin, whose clients are real (docs/testing.md)."
        )

    def run(self, app: Flask, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Serve `app` as Flask-SocketIO does, and log where it listens; raises `NotMonkeyPatched` with the cure."""
        require_patching(self.async_mode)
        if self.async_mode == "gevent":
            import gevent

            # It runs when the server first waits for somebody.
            gevent.spawn(self._announce)
        stock: Any = super()
        stock.run(app, host, port, **options)

    def _announce(self) -> None:
        import gevent

        with contextlib.suppress(gevent.Timeout), gevent.Timeout(LISTEN_SECONDS):
            while not getattr(self.wsgi_server, "started", False):
                gevent.sleep(_POLL_SECONDS)
            server: Any = self.wsgi_server
            host = f"[{server.server_host}]" if ":" in server.server_host else server.server_host
            logger.info("listening on %s://%s:%s", "https" if server.ssl_enabled else "http", host, server.server_port)


class DeferredSocketIO(SocketIO):
    """Takes handlers before there is an app, and registers them with the Flask-SocketIO of each app that comes."""

    def __init__(self) -> None:
        self._steps: list[Callable[[SocketIO], object]] = []
        stock: Any = super()
        stock.__init__()

    def register_with(self, target: SocketIO) -> None:
        """Register what was taken so far."""
        for step in self._steps:
            step(target)

    def on(self, message: str, namespace: str | None = None) -> Callable[[Handler], Handler]:
        """Take a handler: a decorator. `event` and `on_event` come by here, too."""

        def take(handler: Handler) -> Handler:
            self._steps.append(lambda target: target.on(message, namespace=namespace)(handler))
            return handler

        return take

    def on_error(self, namespace: str | None = None) -> Callable[[Handler], Handler]:
        """Take the error handler of a namespace: a decorator."""

        def take(handler: Handler) -> Handler:
            self._steps.append(lambda target: target.on_error(namespace)(handler))
            return handler

        return take

    def on_error_default(self, exception_handler: Handler) -> Handler:
        """Take the error handler of every other namespace: a decorator."""
        self._steps.append(lambda target: target.on_error_default(exception_handler))
        return exception_handler

    def on_namespace(self, namespace_handler: Any) -> None:
        """Take a `flask_socketio.Namespace`."""
        self._steps.append(lambda target: target.on_namespace(namespace_handler))

    @property
    def server(self) -> Any:
        """Raise: there is no server before there is an app."""
        raise NotInitialised(
            "notify.socketio has no server before notify.init_app(app): until then it takes handlers (`on`, `event`, "
            "`on_error`, `on_namespace`) and nothing else"
        )

    @server.setter
    def server(self, _: None) -> None:
        """Flask-SocketIO's constructor sets None."""
