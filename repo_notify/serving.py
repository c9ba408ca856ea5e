"""Our own server: gevent's WSGI server with WebSockets, and an orderly end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from flask import Flask
from gevent.pywsgi import WSGIServer

from .engine import Server
from .engine.engine_io.greenlets import Workers
from .engine.pywsgi.handler import WebSocketHandler
from .engine.pywsgi.http1 import HttpHandler
from .engine.pywsgi.server import LazySocketServer
from .extension import NAME
from .wiring import State

logger = logging.getLogger(__name__)

BACKLOG = 4096
GOODBYE_SECONDS = 1.0
POLL_SECONDS = 0.02
# New objects until they are looked at, and how often before the older ones are; Python has 700, 10 and 10.
GC_THRESHOLDS = (10_000, 20, 20)


def state_of(app: Flask) -> State:
    """Return what the extension keeps for `app`."""
    state = app.extensions[NAME]
    assert isinstance(state, State)
    return state


def with_limits(handler: type[HttpHandler], app: Any) -> type[HttpHandler]:
    """Return `handler` with the limits that the settings of `app` name; as it is for an app without the extension."""
    state = getattr(app, "extensions", {}).get(NAME)
    if not isinstance(state, State):
        return handler
    limits = {
        "patience": state.settings.request_timeout,
        "max_header_bytes": state.settings.max_header_bytes,
        "access_log": state.settings.access_log,
    }
    return type(handler.__name__, (handler,), limits)


def shut_down(state: State) -> None:
    """Tell the clients of one app that the service ends, and end its background work."""
    server = state.socketio.server
    # Long enough for clients that answer; who does not is not waited for.
    seconds = min(GOODBYE_SECONDS, state.settings.shutdown_timeout / 2)
    if isinstance(server, Server):
        server.shutdown(seconds)
    else:
        _disconnect_all(server.eio, seconds)
    state.close()


def _disconnect_all(eio: Any, seconds: float) -> None:
    """As the stock server's `disconnect`, which waits for one client after another, for who is gone without end."""
    clients = list(eio.sockets.values())
    for client in clients:
        client.close(wait=False, reason=eio.reason.SERVER_DISCONNECT)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(client.queue.unfinished_tasks for client in clients):
        eio.sleep(POLL_SECONDS)


def serve(app: Flask, *, host: str, port: int, on_ready: Callable[[str], Any] | None = None) -> None:
    """Serve `app` until SIGTERM or SIGINT; `on_ready(url)` is called when it listens, port 0 picks a free one.

    At a signal it stops accepting, tells the clients, and ends within REPO_NOTIFY_SHUTDOWN_TIMEOUT seconds.
    """
    state = state_of(app)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = WSGIServer.get_listener((host, port), backlog=BACKLOG, family=family)
    # Inherited by what it accepts: else the body of an answer waits 40 ms for the acknowledgement of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own = isinstance(state.socketio.server, Server)
    make, handler = (LazySocketServer, WebSocketHandler) if own else (WSGIServer, HttpHandler)
    limited = with_limits(handler, app)
    server = make(listener, app, handler_class=limited, log=None, error_log=logger, spawn=_spawner())
    server.start()
    _collect_seldom()
    ended = gevent.event.Event()
    watchers = [gevent.signal_handler(number, ended.set) for number in (signal.SIGTERM, signal.SIGINT)]
    if on_ready is not None:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        on_ready(f"http://{shown}:{server.server_port}")
    try:
        ended.wait()
    finally:
        for watcher in watchers:
            watcher.cancel()
        _end(server, state)


def _collect_seldom() -> None:
    """What is there at the start stays, and connections leave few circles of garbage: look for them more rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _spawner() -> Any:
    """Return what runs a connection's requests: in greenlets that are used again, as most connections are short."""
    workers = Workers(logger)
    return lambda handle, *arguments: workers.run(partial(handle, *arguments))


def end_with_process(app: Flask) -> None:
    """Have the clients told when another server, such as gunicorn, ends this process with SIGTERM.

    What that server does at the signal it still does, afterwards.
    """
    state = state_of(app)
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: Any) -> None:
        gevent.spawn(shut_down, state)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, end)


def _end(server: WSGIServer, state: State) -> None:
    timeout = state.settings.shutdown_timeout
    server.close()
    try:
        with gevent.Timeout(timeout):
            shut_down(state)
            server.stop(timeout=timeout)
    except gevent.Timeout:
        logger.warning("the service did not end in %s seconds and is cut off", timeout)
