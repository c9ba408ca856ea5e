"""What the history's store has not got yet, written in batches in the background: nobody waits for the store."""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import islice
from time import monotonic

from .log import Log
from .record_writer import RecordWriter
from .store import HistoryStore, Run, Stored, Unstorable

logger = logging.getLogger(__name__)

# How much is written at a time.
BATCH_ENTRIES, BATCH_BYTES = 1_000, 4 * 1024 * 1024


class Writer(RecordWriter):
    """Writes one process's history into its store: what is published, and its session records.

    As many entries wait for a store that is away as the log keeps. What is dropped before it is written is a hole:
    after a restart every position from before is a gap.
    """

    def __init__(self, store: HistoryStore, log: Log) -> None:
        super().__init__(store)
        self.store = store
        self._log = log
        self._written = threading.Condition(self._lock)
        # As many as the log keeps, or what is written at a time, whatever is more.
        self._most = max(log.bounds.events, BATCH_ENTRIES)
        self._most_bytes = max(log.bounds.size, BATCH_BYTES)
        self._entries: deque[Stored] = deque()
        self._size = 0
        # Of what was handed in: the last, the last that is stored, and the last that never will be.
        self._last = self._stored = self._floor = 0
        self._noted = self._trimmed = 0
        self._anew: str | None = None

    def start(self, number: int, *, anew: str | None = None) -> None:
        """Begin to write what comes after that number; `anew` names a history that takes the place of the store's."""
        self._last, self._stored, self._anew = number, number, anew
        self.begin()

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

    def hole(self, number: int) -> None:
        """Have every position before that number be a gap, after a restart, too."""
        with self._lock:
            self._floor = max(self._floor, number)
        self._something.set()

    def wait(self, after: int, seconds: float) -> bool:
        """Wait until everything after that number is in the store; return whether it is."""
        until = self._last
        self._hurry.set()
        with self._written:
            self._written.wait_for(lambda: self._stored >= until or self._floor > after, seconds)
            return self._stored >= until and self._floor <= after

    # Writing.

    def _write(self) -> None:
        if self._anew is not None:
            self.store.begin_anew(self._anew)
            self._anew = None
        # First: what waits here is bounded.
        self.collect()
        while self._write_entries():
            # There may be more.
            self._busy_since = monotonic()
        super()._write()

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

    def _beat(self) -> None:
        first = self._log.first
        if first > self._trimmed + 1:
            self.store.trim(self._trimmed, first)
            self._trimmed = first - 1
        super()._beat()
