"""Handing out what a client missed: page by page as it takes them, then what was published meanwhile; then it is live.

While that goes on, what is sent to rooms passes the client by, and follows from the history: so nothing comes twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from repo_notify.sockets import Follower, our_rooms

from .accounts import Accounts
from .log import Entry, Log

# How much of a replay waits for a client at a time, in bytes.
PAGE_BYTES = 65_536
CUT = "The history was left behind by what was published meanwhile"


@dataclass(frozen=True)
class Whose:
    """All ids by which events name a client as their emitter, and its user."""

    ids: frozenset[str]
    username: str | None

    def caused(self, entry: Entry) -> bool:
        """Return whether the client caused this itself, and so does not hear of it."""
        if entry.emitter is None or entry.emitter not in self.ids:
            return False
        return entry.named_by is None or self.username is None or entry.named_by == self.username


def latest(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries without the updates that a later one of them supersedes."""
    kept: list[Entry] = []
    seen: set[Hashable] = set()
    for entry in reversed(list(entries)):
        if entry.update is not None:
            if entry.update in seen:
                continue
            seen.add(entry.update)
        kept.append(entry)
    kept.reverse()
    return kept


class Replay:
    """One client's replay. All of it happens within the order of publications."""

    def __init__(
        self, follower: Follower, log: Log, whose: Whose, *, order: AbstractContextManager[Any], accounts: Accounts
    ) -> None:
        self._follower, self._log, self._whose, self._order, self._accounts = follower, log, whose, order, accounts
        self._missed: deque[Entry] = deque()
        # Up to here the missed ones go; what was published later is asked for when they have been sent.
        self._until = log.number
        # Of those until here it is believed that they were sent before, in vain, and of these that they were replayed.
        self.sent_until = self.replayed_until = 0
        # Whether it is of a connection that has just begun, so that nothing came to it in another way.
        self.is_first = False
        # Rooms joined since a number: that is where they begin anew if the connection ends before the replay does.
        self.since: dict[str, int] = {}
        self._running = False

    @classmethod
    def of(
        cls, follower: Follower, log: Log, whose: Whose, *, order: AbstractContextManager[Any], accounts: Accounts
    ) -> Replay:
        """Return the replay that a client is in, or a new one, after which nothing is sent to it as it is published."""
        replay = follower.replay
        if not isinstance(replay, Replay):
            replay = cls(follower, log, whose, order=order, accounts=accounts)
            follower.begin_replay(replay)
        return replay

    def add(self, cursors: Mapping[str, int], *, had: Mapping[Hashable, int] | None = None) -> int:
        """Add what was published in rooms after their numbers, but for what the client has `had`; return how many.

        `had`: rooms, each with the number from which the client has had all until now.
        """
        self._catch_up()
        known = {entry.number for entry in self._missed}
        found = [
            entry
            for entry in self._log.after(cursors)
            if entry.number not in known and not self._whose.caused(entry) and not _has_had(entry, had or {})
        ]
        new = self._latest(found)
        self._missed = deque(sorted([*self._missed, *new], key=lambda entry: entry.number))
        return len(new)

    def _latest(self, found: list[Entry]) -> list[Entry]:
        new = latest(found)
        # What was sent in vain may have been superseded, and counted, while it waited for the lost connection.
        in_vain = self._in_vain(found) - self._in_vain(new)
        self._accounts.dropped("superseded", len(found) - len(new) - in_vain)
        return new

    def _in_vain(self, entries: Iterable[Entry]) -> int:
        return sum(entry.number <= self.sent_until for entry in entries)

    def _again(self, entries: Iterable[Entry]) -> int:
        return sum(entry.number <= self.replayed_until for entry in entries)

    @property
    def replayed(self) -> int:
        """The number until which all that the client was sent came by a replay."""
        return max(self.replayed_until, self.sent) if self.is_first else self._follower.replayed

    @property
    def sent(self) -> int:
        """The number up to which nothing is left to be sent."""
        return self._missed[0].number - 1 if self._missed else self._until

    def run(self) -> None:
        """Begin to send; what fits into a page leaves at once."""
        if not self._running:
            self._running = True
            self._step()

    def _step(self) -> None:
        with self._order:
            if self._follower.replay is self and not self._send_page():
                self._follower.when_drained(self._step)

    def _send_page(self) -> bool:
        """Send a page; return whether it was the last."""
        page: list[Entry] = []
        size = 0
        while size < PAGE_BYTES and (self._missed or self._catch_up()):
            entry = self._missed.popleft()
            if not self._log.has(entry):
                self._cut(entry)
                return True
            if self._is_meant(entry):
                page.append(entry)
                size += entry.size
        last = not self._missed and not self._catch_up()
        if last:
            self.end()
        namespace = self._follower.namespace
        self._follower.send_page([entry.prepared.packet(namespace) for entry in page], last=last)
        again = self._again(page)
        self._accounts.replayed(len(page), in_vain=self._in_vain(page) - again, again=again)
        return last

    def _catch_up(self) -> bool:
        """Add what was published in the client's rooms since; return whether there was any."""
        rooms = {room.key: max(self._until, self._follower.rooms[room.key]) for room in our_rooms(self._follower)}
        found = [entry for entry in self._log.after(rooms) if not self._whose.caused(entry)]
        self._until = self._log.number
        new = self._latest(found)
        self._missed.extend(new)
        return bool(new)

    def _is_meant(self, entry: Entry) -> bool:
        # It may have left a room meanwhile, or its right to it may have ended.
        return any(room in self._follower.rooms for room in entry.rooms)

    def end(self) -> None:
        """Have the client hear again of what is published as it is published."""
        self._follower.replayed = self.replayed
        self._follower.replay = None
        for room, number in self.since.items():
            self._follower.had_since(room, number)

    def _cut(self, entry: Entry) -> None:
        self._catch_up()
        left = [entry, *self._missed]
        in_vain, again = self._in_vain(left), self._again(left)
        self._accounts.dropped("gap", len(left) - in_vain, in_vain=in_vain - again)
        self._follower.replay = None
        self._follower.emit("message", gap(CUT))
        self._follower.tell_position()

    def abandon(self) -> int:
        """Take note that the connection has ended; return how many were not sent."""
        self._catch_up()
        left = sum(map(self._is_meant, self._missed)) - self._in_vain(self._missed)
        self._accounts.abandoned(left)
        return left


def gap(reason: str) -> dict[str, Any]:
    """Return the `message` that tells of a gap (spec section 9)."""
    return {"event": "gap", "data": {"reason": reason}}


def _has_had(entry: Entry, had: Mapping[Hashable, int]) -> bool:
    return any(room in had and entry.number > had[room] for room in entry.rooms)


def ids_of(followers: Sequence[Follower]) -> frozenset[str]:
    """Return every id by which events name the connection of these sockets, its own among them."""
    return frozenset({found for follower in followers for found in (follower.sid, follower.connection_id)})
