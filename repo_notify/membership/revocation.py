"""Access ends when the right ends: members are asked for again, a member without a right is removed (spec section 10).

Whose right may have ended is named by MongoDB's change stream, by the host, or by the sweep, which names everybody.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from repo_notify.access.changes import Change
from repo_notify.access.permissions import Permissions
from repo_notify.access.rights import decide, denial
from repo_notify.errors import PermissionsUnavailable
from repo_notify.logs import Outage, connection_label
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialect, Dialects, JoinRequest
from repo_notify.protocol.echo import echo
from repo_notify.protocol.rooms import Room, RoomKind
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Socket

from .register import Concern, Register

logger = logging.getLogger(__name__)

# After how long a look at many lets others run.
SLICE_SECONDS = 0.001
# How long a change waits for others to be looked at together with.
COALESCE_SECONDS = 0.02
# So long the members of what was removed still hear what a publisher says of the removal (spec section 10).
FAREWELL_SECONDS = 0.5
# How many rooms are announced at a time: what is read of them is not to hold up others for long.
ROOMS_TOGETHER = 100
ROOMS_AT_ONCE = 10
# When a database that did not answer is asked again.
AGAIN_SECONDS = 1.0
# Beyond so many concerns of one teamspace all of its rooms are looked at.
MANY_CONCERNS = 100
# For how long a change is remembered, for joins that were under way: longer than any of them may take.
REMEMBERED_SECONDS = 60.0
# How long the rooms that everybody has left are kept at most.
FORGET_SECONDS = 60.0


class _Named(NamedTuple):
    """Why something is looked at, when that was known, in monotonic seconds, and whether one user alone is meant."""

    cause: str
    at: float
    username: str | None = None


@dataclass
class _Look:
    """One look at some rooms. `farewell` tells whether the members of what is gone leave now."""

    named: _Named
    since: float
    farewell: bool = False
    failures: int = 0
    silent: set[str | None] = field(default_factory=set)
    turn: float = field(default_factory=monotonic)


class Revalidation:
    """Asks for rights again. `give_way` lets others run; a sweep over everybody is made each `seconds`, 0 for none."""

    def __init__(
        self,
        register: Register,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        dialects: Dialects,
        seconds: float,
        give_way: Callable[[], None],
    ) -> None:
        self._register = register
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._dialects = dialects
        self._seconds = seconds
        self._give_way = give_way
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._sweep_wanted = threading.Event()
        self._concerns: dict[Concern, _Named] = {}
        # By room, and whether the members of what is gone leave then: when it is looked at.
        self._later: dict[tuple[Room, bool], tuple[float, _Named]] = {}
        self._changed: dict[str, float] = {}
        self._doubted = 0.0
        self._outage = Outage(logger, "the rights of all memberships could be asked for again")
        self._ended: float | None = None
        metrics.recheck_age.watch(lambda: {(): 0.0 if self._ended is None else monotonic() - self._ended})

    def changed(self, change: Change) -> None:
        """Take note of a write to access lists."""
        self._name(Concern(*change), "change")

    def doubted(self) -> None:
        """Take note that changes may have been missed: everybody is looked at, now."""
        self._permissions.invalidate_all()
        self._doubted = monotonic()
        self._sweep_wanted.set()

    def revalidate(self, concern: Concern) -> None:
        """Have these members asked for again, at once, on the host's word."""
        self._name(concern, "host")

    def settle(self, room: Room, where: tuple[str | None, ...], started: float) -> None:
        """Look again at a room that was entered by a question asked at `started`, if a right may have ended since."""
        teamspace = str(where[0]) if where else ""
        if max(self._changed.get(teamspace, 0.0), self._doubted) >= started:
            now = monotonic()
            self._look_later(room, _Named("change", now), now, farewell=False)

    def _name(self, concern: Concern, cause: str) -> None:
        now = monotonic()
        if concern.teamspace is None:
            self._permissions.invalidate_all()
            self._doubted = now
        else:
            self._permissions.invalidate(concern.teamspace)
            self._remember(concern.teamspace, now)
        with self._lock:
            self._concerns.setdefault(concern, _Named(cause, now, concern.username))
        self._something.set()

    def _remember(self, teamspace: str, now: float) -> None:
        with self._lock:
            if len(self._changed) > 2 * MANY_CONCERNS:
                self._changed = {name: at for name, at in self._changed.items() if now - at < REMEMBERED_SECONDS}
            self._changed[teamspace] = now

    def _look_later(self, room: Room, named: _Named, due: float, *, farewell: bool) -> None:
        with self._lock:
            known = self._later.get((room, farewell))
            if known is None or due < known[0]:
                self._later[room, farewell] = (due, named)
        self._something.set()

    def close(self) -> None:
        """End."""
        self._closing.set()
        self._something.set()
        self._sweep_wanted.set()

    def run_sweeps(self) -> None:
        """Sweep each `seconds`, and when changes may have been missed, until `close`."""
        self._ended = monotonic()
        while not self._closing.is_set():
            self._await_sweep()
            self._sweep_wanted.clear()
            self._guarded(self.sweep)

    def _await_sweep(self) -> None:
        """Wait for the next sweep, which forgets the rooms that are empty; where it is far off, forget them now."""
        due = monotonic() + (self._seconds or math.inf)
        while not self._sweep_wanted.wait(min(FORGET_SECONDS, max(0.0, due - monotonic()))) and monotonic() < due:
            self._guarded(self._forget_empty)

    def _forget_empty(self) -> None:
        turn = monotonic()
        for room in self._register.rooms():
            self._register.forget_if_empty(room)
            if monotonic() - turn > SLICE_SECONDS:
                self._give_way()
                turn = monotonic()

    def run(self) -> None:
        """Look at whoever is named, until `close`."""
        while not self._closing.is_set():
            self._something.wait(self._until_next())
            self._closing.wait(COALESCE_SECONDS)
            self._something.clear()
            self._guarded(self._look_at_named)

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._closing.is_set():
            return
        try:
            work()
        # These looks are what ends access: nothing that one of them meets may be the end of the others.
        except Exception:
            logger.exception("a look at members' rights broke off; the next one is in %s s", self._seconds)

    def sweep(self) -> None:
        """Ask for the right of every member once; a member whose right cannot be asked for stays, and is counted."""
        now = monotonic()
        look = _Look(_Named("sweep", now), since=now)
        self._look_at(self._register.rooms(), look)
        if self._closing.is_set():
            return
        self._ended = monotonic()
        if look.failures:
            self._outage.began("the rights of %d memberships could not be asked for; they stay for now", look.failures)
        else:
            self._outage.ended()

    def _until_next(self) -> float | None:
        with self._lock:
            dues = [due for due, _ in self._later.values()]
        return max(0.0, min(dues) - monotonic()) if dues else None

    def _look_at_named(self) -> None:
        for named, rooms in self._take_concerns():
            self._look_at(rooms, _Look(named, since=named.at))
        now = monotonic()
        with self._lock:
            due = {key: later for key, later in self._later.items() if later[0] <= now}
            for key in due:
                del self._later[key]
        # Together, and by answers that are all asked for anew: the rooms of a teamspace that was dropped may be many.
        looks: dict[tuple[_Named, bool], list[Room]] = {}
        for (room, farewell), (_, named) in due.items():
            looks.setdefault((named, farewell), []).append(room)
        for (named, farewell), rooms in looks.items():
            self._look_at(rooms, _Look(named, since=now, farewell=farewell))

    def _take_concerns(self) -> list[tuple[_Named, list[Room]]]:
        """Return the rooms that are named, each once, by why they are."""
        with self._lock:
            concerns, self._concerns = self._concerns, {}
        of_teamspace: dict[str | None, list[Concern]] = {}
        for concern in concerns:
            of_teamspace.setdefault(concern.teamspace, []).append(concern)
        found: dict[Room, _Named] = {}
        for teamspace, several in of_teamspace.items():
            last = max((concerns[concern] for concern in several), key=lambda named: named.at)
            if len(several) > 1:
                last = last._replace(username=None)
            for concern in several if len(several) <= MANY_CONCERNS else [Concern(teamspace)]:
                for room in self._register.rooms(concern):
                    found[room] = last if room not in found else last._replace(username=None)
        by_cause: dict[_Named, list[Room]] = {}
        for room, named in found.items():
            by_cause.setdefault(named, []).append(room)
        return list(by_cause.items())

    def _look_at(self, rooms: Iterable[Room], look: _Look) -> None:
        for room in self._announced(rooms, look):
            kind, dialect = self._dialects.kinds[room.kind]
            if not self._look_at_room(room, kind, dialect, look) and look.named.cause != "sweep":
                self._look_later(room, look.named, monotonic() + AGAIN_SECONDS, farewell=look.farewell)
            if self._closing.is_set():
                return

    def _announced(self, rooms: Iterable[Room], look: _Look) -> Iterator[Room]:
        """Yield the rooms; some are announced at a time, so that one look-up answers for all of them."""
        remaining = iter(rooms)
        while together := self._with_ids(islice(remaining, ROOMS_TOGETHER), look):
            if len(together) > 1:
                for at in range(0, len(together), ROOMS_AT_ONCE):
                    where = [where for _, where in together[at : at + ROOMS_AT_ONCE]]
                    self._permissions.announce(where, since=look.since)
                    self._let_others(look)
            yield from [room for room, _ in together]

    def _with_ids(self, rooms: Iterable[Room], look: _Look) -> list[tuple[Room, tuple[str | None, ...]]]:
        """Return the rooms and the ids of their look-ups: what a key says takes a while to read."""
        found = []
        for room in rooms:
            found.append((room, self._dialects.kinds[room.kind][0].request(room).where))
            self._let_others(look)
        return found

    def _let_others(self, look: _Look) -> None:
        if monotonic() - look.turn > SLICE_SECONDS:
            self._give_way()
            look.turn = monotonic()

    def _look_at_room(self, room: Room, kind: RoomKind, dialect: Dialect, look: _Look) -> bool:
        """Return whether every member's right is known; members without are removed."""
        known = True
        for socket in self._register.members(room):
            self._let_others(look)
            if self._closing.is_set():
                return True
            outcome = self._revalidate(socket, room, kind, dialect, look)
            self._metrics.revalidated(look.named.cause, outcome)
            if outcome == "unknown":
                look.failures += 1
                known = False
            elif outcome == "farewell":
                # From the change on: a look that took long must not have them stay beyond the second. A sweep has begun
                # at a time that tells nothing of when this was removed.
                known_at = monotonic() if look.named.cause == "sweep" else look.named.at
                self._look_later(room, look.named, known_at + FAREWELL_SECONDS, farewell=True)
                return True
        return known

    def _revalidate(self, socket: Socket, room: Room, kind: RoomKind, dialect: Dialect, look: _Look) -> str:
        identity = self._identities.known(socket.connection_id)
        if identity is None or look.named.username not in (None, identity.username):
            return "kept"
        request = kind.request(room)
        teamspace = request.where[0] if request.where else None
        if teamspace in look.silent:
            return "unknown"
        try:
            # The pause after one teamspace's silence is for joins; here it would let all others go unseen.
            if (pause := self._permissions.silent_for()) > 0:
                self._closing.wait(pause)
            if decide(self._permissions, identity.username, kind.right, request.where, since=look.since).allowed:
                return "kept"
            if not look.farewell and not self._permissions.is_there(request.where, since=look.since):
                return "farewell"
            # The database was waited for: the connection may be somebody else's meanwhile.
            if self._identities.known(socket.connection_id) == identity:
                self._evict(socket, room, kind, dialect, look)
            return "evicted"
        except PermissionsUnavailable:
            # One document that cannot be read is not the teamspace's other models' trouble; silence is.
            if self._permissions.silent_for() > 0:
                look.silent.add(teamspace)
        # One member's trouble, such as a server of the host's that refuses a reply, is not the others'.
        except Exception:
            label = connection_label(socket.connection_id)
            logger.exception("connection %s: the right of a membership could not be asked for", label)
        return "unknown"

    def _evict(self, socket: Socket, room: Room, kind: RoomKind, dialect: Dialect, look: _Look) -> None:
        joined = self._register.object_of(socket, room)
        if not socket.leave(room.key):
            return
        self._register.left(socket, room)
        self._metrics.evictions(look.named.cause)
        if look.named.cause != "sweep":
            self._metrics.revocation.observe(monotonic() - look.named.at)
        tell_denied(socket, joined, kind, dialect)


def tell_denied(socket: Socket, joined: Any, kind: RoomKind, dialect: Dialect) -> None:
    """Tell a socket that its right to a room has ended, which it joined by the object `joined` (spec section 10)."""
    request = JoinRequest("join", joined, echo("join", joined, None), dialect, None)
    for reply in dialect.denied(request, denial(kind.right)):
        socket.emit(reply.event, reply.data)
