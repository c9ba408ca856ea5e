"""What the history's store has not got yet, written in batches in the background: nobody waits for the store."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic

from repo_notify.logs import Outage, Rarely

from .log import Log
from .packing import key_of
from .records import Record
from .store import HistoryStore, Run, Stored, StoreUnavailable, Unstorable

logger = logging.getLogger(__name__)

# How long what is published, or joined, waits for others to be written together with; and how much is at a time.
COALESCE_SECONDS = 0.05
BATCH_ENTRIES, BATCH_BYTES, BATCH_RECORDS = 1_000, 4 * 1024 * 1024, 1_000
# How often the store is told that the process lives, at least: that is when its clients lost their connections.
BEAT_SECONDS = 5.0
# A store that takes longer for what is written in one go does not answer.
SLOW_SECONDS = 1.0
SILENT = "the history's store does not answer"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
# So many changes of records wait for a store that is away, and so many ended sessions are remembered.
MAX_RECORDS, MAX_ENDED = 100_000, 10_000


class Writer:
    """Writes one process's history into its store. `collect` is asked for the records that have changed.

    As many entries wait for a store that is away as the log keeps. What is dropped before it is written is a hole:
    after a restart every position from before is a gap.
    """

    def __init__(self, store: HistoryStore, log: Log) -> None:
        self.store = store
        self.collect: Callable[[], None] = lambda: None
        self._log = log
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        # As many as the log keeps, or what is written at a time, whatever is more.
        self._most = max(log.bounds.events, BATCH_ENTRIES)
        self._most_bytes = max(log.bounds.size, BATCH_BYTES)
        self._entries: deque[Stored] = deque()
        self._size = 0
        # Of what was handed in: the last, the last that is stored, and the last that never will be.
        self._last = self._stored = self._floor = 0
        self._noted = self._trimmed = 0
        self._records: OrderedDict[str, Record | None] = OrderedDict()
        self._writing: dict[str, Record | None] = {}
        self._sessions: set[str] = set()
        self._ended_sessions: OrderedDict[str, None] = OrderedDict()
        self._anew: str | None = None
        self._beat_at = monotonic()
        self._problem: str | None = None
        self._busy_since: float | None = None
        self._outage = Outage(logger, "the history's store works again; what is kept was written")
        self._rarely = Rarely()
        self._something, self._hurry = threading.Event(), threading.Event()
        self._closing, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, number: int, *, anew: str | None = None) -> None:
        """Begin to write what comes after that number; `anew` names a history that takes the place of the store's."""
        self._last, self._stored, self._anew = number, number, anew
        self._thread = threading.Thread(target=self._run, name="repo_notify history", daemon=True)
        self._thread.start()

    def problem(self) -> str | None:
        """Return why the store does not have everything, or None."""
        busy = self._busy_since
        return SILENT if busy is not None and monotonic() - busy > SLOW_SECONDS else self._problem

    @property
    def waiting(self) -> int:
        """How many entries wait to be written."""
        return len(self._entries)

    # What is to be written.

    def add(self, entry: Stored) -> None:
        """Have an entry written, which the log has already."""
        with self._lock:
            self._entries.append(entry)
            self._size += entry.size
            self._last = entry.number
            while len(self._entries) > self._most or (self._size > self._most_bytes and len(self._entries) > 1):
                self._floor = self._pop_first()
        self._something.set()

    def _pop_first(self) -> int:
        entry = self._entries.popleft()
        self._size -= entry.size
        return entry.number

    def wake(self) -> None:
        """Have `collect` called soon."""
        self._something.set()

    def hole(self, number: int) -> None:
        """Have every position before that number be a gap, after a restart, too."""
        with self._lock:
            self._floor = max(self._floor, number)
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

    def wait(self, after: int, seconds: float) -> bool:
        """Wait until everything after that number is in the store; return whether it is."""
        until = self._last
        self._hurry.set()
        with self._written:
            self._written.wait_for(lambda: self._stored >= until or self._floor > after, seconds)
            return self._stored >= until and self._floor <= after

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
            logger.error("the history's store does not answer: %d events are not in it", len(self._entries))

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
        if self._anew is not None:
            self.store.begin_anew(self._anew)
            self._anew = None
        # First: what waits here is bounded.
        self.collect()
        while self._write_entries():
            # There may be more.
            self._busy_since = monotonic()
        while self._write_records():
            self._busy_since = monotonic()
        self._keep_house()

    def _write_entries(self) -> bool:
        with self._lock:
            batch: list[Stored] = []
            size = 0
            for entry in islice(self._entries, BATCH_ENTRIES):
                if batch and size + entry.size > BATCH_BYTES:
                    break
                batch.append(entry)
                size += entry.size
            run = Run(0, batch[-1].number if batch else self._stored, self._floor)
        if not batch and run.floor == self._noted:
            return False
        try:
            self.store.add(batch, run)
        except Unstorable as error:
            self._give_up(error)
            return True
        self._noted = run.floor
        with self._written:
            while self._entries and self._entries[0].number <= run.last:
                self._pop_first()
            self._stored = run.last
            self._written.notify_all()
        return True

    def _give_up(self, error: Unstorable) -> None:
        if self._rarely("unstorable"):
            logger.error("an event cannot be stored; clients that are away at a restart are told of a gap: %s", error)
        with self._written:
            self._entries = deque(entry for entry in self._entries if entry.number != error.number)
            self._size = sum(entry.size for entry in self._entries)
            self._floor = max(self._floor, error.number)
            if not self._entries:
                self._stored = max(self._stored, error.number)
            self._written.notify_all()

    def _write_records(self) -> bool:
        with self._lock:
            keys = list(islice(self._records, BATCH_RECORDS))
            self._writing = {key: self._records.pop(key) for key in keys}
            sessions = set(self._sessions) if not self._records else set()
        if not self._writing and not sessions:
            return False
        try:
            self.store.save(self._writing, sessions)
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
        now = monotonic()
        if now - self._beat_at < BEAT_SECONDS:
            return
        first = self._log.first
        if first > self._trimmed + 1:
            self.store.trim(self._trimmed, first)
            self._trimmed = first - 1
        self.store.beat()
        self._beat_at = now
