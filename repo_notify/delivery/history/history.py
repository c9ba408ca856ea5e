"""The history of one process: what was published, how far one is in it, and who may come back (spec section 9)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from time import monotonic
from typing import Any

from . import positions
from .log import OVERHEAD, Bounds, Entry, Log


class History:
    """What was published lately. Everything here is asked and changed within the order of publications."""

    def __init__(self, bounds: Bounds) -> None:
        self.log = Log(bounds)
        self.holes = 0
        self._name = positions.new_history()
        self._position = positions.write(self._name, 0)

    @property
    def number(self) -> int:
        """The number of the last event."""
        return self.log.number

    def position(self) -> str:
        """Return how far everything that was published goes."""
        return self._position

    def read(self, position: object) -> int:
        """Return the number of a position; raises `Gap` for one of another history, or for none."""
        return positions.read(position, self._name, self.log.number)

    def append(
        self,
        rooms: Iterable[str],
        prepared: Any,
        size: int,
        *,
        emitter: str | None = None,
        named_by: str | None = None,
        update: Hashable | None = None,
    ) -> None:
        """Keep what is about to be sent to these rooms; `size` in bytes. The rest as in `Entry`."""
        number = self.log.number + 1
        entry = Entry(number, monotonic(), tuple(rooms), prepared, size + OVERHEAD, emitter, named_by, update)
        self.log.append(entry)
        self._position = positions.write(self._name, number)

    def hole(self) -> None:
        """Something was published elsewhere and did not arrive: every position from before is a gap now."""
        self.holes += 1
        self.log.hole()
        self._position = positions.write(self._name, self.log.number)
