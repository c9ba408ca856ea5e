"""Access ends when the right ends: members' rights are looked at again, and who lost one leaves the room."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from .connections import Connections
from .errors import PermissionsUnavailable
from .identity import Identities, Identity
from .metrics import Metrics
from .permissions import Permissions
from .rights import may, refusal
from .rooms import Claim, Membership, Room

logger = logging.getLogger(__name__)

# After how long a pass lets others run.
SLICE_SECONDS = 0.002

# A connection, who is on it, and a room that it is in by one of its ids.
_Member = tuple[str, Identity, str, str, Room]


class Recheck:
    """Looks at every member of every room each `seconds`; `memberships` says what each kind of room needs.

    `give_way` lets others run: a pass over many members must not hold up the loop.
    """

    def __init__(
        self,
        connections: Connections,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        memberships: Mapping[str, Membership],
        seconds: float,
        give_way: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._memberships = memberships
        self._seconds = seconds
        self._give_way = give_way
        self._closing = threading.Event()
        self._ended = monotonic()
        metrics.watch(
            "repo_notify_recheck_age_seconds",
            "Seconds since a look at all members' rights last came to its end, or since the start.",
            (),
            lambda: {(): monotonic() - self._ended},
        )

    def run(self) -> None:
        """Go on until `close`."""
        while not self._closing.wait(self._seconds):
            try:
                self.look()
            # The sweep is what ends access: nothing that one pass meets may end the sweep.
            except Exception:
                logger.exception("a look at members' rights broke off; the next one is in %s s", self._seconds)

    def close(self) -> None:
        """End."""
        self._closing.set()

    def look(self) -> None:
        """Look at every member once; one whose right cannot be looked at stays, and is counted."""
        failed: set[str | None] = set()
        failures = 0
        turn = monotonic()
        for member in self._members():
            if monotonic() - turn > SLICE_SECONDS:
                self._give_way()
                turn = monotonic()
            if self._closing.is_set():
                return
            if not self._look_at(member, failed):
                failures += 1
                self._metrics.recheck_failures.inc()
        self._ended = monotonic()
        if failures:
            logger.warning("the rights of %d memberships could not be looked at again; they stay for now", failures)

    def _members(self) -> Iterator[_Member]:
        for connection in self._identities.bound():
            identity = self._identities.known(connection)
            if identity is None:
                continue
            for namespace, sid in list(self._connections.sids(connection)):
                for room in self._connections.rooms(sid, namespace):
                    yield connection, identity, namespace, sid, room

    def _look_at(self, member: _Member, failed: set[str | None]) -> bool:
        """Whether the member's right is known; who has none is sent out.

        `failed` collects the teamspaces that do not answer: they are not waited for again in this pass.
        """
        connection, identity, namespace, sid, room = member
        teamspace: str | None = None
        try:
            membership = self._memberships[room.kind]
            claim = membership.claim(room)
            teamspace = claim.where[0] if claim.where else None
            if teamspace in failed:
                return False
            allowed = self._ask(identity.username, claim)
            # The database was waited for: the connection may be somebody else's meanwhile.
            if not allowed and self._identities.known(connection) == identity:
                self._evict(sid, namespace, room, membership)
        except PermissionsUnavailable:
            # One document that cannot be read is not the teamspace's other models' trouble; silence is.
            if self._permissions.silent_for() > 0:
                failed.add(teamspace)
            return False
        # One member's trouble, such as a server of the host's that refuses a reply, is not the others'.
        except Exception:
            logger.exception("a membership could not be looked at again")
            return False
        return True

    def _ask(self, username: str, claim: Claim) -> bool:
        # The pause after one teamspace's silence is for joins; here it would let all others go unseen.
        if (pause := self._permissions.silent_for()) > 0:
            self._closing.wait(pause)
        return may(self._permissions, username, claim)

    def _evict(self, sid: str, namespace: str, room: Room, membership: Membership) -> None:
        if not self._connections.leave(sid, namespace, room):
            return
        self._metrics.evictions.inc()
        reply = refusal(membership.right).reply()
        if membership.legacy:
            self._connections.reply(sid, namespace, "credentialError", reply)
        details = {"action": "join", "data": membership.asked(room)}
        self._connections.reply(sid, namespace, "error", {**reply, "details": details})
