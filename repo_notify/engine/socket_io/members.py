"""Members: connections in namespaces, the rooms they are in, and what is sent to one of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from repo_notify.engine.engine_io.backlog import Limit
from repo_notify.engine.engine_io.connection import Connection
from repo_notify.engine.engine_io.timers import Lock
from repo_notify.engine.wire.outgoing import Joined, Outgoing
from repo_notify.engine.wire.packets import SioPacket, SioType

from .positions import Positions

Callback = Callable[..., Any]
# Told of a member whose rooms have changed, or that is gone.
Changed = Callable[["Member"], None]


class RoomMembers:
    """The members of one room: by id, and in a list that is walked piece by piece while others come and go.

    To copy thousands in one go takes as long as to fetch each of them from memory.
    """

    __slots__ = ("_members", "_places")

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def add(self, member: Member) -> None:
        """Add one, behind all others, or in the place of the one with its id."""
        place = self._places.setdefault(member.sid, len(self._members))
        self._members[place : place + 1] = [member]

    def discard(self, member: Member) -> None:
        """Remove one; the last takes its place."""
        place = self._places.pop(member.sid)
        last = self._members.pop()
        if place < len(self._members):
            self._members[place] = last
            self._places[last.sid] = place

    def before(self, end: int, number: int) -> list[Member]:
        """Return so many of them, or fewer, that are directly before a place."""
        return self._members[max(0, end - number) : end]


class Namespace:
    """The members of one namespace, by their id and by their connection's, and its rooms."""

    __slots__ = ("by_connection", "changed", "fast_paths", "lock", "logger", "members", "positions", "rooms")

    def __init__(
        self,
        lock: Lock,
        logger: logging.Logger,
        positions: Positions | None = None,
        changed: Changed | None = None,
    ) -> None:
        self.lock = lock
        self.changed = changed
        # What tells members how far they are, where the application keeps what it sends.
        self.positions = positions
        self.logger = logger
        self.members: dict[str, Member] = {}
        self.by_connection: dict[str, Member] = {}
        self.rooms: dict[Hashable, RoomMembers] = {}
        # The fan-out's, who knows members; they but drop the one of a room that they enter or leave.
        self.fast_paths: dict[Hashable, Any] = {}

    def by_any_id(self, any_id: str) -> Member | None:
        """The member of that id, be it its own or its connection's."""
        return self.members.get(any_id) or self.by_connection.get(any_id)


class Held(list[Outgoing]):
    """What is sent to a member before its CONNECT is answered, and its size."""

    size = 0


