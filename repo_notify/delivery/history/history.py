"""The history of one process: what was published, and how far one is in it (spec section 9)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic, time
from typing import Any

from . import positions
from .log import OVERHEAD, Bounds, Entry, Log
from .packing import monotonic_of
from .store import Resumed, Stored, floor_of
from .writer import Writer

# How long a request to publish waits for the store.
STORED_SECONDS = 5.0


class History(Log):
    """What was published lately. Everything here is asked and changed within the order of publications.

    `position` says how far everything that was published goes. Where there is a store, `writer` writes it there, from
    `resume` or `begin` on.
    """

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self.holes = 0
        # No number below it is given out.
        self._least = 0
        self.writer: Writer | None = None
        # Whether it was waited for in vain, the last time.
        self._late = False
        self._call(positions.new_history())

    def _call(self, name: str) -> None:
        self.name = name
        self._at = positions.writer(name)
        self.position = self._at(self.number)

    def read(self, position: object) -> int:
        """Return the number of a position; raises `Gap` for one of another history, or for none."""
        return positions.read(position, self.name, self.number)

    def position_at(self, number: int) -> str:
        """Return the position behind the event of a number."""
        return self._at(number)

    def resume(self, found: Resumed, prepare: Callable[[str, Any], Any], writer: Writer) -> None:
        """Go on where the process ended that wrote this; `prepare(name, payload)` makes what is sent."""
        numbers = [entry.number for entry in found.entries]
        self.go_on(found.runs[0].begun, found.runs[-1].begun, floor_of(found.runs, numbers))
        for entry in found.entries:
            if entry.trimmed:
                self.forget(entry.number, entry.rooms)
            else:
                self.append(
                    Entry(
                        entry.number,
                        monotonic_of(entry.at),
                        entry.rooms,
                        prepare(entry.name, entry.payload),
                        entry.size,
                        entry.emitter,
                        entry.named_by,
                        entry.update,
                    )
                )
        self._call(found.name)
        self.begin(writer)

    def begin(self, writer: Writer, *, anew: bool = False) -> None:
        """Have everything written from now on; `anew` where the store is to forget what it has."""
        self.writer = writer
        writer.start(self.number, anew=self.name if anew else None)

    def is_stored(self, after: int) -> bool:
        """Return whether a store has what came after that number, once it has had its time; true without a store.

        One that was waited for in vain, and has not answered since, is not waited for again: what a publisher sends
        over one connection would come to its members ever later.
        """
        stored = self._wait(after, 0.0 if self._late and self._problem() is not None else STORED_SECONDS)
        self._late = not stored
        return stored

    def _wait(self, after: int, seconds: float) -> bool:
        """Wait for the store for so long; return whether it has what came after that number."""
        return self.writer is None or self.writer.wait(after, seconds)

    def _problem(self) -> str | None:
        """Return why the store takes nothing, None where it does."""
        return self.writer.problem() if self.writer is not None else None

    def publish(
        self,
        rooms: tuple[str, ...],
        prepared: Any,
        size: int,
        *,
        said: tuple[str, Any],
        emitter: str | None,
        named_by: str | None,
        update: Hashable | None,
        at: float | None = None,
    ) -> None:
        """Keep what is about to be sent to these rooms; `size` in bytes.

        `said` is its name and payload, for a store; the rest as in `Entry`. `at` is now, where it is None.
        """
        number = max(self.number + 1, self._least)
        size += OVERHEAD
        self.append(Entry(number, monotonic() if at is None else at, rooms, prepared, size, emitter, named_by, update))
        self.position = self._at(number)
        if self.writer is not None:
            self.writer.add(Stored(number, time(), rooms, size, *said, emitter, named_by, update))

    def hole(self) -> None:
        """Something was published elsewhere and did not arrive: every position from before is a gap now."""
        self.holes += 1
        super().hole()
        self.position = self._at(self.number)
        if self.writer is not None:
            self.writer.hole(self.number)
