"""The Flask extension: the only file that wires the others together."""

from __future__ import annotations

import importlib
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, current_app, has_app_context, has_request_context, request
from flask.globals import request_ctx
from flask.sessions import SessionMixin
from flask_socketio import SocketIO

from . import rooms
from .blueprint import make_blueprint
from .bus import Bus
from .catalogue import v5_deliveries
from .connections import Connections
from .engine.codec import Codec
from .errors import NotInitialised, NotMonkeyPatched, SettingsError
from .events import Event, SessionsEnded
from .identity import Identities, IdentityLoader, session_user
from .metrics import Metrics
from .mounting import attach, credentials_count, hook_connections, make_socketio, mount, watch_connections
from .permissions import Permissions
from .protocol import Haste, Protocol
from .publisher import Deliveries, Publisher
from .recheck import Recheck
from .settings import Settings, read
from .store import Store, connect

logger = logging.getLogger(__name__)

NAME = "repo_notify"
SUBSCRIBE_SECONDS = 2.0
LOGGED_OUT = "You have been logged out"
LOGGED_IN_ELSEWHERE = "You have logged in else where"


@dataclass(frozen=True)
class Wiring:
    """What decides how an app is served; `legacy_v4` adds its own to it.

    `kinds` are the rows that joins are matched against, first match first; `memberships` explains rooms by their kind;
    `deliveries` turn events into what goes out; `codecs` are wire generations beside Engine.IO 4.
    """

    namespaces: tuple[str, ...]
    kinds: tuple[rooms.RoomKind, ...] = rooms.V5_ROOMS
    memberships: tuple[tuple[str, rooms.Membership], ...] = tuple(rooms.V5_MEMBERSHIPS.items())
    deliveries: tuple[Deliveries, ...] = (v5_deliveries,)
    codecs: tuple[Codec, ...] = ()
    legacy_namespaces: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """What one app has: `app.extensions["repo_notify"]`."""

    settings: Settings
    socketio: SocketIO
    store: Store
    metrics: Metrics
    connections: Connections
    identities: Identities
    permissions: Permissions
    publisher: Publisher
    bus: Bus | None
    recheck: Recheck
    close: Callable[[], None]


class RepoNotify:
    """Real-time notifications for a Flask app.

    Give the app here or to `init_app`; one instance serves any number of apps. Every REPO_NOTIFY_* key of `app.config`
    is read once, in `init_app`; later changes are ignored. `socketio` is a Flask-SocketIO of the host to which the
    handlers are added; without it one is made and mounted at REPO_NOTIFY_CHAT_PATH.
    """

    def __init__(self, app: Flask | None = None, *, socketio: SocketIO | None = None) -> None:
        self._loader: IdentityLoader = session_user
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app, socketio=socketio)

    def init_app(self, app: Flask, *, socketio: SocketIO | None = None) -> None:
        """Mount the service into `app`.

        Raises `SettingsError` naming every wrong key, `NotMonkeyPatched` with the cure, and `RuntimeError` when the app
        has the extension already.
        """
        if NAME in app.extensions:
            raise RuntimeError(
                "this app has repo_notify already; call init_app once per app, or pass the app to RepoNotify() only"
            )
        settings = read(app.config)
        _require_patching(socketio.async_mode if socketio is not None else settings.async_mode)
        state = _wire(app, settings, socketio)
        state.identities.loader = self._loader
        app.extensions[NAME] = state
        self._apps.add(app)
        app.register_blueprint(make_blueprint(app, state))
        app.after_request(self._after_request)

    def identity_loader(self, loader: IdentityLoader) -> IdentityLoader:
        """Register what tells the current user's name within a request, or None: a decorator.

        The default reads `session["user"]["username"]`; `repo_notify.flask_login_user` is one for Flask-Login.
        """
        self._loader = loader
        for app in self._apps:
            app.extensions[NAME].identities.loader = loader
        return loader

    def publish(self, event: Event) -> None:
        """Tell everybody concerned what happened.

        The emitter is the current request's `x-socket-id` unless the event names one. A client that is gone is no
        error. Raises `InvalidEvent` naming the wrong fields, `TypeError` for what is no event, and `NotInitialised`
        outside an app.
        """
        socket_id = request.headers.get("x-socket-id") if has_request_context() else None
        self._state().publisher.publish(event, emitter=socket_id)

    def session_id(self) -> str | None:
        """Return the current session's id as `SessionsEnded.session_ids` names it; None where nobody is logged in."""
        identity = self._state().identities.current()
        return identity.session_id if identity is not None else None

    def login(self) -> None:
        """Bind the socket that this request names to the user who is now logged in.

        Every answered request of a logged-in user does so by itself; call it to have it done before the view goes on.
        """
        self._bind(self._state())

    def logout(self, reason: str = LOGGED_OUT) -> None:
        """End the current session: call it before the session is cleared. Its sockets hear `loggedOut`."""
        if (session_id := self.session_id()) is not None:
            self.end_sessions([session_id], reason)

    def end_sessions(self, session_ids: list[str], reason: str = LOGGED_IN_ELSEWHERE) -> None:
        """End these sessions, in whichever process their sockets are."""
        self.publish(SessionsEnded(session_ids=session_ids, reason=reason))

    @property
    def socketio(self) -> SocketIO:
        """The current app's Flask-SocketIO, for handlers of the host's own."""
        return self._state().socketio

    def _state(self) -> State:
        if has_app_context():
            state = current_app.extensions.get(NAME)
        else:
            apps = list(self._apps)
            state = apps[0].extensions[NAME] if len(apps) == 1 else None
        if isinstance(state, State):
            return state
        raise NotInitialised(
            "repo_notify does not know which app is meant: call notify.init_app(app) first, and with several apps work "
            "within `with app.app_context():`"
        )

    def _bind(self, state: State) -> None:
        identity = state.identities.current()
        socket_id = request.headers.get("x-socket-id")
        if identity is not None and socket_id:
            state.publisher.bind(socket_id, identity)

    def _after_request(self, response: Response) -> Response:
        found = _session()
        if "x-socket-id" in request.headers or getattr(found, "modified", False):
            accessed = getattr(found, "accessed", False)
            try:
                self._bind(self._state())
            # The host's answer stands, whatever its identity loader makes of the request.
            except Exception:
                logger.exception("the socket that a request named could not be bound")
            if found is not None and not found.modified:
                found.accessed = accessed
        return response


