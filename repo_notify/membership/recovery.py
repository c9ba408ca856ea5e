"""Clients that come back as who they were (spec section 9)."""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any

from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import decide
from repo_notify.delivery.history.accounts import Accounts
from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.packing import key_of
from repo_notify.delivery.history.positions import TOO_OLD, Gap, OtherHistory
from repo_notify.delivery.history.records import Record
from repo_notify.delivery.history.replay import Replay, Whose, gap, ids_of
from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.rooms import Room, RoomRequest
from repo_notify.sessions.bindings import Identities, Identity
from repo_notify.sessions.reads import SessionsUnavailable
from repo_notify.sockets import Back, Follower, Sockets

from .keeping import Keeping
from .live_records import watch
from .register import Register
from .revocation import Revalidation, tell_denied
from .since import JoinsSince
from .snapshots import Snapshots

logger = logging.getLogger(__name__)

# The secret part of a `pid`: 128 random bits; what follows it is the id of the socket.
_SECRET_BYTES = 16
_SECRET_LENGTH = 22
# Longer than any that was given out.
MAX_PID_LENGTH = 100
# No access list older than this says that somebody may be back in a room, in seconds.
FRESH_SECONDS = 1.0
# So many rooms of each who is away are read with those of others; who has more has them read together anyway.
EXPECTED_ROOMS = 50
# How often within half of the history's time, and at least, what is too old is forgotten; in seconds.
LOOKS = 8
LOOK_SECONDS = 5.0
# So many are told where they are at a time.
TOLD_TOGETHER = 100
UNAVAILABLE = "Permissions cannot be checked right now"
HOLE = "Something that was published did not arrive here"
SESSION_UNAVAILABLE = "Sessions cannot be read right now"
SLOW = "slow client"
# The server's own end of a connection is a kick, unless it is the service that ends.
_KICK = "server disconnect"


@dataclass(frozen=True)
class _Kept:
    """What somebody who is back gets: the record, where it starts, and what became of its rooms."""

    record: Record
    number: int | None
    rooms: Sequence[RoomRequest]
    refused: Sequence[RoomRequest]
    asked: float


@dataclass(frozen=True)
class _Fresh:
    """Somebody new who is told why nothing was recovered."""

    reason: str


