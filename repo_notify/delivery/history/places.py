"""Numbers of a history that several processes share. Pure.

A message of the stream has a number, and each of its deliveries a place behind it: the numbers of the log. What a
process delivered while the stream was away has places of its own behind the last message that it had read. They mean
nothing to the others, so that a position there names its process.
"""

from __future__ import annotations

from typing import Final

# More deliveries than one outage may bring, and more of one message than there are names of an event.
_BITS: Final = 20
_LOCAL: Final = 1 << 10
_PLACES: Final = (1 << _BITS) - 1


def first(message: int) -> int:
    """Return the place of a message's first delivery."""
    return message << _BITS


def last(message: int) -> int:
    """Return the last place of a message."""
    return first(message) + _LOCAL - 1


def first_local(message: int) -> int:
    """Return the first place behind a message for what the stream does not have yet."""
    return first(message) + _LOCAL


def is_local(place: int) -> bool:
    """Return whether a place means something in one process only."""
    return place & _PLACES >= _LOCAL


def message_of(place: int) -> int:
    """Return the number of the message that a place belongs to, or is behind."""
    return place >> _BITS


def shared(place: int) -> int:
    """Return a place as the other processes understand it."""
    return last(message_of(place)) if is_local(place) else place
