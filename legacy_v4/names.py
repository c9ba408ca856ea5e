"""v4 event names as a table: event -> names, payload, rooms (PROTOCOL section 5). Pure data.

Frontends of 2018 and of 2019 listen for different names; REPO_NOTIFY_LEGACY_V4_NAMES says which are emitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_notify import events
from repo_notify.events import Event
from repo_notify.protocol.rooms import Room
from repo_notify.protocol.rows import Delivery
from repo_notify.settings import NameSet

from .rooms import model_room, own_room, teamspace_room

SETS: dict[NameSet, tuple[str, ...]] = {"2018": ("2018",), "2019": ("2019",), "both": ("2018", "2019")}

_IN_TEAMSPACE = ("{teamspace}::{name}",)
_IN_MODEL = ("{teamspace}::{model}::{name}",)
_IN_ISSUE_AND_MODEL = ("{teamspace}::{model}::{issue}::{name}", "{teamspace}::{model}::{name}")
_OWN = ("{username}::{name}",)


@dataclass(frozen=True)
class Row:
    """How v4 hears of an event: the last part of its name in each set, where it stands, the payload and the rooms."""

    names: dict[str, str]
    templates: tuple[str, ...]
    rooms: Callable[[Any], tuple[Room, ...]]
    payload: Callable[[Any], Any] = lambda event: event.data
    when: Callable[[Any], bool] = lambda _: True


def _name(first: str, second: str | None = None) -> dict[str, str]:
    return {"2018": first, "2019": second or first}


def _model_rooms(event: Any) -> tuple[Room, ...]:
    return model_room(event.teamspace, event.model), teamspace_room(event.teamspace)


def _comment(event: Any) -> dict[str, Any]:
    return {**event.data, "issueId": event.issue}


def _own_rooms(event: Any) -> tuple[Room, ...]:
    return (own_room(event.username),)


def _comment_row(first: str, second: str) -> Row:
    return Row(_name(first, second), _IN_ISSUE_AND_MODEL, _model_rooms, _comment)


def _entity_row(event: type[Event]) -> Row:
    """A row of the second set alone, named like the event: `riskCreated` and its like."""
    name = event.__name__
    return Row({"2019": name[0].lower() + name[1:]}, _IN_MODEL, _model_rooms)


V4_EVENTS: dict[type[Event], Row] = {
    events.ModelCreated: Row(
        _name("newModel", "modelCreated"), _IN_TEAMSPACE, lambda event: (teamspace_room(event.teamspace),)
    ),
    events.ModelSettingsUpdated: Row(
        _name("modelStatusChanged"), _IN_MODEL, _model_rooms, when=lambda event: "status" in event.data
    ),
    events.RevisionCreated: Row(_name("modelStatusChanged"), _IN_MODEL, _model_rooms),
    events.IssuesCreated: Row(
        _name("newIssues", "issueCreated"), _IN_MODEL, _model_rooms, lambda event: list(event.issues)
    ),
    events.IssueUpdated: Row(
        _name("issueChanged", "issueUpdated"),
        _IN_ISSUE_AND_MODEL,
        _model_rooms,
        lambda event: {"_id": event.issue, **event.data},
    ),
    events.CommentCreated: _comment_row("newComment", "commentCreated"),
    events.CommentUpdated: _comment_row("commentChanged", "commentUpdated"),
    events.CommentDeleted: _comment_row("commentDeleted", "commentDeleted"),
    **{
        event: _entity_row(event)
        for event in (*events.ENTITIES_CREATED, *events.ENTITIES_UPDATED, *events.ENTITIES_DELETED)
    },
    events.NotificationUpserted: Row(_name("notificationUpserted"), _OWN, _own_rooms),
    events.NotificationDeleted: Row(_name("notificationDeleted"), _OWN, _own_rooms),
}


def v4_deliveries(sets: NameSet, event: Event) -> list[Delivery]:
    """Return what v4 clients get of `event`; nothing for events that only v5 knows."""
    row = V4_EVENTS.get(type(event))
    if row is None or not row.when(event):
        return []
    payload, rooms = row.payload(event), row.rooms(event)
    names = dict.fromkeys(row.names[chosen] for chosen in SETS[sets] if chosen in row.names)
    return [
        Delivery(template.format_map({**vars(event), "name": name}), payload, rooms)
        for name in names
        for template in row.templates
    ]
