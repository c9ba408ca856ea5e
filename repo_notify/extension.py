"""The Flask extension: init_app, publish, login and logout. Thin."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, current_app, has_request_context, request
from flask.globals import request_ctx
from flask.sessions import SessionMixin
from flask_socketio import SocketIO

from .access.permissions import AccessChecker, PermissionLoader
from .delivery.recording import RecordedEvents
from .doctor.commands import group
from .errors import NotInitialised
from .events import Event, SessionsEnded
from .sessions.ends import SessionStore
from .sessions.host_users import IdentityLoader, session_user
from .settings import read
from .state import State
from .web.direct import SOCKET_ID
from .web.facade import DeferredSocketIO
from .wiring import wire

logger = logging.getLogger(__name__)

NAME = "repo_notify"
LOGGED_OUT = "You have been logged out"
LOGGED_IN_ELSEWHERE = "You have logged in else where"


class RepoNotify:
    """Real-time notifications for a Flask app.

    Give the app here or to `init_app`; one instance serves any number of apps. Every REPO_NOTIFY_* key of `app.config`
    is read once, in `init_app`; later changes are ignored. `socketio` is a Flask-SocketIO of the host to which the
    handlers are added; without it one is made and mounted at REPO_NOTIFY_CHAT_PATH.
    """

    def __init__(self, app: Flask | None = None, *, socketio: SocketIO | None = None) -> None:
        self._loader: IdentityLoader = session_user
        self._checker: AccessChecker | None = None
        self._session_store: SessionStore | None = None
        self._permission_loader: PermissionLoader | None = None
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._deferred = DeferredSocketIO()
        if app is not None:
            self.init_app(app, socketio=socketio)

    def init_app(self, app: Flask, *, socketio: SocketIO | None = None) -> None:
        """Mount the service into `app`.

        Raises `SettingsError` naming every wrong key, and `RuntimeError` when the app has the extension already. No
        thread is started, so that commands and workers may make the app, too.
        """
        if NAME in app.extensions:
            raise RuntimeError(
                "this app has repo_notify already; call init_app once per app, or pass the app to RepoNotify() only"
            )
        settings = read(app.config)
        state = wire(app, settings, socketio)
        state.users.loader = self._loader
        state.permissions.checker = self._checker
        if self._session_store is not None:
            _use_session_store(state, self._session_store)
        self._deferred.register_with(state.socketio)
        app.extensions[NAME] = state
        self._apps.add(app)
        if self._permission_loader is not None:
            state.permissions.loader = _within(app, self._permission_loader)
        state.hooks.after(self._after_request)
        app.cli.add_command(group)

    def identity_loader(self, loader: IdentityLoader) -> IdentityLoader:
        """Register what tells the current user's name within a request, or None: a decorator.

        The default reads `session["user"]["username"]`; `repo_notify.flask_login_user` is one for Flask-Login.
        """
        self._loader = loader
        for app in self._apps:
            app.extensions[NAME].users.loader = loader
        return loader

    def access_checker(self, checker: AccessChecker) -> AccessChecker:
        """Register the host's own say on who may be in a room: a decorator (spec section 10).

        `checker(username, teamspace, project, model)` is asked after MongoDB has said yes, at each join and whenever
        rights are asked for again; project and model are None where the room is of no one project or model. It returns
        whether the user may; where it raises the room is refused, and that is logged.
        """
        self._checker = checker
        for app in self._apps:
            app.extensions[NAME].permissions.checker = checker
        return checker

    def end_access(
        self,
        *,
        username: str | None = None,
        teamspace: str | None = None,
        project: str | None = None,
        model: str | None = None,
    ) -> None:
        """Have rights asked for again, at once and in every process, for the members that are named (spec section 10).

        Who has the right still notices nothing. What is left out may be any. Raises ValueError where neither a user nor
        a teamspace is named, or a project or model without its teamspace.
        """
        if teamspace is None and (username is None or project is not None or model is not None):
            raise ValueError("end_access needs a username or a teamspace; a project or model needs its teamspace too")
        named = {"username": username, "teamspace": teamspace, "project": project, "model": model}
        self._state().publisher.end_access(named)

    def permission_loader(self, loader: PermissionLoader) -> PermissionLoader:
        """Register what decides who may enter a room, in the place of 3D Repo's documents in MongoDB: a decorator.

        It is called as `loader(username, teamspace, project, model)` within an app context and returns True or False.
        `model` is None for a project's room, `project` None for v4's `{account, model}`, both for v4's `{account}`.
        What it returned is believed for REPO_NOTIFY_PERMISSION_CACHE_SECONDS; while it raises, joins are answered with
        `SERVICE_UNAVAILABLE` and nobody is removed.
        """
        self._permission_loader = loader
        for app in self._apps:
            app.extensions[NAME].permissions.loader = _within(app, loader)
        return loader

    def session_store(self, store: SessionStore) -> None:
        """Register where the host keeps its sessions, so that those that end there end on their sockets.

        Flask-Session's in MongoDB and Redis are known without.
        """
        self._session_store = store
        for app in self._apps:
            _use_session_store(app.extensions[NAME], store)

    def publish(self, event: Event) -> None:
        """Tell everybody concerned what happened.

        The emitter is the current request's `x-socket-id` unless the event names one; a request names its own user's
        sockets only. A client that is gone is no error. Raises `InvalidEvent` naming the wrong fields, `TypeError` for
        what is no event, and `NotInitialised` outside an app.
        """
        state = self._state()
        socket_id = named_by = None
        if not has_request_context():
            if not state.background.serving:
                state.background.warn_unheard(event)
        elif socket_id := request.environ.get(SOCKET_ID):
            named_by = _requester(state)
        state.publisher.publish(event, emitter=socket_id, named_by=named_by)

    def session_id(self) -> str | None:
        """Return the current session's id as `SessionsEnded.session_ids` names it; None where nobody is logged in."""
        identity = self._state().users.current()
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
        """The current app's Flask-SocketIO, for handlers of the host's own; before `init_app` one that keeps them."""
        return self._state().socketio if self._apps else self._deferred

    @contextmanager
    def recorded(self, *, deliver: bool = False) -> Iterator[RecordedEvents]:
        """Keep what the current app publishes within the block, for tests.

        Events are checked as ever and get their emitter. They are delivered to nobody, unless `deliver` is true.
        """
        with self._state().publisher.recorded(deliver=deliver) as events:
            yield events

    def close(self, app: Flask) -> None:
        """End what runs in the background for `app`: for tests, and programs that make one app after another."""
        state: State = app.extensions[NAME]
        state.close()
        state.keeping.close()
        self._apps.discard(app)

    def _state(self) -> State:
        proxy: Any = current_app
        try:
            # What the proxy looks up for each attribute is a part of what an event costs.
            state = proxy._get_current_object().extensions.get(NAME)
        except RuntimeError:
            apps = list(self._apps)
            state = apps[0].extensions[NAME] if len(apps) == 1 else None
        if isinstance(state, State):
            return state
        raise NotInitialised(
            "repo_notify does not know which app is meant: call notify.init_app(app) first, and with several apps work "
            "within `with app.app_context():`"
        )

    def _bind(self, state: State) -> None:
        identity = state.users.current()
        socket_id = request.environ.get(SOCKET_ID)
        if identity is not None and socket_id:
            state.publisher.bind(socket_id, identity)

    def _after_request(self, response: Response) -> Response:
        state = self._state()
        state.background.serving = True
        found = _session()
        if SOCKET_ID in request.environ or getattr(found, "modified", False):
            accessed = getattr(found, "accessed", False)
            try:
                self._bind(state)
            # The host's answer stands, whatever its identity loader makes of the request.
            except Exception:
                logger.exception("the socket that a request named could not be bound")
            if found is not None and not found.modified:
                found.accessed = accessed
        return response


