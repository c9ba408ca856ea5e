"""The v4 names of each set, and the entities that only the second set knows."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("legacy_v4")

from legacy_v4.names import NameSet, rows
from legacy_v4.rooms import MODEL, TEAMSPACE
from repo_notify import events
from repo_notify.demo.seed import TOWER
from repo_notify.errors import InvalidEvent
from repo_notify.events import EVENT_TYPES
from repo_notify.protocol.rows import Delivery
from repo_notify.protocol.validation import checked, from_json

IN_MODEL: dict[str, Any] = {"teamspace": "acme", "model": "m"}
ISSUE: dict[str, Any] = {**IN_MODEL, "issue": "i", "data": {"guid": "c"}}
ENTITIES = ("risk", "group", "view", "resource")


def deliveries(chosen: NameSet, event: events.Event) -> list[Delivery]:
    return rows(chosen)[type(event)].deliveries(event)


def names(chosen: NameSet, event: events.Event) -> list[str]:
    return [delivery.name for delivery in deliveries(chosen, event)]


@pytest.mark.parametrize(
    ("event", "first", "second"),
    [
        (events.IssuesCreated(**IN_MODEL, issues=[]), ["acme::m::newIssues"], ["acme::m::issueCreated"]),
        (
            events.IssueUpdated(**ISSUE),
            ["acme::m::i::issueChanged", "acme::m::issueChanged"],
            ["acme::m::i::issueUpdated", "acme::m::issueUpdated"],
        ),
        (
            events.CommentCreated(**ISSUE),
            ["acme::m::i::newComment", "acme::m::newComment"],
            ["acme::m::i::commentCreated", "acme::m::commentCreated"],
        ),
        (
            events.CommentUpdated(**ISSUE),
            ["acme::m::i::commentChanged", "acme::m::commentChanged"],
            ["acme::m::i::commentUpdated", "acme::m::commentUpdated"],
        ),
        (
            events.ModelCreated(teamspace="acme", project=TOWER, kind="container", data={"_id": "m"}),
            ["acme::newModel"],
            ["acme::modelCreated"],
        ),
        (events.RiskCreated(**IN_MODEL, data={}), [], ["acme::m::riskCreated"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, events.Event) else "",
)
def test_a_set_has_its_names_and_both_have_all(event: events.Event, first: list[str], second: list[str]) -> None:
    assert names("first", event) == first
    assert names("second", event) == second
    assert names("both", event) == first + second


def test_a_name_that_both_sets_have_is_sent_once() -> None:
    deleted = events.CommentDeleted(**ISSUE)
    assert names("both", deleted) == ["acme::m::i::commentDeleted", "acme::m::commentDeleted"]


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("Created", {"name": "n"}),
        ("Created", [{"name": "n"}, {"name": "o"}]),
        ("Updated", {"_id": "e", "name": "n"}),
        ("Deleted", {"_id": "e"}),
        ("Deleted", ["e", "f"]),
    ],
)
def test_an_entity_of_the_second_set(entity: str, what: str, data: Any) -> None:
    event = from_json({"type": f"{entity.capitalize()}{what}", **IN_MODEL, "data": data})
    (delivery,) = deliveries("second", event)
    assert delivery.name == f"acme::m::{entity}{what}"
    assert delivery.payload == data
    assert delivery.rooms == (MODEL.room("acme", "m").key, TEAMSPACE.room("acme").key)
    assert deliveries("first", event) == []


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize(
    ("what", "data", "says"),
    [
        ("Created", "risk", "an object, or a list of objects"),
        ("Created", None, "an object, or a list of objects"),
        ("Created", [{}, "risk"], "an object, or a list of objects"),
        ("Created", {"a": {1: 2}}, "an object whose keys are strings"),
        ("Updated", {"name": "n"}, "an object with _id; it has no _id"),
        ("Updated", [{"_id": "e"}], "an object"),
        ("Deleted", [1], "an object, or a list of ids"),
        ("Deleted", [""], "an object, or a list of ids"),
        ("Deleted", "e", "an object, or a list of ids"),
    ],
)
def test_an_entity_with_wrong_data_is_refused(entity: str, what: str, data: Any, says: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        checked(EVENT_TYPES[f"{entity.capitalize()}{what}"](**{**IN_MODEL, "data": data}))
    assert refused.value.fields == {"data": says}
