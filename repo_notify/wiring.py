"""`wire`: the one file that knows all the others; loads `legacy_v4` where it is switched on."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from flask import Flask
from flask_socketio import SocketIO
from socketio import Server as AnyServer

from .access.changes import Changes
from .access.permissions import Permissions
from .access.store import Store, connect, connect_stream
from .backend.assembly import make_backend
from .backend.bridge import Events
from .background import Background
from .bounded import bounded_by, bounded_in_mongodb
from .contract.markdown import Columns, Route, examples_markdown, reference_markdown
from .delivery.history.accounts import Accounts
from .delivery.publisher import Publisher, nothing
from .engine import Server
from .errors import SettingsError
from .links import Links
from .loaded import LOADED
from .loop_lag import LoopLag
from .membership.handlers import Handlers
from .membership.keeping import make_keeping
from .membership.rate_limit import Bucket
from .membership.recovery import Recoveries
from .membership.register import Concern, Register
from .membership.reserved import Reserved
from .membership.revocation import Revalidation
from .metrics import DISCONNECTS, Metrics
from .protocol.dialect import ACTIONS, Dialect, Dialects
from .protocol.v5 import V5
from .sessions.bindings import Identities
from .sessions.ends import SessionEnds
from .sessions.reads import SessionReads
from .sessions.sources import sources_of
from .setting_values import HISTORY_MONGODB
from .settings import Settings, read
from .shown import show
from .sockets import OwnSockets, Sockets
from .state import State
from .stock_sockets import StockSockets
from .web.blueprint import make_blueprint, publish_view
from .web.direct import put_before
from .web.explain import Ends, Explainer
from .web.hooks import Hooks
from .web.mount import credentials_count, make_socketio, mount
from .web.operator import Operator
from .web.publishers import admit_publishers
from .web.publishing import Publishing
from .web.readiness import Probes, Readiness
from .web.refusals import Refusals

logger = logging.getLogger(__name__)

GIVE_WAY_SECONDS = 0.0005


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
    """Return every dialect's rows for the documentation, by its name."""
    columns: dict[str, Any] = {"v5": V5("/").rows}
    legacy = load_legacy()
    if legacy is not None:
        for names in ("first", "second"):
            columns[f"v4, {names} set"] = legacy.V4(namespace="/", names=names).rows
    return columns


def reference() -> str:
    """Return docs/reference.md."""
    return reference_markdown(reference_columns(), _routes())


def events_reference() -> str:
    """Return docs/events.md."""
    return examples_markdown(reference_columns())


