"""Why did this user not hear of that model? A short list of checks, in the order in which an event passes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from repo_notify.access.grants import grants, misnamed
from repo_notify.access.permissions import NoAnswer, Permissions
from repo_notify.access.rights import decide
from repo_notify.access.store import Store, Unreachable
from repo_notify.backend.assembly import Backend
from repo_notify.delivery.queue import Bus
from repo_notify.delivery.stream import Stream
from repo_notify.errors import PermissionsUnavailable
from repo_notify.protocol.dialect import Dialects
from repo_notify.protocol.ids import fold_uuid
from repo_notify.protocol.rooms import Room
from repo_notify.sessions.bindings import Identities
from repo_notify.sockets import Peer, Sockets, our_rooms

# Users whose last connection is remembered after its end.
MAX_REMEMBERED = 1_000
READ_SECONDS = 2.0
# A host's loader tells a v4 room from a v5 one by that.
_ANY_PROJECT = " when asked without a project, as for a v4 room (&project=<id> asks as for a v5 one)"

# Why a connection ended, in python-engineio's words, and what that means; those marked were cut off.
_ENDS: dict[str, tuple[bool, str]] = {
    "slow client": (True, "it did not take what was sent to it (REPO_NOTIFY_MAX_OUTBOX_BYTES, _SECONDS, _TOTAL_BYTES)"),
    "ping timeout": (True, "it did not answer a ping: its network is lost or its machine asleep"),
    "transport error": (True, "it broke the protocol, or its network failed"),
    "server disconnect": (False, "the service closed it, as when it ends"),
    "client disconnect": (False, "its page closed it"),
    "transport close": (False, "its page was closed, or a proxy or the network closed it"),
}


class Asked(NamedTuple):
    """What is to be explained; `project` None stands for any."""

    username: str
    teamspace: str
    model: str
    project: str | None


class Check(NamedTuple):
    """One condition for hearing of a change, whether it holds, and why."""

    check: str
    ok: bool
    why: str


class End(NamedTuple):
    """The end of a connection, in monotonic seconds."""

    at: float
    reason: str


class Ends:
    """How the last connection of each user ended, for the users of late."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, End] = OrderedDict()

    def note(self, username: str, reason: str) -> None:
        """Remember an end, in place of an earlier one and of the oldest where there are many."""
        self._ends[username] = End(monotonic(), reason)
        self._ends.move_to_end(username)
        if len(self._ends) > MAX_REMEMBERED:
            self._ends.popitem(last=False)

    def of(self, username: str) -> End | None:
        """Return how the user's last connection ended, None where that is not known."""
        return self._ends.get(username)


