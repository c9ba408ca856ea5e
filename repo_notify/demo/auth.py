"""Logging in and out, v5 and v4: server-side sessions (Flask-Session in MongoDB), ended as the original ends them.

A login whose request has a `Referer` ends the same user's older sessions from the same origin. Which session is whose,
and from where, is kept in `admin.demo_logins`, because Flask-Session's own documents cannot be searched for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, jsonify, request, session
from werkzeug.security import check_password_hash, generate_password_hash

from repo_notify.events import SessionsEnded

from .body import LoginV4, LoginV5, read_body
from .context import current_user, demo, publish
from .errors import WrongCredentials

SESSIONS = "demo_sessions"
LOGINS = "demo_logins"
ELSEWHERE = "You have logged in else where"
LOGGED_OUT = "You have logged out"
# Checked where there is no such user, so that the time an answer takes does not tell which names exist.
NOBODY = generate_password_hash("nobody")

blueprint = Blueprint("demo_auth", __name__)


@blueprint.post("/v5/login")
def login_v5() -> Response:
    """`POST /v5/login {user, password}`: 200 `{username}`, else 400."""
    body = read_body(LoginV5)
    return _login(body["user"], body["password"])


@blueprint.post("/login")
@blueprint.post("/login.json")
def login_v4() -> Response:
    """`POST /login {username, password}`: 200 `{username}`, else 400."""
    body = read_body(LoginV4)
    return _login(body["username"], body["password"])


@blueprint.get("/v5/login")
def who() -> Response:
    """`GET /v5/login`: 200 `{username}`, or 401."""
    return jsonify(username=current_user())


@blueprint.post("/v5/logout")
@blueprint.post("/logout")
@blueprint.post("/logout.json")
def logout() -> Response:
    """`POST /v5/logout` and `POST /logout`: 200 `{username}`, or 401; the session's sockets hear `loggedOut`."""
    username = current_user()
    _end([_session_id()], LOGGED_OUT)
    session.clear()
    return jsonify(username=username)


def prepare_collections() -> None:
    """Make the indexes that the look-ups of sessions and logins need, and those that let both expire."""
    demo().admin[SESSIONS].create_index("id")
    demo().admin[LOGINS].create_index("username")
    demo().admin[LOGINS].create_index("expiration", expireAfterSeconds=0)


def _login(username: str, password: str) -> Response:
    account = demo().users.find_one({"user": username}) or {}
    stored = (account.get("customData") or {}).get("passwordHash")
    if not check_password_hash(stored or NOBODY, password) or not stored:
        raise WrongCredentials
    former = session.get("user")
    if former and former["username"] != username:
        session.clear()  # nothing of one user's session passes to another; sockets stay whose they are
    session["user"] = {"username": username}
    # A session id that somebody knew before this login must not become a logged-in one. The same user's keeps its id,
    # so that the sockets bound to it stay bound; another user's session lives on in the store, as its sockets would
    # end with it.
    if not former:
        cast("Any", current_app.session_interface).regenerate(session)
    elif former["username"] != username:
        cast("Any", session).sid = secrets.token_urlsafe(32)
    session.permanent = True
    _register(username, _origin(request.headers.get("Referer")))
    return jsonify(username=username)


def _session_id() -> str:
    return str(cast("Any", session).sid)


def _origin(referer: str | None) -> str | None:
    try:
        parts = urlsplit(referer or "")
        port = parts.port
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}:{port or ''}" if parts.hostname else None


def _register(username: str, origin: str | None) -> None:
    logins, own = demo().admin[LOGINS], _session_id()
    if origin is not None:
        older = logins.find({"username": username, "origin": origin, "_id": {"$ne": own}}, {"_id": True})
        _end([login["_id"] for login in older], ELSEWHERE)
    expiration = datetime.now(timezone.utc) + current_app.permanent_session_lifetime
    logins.replace_one({"_id": own}, {"username": username, "origin": origin, "expiration": expiration}, upsert=True)


def _end(session_ids: Sequence[str], reason: str) -> None:
    """Make those sessions worthless, then tell their sockets; in this order, lest a reconnecting one gets back in."""
    if not session_ids:
        return
    prefix = current_app.config["SESSION_KEY_PREFIX"]
    demo().admin[SESSIONS].delete_many({"id": {"$in": [prefix + session_id for session_id in session_ids]}})
    demo().admin[LOGINS].delete_many({"_id": {"$in": list(session_ids)}})
    publish(SessionsEnded(session_ids=list(session_ids), reason=reason))
