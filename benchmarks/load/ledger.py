"""What one client should get, and what it got: deliveries, repeats, and how long replays took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """The events of one client over all its connections; times in ns of CLOCK_MONOTONIC.

    `expected` are the sorted numbers of the events of its rooms, `received` has a byte for each event that there is.
    `replays` are the seconds from the start of a reconnection to the last event that had been missed, infinite where
    one did not come before the next drop; a reconnection after which nothing had been missed has none.
    """

    expected: list[int]
    received: bytearray
    repeats: int = 0
    replays: list[float] = field(default_factory=list)
    _returned: int = 0
    _looked: int = 0
    _missed: set[int] = field(default_factory=set)

    @property
    def delivered(self) -> int:
        """How many of the expected events came."""
        return sum(self.received[number] for number in self.expected)

    @property
    def caught_up(self) -> bool:
        """Whether nothing that was missed is still to come."""
        return not self._missed

    def back(self, now: int, began: int, interval_ns: int) -> None:
        """Note a reconnection's start; event number n was due `n * interval_ns` after `began`."""
        self._returned = now
        while self._looked < len(self.expected) and began + self.expected[self._looked] * interval_ns <= now:
            number = self.expected[self._looked]
            if not self.received[number]:
                self._missed.add(number)
            self._looked += 1

    def hear(self, number: int, now: int) -> None:
        """Note an event."""
        if self.received[number]:
            self.repeats += 1
            return
        self.received[number] = True
        if number in self._missed:
            self._missed.discard(number)
            if not self._missed:
                self.replays.append((now - self._returned) / 1e9)

    def dropped(self) -> None:
        """Note that the connection was lost: what is still missed did not come in time."""
        if self._missed:
            self.replays.append(math.inf)
            self._missed.clear()
