"""State and `wire`: the one file that knows all the others; loads `legacy_v4` where it is switched on."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask
from flask_socketio import SocketIO
from socketio import Server as AnyServer

from .access.permissions import Permissions
from .access.store import Store, Unreachable, connect
from .contract.markdown import Columns, reference_markdown
from .delivery.publisher import Publisher
from .delivery.queue import FLUSH_SECONDS, Bus, Receive
from .engine import Server
from .errors import SettingsError
from .events import Event
from .loaded import LOADED
from .membership.handlers import Handlers
from .membership.rate_limit import RateLimit
from .membership.reserved import Reserved
from .membership.revocation import Revalidation
from .metrics import Metrics
from .protocol.dialect import ACTIONS, Dialect, Dialects
from .protocol.v5 import V5
from .sessions.bindings import Identities
from .sessions.reads import SessionReads
from .settings import Settings
from .sockets import OwnSockets, Sockets
from .stock_sockets import StockSockets
from .web.blueprint import make_blueprint
from .web.mount import credentials_count, make_socketio, mount
from .web.servers import require_patching

logger = logging.getLogger(__name__)

# How long a process's first client waits for the queue.
SUBSCRIBE_SECONDS = 2.0
READY_SECONDS = 2.0


class Background:
    """What runs beside the requests of one app: the queue's threads, and the sweep over members' rights.

    Begun by a process's first connection: a process that serves nobody has none of it, and a server may fork after the
    app was made. `serving`: whether this process has answered a request, or is about to.
    """

    def __init__(self, async_mode: str, bus: Bus | None, sweep: Callable[[], object] | None) -> None:
        self.serving = False
        self._async_mode = async_mode
        self._bus = bus
        self._sweep = sweep
        self._lock = threading.Lock()
        self._pid = 0
        self._warned = False

    def begin(self) -> None:
        """Begin, unless that was done in this process; raises `NotMonkeyPatched`."""
        if self._pid != os.getpid():
            require_patching(self._async_mode)
            with self._lock:
                begun, self._pid = self._pid == os.getpid(), os.getpid()
            self.serving = True
            if self._sweep is not None and not begun:
                self._sweep()
        if self._bus is not None:
            self._bus.start(SUBSCRIBE_SECONDS)

    def warn_unheard(self, event: Event) -> None:
        """Warn, once, where an event is published in a process that has no clients and no way to any."""
        if self.serving or self._bus is not None or self._warned:
            return
        self._warned = True
        logger.warning(
            "published %s where nobody can hear it: this process serves no clients, and there is no message queue to "
            "those that do. Set REPO_NOTIFY_MESSAGE_QUEUE here and in the service, or publish over HTTP",
            type(event).__name__,
        )


@dataclass(frozen=True)
class State:
    """What one app has: `app.extensions["repo_notify"]`."""

    settings: Settings
    socketio: SocketIO
    store: Store
    metrics: Metrics
    sockets: Sockets
    identities: Identities
    permissions: Permissions
    publisher: Publisher
    bus: Bus | None
    revalidation: Revalidation
    dialects: Dialects
    background: Background

    def problems(self) -> dict[str, str]:
        """Return what keeps the service from being ready, by the part that it concerns."""
        found: dict[str, str] = {}
        try:
            with self.store.within(READY_SECONDS):
                self.store.ping()
        except Unreachable:
            logger.warning("readiness: MongoDB does not answer", exc_info=True)
            found["mongodb"] = "MongoDB does not answer"
        if self.bus is not None and (problem := self.bus.problem()):
            found["message_queue"] = problem
        return found

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """End the background work; what waits for the message queue is sent first, for at most `seconds`."""
        self.revalidation.close()
        if self.bus is not None:
            self.bus.close(seconds)
        self.store.close()


def load_legacy() -> Any:
    """Return the package `legacy_v4`, or None where it is not installed."""
    try:
        return importlib.import_module("legacy_v4")
    except ModuleNotFoundError as error:
        if error.name != "legacy_v4":
            raise
        return None


def dialects_of(settings: Settings) -> Dialects:
    """Return the dialects that the settings ask for; raises `SettingsError` where one is not installed."""
    v5: Dialect = V5(settings.namespace)
    if not settings.legacy_v4:
        return Dialects((v5,))
    legacy = load_legacy()
    if legacy is None:
        raise SettingsError(["REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed"])
    v4 = legacy.V4(
        namespace=settings.legacy_v4_namespace, names=settings.legacy_v4_names, jsonp=settings.jsonp
    )
    return Dialects((v5, v4))


def reference_columns() -> Columns:
    """Return every dialect's rows for the documentation, by the heading of their column."""
    columns: dict[str, Any] = {"v5 events (room)": V5("/").rows}
    legacy = load_legacy()
    if legacy is not None:
        for names in ("first", "second"):
            columns[f"v4 events, {names} set (rooms)"] = legacy.V4(namespace="/", names=names).rows
    return columns


