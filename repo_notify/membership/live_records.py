"""The records of clients that are connected, written as they change: a killed process tells nobody (spec section 9)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from repo_notify.delivery.history.record_writer import RecordWriter
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Follower, Sockets

from .snapshots import Snapshots

# Of a client whose process was killed nobody knows more.
REASON = "transport close"


def watch(
    sockets: Sockets, writer: RecordWriter | None, snapshots: Snapshots, identities: Identities
) -> Callable[[Follower], None] | None:
    """Have the records of clients written as they change; return what is to be told of them, where that is so."""
    if writer is None:
        return None
    live = LiveRecords(sockets, writer, snapshots)
    identities.changed = live.user_changed
    return live.changed


class LiveRecords:
    """Has the record of a client written soon after its rooms or its user have changed."""

    def __init__(self, sockets: Sockets, writer: RecordWriter, snapshots: Snapshots) -> None:
        self._sockets = sockets
        self._writer = writer
        self._snapshots = snapshots
        self._lock = threading.Lock()
        self._changed: dict[Follower, None] = {}
        writer.collect = self.collect

    def changed(self, follower: Follower) -> None:
        """Take note of a client whose rooms have changed, or that is gone for good."""
        if follower.pid is None:
            return
        if follower.gone:
            # At once: it may come back with its secret before anything is written.
            self._writer.save(follower.pid, None)
            return
        with self._lock:
            self._changed[follower] = None
        self._writer.wake()

    def user_changed(self, connection_id: str) -> None:
        """Take note of a connection that has another user or session, or none any more."""
        found: Any = self._sockets.of(connection_id)
        for follower in found:
            self.changed(follower)

    def collect(self) -> None:
        """Hand over the records of those that have changed."""
        with self._lock:
            changed, self._changed = self._changed, {}
        for follower in changed:
            with self._sockets.order:
                self._hand_over(follower)

    def _hand_over(self, follower: Follower) -> None:
        found = self._sockets.follower(follower.sid, follower.namespace)
        if found is follower and not follower.gone:
            record = self._snapshots.of(follower, REASON)
            if record is not None:
                record.live = True
                self._writer.save(record.pid, record if record.matters else None)
        elif found is None and follower.pid is not None:
            # It was refused in the end.
            self._writer.save(follower.pid, None)
