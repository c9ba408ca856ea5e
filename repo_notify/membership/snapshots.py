"""What a client would come back as if its connection ended now (spec section 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.records import Record
from repo_notify.delivery.history.replay import Replay, ids_of
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Follower, Sockets, our_rooms

from .register import Register


class Snapshots:
    """Makes session records of clients."""

    def __init__(self, history: History, sockets: Sockets, identities: Identities, register: Register) -> None:
        self._history = history
        self._sockets = sockets
        self._identities = identities
        self._register = register

    def followers(self, follower: Follower) -> Sequence[Follower]:
        """Return the sockets of a client's connection, its own first."""
        found: Any = self._sockets.of(follower.connection_id)
        return [follower, *found]

    def of(self, follower: Follower, reason: str) -> Record | None:
        """Return the record of a client whose connection has ended for that reason; None for one without a secret."""
        if follower.pid is None:
            return None
        identity = self._identities.known(follower.connection_id)
        replay = follower.replay
        ours = {room.key: room for room in our_rooms(follower)}
        objects = {key: self._register.kept_of(follower, room) for key, room in ours.items()}
        return Record(
            pid=follower.pid,
            namespace=follower.namespace,
            sid=follower.sid,
            ids=ids_of(self.followers(follower)),
            username=identity.username if identity is not None else None,
            session_id=identity.session_id if identity is not None else None,
            named=identity.named if identity is not None else False,
            since=follower.since,
            rooms={key: follower.rooms[key] for key in ours},
            number=self._history.number,
            reason=reason,
            replayed=replay.replayed if isinstance(replay, Replay) else follower.replayed,
            replaying=dict(replay.since) if isinstance(replay, Replay) else {},
            totals={key: self._history.total(key) for key in ours},
            objects={key: sent for key, sent in objects.items() if sent is not None},
        )