def _within(app: Flask, loader: PermissionLoader) -> PermissionLoader:
    """Return the loader as it is called: rights are asked for outside any request."""

    def load(username: str, teamspace: str, project: str | None, model: str | None) -> bool:
        with app.app_context():
            return loader(username, teamspace, project, model)

    return load


def _use_session_store(state: State, store: SessionStore) -> None:
    state.session_ends.store = store
    state.users.session_id = store.session_id


def _requester(state: State) -> str:
    """Return the name of the user who makes the request, `""` for nobody, and leave the session unmarked."""
    found = _session()
    accessed = getattr(found, "accessed", False)
    try:
        return state.users.loader() or ""
    # The event goes out, whatever the host's identity loader makes of the request.
    except Exception:
        logger.exception("who makes a request could not be told; the socket that it names is no emitter")
        return ""
    finally:
        if found is not None and not found.modified:
            found.accessed = accessed


def _session() -> SessionMixin | None:
    """Return the request's session without a trace.

    Looking at `flask.session` marks it as accessed, which would add `Vary: Cookie` to answers that are none of ours.
    """
    proxy: Any = request_ctx
    context = vars(proxy._get_current_object())
    # An empty session is false, and yet the one.
    found: SessionMixin | None = context["_session"] if "_session" in context else context.get("session")
    return found
