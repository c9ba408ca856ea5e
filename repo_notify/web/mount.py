"""How the service gets into a Flask app: the Socket.IO server, and its place in the WSGI app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import socketio
from flask import Flask
from flask_socketio import SocketIO

from repo_notify.engine import Options, OutboxLimits, Server
from repo_notify.engine.engine_io.origins import NO_CREDENTIALS, Origins
from repo_notify.engine.wire.codec import Codec
from repo_notify.settings import Settings

from .facade import OwnSocketIO
from .origins import OriginCheck, WsgiApp, as_seen_by_proxies
from .proxies import as_the_host_sees
from .servers import ServerCheck


def make_socketio(settings: Settings, namespaces: tuple[str, ...], codecs: tuple[Codec, ...]) -> SocketIO:
    """Return a Flask-SocketIO around a server of ours, made from the settings."""
    found = OwnSocketIO()
    found.server = Server(
        Options(
            async_mode=settings.async_mode,
            namespaces=namespaces,
            codecs=codecs,
            unsupported_hint=_unsupported,
            transports=("polling", "websocket") if settings.polling else ("websocket",),
            transport_hint=_no_transport,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            connect_timeout=settings.connect_timeout,
            max_message_bytes=settings.max_message_bytes,
            max_payload_packets=settings.max_payload_packets,
            outbox=OutboxLimits(
                settings.max_outbox_bytes, settings.max_outbox_seconds, settings.max_outbox_total_bytes
            ),
            allowed_origins=OriginCheck(settings.allowed_origins),
            any_origin="*" in settings.allowed_origins,
            any_origin_credentials=settings.allow_any_origin_credentials,
            null_origin="null" in settings.allowed_origins,
        )
    )
    found.async_mode = found.server.async_mode
    return found


def _unsupported(eio: str) -> str | None:
    """What a client of a generation that is not served is told."""
    if eio == "3":
        return "Unsupported protocol version: clients of Engine.IO 3 need REPO_NOTIFY_LEGACY_V4 switched on"
    return None


def _no_transport(transport: str) -> str | None:
    """What a client is told whose transport is not served."""
    if transport == "polling":
        return (
            "Long-polling is not served here (REPO_NOTIFY_POLLING): connect with transports: ['websocket'], or run one "
            "process for each port"
        )
    return None


def mount(app: Flask, found: SocketIO, settings: Settings) -> None:
    """Put the server at REPO_NOTIFY_CHAT_PATH of the WSGI app; everything else goes to the app as before."""
    server = found.server
    checked = ServerCheck(server.handle_request, settings.async_mode, lambda: len(server.eio.sockets))
    engine = as_the_host_sees(checked, app.wsgi_app, settings.trusted_proxies)
    # Flask's documentation says to assign; its types call that a method.
    app.wsgi_app = _Mount(app, app.wsgi_app, engine, settings.chat_path)  # type: ignore[method-assign]
    # `flask_socketio.emit` and its like find the server here; one of the host's own comes first.
    app.extensions.setdefault("socketio", found)
    found.sockio_mw = app.wsgi_app


def credentials_count(server: socketio.Server, settings: Settings) -> Callable[[Mapping[str, Any]], bool]:
    """Return what decides by its environ whether a handshake may name a user.

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
        null_origin="null" in settings.allowed_origins,
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
        if "close" in environ.get("HTTP_CONNECTION", "").lower() and _is_pywsgi(environ):
            start_response = partial(_start_last, start_response)
        if environ.get("PATH_INFO") not in self._paths:
            return self.wsgi_app(environ, start_response)
        environ["flask.app"] = self._app
        return self._engine(environ, start_response)


def _is_pywsgi(environ: Mapping[str, Any]) -> bool:
    """Return whether the server is gevent's, which closes the connection without a word (RFC 9112 section 9.6)."""
    return str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/")


def _start_last(start_response: Any, status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
    """Begin the answer after which the connection is closed; pywsgi takes that header from applications."""
    return start_response(status, [*headers, ("Connection", "close")], *more)
