"""The port to a store of the history, which is there for what memory cannot: restarts (spec section 9)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .records import Record


class StoreUnavailable(Exception):
    """The store did not answer in time, or refused; the text is its driver's reason."""


class Unstorable(Exception):
    """One entry cannot be stored, however often that is tried; `number` is its own."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


@dataclass(frozen=True)
class Stored:
    """One delivery as a store keeps it; `at` is in seconds since 1970, the rest as in `log.Entry`.

    Of what is `trimmed` only the rooms are left: whoever knows no more than before it has missed something there.
    """

    number: int
    at: float
    rooms: tuple[str, ...]
    size: int
    name: str = ""
    payload: Any = None
    emitter: str | None = None
    named_by: str | None = None
    update: Hashable | None = None
    trimmed: bool = False


class Run(NamedTuple):
    """One life of the process. It handed out the numbers above `begun`; those until `last` are stored.

    What was published until `floor` is not all stored.
    """

    begun: int
    last: int
    floor: int = 0


@dataclass(frozen=True)
class Resumed:
    """What a store had at the start: the history's name, every run, the new one last, and the entries in order."""

    name: str
    runs: Sequence[Run]
    entries: Sequence[Stored]


class RecordStore(Protocol):
    """A store of session records. Every method may wait, and raises `StoreUnavailable`.

    Records go by a key that says nothing of their secret (`packing.key_of`).
    """

    def beat(self) -> None:
        """Take note that the process lives."""

    def save(self, records: Mapping[str, Record | None], sessions: Collection[str]) -> None:
        """Write records, delete those that are None, then all of these sessions."""

    def close(self) -> None:
        """Close the connections."""


class HistoryStore(RecordStore, Protocol):
    """The store of a history that one process has."""

    def resume(self, name: str) -> Resumed:
        """Begin a run; the history is called `name` where the store has none."""

    def begin_anew(self, name: str) -> None:
        """Forget everything and begin a history of that name, whose numbers begin at 0."""

    def add(self, entries: Sequence[Stored], run: Run) -> None:
        """Add entries, and take note of how far the run is; raises `Unstorable` for the first that cannot be.

        Entries that the store has already, as an answer was lost, are no error.
        """

    def trim(self, after: int, first: int) -> None:
        """Drop what the entries after that number and before the `first` one hold, but for their rooms."""

    def record(self, pid: str, key: str) -> Record | None:
        """Return the record of a client that lost its connection, or whose process was killed."""


def floor_of(runs: Sequence[Run], numbers: Sequence[int]) -> int:
    """Return the number before which something is missing, where these are all that there are, in order.

    A store forgets what is old from the front, so that what is missing in a run is missing before its first number.
    """
    floor = max((run.floor for run in runs), default=0)
    for run, following in zip(runs, [*runs[1:], None], strict=True):
        at = bisect_right(numbers, run.begun)
        is_there = at < len(numbers) and (following is None or numbers[at] <= following.begun)
        gone = numbers[at] - 1 if is_there else run.last
        if gone > run.begun:
            floor = max(floor, gone)
    return floor


def with_lasts(runs: Sequence[Run], numbers: Sequence[int]) -> list[Run]:
    """Return the runs, each with the last of its numbers that is there: the process may have died before it said so."""
    found = [list(run) for run in runs]
    at = 0
    for number in numbers:
        while at + 1 < len(found) and number > found[at + 1][0]:
            at += 1
        if found:
            found[at][1] = max(found[at][1], number)
    return [Run(*run) for run in found]
