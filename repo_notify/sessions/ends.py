"""Sessions that end in their store, deleted or run out, end on their sockets too (spec section 10)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Protocol

from flask import Flask

from repo_notify.logs import Outage

from .flask_stores import flask_store
from .together import Together

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
        self._together: Together[str, Collection[str]] = Together(self._alive)
        self._closing = threading.Event()
        self._missing: dict[str, float] = {}
        self._outage = Outage(logger, "the session store answers again; sessions that end there end here")

    def close(self) -> None:
        """End."""
        self._closing.set()

    def is_alive(self, session_id: str) -> bool:
        """Return whether a session has not ended as far as its store knows; raises what the store raises.

        As many as come back after a restart ask for one each: they are asked for together.
        """
        return self._store() is None or bool(self._together(session_id))

    def _alive(self, session_ids: Collection[str]) -> Mapping[str, Collection[str]]:
        """Return by itself each that has not ended, to whoever shares a question."""
        store = self._store()
        return {} if store is None else {sid: (sid,) for sid in self._ask(lambda: store.alive(list(session_ids)))}

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
        return flask_store(self._app.session_interface)

    def _failed(self, error: Exception) -> None:
        # What was missing before is not known to be missing still.
        self._missing.clear()
        kind = type(error).__name__
        self._outage.began("the session store does not answer (%s); nobody's session ends meanwhile", kind)
