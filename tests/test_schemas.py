"""Events are checked by their schemas, whether their ids were looked at lately or not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from repo_notify import InvalidEvent
from repo_notify.demo.seed import TOWER
from repo_notify.events import EVENT_TYPES, KINDS, Event, TicketUpdated
from repo_notify.protocol.validation import EVENT_SCHEMAS, load

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
DATA = st.dictionaries(st.sampled_from(["_id", "ticket", "a"]), PLAIN)
# Mostly right, and as wrong as can be.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from([*KINDS, *KINDS, "house", ""]) | PLAIN,
    "data": DATA | DATA | st.lists(DATA, max_size=2) | PLAIN,
    "issues": st.lists(DATA, max_size=2) | PLAIN,
    "session_ids": st.lists(st.text(max_size=2), max_size=2) | PLAIN,
    "emitter": st.none() | st.text(max_size=2) | PLAIN,
}
ID = st.sampled_from(["acme", TOWER, TOWER, "x" * 200]) | PLAIN


@st.composite
def asked(draw: st.DrawFn) -> tuple[type[Event], dict[str, Any]]:
    """A type of event, and values for it."""
    event = EVENT_TYPES[draw(st.sampled_from(list(EVENT_TYPES)))]
    names = [field.name for field in dataclasses.fields(event)]
    left_out = draw(st.sets(st.sampled_from(names), max_size=1))
    values = {name: draw(VALUES.get(name, ID)) for name in names if name not in left_out}
    return event, values | draw(st.dictionaries(st.sampled_from(["data", "more"]), PLAIN, max_size=1))


def outcome(event: type[Event], values: dict[str, Any]) -> str:
    """The event, or which of its fields are wrong; as text, since NaN is unequal to itself."""
    try:
        return repr(load(event, values))
    except InvalidEvent as error:
        return repr(sorted(error.fields))


def expected(event: type[Event], values: dict[str, Any]) -> str:
    try:
        return repr(event(**EVENT_SCHEMAS[event].load(values)))
    except ValidationError as error:
        return repr(sorted(map(str, error.normalized_messages())))


@given(asked())
def test_what_was_looked_at_before_is_loaded_as_for_the_first_time(asked: tuple[type[Event], dict[str, Any]]) -> None:
    event, values = asked
    wanted = expected(event, values)
    assert outcome(event, values) == outcome(event, values) == wanted


def test_events_share_nothing() -> None:
    fields: dict[str, Any] = {"teamspace": "acme", "project": TOWER, "model": "frame", "kind": "container"}
    first, second = (load(TicketUpdated, {**fields, "data": {"n": [number]}}) for number in range(2))
    assert (vars(first)["data"], vars(second)["data"]) == ({"n": [0]}, {"n": [1]})


@pytest.mark.parametrize("wrong", ["", "x" * 5000, None, 3])
def test_all_that_is_wrong_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidEvent) as raised:
        load(TicketUpdated, {"teamspace": wrong, "project": TOWER, "model": "", "kind": "container", "data": 3})
    assert {"model", "data"} <= set(raised.value.fields)
