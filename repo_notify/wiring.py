"""State and `wire`: the one file that knows all the others; loads `legacy_v4` where it is switched on."""

from __future__ import annotations

import importlib
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask_socketio import SocketIO
from socketio import Server as AnyServer

from .access.permissions import Permissions
from .access.store import Store, Unreachable, connect
from .contract.markdown import Columns, reference_markdown
from .delivery.publisher import Publisher
from .delivery.queue import Bus, Receive
from .engine import Server
from .errors import SettingsError
from .events import EVENT_TYPES
from .loop_lag import LoopLag
from .membership.handlers import Handlers
from .membership.rate_limit import RateLimit
from .membership.revocation import Revalidation
from .metrics import DISCONNECTS, Metrics, Samples
from .protocol.dialect import ACTIONS, Dialect, Dialects
from .protocol.v5 import V5
from .sessions.bindings import Identities
from .sessions.reads import SessionReads
from .settings import Settings
from .sockets import OwnSockets, Sockets
from .stock_sockets import StockSockets
from .web.blueprint import make_blueprint
from .web.mount import credentials_count, make_socketio, mount
from .web.refusals import Refusals

logger = logging.getLogger(__name__)

SUBSCRIBE_SECONDS = 2.0
READY_SECONDS = 2.0
# Shown although there are none.
_NO_CONNECTIONS: Samples = {("4", "polling"): 0, ("4", "websocket"): 0}


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
    loop_lag: LoopLag

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

    def close(self) -> None:
        """End the background work."""
        self.revalidation.close()
        self.loop_lag.close()
        if self.bus is not None:
            self.bus.close()
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
    identities = Identities(app, SessionReads(socketio.server, seconds=settings.permission_timeout), metrics)
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
    state = State(
        settings, socketio, store, metrics, sockets, identities, permissions, publisher, bus, revalidation, dialects,
        LoopLag(),
    )  # fmt: skip
    _attach(state, handlers)
    _watch(state)
    app.register_blueprint(
        make_blueprint(app, settings, send=publisher.send, problems=state.problems, metrics=metrics)
    )
    if host is None:
        mount(app, socketio, settings)
    if settings.recheck_seconds:
        socketio.server.start_background_task(revalidation.run)
    return state


def _sockets_of(server: AnyServer, namespaces: tuple[str, ...]) -> Sockets:
    return OwnSockets(server, namespaces) if isinstance(server, Server) else StockSockets(server, namespaces)


def _make_bus(settings: Settings, metrics: Metrics, receive: Receive) -> Bus | None:
    if settings.message_queue is None:
        return None
    return Bus(settings.message_queue, settings.message_queue_channel, receive, metrics)


def _attach(state: State, handlers: Handlers) -> None:
    may_name_a_user = credentials_count(state.socketio.server, state.settings)

    def opened(connection_id: str, environ: Mapping[str, Any]) -> None:
        state.metrics.handshake("accepted")
        if state.bus is not None:
            state.bus.start(SUBSCRIBE_SECONDS)
        if may_name_a_user(environ):
            state.identities.opened(connection_id, environ)
        else:
            state.metrics.session("none")

    def closed(connection_id: str, reason: str) -> None:
        label = reason.replace(" ", "_")
        state.metrics.disconnected(label if label in DISCONNECTS else "other")
        state.identities.closed(connection_id)
        handlers.closed(connection_id)

    server = state.socketio.server
    if isinstance(server, Server):
        server.eio.on_refused.append(Refusals(state.metrics, state.settings))
    state.sockets.watch(opened, closed)
    state.sockets.attach(ACTIONS, handlers.handle)


def _version() -> str:
    # By name: the package's own module is above this one.
    return str(importlib.import_module("repo_notify").__version__)


def _watch(state: State) -> None:
    """Have the metrics show what others keep."""
    metrics, sockets, server = state.metrics, state.sockets, state.socketio.server
    metrics.published.start((name,) for name in EVENT_TYPES)
    metrics.connections.watch(lambda: {**_NO_CONNECTIONS, **sockets.counts()})
    metrics.rooms.watch(lambda: {(): sockets.count_rooms()})
    mode = state.socketio.async_mode
    build = (_version(), platform.python_version(), mode)
    metrics.build_info.watch(lambda: {build: 1})
    if mode == "gevent":
        metrics.loop_lag.watch(lambda: {(): state.loop_lag.seconds()})
    if isinstance(server, Server):
        engine = server.eio
        metrics.outbox_bytes.watch(lambda: {(): engine.backlogs.total})
        metrics.slow_clients.watch(lambda: {(limit,): number for limit, number in engine.slow_clients.items()})
