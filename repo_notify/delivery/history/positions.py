"""Positions: opaque strings that say how much of a history somebody has (spec section 9)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

# In characters.
MAX_LENGTH = 200

_FORM = re.compile(r"(?P<history>[A-Za-z0-9]{4,40})\.(?P<number>[0-9a-f]{1,16})", re.ASCII)


class Gap(Exception):
    """What was missed since a position cannot be had; `reason` says why, for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


NO_POSITION = "This is no position of this service"
OTHER_HISTORY = "The history of this position is not kept any more"
TOO_OLD = "The history does not reach back to this position"


class OtherHistory(Gap):
    """A position, but of another history."""

    def __init__(self) -> None:
        super().__init__(OTHER_HISTORY)


def new_history() -> str:
    """Return a name that no other history has."""
    return secrets.token_hex(6)


def writer(history: str) -> Callable[[int], str]:
    """Return what makes the position behind the event of a number."""
    return f"{history}.{{:x}}".format


def read(position: object, history: str, last: int) -> int:
    """Return the number of a position of this history, whose last event has the number `last`; raises `Gap`."""
    found = _FORM.fullmatch(position) if isinstance(position, str) and len(position) <= MAX_LENGTH else None
    if found is None:
        raise Gap(NO_POSITION)
    if found["history"] != history:
        raise OtherHistory
    number = int(found["number"], 16)
    if number > last:
        raise Gap(NO_POSITION)
    return number
