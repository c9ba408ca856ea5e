"""Flask-Session's stores in MongoDB and Redis, as far as many of their sessions are asked for at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Protocol

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from flask.sessions import SessionMixin

from .together import MAX_TOGETHER, Together

PACKAGE = "flask_session"

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
# Whatever else is in a document, its key can be read.
_LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_MS
)


class FlaskStore(Protocol):
    """Where Flask-Session keeps an app's sessions."""

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """Return those of these sessions that are there and have not run out; raise whatever the store raises."""

    def read(self, keys: Collection[str]) -> Mapping[str, Any]:
        """Return what is stored under these keys, as far as anything is; raise whatever the store raises."""

    def contents(self, stored: Any) -> dict[str, Any]:
        """Return a stored session as the interface reads it; raise whatever it raises."""


class _InMongo:
    def __init__(self, interface: Any) -> None:
        self._interface = interface

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """The TTL index deletes what has run out a minute late at best."""
        prefix = self._interface.key_prefix
        # The database's time, by which its TTL index goes: this machine's clock may be set while the service runs.
        now = self._interface.client.admin.command("hello")["localTime"]
        wanted = {"id": {"$in": [prefix + sid for sid in session_ids]}}
        found = self._interface.store.find(wanted, {"_id": 0, "id": 1, "expiration": 1})
        return {
            document["id"].removeprefix(prefix)
            for document in found
            if not isinstance(at := document.get("expiration"), datetime) or at > now
        }

    def read(self, keys: Collection[str]) -> Mapping[str, RawBSONDocument]:
        """One document that cannot be read is no trouble of the others': each is decoded for whoever asked for it."""
        sessions = self._interface.store.with_options(codec_options=_RAW)
        found: dict[str, RawBSONDocument] = {}
        for document in sessions.find({"id": {"$in": list(keys)}}, batch_size=MAX_TOGETHER):
            found.setdefault(bson.decode(document.raw, _LENIENT)["id"], document)
        return found

    def contents(self, stored: RawBSONDocument) -> dict[str, Any]:
        value = bson.decode(stored.raw, self._interface.store.codec_options)["val"]
        found: dict[str, Any] = self._interface.serializer.decode(value.encode() if isinstance(value, str) else value)
        return found


class _InRedis:
    """Redis deletes what has run out by itself."""

    def __init__(self, interface: Any) -> None:
        self._interface = interface

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        prefix = self._interface.key_prefix
        with self._interface.client.pipeline(transaction=False) as pipeline:
            for sid in session_ids:
                pipeline.exists(prefix + sid)
            return {sid for sid, there in zip(session_ids, pipeline.execute(), strict=True) if there}

    def read(self, keys: Collection[str]) -> Mapping[str, Any]:
        asked = list(keys)
        return {key: value for key, value in zip(asked, self._interface.client.mget(asked), strict=True) if value}

    def contents(self, stored: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._interface.serializer.decode(stored)
        return found


# By the names of their interfaces' classes: Flask-Session is an extra, and each needs its own database's package.
_KNOWN: dict[str, Callable[[Any], FlaskStore]] = {
    "MongoDBSessionInterface": _InMongo,
    "RedisSessionInterface": _InRedis,
}


def flask_store(interface: object) -> FlaskStore | None:
    """Return the store of an app's session interface; None for any but these, and for a host's own subclasses."""
    kind = type(interface)
    known = _KNOWN.get(kind.__name__) if kind.__module__.partition(".")[0] == PACKAGE else None
    return known(interface) if known is not None else None


class _Cookies:
    """What Flask-Session asks of a request."""

    __slots__ = ("cookies",)

    def __init__(self, cookies: Mapping[str, str]) -> None:
        self.cookies = cookies


class SharedReads:
    """Opens sessions by one interface of Flask-Session; those that are asked for together are read together.

    Each read is run by `bounded`, which raises `TooSlow`.

    All but the reading is the interface's own: the cookie's signature, the prefix of the key, the serializer, the class
    of the session.
    """

    def __init__(self, interface: Any, store: FlaskStore, bounded: Callable[[Callable[[], Any]], Any]) -> None:
        self.interface = interface
        self._store = store
        self._together: Together[str, Any] = Together(lambda keys: bounded(lambda: store.read(keys)))
        # What each of Flask-Session's interfaces implements in its own way.
        self._opening: Any = copy(interface)
        self._opening._retrieve_session_data = self._retrieve

    def open(self, app: Any, name: str, value: str) -> SessionMixin | None:
        """Return the session that a cookie names; raises what the store raises, `ReadFailed` or `TooSlow`."""
        opened: SessionMixin | None = self._opening.open_session(app, _Cookies({name: value}))
        return opened

    def _retrieve(self, key: str) -> dict[str, Any] | None:
        stored = self._together(key)
        return self._store.contents(stored) if stored is not None else None
