"""Who makes a request, and who a handshake's session names, as the host's Flask app knows it (spec section 2)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

from flask import Flask, session
from flask.sessions import SessionMixin

from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics

from .bindings import Identity
from .flask import HandshakeSessions, user_of, with_session_cookie
from .reads import SessionReads, SessionsUnavailable

logger = logging.getLogger(__name__)

# Where a session that is not server-side keeps the id by which events name it.
SESSION_KEY = "_repo_notify_id"

IdentityLoader = Callable[[], "str | None"]


def session_user() -> str | None:
    """Return `session["user"]["username"]`: the default identity loader."""
    return user_of(session)


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


class HostUsers:
    """The users of one app, by its identity loader and its session interface."""

    def __init__(self, app: Flask, reads: SessionReads, metrics: Metrics) -> None:
        self._app = app
        self._reads = reads
        self._metrics = metrics
        self._rarely = Rarely()
        self._sessions = HandshakeSessions(app, reads.bounded)
        self.loader: IdentityLoader = session_user
        self.session_id: Callable[[Any], str | None] = session_id_of

    def read(self, environ: Mapping[str, Any]) -> Identity | None:
        """Return the user of a handshake, None where there is none; raises `SessionsUnavailable`."""
        environ = with_session_cookie(environ, str(self._app.config["SESSION_COOKIE_NAME"]))
        if self.loader is session_user and "HTTP_COOKIE" not in environ:
            self._metrics.session("none")
            return None
        username, found = self._read(environ)
        if username is not None:
            self._metrics.session("user")
            return Identity(username, self.session_id(found))
        self._nobody(environ, found)
        return None

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

    def _read(self, environ: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
        # What a cookie holds by itself is nothing to wait for.
        if self.loader is session_user and self._sessions.need_no_store:
            return self._read_now(environ)
        try:
            return self._reads.shared(lambda: self._read_now(environ))
        except SessionsUnavailable:
            self._metrics.session("store_error")
            raise

    def _read_now(self, environ: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any] | None]:
        """Return the user, if there is one, and the session."""
        if self.loader is session_user and self._sessions.need_no_request:
            found = self._sessions.open(environ)
            return user_of(found) if found is not None else None, found
        # Flask leaves the app's context behind where the session's store raises: not in this greenlet's own.
        return self._reads.bounded(partial(copy_context().run, self._read_in_request, environ))

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
