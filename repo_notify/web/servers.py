"""Which server runs the app, and whether the engine's mode works there; the wrong one is logged, with the cure."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from repo_notify.errors import NotMonkeyPatched

from .origins import WsgiApp

logger = logging.getLogger(__name__)

Environ = Mapping[str, Any]

# What a WebSocket needs of its server: a handler that switches protocols, or, on threads, the connection's socket.
_OF_GEVENT = ("repo_notify.accept_websocket", "wsgi.websocket")
_OF_THREADS = ("werkzeug.socket", "gunicorn.socket")
_STATUS = "501 Not Implemented"


class _Server(NamedTuple):
    """A kind of server, and what is to be done for WebSockets in gevent mode, and on threads."""

    matches: Callable[[Environ], bool]
    name: str
    gevent: str
    threads: str


def _by_software(prefix: str) -> Callable[[Environ], bool]:
    return lambda environ: str(environ.get("SERVER_SOFTWARE", "")).lower().startswith(prefix)


_OUR_WORKER = "start gunicorn with `--worker-class repo_notify.gunicorn.Worker`"
_OUR_SERVER = "serve it with `repo_notify.serving.serve(app, host=…, port=…)`, or gunicorn with our worker class"
_THREADED = "start gunicorn with `--worker-class gthread --threads 100`"
_ON_GEVENT = f"set REPO_NOTIFY_ASYNC_MODE to gevent and {_OUR_SERVER}"
_UNPATCHED = (
    "repo_notify runs on gevent, but gevent has not patched this process: "
    "make `from gevent import monkey; monkey.patch_all()` the very first line of the program"
)
_OR_THREADS = ", or set REPO_NOTIFY_ASYNC_MODE to threading"
_MORE_THREADS = "gunicorn --threads N, waitress --threads N"
_SERVERS = (
    _Server(lambda environ: "uwsgi.version" in environ, "uWSGI", _OUR_SERVER, _ON_GEVENT),
    _Server(_by_software("gunicorn/"), "gunicorn with this worker class", _OUR_WORKER, _THREADED),
    _Server(_by_software("gevent/"), "gevent's pywsgi with this handler class", _OUR_SERVER, _ON_GEVENT),
    _Server(_by_software("waitress"), "waitress", _OUR_SERVER, _ON_GEVENT),
    _Server(
        lambda environ: "werkzeug.socket" in environ,
        "Flask's development server",
        f"{_OUR_SERVER}",
        "run it with threads (`flask run --with-threads`)",
    ),
    _Server(lambda _: True, "this server", _OUR_SERVER, _ON_GEVENT),
)


def require_patching(async_mode: str) -> None:
    """Raise `NotMonkeyPatched` where the engine is to serve on gevent in a process that gevent has not patched."""
    if async_mode == "gevent" and not _is_patched():
        raise NotMonkeyPatched


def _is_patched() -> bool:
    from gevent import monkey

    return bool(monkey.is_module_patched("socket") and monkey.is_module_patched("threading"))


class _Problem(NamedTuple):
    """Why the server cannot serve this request; `always`: no request of a client at all."""

    text: str
    always: bool


class ServerCheck:
    """WSGI middleware before the engine: answers 501 with the cure where the server does not suit, and logs it once.

    `connections` returns how many clients are connected: on threads each of them holds one.
    """

    def __init__(self, engine: WsgiApp, async_mode: str, connections: Callable[[], int]) -> None:
        self._engine = engine
        self._connections = connections
        self._find = {"gevent": self._on_gevent}.get(async_mode, self._on_threads)
        self._unpatched: bool | None = None
        self._told: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a client's request."""
        problem = self._find(environ, start_response)
        if problem is None or not _is_served(environ):
            return self._engine(environ, start_response)
        self._tell(problem.text)
        if not problem.always and not _is_upgrade(environ):
            return self._engine(environ, start_response)
        # As the engine words its errors: code 3 is a bad request.
        body = json.dumps({"code": 3, "message": problem.text}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(_STATUS, headers)
        return [body]

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.error("%s", text)

    def _on_gevent(self, environ: Environ, _: Any) -> _Problem | None:
        if self._unpatched is None:
            self._unpatched = not _is_patched()
        if self._unpatched:
            return _Problem(f"{_UNPATCHED} and {_server_of(environ).gevent}{_OR_THREADS}", always=True)
        if _is_upgrade(environ) and not any(key in environ for key in _OF_GEVENT):
            return _no_websockets(environ, "gevent")
        return None

    def _on_threads(self, environ: Environ, start_response: Any) -> _Problem | None:
        if not environ.get("wsgi.multithread"):
            server = _server_of(environ)
            text = f"repo_notify runs on threads, but {server.name} serves one request at a time: {server.threads}"
            return _Problem(text, always=True)
        if _is_upgrade(environ) and not any(key in environ for key in _OF_THREADS):
            return _no_websockets(environ, "threads")
        if "sid=" not in environ.get("QUERY_STRING", ""):
            self._count_threads(environ, start_response)
        return None

    def _count_threads(self, environ: Environ, start_response: Any) -> None:
        """Warn, once, where the client that connects now takes the last of the server's threads."""
        threads = _threads_of(environ, start_response)
        if threads is not None and self._connections() + 1 >= threads:
            self._tell(
                f"repo_notify runs on threads, each connected client holds one, and all {threads} of this server are "
                f"taken: further requests wait. Start it with more ({_MORE_THREADS}), or {_ON_GEVENT}"
            )


def _no_websockets(environ: Environ, mode: str) -> _Problem:
    server = _server_of(environ)
    cure = getattr(server, mode)
    return _Problem(f"{server.name} cannot serve WebSockets of repo_notify on {mode}: {cure}", always=False)


def _server_of(environ: Environ) -> _Server:
    return next(server for server in _SERVERS if server.matches(environ))


def _is_served(environ: Environ) -> bool:
    """Return whether there is a server at all; a test's client calls the app by itself."""
    return "SERVER_SOFTWARE" in environ or "uwsgi.version" in environ


def _is_upgrade(environ: Environ) -> bool:
    return bool(environ.get("HTTP_UPGRADE")) and str(environ["HTTP_UPGRADE"]).lower() == "websocket"


def _threads_of(environ: Environ, start_response: Any) -> int | None:
    """Return how many threads the server has for requests; None where it does not show it, or makes one for each."""
    # gunicorn's `start_response` is a method of its response, which has the configuration.
    config = getattr(getattr(start_response, "__self__", None), "cfg", None)
    if config is not None and getattr(config, "worker_class_str", None) == "gthread":
        return int(config.threads)
    if str(environ.get("SERVER_SOFTWARE", "")).lower().startswith("waitress"):
        return sum(thread.name.startswith("waitress-") for thread in threading.enumerate())
    return None
