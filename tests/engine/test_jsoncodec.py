from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine import ProtocolError
from repo_notify.engine.wire.jsoncodec import _dumps_deep, _loads_deep, dumps, loads

pytestmark = pytest.mark.slow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
# Deeper than Python's own parser goes, and far deeper.
DEPTHS = [12_000, pytest.param(100_000, marks=pytest.mark.unmeasured)]


def deep_dumps(value: object) -> str:
    return "".join(_dumps_deep(value, json.JSONEncoder(allow_nan=False, separators=(",", ":")), None))


@given(VALUES)
def test_both_paths_agree(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"))
    spaced = json.dumps(value, indent=2)
    assert dumps(value) == deep_dumps(value) == text
    assert loads(text) == _loads_deep(text) == _loads_deep(spaced) == value


@given(st.text(alphabet='[]{}",: \t\n0123456789.eE+-truefalsn\\u'))
def test_both_paths_refuse_the_same(text: str) -> None:
    def outcome(load: Any) -> Any:
        try:
            return load(text)
        except (ProtocolError, ValueError, IndexError):
            return ProtocolError

    assert outcome(loads) == outcome(_loads_deep)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("opener", "closer"), [("[", "]"), ('{"a":', "}"), ('[1,{"a":[', '],"b":2},3]')])
def test_any_depth(opener: str, closer: str, depth: int) -> None:
    text = opener * depth + "0" + closer * depth
    assert dumps(loads(text)) == text


NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[1e400]", "", "[", "1 2", "9" * 5000]


@pytest.mark.parametrize("text", NO_JSON)
def test_refuses_what_is_no_json(text: str) -> None:
    with pytest.raises(ProtocolError, match="invalid JSON"):
        loads(text)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("tail", ["", "]", ",", "x", '"', "{", "[1 2]", "NaN"])
def test_refuses_deep_text_that_is_broken(tail: str, depth: int) -> None:
    with pytest.raises(ProtocolError):
        loads("[" * depth + tail)
    with pytest.raises(ProtocolError):
        loads('{"a":' * depth + tail)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_does_not_send_what_is_no_json(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps([value])


def test_circles_are_found() -> None:
    circle: list[object] = []
    inner = circle
    for _ in range(5000):
        inner.append([])
        inner = inner[0]  # type: ignore[assignment]  # lists all the way down
    inner.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        dumps(circle)


def test_keys_are_spelled_as_the_library_does() -> None:
    value = {7: 1, None: 2, True: 3, 1.5: 4, "é": 5}
    assert deep_dumps(value) == json.dumps(value, separators=(",", ":"))