def _session() -> SessionMixin | None:
    """Return the request's session without a trace.

    Looking at `flask.session` marks it as accessed, which would add `Vary: Cookie` to answers that are none of ours.
    """
    proxy: Any = request_ctx
    context = vars(proxy._get_current_object())
    # An empty session is false, and yet the one.
    found: SessionMixin | None = context["_session"] if "_session" in context else context.get("session")
    return found


def _require_patching(async_mode: str) -> None:
    if async_mode == "gevent":
        from gevent import monkey

        if not (monkey.is_module_patched("socket") and monkey.is_module_patched("threading")):
            raise NotMonkeyPatched


def _wiring(settings: Settings) -> Wiring:
    wiring = Wiring(namespaces=(settings.namespace,))
    if not settings.legacy_v4:
        return wiring
    try:
        legacy = importlib.import_module("legacy_v4")
    except ModuleNotFoundError as error:
        if error.name != "legacy_v4":
            raise
        raise SettingsError(
            ["REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed"]
        ) from error
    extended = legacy.extend(wiring, settings)
    assert isinstance(extended, Wiring)
    return extended


def _wire(app: Flask, settings: Settings, host: SocketIO | None) -> State:
    wiring = _wiring(settings)
    metrics = Metrics()
    store = Store(
        connect(settings.mongo_uri, timeout=settings.permission_timeout), users_collection=settings.users_collection
    )
    permissions = Permissions(
        store,
        ttl=settings.permission_cache_seconds,
        size=settings.permission_cache_size,
        timeout=settings.permission_timeout,
    )
    socketio = host if host is not None else make_socketio(settings, wiring.namespaces, wiring.codecs)
    connections = Connections(socketio.server, wiring.namespaces)
    identities = Identities(app)
    protocol = Protocol(
        connections,
        identities,
        permissions,
        metrics,
        kinds=wiring.kinds,
        haste=Haste(settings.join_burst, settings.join_rate, settings.join_flood),
        legacy_namespaces=wiring.legacy_namespaces,
    )
    received: list[Publisher] = []
    bus = (
        Bus(
            settings.message_queue,
            settings.message_queue_channel,
            lambda message: received[0].receive(message),
            metrics,
        )
        if settings.message_queue is not None
        else None
    )
    publisher = Publisher(connections, identities, permissions, metrics, deliveries=wiring.deliveries, bus=bus)
    received.append(publisher)
    recheck = Recheck(
        connections,
        identities,
        permissions,
        metrics,
        memberships=dict(wiring.memberships),
        seconds=settings.recheck_seconds,
    )

    may_name_a_user = credentials_count(socketio.server, settings)

    def opened(connection: str, environ: Mapping[str, Any]) -> None:
        if bus is not None:
            bus.start(SUBSCRIBE_SECONDS)
        if may_name_a_user(environ):
            identities.opened(connection, environ)

    def closed(connection: str) -> None:
        identities.closed(connection)
        protocol.closed(connection)

    def close() -> None:
        recheck.close()
        if bus is not None:
            bus.close()
        store.close()

    hook_connections(socketio.server, opened, closed)
    for namespace in wiring.namespaces:
        attach(socketio.server, namespace, protocol.handle, unknown_too=host is None)
    watch_connections(metrics, socketio.server)
    if host is None:
        mount(app, socketio, settings)
    if settings.recheck_seconds:
        socketio.server.start_background_task(recheck.run)
    return State(
        settings, socketio, store, metrics, connections, identities, permissions, publisher, bus, recheck, close
    )
