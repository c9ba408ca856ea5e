"""`POST /notify/events` without Flask's dispatch, where nothing of the host's would have a part in it.

Contexts, a session, a match, a request, a response and the hooks around them are most of what publishing one event
costs. Where all of these are Flask's own or ours the answer is the same without them; that is looked at anew for each
request, as a host may go on setting its app up after `init_app`. Everything else goes to Flask as ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, cast

import flask
from flask import Flask, signals
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wsgi import get_content_length, get_input_stream

from repo_notify.settings import Settings

from .blueprint import FAILED, POSITION_HEADER
from .hooks import EVENTS, Hooks
from .origins import WsgiApp
from .publishing import JsonAnswer, Publishing

# What a subclass, an app or a tool for tracing may change in how Flask answers.
_DISPATCH = frozenset(
    {
        "create_url_adapter",
        "dispatch_request",
        "do_teardown_appcontext",
        "do_teardown_request",
        "finalize_request",
        "full_dispatch_request",
        "make_response",
        "preprocess_request",
        "process_response",
        "request_context",
    }
)
_FLASK = str(Path(flask.__file__).parent) + os.sep
_SIGNALS = (
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_pushed,
    signals.appcontext_popped,
    signals.appcontext_tearing_down,
)
# Whose sessions are opened by a cookie, and by nothing else.
_OF_COOKIES = ("flask.sessions", "flask_session.")
# The header `x-socket-id`, as WSGI has it (PEP 3333).
SOCKET_ID = "HTTP_X_SOCKET_ID"
# A session, a socket to be bound, and a test's client that looks at `flask.request` afterwards.
_WANTS_FLASK = frozenset({"HTTP_COOKIE", SOCKET_ID, "werkzeug.debug.preserve_context"})
# What Flask checks of a request before it is anybody's.
_LIMITS = ("MAX_CONTENT_LENGTH", "TRUSTED_HOSTS")


def put_before(
    app: Flask,
    publishing: Publishing,
    settings: Settings,
    *,
    hooks: Hooks,
    serve: Callable[[], None],
    position: Callable[[], str] | None,
) -> None:
    """Put a `Direct` around the app as it is by now, its routes of ours included."""
    path = f"{settings.http_prefix}/events"
    # Flask's documentation says to assign; its types call that a method.
    app.wsgi_app = Direct(  # type: ignore[method-assign]
        app, publishing, path, hooks=hooks, serve=serve, position=position
    )


class Direct:
    """WSGI middleware right around Flask's own `wsgi_app`: answers requests to publish at `path`.

    `serve` takes note that this process serves, and `position` tells how far the history is, where answers say it.
    """

    def __init__(
        self,
        app: Flask,
        publishing: Publishing,
        path: str,
        *,
        hooks: Hooks,
        serve: Callable[[], None],
        position: Callable[[], str] | None,
    ) -> None:
        self.wsgi_app: WsgiApp = app.wsgi_app
        self._app, self._publishing, self._path = app, publishing, path
        self._hooks, self._serve, self._position = hooks, serve, position
        # None where the host has a route of its own there.
        self._view = app.view_functions.get(EVENTS)
        self._is_flasks = self._view is not None and _is_flasks(app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request, or have Flask do it."""
        if environ.get("PATH_INFO") != self._path or not self._takes(environ):
            return self.wsgi_app(environ, start_response)
        self._serve()
        position = self._position() if self._position is not None else None
        try:
            answer = self._publishing.answer(
                environ.get("HTTP_AUTHORIZATION", ""), get_content_length(environ), partial(_read, environ)
            )
        except Exception as error:  # noqa: BLE001 - Flask raises it anew, for the host's error handlers and the log
            environ[FAILED] = error
            return self.wsgi_app(environ, start_response)
        body = answer.body
        status = f"{answer.status} {HTTP_STATUS_CODES[answer.status].upper()}"
        start_response(status, _headers(answer, len(body), position))
        return [body]

    def _takes(self, environ: dict[str, Any]) -> bool:
        """Whether nothing but Flask and ourselves would have a part in the answer."""
        app, config = self._app, self._app.config
        return (
            self._is_flasks
            and environ["REQUEST_METHOD"] == "POST"
            and environ.keys().isdisjoint(_WANTS_FLASK)
            and self._hooks.are_alone()
            and app.view_functions[EVENTS] is self._view
            and vars(app).keys().isdisjoint(_DISPATCH)
            and (app.request_class, app.response_class) == (flask.Request, flask.Response)
            and type(app.session_interface).__module__.startswith(_OF_COOKIES)
            and not (app.url_map.host_matching or app.subdomain_matching)
            and not any(config.get(key) for key in _LIMITS)
            and not any(signal.receivers for signal in _SIGNALS)
        )


def _is_flasks(app: Flask) -> bool:
    """Return whether the app answers as Flask does, with no middleware around it by now but what proxies need."""
    kind, inner = type(app), cast("Any", app.wsgi_app)
    while type(inner) is ProxyFix:
        inner = inner.app
    methods = [getattr(kind, name) for name in (*_DISPATCH, "wsgi_app")]
    plain = all(type(found) is FunctionType and found.__code__.co_filename.startswith(_FLASK) for found in methods)
    return plain and inner == MethodType(kind.wsgi_app, app)


def _read(environ: dict[str, Any], size: int) -> bytes:
    return get_input_stream(environ).read(size)


def _headers(answer: JsonAnswer, length: int, position: str | None) -> list[tuple[str, str]]:
    of_body = [("Content-Type", "application/json"), ("Content-Length", str(length))]
    told = [] if position is None else [(POSITION_HEADER, position)]
    return [*of_body, *answer.headers, *told]
