"""Session records where several processes share a history: a client may come back on any of them (spec section 9)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from .packing import key_of
from .positions import Gap
from .record_writer import RecordWriter
from .records import Record, Records
from .redis_records import Found, RedisRecords
from .store import StoreUnavailable
from .stored_records import FORM, UNREADABLE

# Who comes back faster than its record is written, which takes some 0.05 s, is asked for again.
PAUSES_SECONDS = (0.1, 0.25)
# So many were read and not taken yet; one takes a moment.
MAX_FOUND = 10_000


class SharedRecords(Records):
    """The records of this process's clients in memory, and those of the others where they keep them.

    `tell` says to the others which record of theirs was taken.
    """

    def __init__(
        self,
        seconds: float,
        expired: Callable[[Record], None],
        *,
        writer: RecordWriter,
        redis: RedisRecords,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        super().__init__(seconds, self._expire)
        self._tell_expired = expired
        self._writer = writer
        self._redis = redis
        self._tell = tell
        self._reading = threading.Lock()
        self._found: OrderedDict[str, Found] = OrderedDict()
        self._pids: dict[str, str] = {}

    def put(self, record: Record) -> None:
        """Keep a record of this process's, and have it written."""
        super().put(record)
        self._pids[key_of(record.pid)] = record.pid
        self._writer.save(record.pid, record if record.matters else None)

    def get(self, pid: str) -> Record | None:
        """Return the record of that secret and leave it there; raises `Gap` where that cannot be known."""
        record = super().get(pid)
        if record is not None or not FORM.fullmatch(pid):
            return record
        found = self._read(pid)
        if found is None or self._writer.has_ended(found.record.session_id):
            return None
        with self._reading:
            self._found[pid] = found
            while len(self._found) > MAX_FOUND:
                self._found.popitem(last=False)
        return found.record

    def _read(self, pid: str) -> Found | None:
        """Return what another process keeps; one that is being written there is waited for."""
        for pause in (*PAUSES_SECONDS, None):
            try:
                found = self._redis.find(pid, key_of(pid))
            except StoreUnavailable:
                raise Gap(UNREADABLE) from None
            if found is not None or pause is None:
                return found
            threading.Event().wait(pause)
        return None

    def take(self, pid: str) -> Record | None:
        """Return the record of that secret, once; raises `Gap` where that cannot be known."""
        record = super().take(pid)
        if record is not None:
            self._forget(record)
            return record
        with self._reading:
            found = self._found.pop(pid, None)
        if found is None:
            return None
        try:
            is_there = self._redis.take(found.process, key_of(pid))
        except StoreUnavailable:
            raise Gap(UNREADABLE) from None
        if not is_there:
            return None
        record = found.record
        # It may hear of it late, when the client is back there: the ids tell which connection is meant.
        told = {"key": key_of(pid), "sid": record.sid, "namespace": record.namespace, "ids": sorted(record.ids)}
        self._tell(told)
        return found.record

    def drop(self, key: str, ids: Collection[str]) -> None:
        """Forget a record that another process has taken, unless it is of a later connection than that one."""
        pid = self._pids.get(key)
        found = super().get(pid) if pid is not None else None
        if pid is None or found is None or not found.ids.issubset(ids):
            return
        record = super().take(pid)
        if record is not None:
            self._forget(record)

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Forget the clients of these sessions, whichever process they were on."""
        ended = list(session_ids)
        self._writer.end_sessions(ended)
        super().end_sessions(ended)

    def _expire(self, record: Record) -> None:
        self._forget(record)
        self._tell_expired(record)

    def _forget(self, record: Record) -> None:
        self._pids.pop(key_of(record.pid), None)
        self._writer.save(record.pid, None)
