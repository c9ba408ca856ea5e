"""What will be asked for soon.

Joins that wait for their turn, rooms that the sweep is about to look at, and the rooms of clients that may come back.
"""

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
        # Until when each is remembered, the oldest first, and by how many it will be asked for.
        self.ahead: dict[Key, tuple[float, int]] = {}
        self._groups: dict[Key, dict[Key, Any]] = {}

    def add(self, key: Key, what: Any, now: float) -> None:
        """Take note of one; what is too long, or the oldest of too many, will be asked for by itself, as ever."""
        if sum(map(len, key)) > MAX_LENGTH:
            return
        _, times = self.ahead.pop(key, (now, 0))
        while self.ahead and (len(self.ahead) >= MAX_ANNOUNCED or self._oldest() <= now):
            self._drop(next(iter(self.ahead)))
        self.ahead[key] = now + ANNOUNCED_SECONDS, times + 1
        self._groups.setdefault(key[:2], {})[key] = what

    def asked(self, key: Key) -> None:
        """Forget one that is asked for now, by the last of those who would."""
        if key not in self.ahead:
            return
        until, times = self.ahead[key]
        if times > 1:
            self.ahead[key] = until, times - 1
        else:
            self._drop(key)

    def _oldest(self) -> float:
        return next(iter(self.ahead.values()))[0]

    def _drop(self, key: Key) -> None:
        del self.ahead[key]
        group = self._groups[key[:2]]
        del group[key]
        if not group:
            del self._groups[key[:2]]

    def beside(self, key: Key, now: float) -> Iterator[tuple[Key, Any]]:
        """Yield what was announced of the same kind and teamspace, the oldest first."""
        for other, what in self._groups.get(key[:2], {}).items():
            if self.ahead[other][0] > now:
                yield other, what
