"""Session records that survive a restart of the process (spec section 9)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable

from .packing import key_of
from .positions import Gap
from .records import Record, Records
from .store import StoreUnavailable
from .writer import Writer

# A secret and an id, as they are given out: nothing else is asked for.
FORM = re.compile(r"[A-Za-z0-9_-]{23,100}", re.ASCII)
# Those who come with the same secret at once wait for one another; others hardly do.
_LOCKS = 64
UNREADABLE = "What was missed cannot be read right now"


class StoredRecords(Records):
    """Records in memory, and those of other runs of the process in its history's store."""

    def __init__(self, seconds: float, expired: Callable[[Record], None], *, writer: Writer) -> None:
        super().__init__(seconds, expired)
        self._writer = writer
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def put(self, record: Record) -> None:
        """Keep a record, and have it written."""
        super().put(record)
        self._writer.save(record.pid, record if record.matters else None)

    def get(self, pid: str) -> Record | None:
        """Return the record of that secret and leave it there; raises `Gap` where that cannot be known."""
        found = super().get(pid)
        if found is not None or not FORM.fullmatch(pid):
            return found
        key = key_of(pid)
        with self._locks[int(key, 16) % _LOCKS]:
            return super().get(pid) or self._read(pid, key)

    def _read(self, pid: str, key: str) -> Record | None:
        # What this run of the process has changed, and not written, it knows better.
        if self._writer.knows(pid):
            return None
        try:
            found = self._writer.store.record(pid, key)
        except StoreUnavailable:
            raise Gap(UNREADABLE) from None
        if found is None or self._writer.knows(pid) or self._writer.has_ended(found.session_id):
            return None
        super().put(found)
        return found

    def take(self, pid: str) -> Record | None:
        """Return the record of that secret, once."""
        found = super().take(pid)
        if found is not None:
            self._writer.save(pid, None)
        return found

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Forget the clients of these sessions."""
        ended = list(session_ids)
        self._writer.end_sessions(ended)
        super().end_sessions(ended)
