"""What a publisher hands over becomes plain JSON values."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.protocol.values import MAX_DEPTH, NotPlain, plain

ID = UUID("a608516e-0fef-4185-bca8-bf03a256ad3d")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
plain_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (ID, str(ID)),
        (Binary(ID.bytes, 3), str(ID)),
        (Binary(ID.bytes, 4), str(ID)),
        (Binary(b"short", 4), b"short"),
        (Binary(b"any", 0), b"any"),
        (ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        (datetime(2024, 1, 2, 3, 4, 5, 678000), 1704164645678),  # noqa: DTZ001 - naive as pymongo gives them
        (datetime(2024, 1, 2, 4, 4, 5, 678000, timezone(timedelta(hours=1))), 1704164645678),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        ((1, "a"), [1, "a"]),
        ({"a": ({"b": ID},)}, {"a": [{"b": str(ID)}]}),
    ],
)
def test_conversions(value: Any, becomes: Any) -> None:
    found = plain(value)
    assert (found, type(found)) == (becomes, type(becomes))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "NaN and infinity"),
        (-math.inf, "NaN and infinity"),
        ({1: "x"}, "keys are strings"),
        ({"a": {None: 1}}, "keys are strings"),
        (object(), "object is none"),
        ({"a": [{1, 2}]}, "set is none"),
        (1j, "complex is none"),
    ],
)
def test_what_is_refused(value: Any, says: str) -> None:
    with pytest.raises(NotPlain, match=says):
        plain(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_depth() -> None:
    assert plain(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(NotPlain, match=f"no deeper than {MAX_DEPTH}"):
        plain(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("leaf", ["text", 1, 1.5, True, None, b"x"])
def test_whatever_is_innermost_counts_as_a_level(leaf: Any) -> None:
    def around(levels: int) -> Any:
        found = leaf
        for _ in range(levels):
            found = [found] if levels % 2 else {"inner": found}
        return found

    assert plain(around(MAX_DEPTH)) == around(MAX_DEPTH)
    with pytest.raises(NotPlain, match=f"no deeper than {MAX_DEPTH}"):
        plain(around(MAX_DEPTH + 1))
    with pytest.raises(NotPlain, match=f"no deeper than {MAX_DEPTH}"):
        plain(around(MAX_DEPTH + 2))


def test_a_cycle_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(NotPlain):
        plain(value)


@given(plain_values)
def test_plain_keeps_what_is_plain_and_copies_it(value: Any) -> None:
    found = plain(value)
    assert found == value
    assert found is not value or not isinstance(value, dict | list)