class Recoveries:
    """What the engine asks about who comes back.

    `stopping` tells whether the service ends: who is sent away then may come back. `is_alive` tells whether a session
    has not ended in its store.
    """

    def __init__(
        self,
        history: History,
        accounts: Accounts,
        sockets: Sockets,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        dialects: Dialects,
        register: Register,
        revalidation: Revalidation,
        keeping: Keeping,
        give_way: Callable[[], None],
        is_alive: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.history = history
        self._accounts = accounts
        self._sockets = sockets
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._kinds = dialects.kinds
        self._register = register
        self._revalidation = revalidation
        self._give_way = give_way
        self._closing = threading.Event()
        self.stopping = False
        self._snapshots = Snapshots(history, sockets, identities, register)
        self._is_alive = is_alive
        self._keeping = keeping
        self.joins = JoinsSince(history, self._snapshots, identities, metrics, self._replay)
        self.changed = watch(sockets, keeping.writer, self._snapshots, identities)
        sockets.keep(self)
        self.records = keeping.records(history.bounds.seconds, self._expired)

    def new_pid(self, sid: str) -> str:
        """Return a secret by which the client with that id may come back."""
        return secrets.token_urlsafe(_SECRET_BYTES) + sid

    def close(self) -> None:
        """End the background work."""
        self._closing.set()

    def run(self) -> None:
        """Forget what is too old, and tell quiet clients where they are, until `close`."""
        seconds = self.history.bounds.seconds / 2
        pause = min(seconds / LOOKS, LOOK_SECONDS)
        told = self.history.number
        turn = 0
        while not self._closing.wait(pause):
            with self._sockets.order:
                self.history.trim()
            self.records.trim()
            turn += 1
            if turn * pause >= seconds:
                turn = 0
                if told != self.history.number:
                    told = self.history.number
                    self._tell_everybody()

    def _tell_everybody(self) -> None:
        """Tell everybody the position, so that nobody's runs out while others are busy."""
        for at, follower in enumerate(self._sockets.followers()):
            if at % TOLD_TOGETHER == TOLD_TOGETHER - 1:
                self._give_way()
            with self._sockets.order:
                if follower.told and follower.replay is None and not follower.gone:
                    follower.tell_position()

    def hole(self) -> None:
        """Tell everybody who is in a room that something of another process is missing, and may be theirs."""
        with self._sockets.order:
            self.history.hole()
        for follower in self._sockets.followers():
            with self._sockets.order:
                if follower.gone:
                    continue
                if self.changed is not None:
                    # A store that has forgotten what was published has forgotten who is connected, too.
                    self.changed(follower)
                if follower.told and follower.rooms:
                    follower.emit("message", gap(HOLE))

    # Who comes back.

    def returned(self, connection_id: str, namespace: str, auth: Any) -> Back | None:
        """Return who comes back by what the CONNECT brought; may wait, and ends that client's older connection."""
        pid = auth.get("pid") if isinstance(auth, dict) else None
        if pid is None:
            return None
        try:
            found = self._returned(connection_id, namespace, pid, auth.get("offset"))
        except Gap as reason:
            self._metrics.recovery("gap")
            return Back(None, None, _Fresh(reason.reason))
        if found is None:
            self._metrics.recovery("unknown")
            return None
        self._metrics.recovery("recovered")
        return Back(found.record.sid, found.record.pid, found)

    def _returned(self, connection_id: str, namespace: str, pid: object, offset: object) -> _Kept | None:
        self._keeping.reach(offset)
        live = self._live(pid, namespace)
        record = self._snapshots.of(live, "transport close") if live is not None else self._lost(pid, namespace)
        if record is None:
            self._look_at_other_history(offset)
            return None
        if not self._is_same(connection_id, record):
            return None
        if live is not None:
            self._sockets.take_over(live)
        # Whoever was faster has it.
        record = self.records.take(record.pid)
        if record is None:
            return None
        try:
            number = self._number(offset, record)
            asked = monotonic()
            rooms, refused = self._ask(record, asked)
        except Gap:
            self._dropped(record, "gap")
            raise
        if record.username is not None and self._identities.known(connection_id) is None:
            self._identities.bind(connection_id, Identity(record.username, record.session_id, named=True))
        return _Kept(record, number, rooms, refused, asked)

    def taken(self, named: Mapping[str, Any]) -> None:
        """Let go of a client that is back on another process, which has taken its record, by the key of its secret.

        `ids` are those of the connection whose record that was: a later one of the client is none of it.
        """
        key, ids = named["key"], named["ids"]
        found = self._sockets.follower(named["sid"], named["namespace"])
        if found is not None and found.connection_id in ids and found.pid is not None and key_of(found.pid) == key:
            self._sockets.take_over(found)
        self.records.drop(key, ids)

    def reach(self, position: object) -> None:
        """Wait, for a moment, for what somebody with that position knows of already."""
        self._keeping.reach(position)

    def _live(self, pid: object, namespace: str) -> Follower | None:
        if not isinstance(pid, str) or not _SECRET_LENGTH < len(pid) <= MAX_PID_LENGTH or not pid.isascii():
            return None
        found = self._sockets.follower(pid[_SECRET_LENGTH:], namespace)
        if found is None or found.gone or found.pid is None or not hmac.compare_digest(found.pid, pid):
            return None
        return found

    def _lost(self, pid: object, namespace: str) -> Record | None:
        record = self.records.get(pid) if isinstance(pid, str) and len(pid) <= MAX_PID_LENGTH else None
        return record if record is not None and record.namespace == namespace else None

    def _look_at_other_history(self, offset: object) -> None:
        """Say so where somebody unknown has a position of a history that is gone: what was missed is not known."""
        if not isinstance(offset, str):
            return
        try:
            self.history.read(offset)
        except OtherHistory:
            raise
        except Gap:
            return

    def _is_same(self, connection_id: str, record: Record) -> bool:
        """Return whether it is who it was: by a session of the same user, or by the secret alone where that counts."""
        try:
            now = self._identities.of(connection_id)
        except SessionsUnavailable:
            raise Gap(SESSION_UNAVAILABLE) from None
        if now is None:
            return record.username is None or (record.named and self._has_session(record))
        return now.username == record.username

    def _has_session(self, record: Record) -> bool:
        """Return whether the session of a client that is known by its secret alone has not ended."""
        # Of this run of the process they are asked for all the time.
        if not record.revived or record.session_id is None:
            return True
        try:
            return self._is_alive(record.session_id)
        # Each store raises its own kinds.
        except Exception:
            logger.exception("whether a session has ended could not be asked for")
            raise Gap(SESSION_UNAVAILABLE) from None

    def _number(self, offset: object, record: Record) -> int | None:
        """Return the number until which it has had everything; None where the server has to know. Raises `Gap`."""
        if offset is None:
            number = None
        else:
            try:
                number = max(self.history.read(offset), record.since)
            except OtherHistory:
                # Kept of a session before: since this one began the client has been told none.
                number = None
        starts = {room: record.start(room, number) for room in record.rooms}
        self.history.trim()
        if not all(self.history.reaches(start, [room]) for room, start in starts.items()):
            raise Gap(TOO_OLD)
        return number

    def _ask(self, record: Record, now: float) -> tuple[list[RoomRequest], list[RoomRequest]]:
        """Return the rooms that its user may still be in, and the others; raises `Gap` where that cannot be known."""
        requests = [self._request(room) for room in record.rooms]
        since = now - FRESH_SECONDS
        self._announce(requests, since)
        kept: list[RoomRequest] = []
        refused: list[RoomRequest] = []
        try:
            for request in requests:
                may = (
                    record.username is not None
                    and decide(self._permissions, record.username, request.right, request.where, since=since).allowed
                )
                (kept if may else refused).append(request)
        except PermissionsUnavailable:
            raise Gap(UNAVAILABLE) from None
        return kept, refused

    def _announce(self, requests: Sequence[RoomRequest], since: float) -> None:
        self._permissions.announce([request.where for request in requests if request.where], since=since)

    def _request(self, key: str) -> RoomRequest:
        room = Room.parse(key)
        return self._kinds[room.kind][0].request(room)

    # What becomes of it.

    def admitted(self, follower: Follower, returned: Back | None) -> None:
        """Put who is back into its rooms and begin its replay; tell somebody new where it is."""
        if self.changed is not None:
            self.changed(follower)
        kept = returned.kept if returned is not None else None
        if isinstance(kept, _Kept):
            self._restore(follower, kept)
            return
        follower.since = self.history.number
        if isinstance(kept, _Fresh):
            follower.emit("message", gap(kept.reason))
        if follower.pid is not None:
            follower.told = True
            follower.tell_position()

    def _restore(self, follower: Follower, kept: _Kept) -> None:
        record = kept.record
        follower.since = record.since
        identity = self._identities.known(follower.connection_id)
        # Its session may have ended while the database was asked.
        rooms = kept.rooms if identity is not None and identity.username == record.username else ()
        for request in kept.refused:
            tell_denied(follower, self._object(record, request.room), *self._kinds[request.room.kind])
        follower.told = True
        replay = self._replay(follower, record.ids, record.username)
        # Another run of the process counted for itself what it sent in vain.
        if not record.revived:
            replay.sent_until, replay.replayed_until = record.number, record.replayed
        replay.is_first = True
        for request in rooms:
            key = request.room.key
            follower.enter(key, record.rooms[key])
            self._register.entered(follower, request, self._object(record, request.room))
            self._revalidation.settle(request.room, request.where, kept.asked)
        starts = {request.room.key: record.start(request.room.key, kept.number) for request in rooms}
        replay.add(starts)
        replay.since.update({room: number for room, number in record.replaying.items() if room in starts})
        replay.run()

    def _object(self, record: Record, room: Room) -> Any:
        found = record.objects.get(room.key)
        return found if found is not None else self._kinds[room.kind][0].join_object(room)

    def _replay(self, follower: Follower, ids: frozenset[str], username: str | None) -> Replay:
        ids |= ids_of(self._snapshots.followers(follower))
        return Replay.of(
            follower, self.history, Whose(ids, username), order=self._sockets.order, accounts=self._accounts
        )

    def lost(self, follower: Follower, reason: str) -> None:
        """Keep who lost its connection."""
        record = self._snapshots.of(follower, reason)
        if record is None:
            return
        if isinstance(follower.replay, Replay):
            record.unsent = follower.replay.abandon()
        if reason == _KICK and not self.stopping:
            return
        # It is the record's from here on.
        follower.pid = None
        self.records.put(record)
        if not self.stopping:
            # Who comes back first has the rights of all who are away read, however fresh they are by now.
            self._announce([self._request(room) for room in islice(record.rooms, EXPECTED_ROOMS)], math.inf)

    def forget_sessions(self, session_ids: Sequence[str]) -> None:
        """Forget those of these sessions that are away: nothing of them comes back."""
        self.records.end_sessions(session_ids)

    def _expired(self, record: Record) -> None:
        self._dropped(record, "slow" if record.reason == SLOW else "gone")

    def _dropped(self, record: Record, reason: str) -> None:
        rooms = {room: max(number, record.number) for room, number in record.rooms.items()}
        whose = Whose(record.ids, record.username)
        there = self.history.after(rooms)
        missed = sum(not whose.caused(entry) for entry in there)
        # And what has left the history since; who is in several rooms of one event counts for each of them then.
        for room, total in record.totals.items():
            left = self.history.total(room) - total - sum(room in entry.rooms for entry in there)
            missed += max(0, left)
        self._accounts.dropped(reason, missed, in_vain=record.unsent)