def reference() -> str:
    """Return docs/reference.md."""
    return reference_markdown(reference_columns())


def wire(app: Flask, settings: Settings, host: SocketIO | None) -> State:
    """Make and connect the parts that serve `app`, on the `host`'s Flask-SocketIO or on one of our own."""
    dialects = dialects_of(settings)
    metrics = Metrics()
    store = Store(
        connect(settings.mongo_uri, timeout=settings.permission_timeout), users_collection=settings.users_collection
    )
    permissions = Permissions(
        store,
        metrics,
        ttl=settings.permission_cache_seconds,
        size=settings.permission_cache_size,
        timeout=settings.permission_timeout,
    )
    socketio = host if host is not None else make_socketio(settings, dialects.namespaces, dialects.codecs)
    sockets = _sockets_of(socketio.server, dialects.namespaces)
    identities = Identities(app, SessionReads(socketio.server, metrics, seconds=settings.permission_timeout))
    publishers: list[Publisher] = []
    bus = _make_bus(settings, metrics, lambda message: publishers[0].receive(message))
    publisher = Publisher(sockets, identities, permissions, metrics, dialects=dialects, bus=bus)
    publishers.append(publisher)
    rate_limit = RateLimit(settings.join_burst, settings.join_rate, settings.join_flood)
    handlers = Handlers(sockets, identities, permissions, metrics, dialects=dialects, rate_limit=rate_limit)
    revalidation = Revalidation(
        sockets,
        identities,
        permissions,
        metrics,
        dialects=dialects,
        seconds=settings.recheck_seconds,
        give_way=lambda: socketio.server.sleep(0),
    )
    sweep = partial(socketio.server.start_background_task, revalidation.run) if settings.recheck_seconds else None
    background = Background(socketio.async_mode, bus, sweep)
    state = State(
        settings,
        socketio,
        store,
        metrics,
        sockets,
        identities,
        permissions,
        publisher,
        bus,
        revalidation,
        dialects,
        background,
    )
    _attach(state, handlers)
    _watch(metrics, sockets, socketio)
    app.register_blueprint(
        make_blueprint(app, settings, send=publisher.send, problems=state.problems, metrics=metrics.text)
    )
    if host is None:
        mount(app, socketio, settings)
    if (loaded := LOADED.get()) is not None:
        loaded.append(state)
    return state


def _sockets_of(server: AnyServer, namespaces: tuple[str, ...]) -> Sockets:
    return OwnSockets(server, namespaces) if isinstance(server, Server) else StockSockets(server, namespaces)


def _make_bus(settings: Settings, metrics: Metrics, receive: Receive) -> Bus | None:
    if settings.message_queue is None:
        return None
    return Bus(settings.message_queue, settings.message_queue_channel, receive, metrics)


def _attach(state: State, handlers: Handlers) -> None:
    server = state.socketio.server
    may_name_a_user = credentials_count(server, state.settings)

    def opened(connection_id: str, environ: Mapping[str, Any]) -> None:
        state.background.begin()
        if may_name_a_user(environ):
            state.identities.opened(connection_id, environ)

    def closed(connection_id: str) -> None:
        state.identities.closed(connection_id)
        handlers.closed(connection_id)

    reserved = Reserved(server, ACTIONS, _namespaces_of(state.settings))
    reserved.check()
    state.sockets.watch(opened, closed)
    state.sockets.attach(ACTIONS, handlers.handle)
    reserved.keep()


def _namespaces_of(settings: Settings) -> dict[str, str]:
    """Return the setting that chooses each namespace on which the protocol is spoken."""
    legacy = {settings.legacy_v4_namespace: "REPO_NOTIFY_LEGACY_V4_NAMESPACE"} if settings.legacy_v4 else {}
    return {**legacy, settings.namespace: "REPO_NOTIFY_NAMESPACE"}


def _watch(metrics: Metrics, sockets: Sockets, socketio: SocketIO) -> None:
    """Have the metrics show connections and rooms."""
    metrics.watch("repo_notify_connections", "Open connections.", ("generation", "transport"), sockets.counts)
    engine = socketio.server.eio
    metrics.watch(
        "repo_notify_slow_clients",
        "Clients disconnected, since the start, because they did not take what was sent to them.",
        ("limit",),
        lambda: {(limit,): number for limit, number in getattr(engine, "slow_clients", {}).items()},
    )
    metrics.watch(
        "repo_notify_outbox_bytes",
        "What waits for clients that have not taken it yet, in bytes.",
        (),
        lambda: {(): engine.backlogs.total if hasattr(engine, "backlogs") else 0},
    )
    metrics.watch("repo_notify_rooms", "Rooms with a member.", (), lambda: {(): sockets.count_rooms()})
