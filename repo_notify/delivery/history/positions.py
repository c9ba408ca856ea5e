"""Positions: opaque strings that say how much of a history somebody has (spec section 9)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

# In characters.
MAX_LENGTH = 200

_FORM = re.compile(
    r"(?P<history>[A-Za-z0-9]{4,40})\.(?P<number>[0-9a-f]{1,24})(\.(?P<process>[0-9a-f]{1,16}))?", re.ASCII
)


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


def writer(history: str, process: str = "") -> Callable[[int], str]:
    """Return what makes the position behind the event of a number; one of a `process` is for that alone."""
    return f"{history}.{{:x}}{f'.{process}' if process else ''}".format


class Position(NamedTuple):
    """What a position says; `process` is empty where every process understands it."""

    history: str
    number: int
    process: str


def parse(position: object) -> Position:
    """Return what a position says; raises `Gap` where it is none."""
    found = _FORM.fullmatch(position) if isinstance(position, str) and len(position) <= MAX_LENGTH else None
    if found is None:
        raise Gap(NO_POSITION)
    return Position(found["history"], int(found["number"], 16), found["process"] or "")


def checked(history: str, number: int, name: str, last: int) -> int:
    """Return a number of the history called `name`, whose last one is `last`; raises `Gap`."""
    if history != name:
        raise OtherHistory
    if number > last:
        raise Gap(NO_POSITION)
    return number


def read(position: object, name: str, last: int) -> int:
    """Return the number of a position of the history called `name`, whose last one is `last`; raises `Gap`."""
    found = parse(position)
    if found.process:
        raise Gap(NO_POSITION)
    return checked(found.history, found.number, name, last)
