"""The table: event -> v5 name, rooms, payload. Pure data (PROTOCOL section 5).

`legacy_v4` has a table of the same shape for the v4 names. A new event is one row here, its dataclass in `events`
and its schema in `schemas`; it then shows up by itself in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_notify import events
from repo_notify.events import Event

from .rooms import Room, model_room, notifications_room, project_room

# What the sockets of an ended session hear, in either protocol (PROTOCOL section 2).
LOGGED_OUT = "loggedOut"


@dataclass(frozen=True)
class Delivery:
    """One Socket.IO event on its way: its name, its payload and the rooms it is meant for."""

    name: str
    payload: Any
    rooms: tuple[Room, ...]


@dataclass(frozen=True)
class Row:
    """How an event is delivered: names by kind (or under None), the room, and the payload."""

    names: dict[str | None, str]
    room: Callable[[Any], Room]
    payload: Callable[[Any], Any]

    def deliveries(self, event: Event) -> list[Delivery]:
        """Return what goes out for `event`."""
        template = self.names[getattr(event, "kind", None)]
        name = template.format_map(vars(event))
        return [Delivery(name, self.payload(event), (self.room(event),))]


def _per_kind(suffix: str, *kinds: str, prefix: str = "") -> dict[str | None, str]:
    """Return `{kind: name}`: `containerNewRevision` and its like, or with a prefix `newContainer` and its like."""
    return {kind: f"{prefix}{kind.capitalize()}" if prefix else f"{kind}{suffix}" for kind in kinds}


def _in_model(event: Any) -> Room:
    return model_room(event.teamspace, event.project, event.model)


def _in_project(event: Any) -> Room:
    return project_room(event.teamspace, event.project)


def _own(event: Any) -> Room:
    return notifications_room(event.username)


def _model_payload(event: Any) -> dict[str, Any]:
    return {
        "teamspace": event.teamspace,
        "project": event.project,
        "model": event.model,
        "data": getattr(event, "data", {}),
    }


def _project_payload(event: Any) -> dict[str, Any]:
    return {"teamspace": event.teamspace, "project": event.project, "data": event.data}


_ALL = events.KINDS
_TICKETED = ("container", "federation")


def _model_row(suffix: str, *kinds: str) -> Row:
    return Row(_per_kind(suffix, *kinds), _in_model, _model_payload)


V5_EVENTS: dict[type[Event], Row] = {
    events.ModelCreated: Row(_per_kind("", *_ALL, prefix="new"), _in_project, _project_payload),
    events.ModelSettingsUpdated: _model_row("SettingsUpdate", *_ALL),
    events.ModelRemoved: _model_row("Removed", *_ALL),
    events.RevisionCreated: _model_row("NewRevision", *_ALL),
    events.RevisionUpdated: _model_row("RevisionUpdate", "container", "drawing"),
    events.TicketCreated: _model_row("NewTicket", *_TICKETED),
    events.TicketUpdated: _model_row("UpdateTicket", *_TICKETED),
    events.TicketCommentCreated: _model_row("NewTicketComment", *_TICKETED),
    events.TicketCommentUpdated: _model_row("UpdateTicketComment", *_TICKETED),
    events.TicketGroupUpdated: _model_row("UpdateTicketGroup", *_TICKETED),
    events.NotificationUpserted: Row({None: "{username}::notificationUpserted"}, _own, lambda event: event.data),
    events.NotificationDeleted: Row({None: "{username}::notificationDeleted"}, _own, lambda event: event.data),
}


def v5_deliveries(event: Event) -> list[Delivery]:
    """Return what v5 clients get of `event`; nothing for events that only v4 knows."""
    row = V5_EVENTS.get(type(event))
    return row.deliveries(event) if row else []


def merged(deliveries: list[Delivery]) -> list[Delivery]:
    """Join deliveries of one name and payload, so that a member of rooms of both generations hears it once."""
    found: list[Delivery] = []
    for delivery in deliveries:
        for index, earlier in enumerate(found):
            if earlier.name == delivery.name and earlier.payload == delivery.payload:
                found[index] = Delivery(earlier.name, earlier.payload, (*earlier.rooms, *delivery.rooms))
                break
        else:
            found.append(delivery)
    return found
