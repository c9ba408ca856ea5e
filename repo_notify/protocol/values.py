"""What a publisher hands over, as plain JSON values: ids as strings, times as epoch ms (spec section 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from bson import Binary, ObjectId

# Deeper than any document that MongoDB would store (it stops at 100 levels).
MAX_DEPTH = 200


_AS_THEY_ARE = (str, bool, type(None))
_PLAIN = frozenset({*_AS_THEY_ARE, int})
_STRINGS = frozenset({str})


class NotPlain(ValueError):
    """A value cannot be sent; the text says which and why."""


def plain(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` made of dicts, lists, strings, numbers, booleans, None and bytes.

    UUIDs and ObjectIds become strings, times epoch ms (naive ones are UTC, as pymongo gives them).
    Raises `NotPlain` for anything else.
    """
    if depth > MAX_DEPTH:
        raise NotPlain(f"nested no deeper than {MAX_DEPTH} levels")
    if isinstance(value, _AS_THEY_ARE):
        return value
    # Most values are plain already: a call for each of them, which the last level needs, costs more than all the rest.
    as_they_are = _PLAIN if depth < MAX_DEPTH else frozenset()
    # Asking for the type first: `isinstance` of an abstract class takes longer.
    if type(value) is dict or isinstance(value, Mapping):
        if not (_STRINGS.issuperset(map(type, value)) or all(isinstance(key, str) for key in value)):
            raise NotPlain("an object whose keys are strings")
        return {key: item if type(item) in as_they_are else plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) in as_they_are else plain(item, depth + 1) for item in value]
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    raise NotPlain(f"an object of JSON values; {type(value).__name__} is none")


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise NotPlain("an object of JSON values; NaN and infinity are none")
    return value


def _binary(value: bytes | bytearray | memoryview) -> Any:
    if isinstance(value, Binary) and value.subtype in (3, 4) and len(value) == 16:
        return str(UUID(bytes=bytes(value)))
    return bytes(value)


def _epoch_ms(value: datetime) -> int:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
    return round(aware.timestamp() * 1000)


_CONVERSIONS: tuple[tuple[Any, Any], ...] = (
    (int, int),
    (float, _float),
    (datetime, _epoch_ms),
    (UUID | ObjectId, str),
    (bytes | bytearray | memoryview, _binary),
)
