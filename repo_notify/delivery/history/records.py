"""Session records: who a client was that lost its connection, kept until it comes back or nothing of it is left."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

# So many are kept of clients that were in rooms, and of others: those cost nothing to make, and are worth nothing.
MAX_RECORDS = 50_000
MAX_ROOMLESS = 5_000


@dataclass(slots=True)
class Record:
    """What a client in one namespace was and had when its connection ended.

    `ids` are all ids by which events name it as their emitter. `named`: its user came by `x-socket-id`. `since` is the
    number of the last event before its CONNECT. `rooms`: each with the number from which it has had everything;
    `replaying`: those whose replay had not ended, with the number from which it began. `objects`: the objects by which
    it joined, where the room's key does not tell them. `number` is that of the last event before the connection ended,
    `unsent` how many of a replay had not been sent, `totals` how many had been published in each room until then.
    `live`: the connection has not ended, as far as is known; `revived`: it was another run of the process that the
    client was connected to. `replayed`: until that number all that it was sent came by a replay.
    """

    pid: str
    namespace: str
    sid: str
    ids: frozenset[str]
    username: str | None
    session_id: str | None
    named: bool
    since: int
    rooms: dict[str, int]
    number: int
    reason: str
    replaying: dict[str, int] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    unsent: int = 0
    replayed: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    at: float = field(default_factory=monotonic)
    live: bool = False
    revived: bool = False

    @property
    def matters(self) -> bool:
        """Whether there is something in it to come back for."""
        return bool(self.rooms) or self.username is not None

    def start(self, room: str, number: int | None) -> int:
        """Return the number after which a room's events are missing, for a client that has had all until `number`."""
        if room in self.replaying:
            return self.replaying[room]
        return max(self.rooms[room], self.since if number is None else number)


class Records:
    """The records of one app, for `seconds` each; `expired` is told of those that nobody came back for."""

    def __init__(self, seconds: float, expired: Callable[[Record], None]) -> None:
        self._seconds = seconds
        self._expired = expired
        self._lock = threading.Lock()
        # Oldest first; by whether they have rooms.
        self._kept: dict[bool, OrderedDict[str, Record]] = {True: OrderedDict(), False: OrderedDict()}
        self._of_session: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def put(self, record: Record) -> None:
        """Keep a record."""
        with self._lock:
            self._kept[bool(record.rooms)][record.pid] = record
            if record.session_id is not None:
                self._of_session.setdefault(record.session_id, set()).add(record.pid)
        self.trim()

    def get(self, pid: str) -> Record | None:
        """Return the record of that secret and leave it there."""
        self.trim()
        return self._kept[True].get(pid) or self._kept[False].get(pid)

    def take(self, pid: str) -> Record | None:
        """Return the record of that secret, once."""
        with self._lock:
            return self._pop(pid)

    def _pop(self, pid: str) -> Record | None:
        record = self._kept[True].pop(pid, None) or self._kept[False].pop(pid, None)
        if record is not None and record.session_id is not None:
            pids = self._of_session[record.session_id]
            pids.discard(pid)
            if not pids:
                del self._of_session[record.session_id]
        return record

    def drop(self, key: str, ids: Collection[str]) -> None:
        """Forget the record of a client that is back on another process, by the key of its secret.

        One of a later connection, which has another id than these, is kept.
        """

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Forget the clients of these sessions: whose session has ended recovers nothing."""
        known = [session_id for session_id in session_ids if session_id in self._of_session]
        if not known:
            return
        with self._lock:
            pids = [pid for session_id in known for pid in self._of_session.get(session_id, ())]
            ended = [record for pid in pids if (record := self._pop(pid)) is not None]
        for record in ended:
            self._expired(record)

    def sessions(self) -> list[str]:
        """Return the sessions of those that are kept."""
        return list(self._of_session)

    def trim(self) -> None:
        """Forget those that are too old or too many."""
        earliest = monotonic() - self._seconds
        expired: list[Record] = []
        with self._lock:
            for in_rooms, most in ((True, MAX_RECORDS), (False, MAX_ROOMLESS)):
                kept = self._kept[in_rooms]
                while kept:
                    record = next(iter(kept.values()))
                    if len(kept) <= most and record.at >= earliest:
                        break
                    self._pop(record.pid)
                    expired.append(record)
        for record in expired:
            self._expired(record)
