"""Sessions that end in their store, deleted or run out, end on their sockets too (spec section 10)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Protocol

from flask import Flask

from repo_notify.logs import Outage

logger = logging.getLogger(__name__)

# How often the store is asked, and how long a session must be missing: hosts delete a session and tell why afterwards.
LOOK_SECONDS = 0.4
SILENCE_SECONDS = 1.0
# A store that takes long to answer is asked less often: the time between two questions is so many times their own.
SHARE = 10
# So many sessions are asked for in one query.
BATCH = 1_000
ENDED = "Your session has ended"


class AskedStore(Protocol):
    """Where sessions are kept, as far as it is asked which of them have not ended."""

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """Return those of these sessions that are there and have not run out; raise whatever the store raises."""


class SessionStore(AskedStore, Protocol):
    """Where a host keeps its sessions, for those that `session_store` does not know."""

    def session_id(self, session: Any) -> str | None:
        """Return the id of an opened session as events name it, or None where it has none."""


class _InMongo:
    """Flask-Session in MongoDB."""

    def __init__(self, interface: Any) -> None:
        self._interface = interface

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """Return those that are there; the TTL index deletes what has run out a minute late at best."""
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


class _InRedis:
    """Flask-Session in Redis, which deletes what has run out by itself."""

    def __init__(self, interface: Any) -> None:
        self._interface = interface

    def alive(self, session_ids: Sequence[str]) -> Collection[str]:
        """Return those that are there."""
        prefix = self._interface.key_prefix
        with self._interface.client.pipeline(transaction=False) as pipeline:
            for sid in session_ids:
                pipeline.exists(prefix + sid)
            return {sid for sid, there in zip(session_ids, pipeline.execute(), strict=True) if there}


# Flask-Session's interfaces by the names of their classes: it is an extra, and each needs its own database's package.
_KNOWN: dict[str, Callable[[Any], AskedStore]] = {
    "MongoDBSessionInterface": _InMongo,
    "RedisSessionInterface": _InRedis,
}


class SessionEnds:
    """Asks an app's session store for the sessions that sockets are bound to, and ends those that are gone.

    `bound()` lists them, `end(session_ids, reason)` ends some, `ask(read)` runs a read for so long at most. `store` is
    where they are kept, where it is not the app's session interface that knows.
    """

    def __init__(
        self,
        app: Flask,
        *,
        bound: Callable[[], list[str]],
        end: Callable[[list[str], str], None],
        ask: Callable[[Callable[[], Collection[str]]], Collection[str]],
        store: AskedStore | None = None,
    ) -> None:
        self._app = app
        self._bound = bound
        self._end = end
        self._ask = ask
        self.store = store
        self._closing = threading.Event()
        self._missing: dict[str, float] = {}
        self._outage = Outage(logger, "the session store answers again; sessions that end there end here")

    def close(self) -> None:
        """End."""
        self._closing.set()

    def is_alive(self, session_id: str) -> bool:
        """Return whether a session has not ended as far as its store knows; raises whatever the store raises."""
        store = self._store()
        return store is None or session_id in self._ask(partial(store.alive, [session_id]))

    def run(self) -> None:
        """Look until `close`."""
        pause = LOOK_SECONDS
        while not self._closing.wait(pause):
            started = monotonic()
            try:
                self.look()
                self._outage.ended()
            except Exception as error:  # noqa: BLE001 - whatever a store raises: an outage of it ends nobody
                self._failed(error)
            pause = max(LOOK_SECONDS, SHARE * (monotonic() - started))

    def look(self) -> None:
        """Ask for every bound session once, and end those that have been missing for a while."""
        store = self._store()
        if store is None:
            return
        bound = self._bound()
        now = monotonic()
        missing: set[str] = set()
        for at in range(0, len(bound), BATCH):
            some = bound[at : at + BATCH]
            missing.update(set(some).difference(self._ask(partial(store.alive, some))))
        self._missing = {sid: self._missing.get(sid, now) for sid in missing}
        ended = [sid for sid, since in self._missing.items() if now - since >= SILENCE_SECONDS]
        if ended:
            self._end(ended, ENDED)

    def _store(self) -> AskedStore | None:
        if self.store is not None:
            return self.store
        interface = self._app.session_interface
        known = _KNOWN.get(type(interface).__name__)
        return known(interface) if known is not None else None

    def _failed(self, error: Exception) -> None:
        # What was missing before is not known to be missing still.
        self._missing.clear()
        kind = type(error).__name__
        self._outage.began("the session store does not answer (%s); nobody's session ends meanwhile", kind)
