"""Joins since a position: what a client missed in a room follows the reply (spec section 9)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.positions import TOO_OLD, Gap
from repo_notify.delivery.history.replay import Replay
from repo_notify.metrics import Metrics
from repo_notify.protocol.rooms import Room
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Follower, Socket

from .snapshots import Snapshots


class JoinsSince:
    """What handlers ask about joins with `since`.

    `replay_of(follower, ids, username)` returns the replay that a client is in, or begins one.
    """

    def __init__(
        self,
        history: History,
        snapshots: Snapshots,
        identities: Identities,
        metrics: Metrics,
        replay_of: Callable[[Follower, frozenset[str], str | None], Replay],
    ) -> None:
        self.history = history
        self._snapshots = snapshots
        self._identities = identities
        self._metrics = metrics
        self._replay_of = replay_of

    def rooms_of(self, socket: Socket) -> Mapping[Hashable, int]:
        """Return the rooms of a socket, each with the number from which it has had everything."""
        follower: Any = socket
        return dict(follower.rooms)

    def joined(
        self, socket: Socket, rooms: Sequence[Room], since: object, before: Mapping[Hashable, int]
    ) -> dict[str, Any]:
        """Return what the reply to a join since a position says more; what was missed is sent behind it.

        Asked within the order of publications, once the rooms are entered; `before` are those that it was in before.
        """
        follower: Any = socket
        for other in self._snapshots.followers(follower):
            other.tell_positions()
        try:
            number = self.history.read(since) if since is not None else self.history.number
            if not self.history.reaches(number, [room.key for room in rooms]):
                raise Gap(TOO_OLD)
        except Gap:
            self._metrics.joined_since("gap")
            return {"position": self._sent(follower), "gap": True}
        if since is None:
            return {"position": self._sent(follower)}
        self._metrics.joined_since("replayed")
        return self._since(follower, rooms, number, since, before)

    def _sent(self, follower: Follower) -> str:
        """Return how far what was sent to it goes; behind that of everybody while it is handed what it missed."""
        replay = follower.replay
        return self.history.position_at(replay.sent) if isinstance(replay, Replay) else self.history.position

    def _since(
        self, follower: Follower, rooms: Sequence[Room], number: int, since: object, before: Mapping[Hashable, int]
    ) -> dict[str, Any]:
        busy = follower.replay is not None
        # What another room's replay has not sent yet may be older.
        told = since if not busy or number <= follower.replay.sent else self._sent(follower)
        identity = self._identities.known(follower.connection_id)
        replay = self._replay_of(follower, frozenset(), identity.username if identity is not None else None)
        starts = {room.key: number for room in rooms}
        missed = replay.add(starts, had=before)
        replay.since.update(starts)
        if missed or busy:
            return {"position": told, "replayed": missed}
        replay.end()
        return {"position": self.history.position, "replayed": 0}
