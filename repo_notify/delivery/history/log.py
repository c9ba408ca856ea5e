"""The working set of the history: what was published lately, by room, bounded in age, number and size.

A client that comes back costs a search in each of its rooms, however much was published elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from time import monotonic
from typing import Any

# So many rooms are known to have lost their last event; of further ones it is believed of all that were lost before.
MAX_FORGOTTEN_ROOMS = 50_000
# What an entry takes beside its text, in bytes.
OVERHEAD = 400
# Where there are too many, a part of so many is dropped at once.
TRIMMED_PART = 100

_number = attrgetter("number")
_NONE = (0, 0)


@dataclass(frozen=True)
class Bounds:
    """How much is kept: for how many seconds, how many events, how many bytes."""

    seconds: float = 300.0
    events: int = 10_000
    size: int = 64 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Entry:
    """One delivery: its place in the history, the keys of its rooms, and what is sent.

    `at` is in monotonic seconds. `emitter` does not hear of it, where `named_by` (None: the publisher's own word) was
    its user. `update` is what a later entry with an equal one supersedes.
    """

    number: int
    at: float
    rooms: tuple[str, ...]
    prepared: Any
    size: int
    emitter: str | None = None
    named_by: str | None = None
    update: Hashable | None = None


class _Room:
    """The entries of one room, oldest first; those before `start` are gone."""

    __slots__ = ("entries", "start")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.start = 0

    def drop_first(self) -> bool:
        """Forget the oldest; return whether none is left."""
        self.start += 1
        if self.start > 32 and self.start * 2 > len(self.entries):
            del self.entries[: self.start]
            self.start = 0
        return self.start == len(self.entries)


class Log:
    """What was published lately. `number` is that of the last entry; numbers only grow."""

    def __init__(self, bounds: Bounds, *, number: int = 0) -> None:
        self.bounds = bounds
        self.number = number
        self.size = 0
        # Whoever knows nothing after this number has missed what nobody can give any more.
        self.floor = number
        self._entries: deque[Entry] = deque()
        self._rooms: dict[str, _Room] = {}
        # By room: the last entry that left the history, and how many have.
        self._trimmed: OrderedDict[str, tuple[int, int]] = OrderedDict()
        # The number before the first of the earliest run of the process that is known.
        self._begun = number

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> int:
        """The number of the oldest entry, or of the next one."""
        return self._entries[0].number if self._entries else self.number + 1

    def go_on(self, begun: int, number: int, floor: int) -> None:
        """Begin anew behind `number`, after other runs of the process, the earliest of which began behind `begun`.

        What the others had is to be appended, or forgotten, in order.
        """
        self._entries.clear()
        self._rooms.clear()
        self._trimmed.clear()
        self.size = 0
        self.floor = floor
        self._begun = begun
        self.number = number

    @property
    def seconds(self) -> float:
        """How old the oldest entry is."""
        return monotonic() - self._entries[0].at if self._entries else 0.0

    def append(self, entry: Entry) -> None:
        """Add an entry with a number above all others, and drop what is too old or too much."""
        if entry.number > self.number:
            self.number = entry.number
        self.size += entry.size
        entries, rooms, bounds = self._entries, self._rooms, self.bounds
        entries.append(entry)
        for room in entry.rooms:
            found = rooms.get(room)
            if found is None:
                found = rooms[room] = _Room()
            found.entries.append(entry)
        if self.size > bounds.size or len(entries) > bounds.events or entry.at - entries[0].at > bounds.seconds:
            self.trim()

    def trim(self) -> None:
        """Drop what is too old or too much; of too many some at once, as to begin takes longer than to go on."""
        entries, rooms, bounds = self._entries, self._rooms, self.bounds
        earliest, most = monotonic() - bounds.seconds, bounds.events
        if len(entries) > most:
            most -= most // TRIMMED_PART
        while entries and (len(entries) > most or self.size > bounds.size or entries[0].at < earliest):
            entry = entries.popleft()
            self.size -= entry.size
            for room in entry.rooms:
                if rooms[room].drop_first():
                    del rooms[room]
            self.forget(entry.number, entry.rooms)

    def forget(self, number: int, rooms: Iterable[str]) -> None:
        """Take note that what was published in these rooms with that number is not here."""
        trimmed = self._trimmed
        for room in rooms:
            trimmed[room] = number, trimmed.get(room, _NONE)[1] + 1
            trimmed.move_to_end(room)
        while len(trimmed) > MAX_FORGOTTEN_ROOMS:
            _, (forgotten, _) = trimmed.popitem(last=False)
            self.floor = max(self.floor, forgotten)

    def lost_since(self, number: int) -> dict[str, int]:
        """Return the rooms whose last event that left the history has a number above that, with that event's number."""
        found: dict[str, int] = {}
        for room in reversed(self._trimmed):
            last, _ = self._trimmed[room]
            if last <= number:
                break
            found[room] = last
        return found

    def hole(self) -> None:
        """Something that was published is not here: who knows no more than until now has missed it."""
        self.number += 1
        self.floor = self.number

    def reaches(self, number: int, rooms: Iterable[str]) -> bool:
        """Return whether everything that was published in these rooms after that number is here.

        A process that was killed may have sent more than its store had. Who has heard of that has missed no more of
        its run than who has not.
        """
        if number < self.floor or number < self._begun:
            return False
        return all(self._trimmed.get(room, _NONE)[0] <= number for room in rooms)

    def total(self, key: str) -> int:
        """Return how many were ever published in a room, as far as that is known."""
        room = self._rooms.get(key)
        return self._trimmed.get(key, _NONE)[1] + (len(room.entries) - room.start if room is not None else 0)

    def has(self, entry: Entry) -> bool:
        """Return whether an entry is still kept."""
        return bool(self._entries) and entry.number >= self._entries[0].number

    def after(self, cursors: Mapping[str, int]) -> list[Entry]:
        """Return what was published in each of the rooms after its number: in order, and each entry once."""
        found: dict[int, Entry] = {}
        for key, number in cursors.items():
            room = self._rooms.get(key)
            if room is None or room.entries[-1].number <= number:
                continue
            for entry in room.entries[bisect_right(room.entries, number, room.start, key=_number) :]:
                found[entry.number] = entry
        return [found[number] for number in sorted(found)]
