"""Who is on which socket: session cookie, query parameter, `x-socket-id`, and the end of sessions (spec section 2).

A binding belongs to the Engine.IO connection and so covers all its namespaces. This module owns it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from flask import Flask, session
from flask.sessions import SessionMixin

from repo_notify.logs import Rarely, connection_label
from repo_notify.metrics import Metrics

from .flask import HandshakeSessions, with_session_cookie
from .reads import SessionReads, SessionsUnavailable

logger = logging.getLogger(__name__)

# Where a session that is not server-side keeps the id by which events name it.
SESSION_KEY = "_repo_notify_id"
# For how long what is said to a session that has ended still finds its sockets, in seconds.
GRACE_SECONDS = 5.0

IdentityLoader = Callable[[], "str | None"]
Outcome = Literal["bound", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and the login session on a connection; `session_id` is None where the host's loader needs none.

    `named`: the connection did not bring the session, a request named the socket by `x-socket-id`.
    """

    username: str
    session_id: str | None
    named: bool = False


def session_user() -> str | None:
    """Return `session["user"]["username"]`: the default identity loader."""
    return user_of(session)


def user_of(found: Mapping[str, Any]) -> str | None:
    """Return `found["user"]["username"]`, None where there is none."""
    user = found.get("user")
    username = user.get("username") if isinstance(user, dict) else None
    return username if isinstance(username, str) and username else None


def flask_login_user() -> str | None:
    """Return the id of Flask-Login's `current_user`: an identity loader for hosts that use it."""
    from flask_login import current_user

    user: Any = current_user
    return str(user.get_id()) if user.is_authenticated else None


def session_id_of(found: Mapping[str, Any] | None) -> str | None:
    """Return a session's id as events name it: the server-side `sid`, else the id that the extension keeps in it."""
    if found is None:
        return None
    for sid in (getattr(found, "sid", None), found.get(SESSION_KEY)):
        if isinstance(sid, str):
            return sid
    return None


def ensure_session_id(found: SessionMixin) -> str | None:
    """Return the session's id, and give a session that is not server-side one to keep."""
    if session_id_of(found) is None:
        found[SESSION_KEY] = secrets.token_urlsafe(24)
    return session_id_of(found)