def _routes() -> list[Route]:
    """Return the addresses that the extension adds to an app, as they are by default."""
    app = Flask(__name__, static_folder=None)
    settings = {"REPO_NOTIFY_ASYNC_MODE": "threading", "REPO_NOTIFY_RECHECK_SECONDS": 0, "REPO_NOTIFY_LEGACY_V4": False}
    wire(app, read(settings), None).close()
    return [
        Route(method, str(rule), rule.endpoint.rpartition(".")[2])
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def wire(app: Flask, settings: Settings, host: SocketIO | None) -> State:
    """Make and connect the parts that serve `app`, on the `host`'s Flask-SocketIO or on one of our own."""
    dialects = dialects_of(settings)
    metrics = Metrics()
    store = Store(
        connect(settings.mongo_uri, timeout=settings.permission_timeout), users_collection=settings.users_collection
    )
    socketio = host if host is not None else make_socketio(settings, dialects.namespaces, dialects.codecs)

    def give_way() -> None:
        # A timer: where nobody sleeps gevent runs what is ready before it looks at sockets.
        socketio.server.sleep(GIVE_WAY_SECONDS)

    permissions = Permissions(
        store,
        metrics,
        ttl=settings.permission_cache_seconds,
        size=settings.permission_cache_size,
        timeout=settings.permission_timeout,
        legacy=settings.legacy_permissions,
        give_way=give_way,
        bounded=bounded_in_mongodb(socketio.server),
        start=socketio.server.start_background_task,
        reserved=settings.history_database if settings.history == HISTORY_MONGODB else None,
    )
    sockets = _sockets_of(socketio.server, dialects.namespaces)
    reads = SessionReads(bounded_by(socketio.server), seconds=settings.permission_timeout)
    sources = sources_of(app, settings, store.client, reads, metrics)
    identities = Identities(sources.handshakes)
    register = Register(sockets, dialects)
    revalidation = Revalidation(
        register,
        identities,
        permissions,
        metrics,
        dialects=dialects,
        seconds=settings.recheck_seconds,
        give_way=give_way,
    )

    def revalidate(named: Mapping[str, str | None]) -> None:
        revalidation.revalidate(Concern(**named))

    keeping, accounts = make_keeping(settings, sockets, metrics), Accounts()
    session_ends: list[SessionEnds] = []
    history = keeping.history
    recover = partial(
        Recoveries,
        dialects=dialects,
        register=register,
        revalidation=revalidation,
        keeping=keeping,
        give_way=give_way,
        is_alive=lambda session_id: session_ends[0].is_alive(session_id),
    )
    recoveries = recover(history, accounts, sockets, identities, permissions, metrics) if history is not None else None
    links = Links(settings, metrics, keeping, recoveries.hole if recoveries is not None else nothing)
    publisher = Publisher(
        sockets,
        identities,
        permissions,
        metrics,
        accounts,
        dialects=dialects,
        revalidate=revalidate,
        bus=links.bus,
        stream=links.stream,
        history=history,
        taken=recoveries.taken if recoveries is not None else nothing,
        forget_sessions=recoveries.forget_sessions if recoveries is not None else nothing,
    )
    links.connect(publisher, Events(dialects, publisher.pass_on, invalidate=permissions.invalidate))
    handlers = Handlers(
        sockets,
        identities,
        permissions,
        metrics,
        dialects=dialects,
        new_bucket=partial(Bucket, settings.join_burst, settings.join_rate),
        register=register,
        settle=revalidation.settle,
        sleep=socketio.server.sleep,
        recoveries=recoveries,
    )
    changes = _make_changes(settings, metrics, permissions, revalidation)
    bound = partial(_bound_sessions, identities, recoveries)
    ends = SessionEnds(app, bound=bound, end=publisher.end_here, ask=reads.run, store=sources.express)
    session_ends.append(ends)
    backend = make_backend(
        settings,
        socketio.server,
        sockets,
        identities,
        publisher,
        metrics,
        events=links.events,
        inlet=links.inlet,
        express=sources.express,
        missed=partial(_missed, sockets, recoveries),
    )
    start = partial(_start, socketio.server, _works(revalidation, ends, changes, recoveries))
    background = Background(socketio.async_mode, links.bus, start, keeping, backend)
    state = State(
        settings,
        socketio,
        store,
        metrics,
        sockets,
        sources.users,
        sources.express,
        identities,
        permissions,
        publisher,
        links.bus,
        revalidation,
        changes,
        ends,
        dialects,
        background,
        LoopLag(),
        history,
        recoveries,
        accounts,
        keeping,
        backend,
        Hooks(app),
    )
    explainer = Explainer(sockets, identities, permissions, store, dialects, links.stream or links.bus, Ends(), backend)
    operator = Operator(sockets, identities, dialects, explainer, build=_version())
    _attach(state, handlers, operator)
    show(state, _version())
    probes = Probes(
        store,
        permissions,
        sources.handshakes,
        links.bus,
        bounded_by(socketio.server),
        keeping.problem,
        backend,
        lambda: background.stopping,
    )
    _mount(app, state, operator, probes.readiness, is_hosts=host is not None)
    return state


def _mount(
    app: Flask, state: State, operator: Operator, readiness: Callable[[], Readiness], *, is_hosts: bool
) -> None:
    settings, history, hooks = state.settings, state.history, state.hooks
    position = (lambda: history.position) if history is not None else None
    publishing = Publishing(settings, state.publisher.send_all, state.metrics)
    admit_publishers(state.socketio.server, state.sockets, publishing, settings)
    blueprint = make_blueprint(
        app,
        settings,
        publish=publish_view(publishing),
        hooks=hooks,
        readiness=readiness,
        metrics=state.metrics,
        more=operator.routes(settings),
        position=position,
    )
    app.register_blueprint(blueprint)
    if state.keeping.writer is not None or state.backend is not None:
        # Whoever answers requests serves; first of all, so that the position that an answer tells is the right one.
        hooks.first(state.background.serve)
    if not is_hosts:
        told = position if settings.position_header else None
        put_before(app, publishing, settings, hooks=hooks, serve=state.background.serve, position=told)
        mount(app, state.socketio, settings)
    if (loaded := LOADED.get()) is not None:
        loaded.append(state)


def _bound_sessions(identities: Identities, recoveries: Recoveries | None) -> list[str]:
    """Return every session of a connection, and of those that lost theirs: nobody else may be on it."""
    return [*identities.sessions(), *(recoveries.records.sessions() if recoveries is not None else ())]


def _sockets_of(server: AnyServer, namespaces: tuple[str, ...]) -> Sockets:
    return OwnSockets(server, namespaces) if isinstance(server, Server) else StockSockets(server, namespaces)


def _works(
    revalidation: Revalidation, ends: SessionEnds, changes: Changes | None, recoveries: Recoveries | None
) -> list[Callable[[], None]]:
    """Return what runs in the background as long as the process serves."""
    others = [part.run for part in (changes, recoveries) if part is not None]
    return [revalidation.run, revalidation.run_sweeps, ends.run, *others]


def _missed(sockets: Sockets, recoveries: Recoveries | None) -> None:
    """Take note that something may have been published which nobody here has heard of."""
    # Without anybody in a room, and without a history, nobody can have missed it.
    if recoveries is not None and (recoveries.history.number or sockets.count_rooms()):
        recoveries.hole()


def _start(server: AnyServer, works: Iterable[Callable[[], None]]) -> None:
    for work in works:
        server.start_background_task(work)


def _make_changes(
    settings: Settings, metrics: Metrics, permissions: Permissions, revalidation: Revalidation
) -> Changes | None:
    if not settings.change_streams:
        return None
    return Changes(
        lambda: connect_stream(settings.mongo_uri, timeout=settings.permission_timeout),
        metrics,
        needed=lambda: permissions.loader is None,
        changed=revalidation.changed,
        doubted=revalidation.doubted,
    )


def _attach(state: State, handlers: Handlers, operator: Operator) -> None:
    server = state.socketio.server
    may_name_a_user = credentials_count(server, state.settings)

    def opened(connection_id: str, environ: Mapping[str, Any]) -> None:
        state.metrics.handshake("accepted")
        state.background.begin()
        if may_name_a_user(environ):
            state.identities.opened(connection_id, environ)
        else:
            state.metrics.session("none")

    def closed(connection_id: str, reason: str) -> None:
        label = reason.replace(" ", "_")
        state.metrics.disconnected(label if label in DISCONNECTS else "other")
        # Before the binding is forgotten: it remembers whose connection ended.
        operator.ended(connection_id, reason)
        state.identities.closed(connection_id)
        handlers.closed(connection_id)

    if isinstance(server, Server):
        server.eio.on_refused.append(Refusals(state.metrics, state.settings))
    reserved = Reserved(server, ACTIONS, _namespaces_of(state.settings))
    reserved.check()
    state.sockets.watch(opened, closed)
    state.sockets.attach(ACTIONS, handlers.handle, handlers.arriving)
    reserved.keep()


def _namespaces_of(settings: Settings) -> dict[str, str]:
    """Return the setting that chooses each namespace on which the protocol is spoken."""
    legacy = {settings.legacy_v4_namespace: "REPO_NOTIFY_LEGACY_V4_NAMESPACE"} if settings.legacy_v4 else {}
    return {**legacy, settings.namespace: "REPO_NOTIFY_NAMESPACE"}


def _version() -> str:
    # By name: the package's own module is above this one.
    return str(importlib.import_module("repo_notify").__version__)
