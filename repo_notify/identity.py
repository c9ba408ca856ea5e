"""Who is on which socket: session cookie, query parameter, `x-socket-id`, and the end of sessions (PROTOCOL section 2).

A binding belongs to the Engine.IO connection and so covers all its namespaces. This module owns it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs

from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

logger = logging.getLogger(__name__)

# Where a session that is not server-side keeps the id by which events name it.
SESSION_KEY = "_repo_notify_id"

IdentityLoader = Callable[[], "str | None"]
Outcome = Literal["bound", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and the login session on a connection; `session_id` is None where the host's loader needs none."""

    username: str
    session_id: str | None


def session_user() -> str | None:
    """Return `session["user"]["username"]`: the default identity loader."""
    return _user_of(session)


def _user_of(found: Mapping[str, Any]) -> str | None:
    user = found.get("user")
    username = user.get("username") if isinstance(user, dict) else None
    return username if isinstance(username, str) and username else None


def flask_login_user() -> str | None:
    """Return the id of Flask-Login's `current_user`: an identity loader for hosts that use it."""
    from flask_login import current_user

    user: Any = current_user
    return str(user.get_id()) if user.is_authenticated else None


def session_id_of(found: SessionMixin | None) -> str | None:
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


def with_session_cookie(environ: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the environ with the query parameter `name` as the cookie of that name, unless it has such a cookie.

    Old clients cannot set headers (PROTOCOL section 2, way 2).
    """
    cookies = environ.get("HTTP_COOKIE", "")
    if any(part.split("=", 1)[0].strip() == name for part in cookies.split(";")):
        return dict(environ)
    values = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=50).get(name)
    if not values or any(character in values[0] for character in ";\r\n"):
        return dict(environ)
    return {**environ, "HTTP_COOKIE": f"{cookies}; {name}={values[0]}" if cookies else f"{name}={values[0]}"}


class _Cookies(SecureCookieSessionInterface):
    """Reads Flask's signed cookies as Flask does, but does not make a serializer anew for each."""

    def __init__(self) -> None:
        self._made_of: tuple[Any, ...] | None = None
        self._serializer: URLSafeTimedSerializer | None = None

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """Return the one of the app's keys."""
        made_of = (app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ()))
        if made_of != self._made_of:
            self._serializer, self._made_of = super().get_signing_serializer(app), made_of
        return self._serializer


class Identities:
    """The bindings of one app's connections: connection -> identity, and session -> connections."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.loader: IdentityLoader = session_user
        self._cookies = _Cookies()
        self._lock = threading.Lock()
        self._of: dict[str, Identity] = {}
        self._unread: dict[str, dict[str, Any]] = {}
        self._connections: dict[str, set[str]] = {}

    def opened(self, connection: str, environ: Mapping[str, Any]) -> None:
        """Bind a new connection to the user of its handshake, if there is one.

        Where the session store does not answer, the handshake is kept and read again at the first join.
        """
        environ = with_session_cookie(environ, str(self._app.config["SESSION_COOKIE_NAME"]))
        if self.loader is session_user and "HTTP_COOKIE" not in environ:
            return
        try:
            found = self._read(environ)
        # A session interface may raise whatever its store raises; the socket may connect all the same.
        except Exception:
            logger.exception("the session of a handshake could not be read; it is tried again at the first join")
            self._unread[connection] = environ
            return
        if found is not None:
            self.bind(connection, found)

    def closed(self, connection: str) -> None:
        """Forget a connection."""
        self._unread.pop(connection, None)
        with self._lock:
            self._release(connection)

    def of(self, connection: str) -> Identity | None:
        """Return who is on the connection, or None. Raises what the session store raises while it is out of reach."""
        if (environ := self._unread.get(connection)) is not None:
            found = self._read(environ)
            if self._unread.pop(connection, None) is not None and found is not None:
                self.bind(connection, found)
        return self._of.get(connection)

    def bind(self, connection: str, identity: Identity) -> Outcome:
        """Bind the connection; a socket of one user is never given to another, a newer session takes it over."""
        with self._lock:
            bound = self._of.get(connection)
            if bound is not None and bound.username != identity.username:
                logger.warning("a socket bound to one user was named by a request of another; it stays as it is")
                return "refused"
            self._release(connection)
            self._of[connection] = identity
            if identity.session_id is not None:
                self._connections.setdefault(identity.session_id, set()).add(connection)
        self._unread.pop(connection, None)
        return "bound"

    def end(self, session_ids: Iterable[str]) -> list[str]:
        """Unbind every connection of these sessions and return them."""
        with self._lock:
            ended = sorted({found for sid in session_ids for found in self._connections.get(sid, ())})
            for connection in ended:
                self._release(connection)
        return ended

    def bound(self) -> list[tuple[str, Identity]]:
        """Return every bound connection with who is on it."""
        return list(self._of.items())

    def current(self) -> Identity | None:
        """Return who makes the current request, giving the session an id to keep where it needs one."""
        username = self.loader()
        if username is None:
            return None
        interface = self._app.session_interface
        current: Any = session
        kept = None if interface.is_null_session(current._get_current_object()) else ensure_session_id(session)
        return Identity(username, kept)

    def _read(self, environ: dict[str, Any]) -> Identity | None:
        interface = self._app.session_interface
        if self.loader is session_user and type(interface) is SecureCookieSessionInterface and not vars(interface):
            # Flask's own needs no request context, which costs as much again as the cookie's signature.
            found = self._cookies.open_session(self._app, self._app.request_class(environ))
            username = _user_of(found) if found is not None else None
            return Identity(username, session_id_of(found)) if username is not None else None
        with self._app.request_context(environ):
            username = self.loader()
            return Identity(username, session_id_of(session)) if username is not None else None

    def _release(self, connection: str) -> None:
        bound = self._of.pop(connection, None)
        if bound is None or bound.session_id is None:
            return
        connections = self._connections[bound.session_id]
        connections.discard(connection)
        if not connections:
            del self._connections[bound.session_id]