class Member:
    """One connection in one namespace. `held` has what was sent before its CONNECT is answered; None afterwards.

    `rooms`: each with the number of the last event that was published before it was entered. `told`: whether a position
    follows what is sent to it. `since`: the number at its CONNECT. While it catches up, by `replay`, what is sent to
    rooms passes it by: it follows from the history. One that a handler begins is run behind the handler's answer.
    `replayed` is the application's: until that number all that it was sent came so.
    """

    __slots__ = (
        "_secret",
        "_space",
        "callbacks",
        "connection",
        "connection_id",
        "gone",
        "held",
        "last_id",
        "leaving",
        "namespace",
        "replay",
        "replayed",
        "rooms",
        "sid",
        "since",
        "told",
    )

    def __init__(self, sid: str, namespace: str, connection: Connection, space: Namespace) -> None:
        self.sid = sid
        self.namespace = namespace
        self.connection = connection
        self.connection_id = connection.sid
        self._space = space
        self.rooms: dict[Hashable, int] = {}
        self._secret: bytes | None = None
        self.since = 0
        self.told = False
        self.replay: Any = None
        self.replayed = 0
        self.held: Held | None = Held()
        self.callbacks: dict[int, Callback] | None = None
        self.last_id = 0
        self.leaving = False
        self.gone = False

    @property
    def pid(self) -> str | None:
        """The secret by which its client comes back, which ends in its id."""
        return self._secret.decode() + self.sid if self._secret is not None else None

    @pid.setter
    def pid(self, pid: str | None) -> None:
        # Without the id, and in bytes: there is one for each connection.
        self._secret = pid.removesuffix(self.sid).encode() if pid is not None else None

    def enter(self, room: Hashable, since: int = 0) -> None:
        """Enter a room that is nobody's id, unless the namespace was left; `since` counts where it was not in it."""
        space = self._space
        with space.lock:
            if self.gone or space.members.get(self.sid) is not self:
                return
            members = space.rooms.get(room)
            if members is None:
                members = space.rooms[room] = RoomMembers()
            members.add(self)
            space.fast_paths.pop(room, None)
            if room not in self.rooms:
                self.rooms[room] = since
                if space.changed is not None:
                    space.changed(self)

    def leave(self, room: Hashable) -> bool:
        """Leave a room; return whether it was in it."""
        space = self._space
        with space.lock:
            if room not in self.rooms:
                return False
            del self.rooms[room]
            members = space.rooms[room]
            members.discard(self)
            space.fast_paths.pop(room, None)
            if not members:
                del space.rooms[room]
            if space.changed is not None and not self.gone:
                space.changed(self)
            return True

    def emit(self, event: str, data: Any) -> None:
        """Send an event with one argument, unless it is gone."""
        if not self.gone:
            self.send(Outgoing(SioPacket(SioType.EVENT, self.namespace, data=[event, data])))

    @property
    def is_direct(self) -> bool:
        """Whether what is sent to its rooms is sent to it at once."""
        return self.held is None and self.replay is None

    def deliver(self, out: Outgoing, positioned: Outgoing) -> bool:
        """Send what is meant for a room; whether that was done now, and not left for the replay.

        `positioned` is the same with the position behind it, one object for all: what waits for many counts once.
        """
        if self.replay is not None:
            return False
        if self.told and self.held is None:
            self.send(positioned, alone=True)
        else:
            self.send(out)
        return True

    def send(self, out: Outgoing, *, alone: bool = False) -> None:
        """Send a packet, the position behind it unless it is to go `alone`; in vain where the connection has ended.

        TypeError or ValueError where it cannot be encoded.
        """
        out.packets(self.connection.codec)
        try:
            if self.held is None:
                told = self.told and self.replay is None and not alone
                self.connection.send(out, self._space.positions if told else None)
                return
            with self._space.lock:
                self._hold(out)
        except Exception:
            self._space.logger.exception("connection %s: a delivery failed", self.connection.label)

    def tell_position(self) -> None:
        """Send the position alone."""
        if self._space.positions is not None and not self.gone:
            self.connection.send(self._space.positions.now())

    def tell_positions(self) -> None:
        """Have a position follow whatever is sent from now on."""
        with self._space.lock:
            if not self.told:
                self.told = True
                self.leave_fast_paths()

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call, in a task of its own, once nothing waits for the client; never if it ends before."""
        self.connection.when_drained(call)

    def had_since(self, room: Hashable, number: int) -> None:
        """Take note that it has had everything that was published in a room of its since that number."""
        with self._space.lock:
            if room in self.rooms:
                self.rooms[room] = min(self.rooms[room], number)
                if self._space.changed is not None:
                    self._space.changed(self)

    def begin_replay(self, replay: Any) -> None:
        """Have what is sent to rooms pass it by, and tell no position, until `replay` has ended."""
        with self._space.lock:
            self.connection.transport.conclude()
            self.replay = replay
            self.leave_fast_paths()

    def leave_fast_paths(self) -> None:
        """Have the next event of each of its rooms look at it anew."""
        for room in self.rooms:
            self._space.fast_paths.pop(room, None)

    def send_page(self, outs: Sequence[Outgoing], *, last: bool) -> None:
        """Send what a replay has, in one write, behind the last of it the position."""
        positions = self._space.positions
        parts = [*outs, positions.now()] if last and positions is not None else list(outs)
        if parts:
            self.connection.send(Joined(parts))

    def _hold(self, out: Outgoing) -> None:
        connection, held = self.connection, self.held
        if held is None:
            connection.send(out)
            return
        held.append(out)
        held.size += out.size(connection.codec)
        if held.size > connection.max_waiting:
            held.clear()
            connection.too_slow(Limit.BYTES)
