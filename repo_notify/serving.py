"""Our own server: gevent's WSGI server with WebSockets, and an orderly end."""

from __future__ import annotations

import gc
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import gevent
from flask import Flask
from gevent.pywsgi import WSGIServer

from .delivery.queue import FLUSH_SECONDS
from .engine import Server
from .engine.engine_io.greenlets import Workers
from .engine.pywsgi.handler import WebSocketHandler
from .engine.pywsgi.http1 import HttpHandler
from .engine.pywsgi.server import LazySocketServer
from .errors import SettingsError
from .extension import NAME
from .loaded import LOADED
from .settings import Settings
from .state import State
from .web.servers import require_patching

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


def states_of(loaded: Iterable[object] | None) -> list[State]:
    """Return the State of each app that was noted in `LOADED`."""
    return [state for state in loaded or () if isinstance(state, State)]


def with_limits(handler: type[HttpHandler], settings: Sequence[Settings]) -> type[HttpHandler]:
    """Return `handler` with the limits of one app's settings, or the widest of several; as it is without any."""
    if not settings:
        return handler
    limits = {
        "patience": max(one.request_timeout for one in settings),
        "max_header_bytes": max(one.max_header_bytes for one in settings),
        "access_log": any(one.access_log for one in settings),
    }
    return type(handler.__name__, (handler,), limits)


def shut_down(state: State) -> None:
    """Tell the clients of one app that the service ends, and end its background work."""
    server = state.socketio.server
    state.background.stopping = True
    if state.recoveries is not None:
        # Whoever is sent away now may come back.
        state.recoveries.stopping = True
    # Long enough for clients that answer; who does not is not waited for.
    half = state.settings.shutdown_timeout / 2
    seconds = min(GOODBYE_SECONDS, half)
    if isinstance(server, Server):
        server.shutdown(seconds, per_second=_drain_rate(state, len(server.eio.sockets), half / 2))
    else:
        _disconnect_all(server.eio, seconds)
    state.close(min(FLUSH_SECONDS, half))


def _drain_rate(state: State, connections: int, seconds: float) -> float:
    """Return how many connections are closed a second: no fewer than leave in so many seconds."""
    return max(state.settings.drain_rate, connections / seconds) if seconds else math.inf


def _disconnect_all(eio: Any, seconds: float) -> None:
    """As the stock server's `disconnect`, which waits for one client after another, for who is gone without end."""
    clients = list(eio.sockets.values())
    for client in clients:
        client.close(wait=False, reason=eio.reason.SERVER_DISCONNECT)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(client.queue.unfinished_tasks for client in clients):
        eio.sleep(POLL_SECONDS)


def shut_down_all(states: Sequence[State], timeout: float) -> None:
    """Shut down the apps of one process, side by side, in `timeout` seconds at most."""
    endings = [gevent.spawn(shut_down, state) for state in states]
    gevent.joinall(endings, timeout=min([timeout, *(state.settings.shutdown_timeout for state in states)]))
    if not all(ending.ready() for ending in endings):
        logger.warning("the service did not end in time and is cut off")


def serve(
    app: Flask, *, host: str, port: int, on_ready: Callable[[str], Any] | None = None, shares_port: bool = False
) -> None:
    """Serve `app` until SIGTERM or SIGINT; `on_ready(url)` is called when it listens, port 0 picks a free one.

    With `shares_port` other processes may listen on the same port, among which Linux divides the connections.
    At a signal it stops accepting, tells the clients, and ends within REPO_NOTIFY_SHUTDOWN_TIMEOUT seconds. Raises
    `NotMonkeyPatched` with the cure, and `SettingsError` for an app that is set to run on threads.
    """
    state = state_of(app)
    _require_gevent(state)
    state.background.serve()
    listener = _listener(host, port, shares_port)
    # Inherited by what it accepts: else the body of an answer waits 40 ms for the acknowledgement of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own = isinstance(state.socketio.server, Server)
    make, handler = (LazySocketServer, WebSocketHandler) if own else (WSGIServer, HttpHandler)
    limited = with_limits(handler, [state.settings])
    server = make(
        listener,
        app,
        handler_class=limited,
        log=None,
        error_log=logger,
        spawn=_spawner(),
        environ={"wsgi.multiprocess": shares_port},
    )
    server.start()
    _collect_seldom()
    ended = gevent.event.Event()
    watchers = [gevent.signal_handler(number, ended.set) for number in (signal.SIGTERM, signal.SIGINT)]
    url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
    logger.info("listening on %s", url)
    if on_ready is not None:
        on_ready(url)
    try:
        ended.wait()
    finally:
        for watcher in watchers:
            watcher.cancel()
        _end(server, state)


def _listener(host: str, port: int, shares_port: bool) -> Any:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not shares_port:
        return WSGIServer.get_listener((host, port), backlog=BACKLOG, family=family)
    listener = gevent.socket.socket(family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _require_gevent(state: State) -> None:
    require_patching(state.socketio.async_mode)
    if isinstance(state.socketio.server, Server) and state.socketio.async_mode != "gevent":
        raise SettingsError(["REPO_NOTIFY_ASYNC_MODE should be gevent under repo_notify's own server"])


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

    What that server does at the signal it still does, afterwards. Nothing is needed under our own gunicorn worker.
    """
    state = state_of(app)
    require_patching(state.socketio.async_mode)
    state.background.serve()
    if state in states_of(LOADED.get()):
        return
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
            # What the last requests have published.
            state.keeping.flush(FLUSH_SECONDS)
    except gevent.Timeout:
        logger.warning("the service did not end in %s seconds and is cut off", timeout)
