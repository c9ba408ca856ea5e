"""Order and haste of one connection's joins and leaves (PROTOCOL section 3)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from repo_notify.engine.engine_io.timers import Lock


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


class Turnstile:
    """Lets callers through one by one, in the order in which they asked: `with turnstile:` waits for those before.

    Many may share a lock, which is held for moments.
    """

    __slots__ = ("_lock", "_passing", "_waiting")

    def __init__(self, lock: Lock) -> None:
        self._passing = False
        # Most connections never ask for a second thing before the first is answered.
        self._waiting: deque[threading.Event] | None = None
        self._lock = lock

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting or ())

    def __enter__(self) -> None:
        mine = None
        try:
            with self._lock:
                if not self._passing:
                    self._passing = True
                    return
                mine = threading.Event()
                self._waiting = self._waiting or deque()
                self._waiting.append(mine)
            mine.wait()
        except BaseException:  # a task that is ended while it waits must not hold up those behind it
            if mine is not None:
                self._leave(mine)
            raise

    def _leave(self, mine: threading.Event) -> None:
        with self._lock:
            if self._waiting and mine in self._waiting:
                self._waiting.remove(mine)
        if mine.is_set():
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._passing, self._waiting = False, None


class Allowance:
    """What one connection may still ask for, and whose turn it is.

    `burst` and `rate` bound what is answered; beyond `flood` refusals, refilled at the same rate, the connection is
    to be closed. `lock` may be shared.
    """

    __slots__ = ("_asked", "_flood", "_rate", "_refused", "turnstile")

    def __init__(self, burst: int, rate: float, flood: int, lock: Lock) -> None:
        self._asked = Bucket(burst, rate)
        self._flood, self._rate = flood, rate
        # Most connections are never refused anything.
        self._refused: Bucket | None = None
        self.turnstile = Turnstile(lock)

    def ask(self) -> tuple[float, bool]:
        """Take one step; return 0 or the seconds after which to try again, and whether this was far too much."""
        wait = self._asked.take()
        if not wait:
            return 0.0, False
        if self._refused is None:
            self._refused = Bucket(self._flood, self._rate)
        return wait, self._refused.take() > 0
