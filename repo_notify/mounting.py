"""How the service gets into a Flask app: the Socket.IO server, its place in the WSGI app, the hooks into a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import socketio
from flask import Flask
from flask_socketio import SocketIO

from .engine import Server
from .engine.codec import Codec
from .engine.origins import NO_CREDENTIALS, Origins
from .metrics import Metrics
from .origins import OriginCheck, WsgiApp, as_seen_by_proxies, behind_proxies
from .protocol import ACTIONS
from .rooms import PREFIX
from .settings import Settings

Handler = Callable[..., Any]


def make_socketio(settings: Settings, namespaces: tuple[str, ...], codecs: tuple[Codec, ...]) -> SocketIO:
    """Return a Flask-SocketIO around a server of ours, made from the settings."""
    found = SocketIO()
    found.server = Server(
        async_mode=settings.async_mode,
        namespaces=list(namespaces),
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
        connect_timeout=settings.connect_timeout,
        max_http_buffer_size=settings.max_message_bytes,
        max_payload_packets=settings.max_payload_packets,
        max_outbox=settings.max_outbox_bytes,
        max_outbox_age=settings.max_outbox_seconds,
        cors_allowed_origins=OriginCheck(settings.allowed_origins),
        cors_any_origin="*" in settings.allowed_origins,
        cors_any_credentials=settings.allow_any_origin_credentials,
        codecs=codecs,
        unsupported_hint=_unsupported,
    )
    found.async_mode = found.server.async_mode
    return found


def _unsupported(eio: str) -> str | None:
    """What a client of a generation that is not served is told."""
    if eio == "3":
        return "Unsupported protocol version: clients of Engine.IO 3 need REPO_NOTIFY_LEGACY_V4 switched on"
    return None


def mount(app: Flask, found: SocketIO, settings: Settings) -> None:
    """Put the server at REPO_NOTIFY_CHAT_PATH of the WSGI app; everything else goes to the app as before."""
    engine = behind_proxies(found.server.handle_request, settings.trusted_proxies)
    # Flask's documentation says to assign; its types call that a method.
    app.wsgi_app = _Mount(app, app.wsgi_app, engine, settings.chat_path)  # type: ignore[method-assign]
    # `flask_socketio.emit` and its like find the server here; one of the host's own comes first.
    app.extensions.setdefault("socketio", found)
    found.sockio_mw = app.wsgi_app


def credentials_count(server: socketio.Server, settings: Settings) -> Callable[[Mapping[str, Any]], bool]:
    """Return what tells by its environ whether a handshake may name a user.

    On our own engine that is decided already. A stock server of the host's answers JSONP, and where it lets every
    origin in, their pages come with their visitors' cookies.
    """
    if isinstance(server, Server):
        return lambda environ: NO_CREDENTIALS not in environ
    allowed = server.eio.cors_allowed_origins
    every = allowed == [] or (not callable(allowed) and allowed is not None and "*" in allowed)
    origins = Origins(
        OriginCheck(settings.allowed_origins),
        any_origin=True,
        any_credentials=not every or settings.allow_any_origin_credentials,
    )

    def count(environ: Mapping[str, Any]) -> bool:
        seen = as_seen_by_proxies(environ, settings.trusted_proxies)
        readable = "j" in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        return origins.believes(origins.judge(seen), readable=readable)

    return count


class _Mount:
    """WSGI middleware: the chat path to the engine, the rest to `wsgi_app`."""

    def __init__(self, app: Flask, wsgi_app: WsgiApp, engine: WsgiApp, path: str) -> None:
        self._app = app
        self.wsgi_app = wsgi_app
        self._engine = engine
        self._paths = (path, path + "/")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("PATH_INFO") not in self._paths:
            return self.wsgi_app(environ, start_response)
        environ["flask.app"] = self._app
        return self._engine(environ, start_response)


def hook_connections(
    server: socketio.Server,
    opened: Callable[[str, Mapping[str, Any]], None],
    closed: Callable[[str], None],
) -> None:
    """Have `opened(connection, environ)` and `closed(connection)` called for each Engine.IO connection of `server`.

    At that level a host's own `connect` handlers, on whichever namespace, are not in the way.
    """
    connect, disconnect = server.eio.handlers["connect"], server.eio.handlers["disconnect"]

    def on_connect(connection: str, environ: dict[str, Any]) -> Any:
        answer = connect(connection, environ)
        if answer is None or answer is True:
            opened(connection, environ)
        return answer

    def on_disconnect(connection: str, *reason: Any) -> None:
        try:
            disconnect(connection, *reason)
        finally:
            closed(connection)

    server.eio.on("connect", on_connect)
    server.eio.on("disconnect", on_disconnect)


def attach(server: socketio.Server, namespace: str, handle: Handler, *, unknown_too: bool) -> None:
    """Have `handle(action, namespace, sid, *args)` called for joins and leaves, and for unknown events where asked."""
    for action in ACTIONS:
        server.on(action, partial(handle, action, namespace), namespace=namespace)
    if unknown_too:
        server.on("*", lambda event, sid, *args: handle(event, namespace, sid, *args), namespace=namespace)


def _labels(connection: Any) -> tuple[str, str]:
    codec = getattr(connection, "codec", None)
    return str(codec.eio if codec else 4), "websocket" if connection.upgraded else "polling"


def watch_connections(metrics: Metrics, server: socketio.Server) -> None:
    """Have the metrics show the server's connections and rooms."""

    def connections() -> dict[tuple[str, ...], int]:
        sockets = list(server.eio.sockets.values())
        return dict(Counter(_labels(found) for found in sockets))

    def rooms() -> dict[tuple[str, ...], int]:
        found = {key for members in list(server.manager.rooms.values()) for key in list(members)}
        return {(): sum(isinstance(key, str) and key.startswith(PREFIX) for key in found)}

    metrics.watch("repo_notify_connections", "Open connections.", ("generation", "transport"), connections)
    metrics.watch(
        "repo_notify_slow_clients",
        "Clients disconnected, since the start, because they did not take what was sent to them.",
        (),
        lambda: {(): getattr(server.eio, "slow_clients", 0)},
    )
    metrics.watch("repo_notify_rooms", "Rooms with a member.", (), rooms)
