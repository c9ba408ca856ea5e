"""What will be asked for soon: joins that wait for their turn, and rooms that the sweep is about to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Key = tuple[str, ...]

# How many are remembered in all, and how long the text of each may be.
MAX_ANNOUNCED = 4_000
MAX_LENGTH = 200
# Who has not asked by then is gone.
ANNOUNCED_SECONDS = 10.0


class Announced:
    """Keys of look-ups, each with what it is of; a key's first two parts are its kind and teamspace.

    Whoever uses it keeps threads apart.
    """

    def __init__(self) -> None:
        # Until when each is remembered, the oldest first.
        self.ahead: dict[Key, float] = {}
        self._groups: dict[Key, dict[Key, Any]] = {}

    def add(self, key: Key, what: Any, now: float) -> None:
        """Take note of one; what is too long, or the oldest of too many, will be asked for by itself, as ever."""
        if sum(map(len, key)) > MAX_LENGTH:
            return
        self.forget(key)
        while self.ahead and (len(self.ahead) >= MAX_ANNOUNCED or next(iter(self.ahead.values())) <= now):
            self.forget(next(iter(self.ahead)))
        self.ahead[key] = now + ANNOUNCED_SECONDS
        self._groups.setdefault(key[:2], {})[key] = what

    def forget(self, key: Key) -> None:
        """Forget one, which is asked for now."""
        if self.ahead.pop(key, None) is not None:
            group = self._groups[key[:2]]
            del group[key]
            if not group:
                del self._groups[key[:2]]

    def beside(self, key: Key, now: float) -> Iterator[tuple[Key, Any]]:
        """Yield what was announced of the same kind and teamspace, the oldest first."""
        for other, what in self._groups.get(key[:2], {}).items():
            if self.ahead[other] > now:
                yield other, what
