"""Whose session is in a cookie, or why nobody's. The cookie's value is never repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import BadData, SignatureExpired
from werkzeug.test import create_environ

from repo_notify.sessions.express import ExpressSessions
from repo_notify.sessions.flask import HandshakeSessions, user_of
from repo_notify.sessions.host_users import IdentityLoader, session_user

from .findings import Finding, ok, wrong


def as_header(app: Flask, cookie: str) -> str:
    """Return the `Cookie` header that is meant: a header as it is, a bare value under the session cookie's name."""
    is_value = "=" not in cookie or cookie.startswith(("s:", "s%3A", "s%3a"))
    return cookie if not is_value else f"{session_cookie(app)}={cookie}"


def session_cookie(app: Flask) -> str:
    """Return the name of the session cookie."""
    return str(app.config["SESSION_COOKIE_NAME"])


def whose(app: Flask, loader: IdentityLoader, cookie: str, express: ExpressSessions | None = None) -> Finding:
    """Return whose session the cookie is, or why it is nobody's."""
    header, name = as_header(app, cookie), session_cookie(app)
    values = _cookies(header)
    if name not in values:
        return wrong(
            f"cookie: there is none of the name {name}: copy that one from the browser, or set SESSION_COOKIE_NAME to "
            "the name that the REST API gives its cookie"
        )
    environ = create_environ(headers={"Cookie": header})
    try:
        if express is not None:
            return _in_express(express, values[name])
        if loader is not session_user:
            with app.request_context(environ):
                return _told(loader(), "the identity loader finds nobody in it")
        if type(app.session_interface) is SecureCookieSessionInterface and (finding := _unsigned(app, values[name])):
            return finding
        return _in_session(HandshakeSessions(app).open(environ))
    # A session interface, or a host's loader, raises whatever its store raises.
    except Exception as error:  # noqa: BLE001 - as above
        return wrong(f"cookie: its session cannot be read ({type(error).__name__}): see to the session store")


def _in_express(express: ExpressSessions, value: str) -> Finding:
    session_id = express.signed_id(value)
    if session_id is None:
        return wrong(
            "cookie: it was signed with another secret, or was not copied whole: set REPO_NOTIFY_EXPRESS_SECRET to the "
            "app's cookie.secret"
        )
    if not express.alive([session_id]):
        return wrong("cookie: there is no such session any more: log in again, or correct REPO_NOTIFY_EXPRESS_SESSIONS")
    identity = express.identity(session_id)
    return _told(identity.username if identity is not None else None, "nobody is logged in in its session: log in")


def _told(username: str | None, otherwise: str) -> Finding:
    return ok(f"cookie: it is {username}'s session") if username else wrong(f"cookie: {otherwise}")


def _in_session(found: Mapping[str, Any] | None) -> Finding:
    if not found:
        return wrong(
            "cookie: the session store has no such session: log in again, or set SESSION_TYPE and the other SESSION_* "
            "keys as the REST API has them"
        )
    return _told(
        user_of(found),
        'nobody is logged in, as the session has no ["user"]["username"]: log in, or register an identity_loader',
    )


def _unsigned(app: Flask, value: str) -> Finding | None:
    """Return why a signed cookie is not believed, None where it is."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    if serializer is None:
        return wrong("cookie: it cannot be read without SECRET_KEY: set it to the REST API's")
    try:
        serializer.loads(value, max_age=int(app.permanent_session_lifetime.total_seconds()))
    except SignatureExpired:
        return wrong("cookie: it has expired: log in again (PERMANENT_SESSION_LIFETIME says how long it is good)")
    except BadData:
        return wrong(
            "cookie: it was signed with another key, or was not copied whole: set SECRET_KEY to the REST API's; if its "
            "sessions are server-side, set SESSION_TYPE"
        )
    return None


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}
