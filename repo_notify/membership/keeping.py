"""Where the history is kept, as the settings have it: in memory, or in a store too, which is opened when one serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic

from repo_notify.access.store import connect
from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.log import Bounds
from repo_notify.delivery.history.mongodb import MongoHistory
from repo_notify.delivery.history.records import Record, Records
from repo_notify.delivery.history.store import StoreUnavailable
from repo_notify.delivery.history.stored_records import StoredRecords
from repo_notify.delivery.history.writer import Writer
from repo_notify.sessions.bindings import Identities
from repo_notify.settings import HISTORY_MONGODB, HISTORY_OFF, Settings
from repo_notify.sockets import Follower, Sockets

from .live_records import LiveRecords
from .snapshots import Snapshots

logger = logging.getLogger(__name__)

# How long a process that begins to serve waits for the store, and how long between two tries.
OPEN_SECONDS, PAUSE_SECONDS = 10.0, 0.2


class Keeping:
    """The history of one app, and its store, where it has one. Nothing is asked of that before `open`."""

    def __init__(self, settings: Settings, sockets: Sockets) -> None:
        self._sockets = sockets
        self.history: History | None = None
        self.writer: Writer | None = None
        if settings.history == HISTORY_OFF or not sockets.keeps:
            return
        self.history = History(Bounds(settings.history_seconds, settings.history_events, settings.history_bytes))
        if settings.history == HISTORY_MONGODB:
            client = connect(settings.mongo_uri, timeout=settings.permission_timeout, appname="repo_notify history")
            store = MongoHistory(client, settings.history_database, seconds=settings.history_seconds)
            self.writer = Writer(store, self.history)

    def watch(self, snapshots: Snapshots, identities: Identities) -> Callable[[Follower], None] | None:
        """Have the records of clients written as they change; return what is to be told of them, where that is so."""
        if self.writer is None:
            return None
        live = LiveRecords(self._sockets, self.writer, snapshots)
        identities.changed = live.user_changed
        return live.changed

    def records(self, seconds: float, expired: Callable[[Record], None]) -> Records:
        """Return where the records of lost connections are kept."""
        make = partial(StoredRecords, writer=self.writer) if self.writer is not None else Records
        return make(seconds, expired)

    def open(self) -> None:
        """Go on with what the store has, before anybody is served; where it does not answer, begin anew."""
        history, writer = self.history, self.writer
        if history is None or writer is None:
            return
        deadline = monotonic() + OPEN_SECONDS
        while True:
            try:
                found = writer.store.resume(history.name)
            except StoreUnavailable as error:
                if monotonic() < deadline:
                    threading.Event().wait(PAUSE_SECONDS)
                    continue
                logger.error(
                    "the history's store cannot be read: a new history begins, and clients that were connected before "
                    "are told of a gap: %s",
                    error,
                )
                with self._sockets.order:
                    history.begin(writer, anew=True)
                return
            with self._sockets.order:
                history.resume(found, self._sockets.prepare, writer)
            return

    def problem(self) -> str | None:
        """Return what is wrong with the store, or None."""
        return self.writer.problem() if self.writer is not None else None

    def flush(self, seconds: float) -> None:
        """Have what waits written, for so many seconds at most; nothing is written in the background any more."""
        if self.writer is not None:
            self.writer.close(seconds)

    def close(self) -> None:
        """Close the store's connections."""
        if self.writer is not None:
            self.writer.store.close()
