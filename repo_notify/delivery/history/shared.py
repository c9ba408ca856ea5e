"""The history of one process of several that share it: the stream says in which order things were published."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from . import places, positions
from .history import History
from .log import Bounds
from .redis_stream import Meta


def _not_connected(_: float) -> bool:
    return False


class SharedHistory(History):
    """What was published lately, by whichever process; `process` is a random name of this one.

    `reached` is the number of the last message of the stream that is in it. `stored` waits for so many seconds until
    the stream has what this process published, `problem` tells what is wrong with it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.process = secrets.token_hex(8)
        self.reached = 0
        self.stored: Callable[[float], bool] = _not_connected
        self.problem: Callable[[], str | None] = lambda: None
        super().__init__(bounds)

    def _call(self, name: str) -> None:
        self.name = name
        shared, local = positions.writer(name), positions.writer(name, self.process)
        self._at = lambda number: (local if places.is_local(number) else shared)(number)
        self.position = self._at(self.number)

    def adopt(self, found: Meta, lost: Iterable[tuple[str, int]]) -> None:
        """Begin anew as that history; `lost` are rooms, each with the last message that is not there any more."""
        begun = places.first(found.begun)
        self.go_on(begun, begun, places.last(found.floor))
        self.reached = found.begun
        self._least = 0
        self.number = self.floor
        for room, message in lost:
            self.forget(places.first(message), [room])
        self._call(found.name)

    def lost_after(self, message: int) -> dict[str, int]:
        """Return the rooms that have lost an event after that message, each with the last one's message."""
        lost = self.lost_since(places.last(message))
        return {room: places.message_of(place) for room, place in lost.items()}

    @property
    def first_message(self) -> int:
        """The message of the oldest event, or the last one."""
        return places.message_of(self.first) if len(self) else self.reached

    def arrive(self, message: int) -> None:
        """What is published now is the deliveries of a message of the stream."""
        self.reached = message
        self._least = places.first(message)

    def go_ahead(self) -> None:
        """What is published now is not in the stream yet."""
        self._least = places.first_local(self.reached)

    def hole(self) -> None:
        """Something until the last message is not here: every position from before is a gap now."""
        self.number = max(self.number, places.last(self.reached) - 1)
        super().hole()

    def read(self, position: object) -> int:
        """Return the number of a position; raises `Gap` for one of another history, or for none."""
        found = positions.parse(position)
        number = found.number if found.process == self.process else places.shared(found.number)
        return positions.checked(found.history, number, self.name, max(self.number, places.last(self.reached)))

    def message_of(self, position: object) -> int | None:
        """Return the number of the last message that a position of this history tells of; None for no such position."""
        try:
            found = positions.parse(position)
        except positions.Gap:
            return None
        return places.message_of(found.number) if found.history == self.name else None

    def _wait(self, after: int, seconds: float) -> bool:
        """Wait for the stream to have everything that this process published."""
        del after
        return self.stored(seconds)

    def _problem(self) -> str | None:
        return self.problem()
