"""How fast one connection may join and leave (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Bucket:
    """A token bucket: `burst` at once, `rate` a second for long. `clock` gives seconds."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, burst: int, rate: float, clock: Callable[[], float] = monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Take a token; return 0, or the seconds after which one will be there."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
