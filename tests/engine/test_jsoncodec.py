from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine import ProtocolError
from repo_notify.engine.wire.jsoncodec import MAX_DEPTH, _depth, _dumps_deep, _loads_deep, dumps, loads

pytestmark = pytest.mark.slow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


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


NESTS = [("[", "]", 1), ('{"a":', "}", 1), ('[1,{"a":', ',"b":2},3]', 2)]


@pytest.mark.parametrize(("opener", "closer", "levels"), NESTS)
def test_depth_has_a_limit(opener: str, closer: str, levels: int) -> None:
    times = MAX_DEPTH // levels
    text = opener * times + "0" + closer * times
    assert dumps(loads(text)) == text
    # As far below as a handler may be called.
    assert _deeper(100, lambda: dumps(loads(text))) == text
    with pytest.raises(ProtocolError, match="too deeply"):
        loads(f"[{text}]")


def _deeper(frames: int, call: Callable[[], str]) -> str:
    return _deeper(frames - 1, call) if frames else call()


SHALLOW = ['["' + "[" * 2000 + '\\"{"]', "[" + "[1]," * 2000 + "{}]", '["\\\\",[]' + ",[[]]" * 900 + "]"]


@pytest.mark.parametrize("text", SHALLOW)
def test_what_is_long_or_a_string_is_not_deep(text: str) -> None:
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[" * 2000 + '"', "[" * 2000 + '"\\', "]" * 2000 + "[" * 2000, '"' + "[" * 2000])
def test_many_brackets_in_what_is_no_json(text: str) -> None:
    with pytest.raises(ProtocolError):
        loads(text)


@given(VALUES)
def test_depth_is_counted(value: Any) -> None:
    def depth(found: Any) -> int:
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert _depth(dumps(value)) == depth(value)


NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[1e400]", "", "[", "1 2", "9" * 5000]


@pytest.mark.parametrize("text", NO_JSON)
def test_refuses_what_is_no_json(text: str) -> None:
    with pytest.raises(ProtocolError, match="invalid JSON"):
        loads(text)


@pytest.mark.parametrize("depth", [990, 1000])
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
