"""Sessions of an Express app, as express-session signs their cookies and connect-mongo and its like store them.

The cookie is `s:<sid>.<signature>`, percent-encoded; the document `{_id: <sid>, expires: <date>, session: {...}}`, or
with the session as a JSON string (spec section 11).
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import unquote

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics

from .bindings import Identity
from .flask import MAX_TRIED, cookie_of, user_of, with_session_cookie
from .reads import SessionReads, SessionsUnavailable
from .together import MAX_TOGETHER, Together

logger = logging.getLogger(__name__)

# What browsers keep of one cookie at least, and at most (RFC 6265 section 6.1).
MAX_COOKIE_LENGTH = 4_096
_PREFIX = "s:"
# For so long the database's clock is taken to go as this machine's.
_CLOCK_SECONDS = 10.0

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
# No date is beyond what can be read.
_DECODED: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


def signed_id(value: str, keys: Sequence[str]) -> str | None:
    """Return the session's id in a cookie's value, None where none of the keys has signed it.

    As the Node packages `cookie` and `cookie-signature` read it.
    """
    if len(value) > MAX_COOKIE_LENGTH or not value.isascii():
        return None
    try:
        plain = unquote(value.strip('"'), errors="strict")
    except UnicodeDecodeError:
        return None
    session_id, _, signature = plain.removeprefix(_PREFIX).rpartition(".")
    if not plain.startswith(_PREFIX) or not _is_id(session_id):
        return None
    text, given = session_id.encode(), signature.encode()
    # Every key is tried: which one fits does not show in the time.
    fits = [hmac.compare_digest(_signature(text, key), given) for key in keys]
    return session_id if any(fits) else None


def _signature(text: bytes, key: str) -> bytes:
    return b64encode(hmac.digest(key.encode(), text, "sha256")).rstrip(b"=")


def _is_id(text: str) -> bool:
    """Return whether a session may have this id; what cannot be encoded is not printable either."""
    return 0 < len(text) <= MAX_COOKIE_LENGTH and text.isprintable()


class _Store:
    """The sessions in one collection of MongoDB."""

    def __init__(self, client: MongoClient[dict[str, Any]], where: str) -> None:
        database, _, collection = where.partition(".")
        self._client = client
        self._sessions: Any = client[database].get_collection(collection, codec_options=_RAW)
        self._rarely = Rarely()
        self._clock: tuple[float, int] | None = None

    def read(self, session_ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """Return by their ids those sessions that are there and have not run out; empty where they cannot be read."""
        found = self._valid(session_ids, "session", now=self._now())
        return {session_id: self._contents(document) for session_id, document in found.items()}

    def alive(self, session_ids: Collection[str]) -> Collection[str]:
        """Return those that are there and have not run out."""
        return self._valid(session_ids, now=self._now(anew=True)).keys()

    def is_empty(self) -> bool:
        """Return whether there is none, run out or not."""
        return self._sessions.find_one({}, {"_id": 1}) is None

    def _valid(self, session_ids: Collection[str], *fields: str, now: int) -> dict[str, dict[str, Any]]:
        wanted, shown = {"_id": {"$in": list(session_ids)}}, dict.fromkeys(("expires", *fields), 1)
        valid = {}
        raw: RawBSONDocument
        for raw in self._sessions.find(wanted, shown, batch_size=MAX_TOGETHER):
            try:
                document = bson.decode(raw.raw, _DECODED)
            # A text that is no UTF-8 makes one document unreadable, and not the others.
            except (BSONError, ValueError) as error:
                self._unreadable(error)
                continue
            if _is_valid(document.get("expires"), now):
                valid[document["_id"]] = document
        return valid

    def _contents(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        found = document.get("session")
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except (ValueError, RecursionError) as error:
                self._unreadable(error)
        return found if isinstance(found, dict) else {}

    def _unreadable(self, error: Exception) -> None:
        if self._rarely("unreadable"):
            logger.warning("a stored session cannot be read, so that its user is not known: %s", type(error).__name__)

    def _now(self, *, anew: bool = False) -> int:
        """Return the database's time in milliseconds, by which it deletes what has run out.

        This machine's clock may be another, and may be set while the service runs.
        """
        if anew or self._clock is None or monotonic() - self._clock[0] > _CLOCK_SECONDS:
            answer = self._client.admin.command("hello", codec_options=_DECODED)
            self._clock = (monotonic(), int(answer["localTime"]))
        asked, told = self._clock
        return told + int((monotonic() - asked) * 1000)


def _is_valid(expires: object, now: int) -> bool:
    return expires is None or (isinstance(expires, DatetimeMS) and int(expires) > now)


class ExpressSessions:
    """The sessions of an Express app: those of handshakes, and by their ids.

    `keys` are the secrets with which cookies are signed, `where` is the `<database>.<collection>` of the sessions.
    """

    def __init__(
        self,
        client: MongoClient[dict[str, Any]],
        reads: SessionReads,
        metrics: Metrics,
        *,
        keys: Sequence[str],
        where: str,
        cookie_name: Callable[[], str],
    ) -> None:
        self._store = _Store(client, where)
        self._together = Together(lambda ids: reads.bounded(lambda: self._store.read(ids)))
        self._reads = reads
        self._metrics = metrics
        self._keys = keys
        self._cookie_name = cookie_name
        self._rarely = Rarely()

    def read(self, environ: Mapping[str, Any]) -> Identity | None:
        """Return the user of a handshake, None where there is none; raises `SessionsUnavailable`."""
        name = self._cookie_name()
        cookies = with_session_cookie(environ, name).get("HTTP_COOKIE", "")
        value = cookie_of(cookies, name)
        if value is None:
            self._metrics.session("none")
            self._warn_of_another(cookies, name)
            return None
        session_id = self.signed_id(value)
        if session_id is None:
            self._metrics.session("bad_signature")
            self._warn_of_another_key(name)
            return None
        try:
            session = self._session(session_id)
        except SessionsUnavailable:
            self._metrics.session("store_error")
            raise
        username = user_of(session) if session is not None else None
        if username is None:
            self._metrics.session("expired" if session is None else "none")
            return None
        self._metrics.session("user")
        return Identity(username, session_id)

    def identity(self, session_id: str) -> Identity | None:
        """Return the user of a session, None where there is no such session or nobody is logged in.

        Raises `SessionsUnavailable`.
        """
        session = self._session(session_id) if _is_id(session_id) else None
        username = user_of(session) if session is not None else None
        return Identity(username, session_id) if username is not None else None

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """Return those of these sessions that are there and have not run out; raises what the driver raises."""
        return self._store.alive(session_ids)

    def probe(self) -> None:
        """Ask the store for a session that nobody has; raises what the driver raises."""
        self._store.read([f"probe{secrets.token_hex(8)}"])

    def signed_id(self, value: str) -> str | None:
        """Return the session's id in a cookie's value, None where it is not signed as the app's are."""
        return signed_id(value, self._keys)

    def is_empty(self) -> bool:
        """Return whether the store holds no session at all; raises what the driver raises."""
        return self._store.is_empty()

    def _session(self, session_id: str) -> Mapping[str, Any] | None:
        return self._reads.shared(lambda: self._together(session_id))

    def _warn_of_another_key(self, name: str) -> None:
        if self._rarely("key"):
            logger.warning(
                "the session cookie %r of a handshake is not signed with REPO_NOTIFY_EXPRESS_SECRET, so that its user "
                "is not known: set it to the `cookie.secret` of the app that logs in, a former one behind it",
                name,
            )

    def _warn_of_another(self, cookies: str, name: str) -> None:
        """Log that a handshake brings its session in a cookie of another name, where it does."""
        if not cookies or not self._rarely("name"):
            return
        for part in cookies.split(";")[:MAX_TRIED]:
            other, _, value = part.strip().partition("=")
            if other.isascii() and other.isprintable() and self.signed_id(value) is not None:
                logger.warning(
                    "a handshake brings its session in the cookie %r, but SESSION_COOKIE_NAME is %r: set it as the app "
                    "that logs in has it",
                    other,
                    name,
                )
                return