@dataclass(frozen=True)
class Explainer:
    """Explains from one process's own state, and from the database's."""

    sockets: Sockets
    identities: Identities
    permissions: Permissions
    store: Store
    dialects: Dialects
    bus: Bus | Stream | None
    ends: Ends
    backend: Backend | None

    def explain(self, asked: Asked) -> list[Check]:
        """Return every check, in order; what an event needs is in `NEEDED`."""
        connections = self._connections(asked.username)
        checks: tuple[Callable[[Asked, dict[str, Peer]], Check], ...] = (
            self._account,
            self._connected,
            self._allowed,
            self._joined,
            self._slow,
            self._cut,
            self._queue,
            *((self._backend,) if self.backend is not None else ()),
        )
        return [check(asked, connections) for check in checks]

    def _connections(self, username: str) -> dict[str, Peer]:
        known = ((found, self.identities.known(found)) for found in self.identities.bound())
        theirs = [found for found, identity in known if identity is not None and identity.username == username]
        peers = {found: self.sockets.peer(found) for found in theirs}
        return {found: peer for found, peer in peers.items() if peer is not None}

    def _account(self, asked: Asked, _: dict[str, Peer]) -> Check:
        # An app with rights of its own may have no MongoDB.
        if self.permissions.loader is not None:
            return Check("account", True, "not looked up: the app's permission_loader decides, and not MongoDB")
        where = f"admin.{self.store.users}"
        try:
            with self.store.within(READ_SECONDS):
                found = self.store.account(asked.username) is not None
        except Unreachable:
            return Check("account", False, "MongoDB does not answer")
        if found:
            return Check("account", True, f"{where} has the account {asked.username}")
        return Check("account", False, f"{where} has no account {asked.username}; names are compared letter by letter")

    def _connected(self, asked: Asked, connections: dict[str, Peer]) -> Check:
        if connections:
            kinds = sorted({f"{peer.transport}, Engine.IO {peer.generation}" for peer in connections.values()})
            return Check("connected", True, f"{len(connections)} here ({'; '.join(kinds)})")
        end = self.ends.of(asked.username)
        last = f"; the last ended {_ago(end)}: {_meaning(end)[1]}" if end else "; none has ended lately either"
        return Check("connected", False, f"no connection here is {asked.username}'s{last}")

    def _allowed(self, asked: Asked, _: dict[str, Peer]) -> Check:
        where = (asked.teamspace, asked.project, asked.model)
        try:
            # As at a join, outside any request: a host's function that needs one must fail here as it does there.
            decision = Context().run(decide, self.permissions, asked.username, "model", where)
            # The checker is asked about who has the right alone.
            right = self._right(asked, granted=decision.allowed or bool(decision.checker))
        except (PermissionsUnavailable, Unreachable) as error:
            return Check("allowed", False, f"{self._unread(error)}, so that nobody new is let in")
        checker = f"; the app's access_checker {decision.checker}" if decision.checker else ""
        return Check("allowed", decision.allowed, right + checker)

    def _right(self, asked: Asked, *, granted: bool) -> str:
        """Return what gives the right to the model, or why there is none, apart from the host's checker."""
        if self.permissions.loader is not None:
            unasked = misnamed(asked.teamspace, asked.project, asked.model)
            return unasked or f"the app's permission_loader returned {granted}{'' if asked.project else _ANY_PROJECT}"
        with self.store.within(READ_SECONDS):
            found = grants(
                self.store,
                asked.username,
                asked.teamspace,
                asked.project,
                asked.model,
                legacy=self.permissions.legacy,
            )
        documents = "; ".join(found.documents)
        if granted:
            return documents or "a right that has ended a moment ago"
        return found.missing or f"a right given a moment ago: {documents}"

    def _unread(self, error: Exception) -> str:
        """Return what kept the rights from being read."""
        if self.permissions.loader is None:
            return "MongoDB does not answer"
        cause = error.__cause__
        if isinstance(cause, NoAnswer):
            return f"the app's permission_loader returned neither True nor False, but {cause.kind}"
        if cause is None:
            return "the app's permission_loader did not answer in time, or failed for another who asked the same"
        # What a host's code says of its failure may hold secrets; its log has that.
        failure = cause.__cause__ if isinstance(cause, Unreachable) and cause.__cause__ else cause
        return f"the app's permission_loader raised {type(failure).__name__}"

    def _joined(self, asked: Asked, connections: dict[str, Peer]) -> Check:
        joined = sum(self._is_in_room(asked, connection) for connection in connections)
        if joined:
            return Check("joined", True, f"{joined} of {len(connections)} in a room that hears of the model")
        if not connections:
            return Check("joined", False, "who is not connected is in no room")
        return Check(
            "joined",
            False,
            "connected, and not in the model's room: the page did not emit `join`, was refused, or did not join anew "
            "after it connected again",
        )

    def _is_in_room(self, asked: Asked, connection: str) -> bool:
        """Return whether the connection is in a room, of whichever dialect, whose members hear of the model."""
        rooms = (room for socket in self.sockets.of(connection) for room in our_rooms(socket))
        return any(self._hears_of(room, asked) for room in rooms)

    def _hears_of(self, room: Room, asked: Asked) -> bool:
        kind, _ = self.dialects.kinds[room.kind]
        # A v4 teamspace's room hears of all its models.
        if kind.right == "teamspace":
            return kind.request(room).where == (asked.teamspace,)
        return kind.right == "model" and _is_of(kind.request(room).where, asked)

    def _slow(self, _: Asked, connections: dict[str, Peer]) -> Check:
        waiting = [peer for peer in connections.values() if peer.waiting_bytes]
        if not waiting:
            return Check("slow", True, "nothing waits to be taken")
        size = sum(peer.waiting_bytes or 0 for peer in waiting)
        seconds = max(peer.waiting_seconds or 0.0 for peer in waiting)
        return Check(
            "slow", False, f"{size:,} bytes wait to be taken, for {seconds:.0f} s: the network or the page is slow"
        )

    def _cut(self, asked: Asked, _: dict[str, Peer]) -> Check:
        end = self.ends.of(asked.username)
        if end is None or not _meaning(end)[0]:
            return Check("cut", True, "no connection was cut off lately")
        return Check("cut", False, f"one was cut off {_ago(end)}: {_meaning(end)[1]}")

    def _queue(self, _: Asked, __: dict[str, Peer]) -> Check:
        if self.bus is None:
            return Check("queue", True, "no message queue is set: only what this process publishes is heard here")
        problem = self.bus.problem()
        return Check("queue", problem is None, problem or "what other processes publish is heard here")


    def _backend(self, _: Asked, __: dict[str, Peer]) -> Check:
        assert self.backend is not None, "asked where there is one"
        return Check("backend", self.backend.problem() is None, self.backend.summary())


# What must hold for an event to arrive; the other checks tell why one may have been missed.
NEEDED = ("connected", "joined")
_ASIDE = ("slow", "cut", "queue", "backend")


def summary(asked: Asked, checks: list[Check]) -> dict[str, Any]:
    """Return `hears` and, in one sentence, the answer."""
    failed = [check for check in checks if check.check in NEEDED and not check.ok]
    if not failed:
        answer = (
            f"{asked.username} hears here of changes of the model, but for those that the user's own socket caused "
            "(x-socket-id)"
        )
        return {"hears": True, "answer": answer}
    first = next(check for check in checks if not check.ok and check.check not in _ASIDE)
    return {"hears": False, "answer": f"{asked.username} does not hear here of changes of the model: {first.why}"}


def _is_of(where: tuple[str | None, ...], asked: Asked) -> bool:
    teamspace, project, model = where
    return (
        teamspace == asked.teamspace
        and fold_uuid(model or "") == fold_uuid(asked.model)
        and (None in (project, asked.project) or fold_uuid(project or "") == fold_uuid(asked.project or ""))
    )


def _meaning(end: End) -> tuple[bool, str]:
    return _ENDS.get(end.reason, (False, end.reason or "for a reason that the server does not tell"))


def _ago(end: End) -> str:
    return f"{monotonic() - end.at:.0f} s ago"