class Identities:
    """The bindings of one app's connections: connection -> identity, and session -> connections."""

    def __init__(self, app: Flask, reads: SessionReads, metrics: Metrics) -> None:
        self._app = app
        self._reads = reads
        self._metrics = metrics
        self._rarely = Rarely()
        self.loader: IdentityLoader = session_user
        self.session_id: Callable[[Any], str | None] = session_id_of
        # Told of each connection whose identity has changed.
        self.changed: Callable[[str], None] | None = None
        self._sessions = HandshakeSessions(app)
        self._lock = threading.Lock()
        self._of: dict[str, Identity] = {}
        self._unread: dict[str, Mapping[str, Any]] = {}
        self._connections: dict[str, set[str]] = {}
        # Of sessions that ended a moment ago, oldest first: when, and on which connections.
        self._ended: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def opened(self, connection: str, environ: Mapping[str, Any]) -> None:
        """Bind a new connection to the user of its handshake, if there is one.

        Where the session store does not answer, the handshake is kept and read again at the first join.
        """
        environ = with_session_cookie(environ, str(self._app.config["SESSION_COOKIE_NAME"]))
        if self.loader is session_user and "HTTP_COOKIE" not in environ:
            self._metrics.session("none")
            return
        try:
            found = self._read(environ)
        except SessionsUnavailable:
            # A copy: the engine keeps less of a handshake than a loader may ask for.
            self._unread[connection] = dict(environ)
            return
        if found is not None:
            self.bind(connection, found)

    def closed(self, connection: str) -> None:
        """Forget a connection."""
        self._unread.pop(connection, None)
        with self._lock:
            self._release(connection)

    def of(self, connection: str) -> Identity | None:
        """Return who is on the connection, or None; raises `SessionsUnavailable` while the store is out of reach."""
        if (environ := self._unread.get(connection)) is not None:
            found = self._read(environ)
            if self._unread.pop(connection, None) is not None and found is not None:
                self.bind(connection, found)
        return self._of.get(connection)

    def known(self, connection: str) -> Identity | None:
        """Return who is on the connection as far as that was read; asks no session store."""
        return self._of.get(connection)

    def bind(self, connection: str, identity: Identity) -> Outcome:
        """Bind the connection; a socket of one user is never given to another, a newer session takes it over."""
        with self._lock:
            bound = self._of.get(connection)
            if bound is not None and bound.username != identity.username:
                logger.warning(
                    "connection %s: bound to one user, it was named by a request of another; it stays as it is",
                    connection_label(connection),
                )
                return "refused"
            self._release(connection)
            self._of[connection] = identity
            if identity.session_id is not None:
                self._connections.setdefault(identity.session_id, set()).add(connection)
        self._unread.pop(connection, None)
        if self.changed is not None:
            self.changed(connection)
        return "bound"

    def end(self, session_ids: Iterable[str]) -> list[str]:
        """Unbind every connection of these sessions and return them."""
        with self._lock:
            of_session = {sid: frozenset(found) for sid in session_ids if (found := self._connections.get(sid))}
            if of_session:
                self._remember_ended(of_session)
            ended = sorted(set().union(*of_session.values()))
            for connection in ended:
                self._release(connection)
        if self.changed is not None:
            for connection in ended:
                self.changed(connection)
        return ended

    def _remember_ended(self, of_session: Mapping[str, frozenset[str]]) -> None:
        now = monotonic()
        while self._ended and now - next(iter(self._ended.values()))[0] > GRACE_SECONDS:
            self._ended.popitem(last=False)
        for session_id, connections in of_session.items():
            self._ended[session_id] = now, connections
            self._ended.move_to_end(session_id)

    def move(self, connection: str, identity: Identity) -> bool:
        """Bind the connection whoever it was; return whether it was somebody else's, or of another session."""
        with self._lock:
            before = self._of.get(connection)
            self._release(connection)
            self._of[connection] = identity
            if identity.session_id is not None:
                self._connections.setdefault(identity.session_id, set()).add(connection)
        self._unread.pop(connection, None)
        if self.changed is not None:
            self.changed(connection)
        return before is not None and (before.username, before.session_id) != (identity.username, identity.session_id)

    def has_session(self, session_id: str) -> bool:
        """Return whether a connection is bound to a session."""
        return session_id in self._connections

    def connections_of(self, session_id: str) -> list[str]:
        """Return the connections of a session; of one that ended a moment ago those that nobody is on since."""
        found = list(self._connections.get(session_id, ()))
        if (ended := self._ended.get(session_id)) is not None and monotonic() - ended[0] <= GRACE_SECONDS:
            found += [connection for connection in ended[1] if connection not in self._of]
        return found

    def bound(self) -> list[str]:
        """Return every connection that somebody is on."""
        return list(self._of)

    def sessions(self) -> list[str]:
        """Return every session that a connection is bound to."""
        return list(self._connections)

    def current(self) -> Identity | None:
        """Return who makes the current request, giving the session an id to keep where it needs one."""
        username = self.loader()
        if username is None:
            return None
        interface = self._app.session_interface
        current: Any = session
        if interface.is_null_session(current._get_current_object()):
            return Identity(username, None)
        return Identity(username, self.session_id(session) or ensure_session_id(session))

    def probe(self) -> None:
        """Ask the session store for a sign of life where sessions are in one; raises what the store raises.

        A loader, or a session interface, of the host's own is not asked: what it does without a session is not known.
        """
        if self.loader is session_user and self._sessions.need_no_request and not self._sessions.need_no_store:
            self._sessions.probe()

    def _read(self, environ: Mapping[str, Any]) -> Identity | None:
        # What a cookie holds by itself is nothing to wait for.
        if self.loader is session_user and self._sessions.need_no_store:
            username, found = self._read_now(environ)
        else:
            try:
                username, found = self._reads.run(lambda: self._read_now(environ))
            except SessionsUnavailable:
                self._metrics.session("store_error")
                raise
        if username is not None:
            self._metrics.session("user")
            return Identity(username, self.session_id(found))
        self._nobody(environ, found)
        return None

    def _read_now(self, environ: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
        """Return the user, if there is one, and the session."""
        if self.loader is session_user and self._sessions.need_no_request:
            found = self._sessions.open(environ)
            return user_of(found) if found is not None else None, found
        # Flask leaves the app's context behind where the session's store raises: not in this greenlet's own.
        return copy_context().run(self._read_in_request, environ)

    def _read_in_request(self, environ: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
        with self._app.request_context(dict(environ)):
            username = self.loader()
            current: Any = session
            return username, current._get_current_object()

    def _nobody(self, environ: Mapping[str, Any], found: Mapping[str, Any] | None) -> None:
        """Count a session without a user, and log what is probably a mistake of the configuration."""
        why = self._sessions.why_nobody(environ, found)
        self._metrics.session(why)
        name = self._app.config["SESSION_COOKIE_NAME"]
        if why == "bad_signature" and self._rarely(why):
            logger.warning(
                "the session cookie %r of a handshake is not signed with SECRET_KEY, so that its user is not known: "
                "set SECRET_KEY as the app that logs in has it, a former one in SECRET_KEY_FALLBACKS",
                name,
            )
        elif why == "none" and self._rarely(why) and (other := self._sessions.misnamed(environ)) not in (None, name):
            logger.warning(
                "a handshake brings its session in the cookie %r, but SESSION_COOKIE_NAME is %r: set it as the app "
                "that logs in has it",
                other,
                name,
            )

    def _release(self, connection: str) -> None:
        bound = self._of.pop(connection, None)
        if bound is None or bound.session_id is None:
            return
        connections = self._connections[bound.session_id]
        connections.discard(connection)
        if not connections:
            del self._connections[bound.session_id]
