"""The session of a handshake: what is in its cookie, or in the store that its cookie names (spec section 2).

After a deploy everybody's session is read at once, so Flask's and Flask-Session's are opened without a request context,
which they do not ask for, and what reads signed cookies is made once instead of for each.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSessionInterface, SessionInterface
from itsdangerous import BadSignature, SignatureExpired, Signer, TimestampSigner, URLSafeTimedSerializer
from werkzeug.test import create_environ

from .flask_stores import PACKAGE, SharedReads, flask_store

# Why a handshake's session names nobody.
NoUser = Literal["none", "bad_signature", "expired"]
# So many cookies are tried for one of the app's under another name.
MAX_TRIED = 10

# Our engine refuses more; a stock server does not.
MAX_PARAMETERS = 50
# What a signed value consists of; any other is left to werkzeug's parser.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
# Of these packages, `open_session` asks the request that it is given, and none that is current.
_NEED_NO_REQUEST = ("flask", PACKAGE)


def with_session_cookie(environ: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the environ with the query parameter `name` as the cookie of that name, unless it has such a cookie.

    Old clients cannot set headers (spec section 2, way 2).
    """
    query = environ.get("QUERY_STRING", "")
    if name not in query and "%" not in query:
        return environ
    cookies = environ.get("HTTP_COOKIE", "")
    if cookie_of(cookies, name) is not None:
        return environ
    try:
        values = parse_qs(query, max_num_fields=MAX_PARAMETERS).get(name)
    except ValueError:
        return environ
    if not values or any(character in values[0] for character in ";\r\n"):
        return environ
    return {**environ, "HTTP_COOKIE": f"{cookies}; {name}={values[0]}" if cookies else f"{name}={values[0]}"}


def user_of(found: Mapping[str, Any]) -> str | None:
    """Return `found["user"]["username"]`, None where there is none."""
    user = found.get("user")
    username = user.get("username") if isinstance(user, dict) else None
    return username if isinstance(username, str) and username else None


class _Tagged:
    """Flask's JSON with tags, read with one decoder instead of a new one, and in one pass instead of two."""

    def __init__(self, tagged: TaggedJSONSerializer) -> None:
        self.loads = json.JSONDecoder(object_hook=tagged.untag).decode
        self.dumps = tagged.dumps


class _Reader(NamedTuple):
    """What reads the cookies that are signed with some keys."""

    keys: tuple[Any, ...]
    serializer: URLSafeTimedSerializer
    signer: TimestampSigner


def _unbounded(read: Callable[[], Any]) -> Any:
    return read()


