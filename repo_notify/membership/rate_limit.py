"""How fast one connection may join and leave (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RateLimit:
    """How fast one connection may ask: `burst` at once, `rate` a second, `hard_limit` refusals until it is closed."""

    burst: int
    rate: float
    hard_limit: int


class Limiter(Bucket):
    """What one connection may still ask for."""

    __slots__ = ("_limit", "_refused")

    def __init__(self, limit: RateLimit) -> None:
        super().__init__(limit.burst, limit.rate)
        self._limit = limit
        # Most connections are never refused anything.
        self._refused: Bucket | None = None

    def refuse(self) -> bool:
        """Count a refusal; return whether the hard limit is passed."""
        if self._refused is None:
            self._refused = Bucket(self._limit.hard_limit, self._limit.rate)
        return self._refused.take() > 0
