"""Changes of session records that a store has not got yet, written in batches in the background."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic

from repo_notify.logs import Outage, Rarely

from .packing import key_of
from .records import Record
from .store import RecordStore, StoreUnavailable

logger = logging.getLogger(__name__)

# How long what is published, or joined, waits for others to be written together with; and how much is at a time.
COALESCE_SECONDS = 0.05
BATCH_RECORDS = 1_000
# How often the store is told that the process lives, at least: that is when its clients lost their connections.
BEAT_SECONDS = 5.0
# A store that takes longer for what is written in one go does not answer.
SLOW_SECONDS = 1.0
SILENT = "the history's store does not answer"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
# So many changes of records wait for a store that is away, and so many ended sessions are remembered.
MAX_RECORDS, MAX_ENDED = 100_000, 10_000


class RecordWriter:
    """Writes one process's session records. `collect` is asked for those that have changed."""

    def __init__(self, store: RecordStore) -> None:
        self.collect: Callable[[], None] = lambda: None
        self._store = store
        # Taken within the order of publications, where nothing may wait. A condition on a plain lock tries whether that
        # is taken, and under gevent others run before this has failed, while it is held.
        self._lock = threading.RLock()
        self._records: OrderedDict[str, Record | None] = OrderedDict()
        self._writing: dict[str, Record | None] = {}
        self._sessions: set[str] = set()
        self._ended_sessions: OrderedDict[str, None] = OrderedDict()
        self._beat_at = float("-inf")
        self._problem: str | None = None
        self._busy_since: float | None = None
        self._outage = Outage(logger, "the history's store works again; what is kept was written")
        self._rarely = Rarely()
        self._something, self._hurry = threading.Event(), threading.Event()
        self._closing, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="repo_notify history", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many changes wait to be written."""
        return len(self._records)

    def problem(self) -> str | None:
        """Return why the store does not have everything, or None."""
        busy = self._busy_since
        return SILENT if busy is not None and monotonic() - busy > SLOW_SECONDS else self._problem

    def wake(self) -> None:
        """Have `collect` called soon."""
        self._something.set()

    def save(self, pid: str, record: Record | None) -> None:
        """Have a record written, or deleted; the last one of a client counts."""
        key = key_of(pid)
        with self._lock:
            self._records[key] = record
            self._records.move_to_end(key)
            while len(self._records) > MAX_RECORDS:
                self._records.popitem(last=False)
        self._something.set()

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Have the records of these sessions deleted."""
        with self._lock:
            for found in session_ids:
                self._sessions.add(found)
                self._ended_sessions[found] = None
                self._ended_sessions.move_to_end(found)
            while len(self._ended_sessions) > MAX_ENDED:
                self._ended_sessions.popitem(last=False)
        self._something.set()

    def knows(self, pid: str) -> bool:
        """Return whether what the store has of a client is being written, so that it is not to be believed."""
        key = key_of(pid)
        with self._lock:
            return key in self._records or key in self._writing

    def has_ended(self, session_id: str | None) -> bool:
        """Return whether a session has ended lately."""
        return session_id in self._ended_sessions

    # Writing.

    def close(self, seconds: float) -> None:
        """Write what waits, for so many seconds at most, and end."""
        self._closing.set()
        self._something.set()
        self._hurry.set()
        if self._thread is None:
            return
        if self._ended.is_set():
            # Something was published since.
            self._try()
        elif not self._ended.wait(seconds):
            logger.error("the history's store does not answer: %d changes are not in it", self.waiting)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            self._something.wait(BEAT_SECONDS)
            self._hurry.wait(COALESCE_SECONDS)
            self._something.clear()
            self._hurry.clear()
            if self._try():
                pause = FIRST_PAUSE_SECONDS
                continue
            self._something.set()
            self._closing.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._try()
        self._ended.set()

    def _try(self) -> bool:
        self._busy_since = monotonic()
        try:
            self._write()
        except StoreUnavailable as error:
            self._problem = SILENT
            self._outage.began("the history's store cannot be written, trying again: %s", error)
            return False
        # A fault of ours must not be the end of everything else that is to be stored.
        except Exception:
            self._problem = "the history could not be written"
            if self._rarely("fault"):
                logger.exception("the history could not be written, trying again")
            return False
        finally:
            self._busy_since = None
        self._problem = None
        self._outage.ended()
        return True

    def _write(self) -> None:
        # First: what waits here is bounded.
        self.collect()
        while self._write_records():
            # There may be more.
            self._busy_since = monotonic()
        self._keep_house()

    def _write_records(self) -> bool:
        with self._lock:
            keys = list(islice(self._records, BATCH_RECORDS))
            self._writing = {key: self._records.pop(key) for key in keys}
            sessions = set(self._sessions) if not self._records else set()
        if not self._writing and not sessions:
            return False
        try:
            self._store.save(self._writing, sessions)
        except StoreUnavailable:
            with self._lock:
                for key, record in self._writing.items():
                    # What has changed meanwhile is newer.
                    self._records.setdefault(key, record)
            raise
        finally:
            with self._lock:
                self._writing = {}
        with self._lock:
            self._sessions -= sessions
        return True

    def _keep_house(self) -> None:
        if monotonic() - self._beat_at >= BEAT_SECONDS:
            self._beat()
            self._beat_at = monotonic()

    def _beat(self) -> None:
        self._store.beat()
