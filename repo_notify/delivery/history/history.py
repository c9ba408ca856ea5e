"""The history of one process: what was published, and how far one is in it (spec section 9)."""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic
from typing import Any

from . import positions
from .log import OVERHEAD, Bounds, Entry, Log


class History(Log):
    """What was published lately. Everything here is asked and changed within the order of publications.

    `position` says how far everything that was published goes.
    """

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self.holes = 0
        self._name = positions.new_history()
        self._at = positions.writer(self._name)
        self.position = self._at(0)

    def read(self, position: object) -> int:
        """Return the number of a position; raises `Gap` for one of another history, or for none."""
        return positions.read(position, self._name, self.number)

    def publish(
        self,
        rooms: tuple[str, ...],
        prepared: Any,
        size: int,
        *,
        emitter: str | None,
        named_by: str | None,
        update: Hashable | None,
    ) -> None:
        """Keep what is about to be sent to these rooms; `size` in bytes. The rest as in `Entry`."""
        number = self.number + 1
        self.append(Entry(number, monotonic(), rooms, prepared, size + OVERHEAD, emitter, named_by, update))
        self.position = self._at(number)

    def hole(self) -> None:
        """Something was published elsewhere and did not arrive: every position from before is a gap now."""
        self.holes += 1
        super().hole()
        self.position = self._at(self.number)