class HandshakeSessions:
    """Opens the sessions of one app's handshakes; `bounded` runs what asks their store."""

    def __init__(self, app: Flask, bounded: Callable[[Callable[[], Any]], Any] = _unbounded) -> None:
        self._app = app
        self._bounded = bounded
        self._reader: _Reader | None = None
        self._shared: SharedReads | None = None

    @property
    def need_no_request(self) -> bool:
        """Whether the app's sessions can be opened outside of a request."""
        return type(self._app.session_interface).__module__.partition(".")[0] in _NEED_NO_REQUEST

    @property
    def need_no_store(self) -> bool:
        """Whether the app's sessions are wholly in their cookies."""
        return type(self._app.session_interface) is SecureCookieSessionInterface

    def open(self, environ: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what Flask would make `session`; raises what the session's store raises."""
        interface = self._app.session_interface
        name = str(self._app.config["SESSION_COOKIE_NAME"])
        value = _plain_cookie(environ.get("HTTP_COOKIE", ""), name)
        if value is not None:
            if (
                type(interface) is SecureCookieSessionInterface
                and not vars(interface)
                and type(self._app.json) is DefaultJSONProvider
            ):
                return self._signed(interface, value)
            shared = self._shared_reads(interface)
            if shared is not None:
                return shared.open(self._app, name, value)
        if self.need_no_store:
            return self._opened(interface, environ)
        found: Mapping[str, Any] | None = self._bounded(lambda: self._opened(interface, environ))
        return found

    def _opened(self, interface: SessionInterface, environ: Mapping[str, Any]) -> Mapping[str, Any] | None:
        # The app's context is for stores such as Flask-SQLAlchemy.
        with self._app.app_context():
            return interface.open_session(self._app, self._app.request_class(dict(environ), populate_request=False))

    def why_nobody(self, environ: Mapping[str, Any], found: Mapping[str, Any] | None) -> NoUser:
        """Return why `found`, which `open` returned for that environ, holds no user."""
        value = _plain_cookie(environ.get("HTTP_COOKIE", ""), str(self._app.config["SESSION_COOKIE_NAME"]))
        if value is None or found:
            return "none"
        interface = self._app.session_interface
        if not isinstance(interface, SecureCookieSessionInterface):
            return "expired"
        return self._unsigned(interface, value) or "none"

    def misnamed(self, environ: Mapping[str, Any]) -> str | None:
        """Return the name of a cookie that is signed as the app's session and called otherwise; None without one."""
        interface = self._app.session_interface
        if not isinstance(interface, SecureCookieSessionInterface):
            return None
        for part in environ.get("HTTP_COOKIE", "").split(";")[:MAX_TRIED]:
            name, _, value = part.strip().partition("=")
            if _PLAIN.fullmatch(value) and self._unsigned(interface, value) != "bad_signature":
                return name if name.isascii() and name.isprintable() else None
        return None

    def _unsigned(self, interface: SecureCookieSessionInterface, value: str) -> NoUser | None:
        """Return what is wrong with a cookie's signature, None where nothing is."""
        reader = self._reader_of(interface)
        try:
            if reader is not None:
                reader.signer.unsign(value, int(self._app.permanent_session_lifetime.total_seconds()))
                return None
        except SignatureExpired:
            return "expired"
        except BadSignature:
            pass
        return "bad_signature"

    def probe(self) -> None:
        """Ask the session store for a session that nobody has; raises what the store raises."""
        name, value = str(self._app.config["SESSION_COOKIE_NAME"]), f"probe{secrets.token_hex(8)}"
        # An id that the interface wants signed and is not would not be looked up.
        if getattr(self._app.session_interface, "use_signer", False):
            key: Any = self._app.secret_key
            value = Signer(key, salt="flask-session", key_derivation="hmac").sign(value).decode()
        self.open(create_environ(headers={"Cookie": f"{name}={value}"}))

    def _shared_reads(self, interface: SessionInterface) -> SharedReads | None:
        """Return what reads the app's sessions together; None where its store is not one that is known."""
        shared = self._shared
        if shared is None or shared.interface is not interface:
            store = flask_store(interface)
            shared = self._shared = SharedReads(interface, store, self._bounded) if store is not None else None
        return shared

    def _signed(self, interface: SecureCookieSessionInterface, value: str) -> Mapping[str, Any] | None:
        """As the interface's `open_session`."""
        reader = self._reader_of(interface)
        if reader is None:
            return None
        max_age = int(self._app.permanent_session_lifetime.total_seconds())
        try:
            found: Mapping[str, Any] = reader.serializer.load_payload(reader.signer.unsign(value, max_age))
        except BadSignature:
            return {}
        return found

    def _reader_of(self, interface: SecureCookieSessionInterface) -> _Reader | None:
        """Return what reads cookies, made anew where the app's keys have changed; None for an app that has none."""
        keys = (self._app.secret_key, *(self._app.config.get("SECRET_KEY_FALLBACKS") or ()))
        reader = self._reader
        if reader is not None and reader.keys == keys:
            return reader
        serializer = interface.get_signing_serializer(self._app)
        if serializer is None:
            return None
        signer = serializer.make_signer(serializer.salt)
        assert isinstance(signer, TimestampSigner)
        if type(interface.serializer) is TaggedJSONSerializer:
            serializer.serializer = _Tagged(interface.serializer)
        self._reader = _Reader(keys, serializer, signer)
        return self._reader


def _plain_cookie(cookies: str, name: str) -> str | None:
    """Return the first cookie of that name; None where there is none, or none that can be taken as it stands."""
    if not (cookies.isascii() and cookies.isprintable()):
        return None
    value = cookie_of(cookies, name)
    return value if value is not None and _PLAIN.fullmatch(value) else None


def cookie_of(cookies: str, name: str) -> str | None:
    """Return what stands behind the first of that name, None where there is none."""
    for part in cookies.split(";"):
        key, _, value = part.partition("=")
        if key.strip() == name:
            return value.strip()
    return None
