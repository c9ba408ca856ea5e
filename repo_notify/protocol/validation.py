"""What a publisher hands over, checked: an event of plain values, or an error that names each wrong field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from marshmallow import Schema, ValidationError

from repo_notify.engine.wire.remembered import remembered
from repo_notify.errors import InvalidEvent
from repo_notify.events import EVENT_TYPES, Event

from .rows import Row
from .schemas import event_schema
from .v5 import ROWS

# How long the ids of an event may be together for their validity to be remembered, in characters.
_REMEMBERED_LENGTH = 300
_NOTHING_SAID = Row()


def _schema(event: type[Event]) -> Schema:
    row = ROWS.get(event, _NOTHING_SAID)
    return event_schema(event, row.kinds, row.needs)


EVENT_SCHEMAS: Mapping[type[Event], Schema] = {event: _schema(event) for event in EVENT_TYPES.values()}


def checked(event: Event) -> Event:
    """Return `event` with plain JSON values in it, its own copy of them.

    Raises `InvalidEvent` naming each wrong field, and `TypeError` for an object that is no event.
    """
    if type(event) not in EVENT_SCHEMAS:
        raise TypeError(f"an event of repo_notify.events can be published, not {type(event).__name__}")
    return load(type(event), vars(event))


def load(event: type[Event], values: Mapping[str, Any]) -> Event:
    """Build an event of that type from plain values; raises `InvalidEvent` naming each wrong field."""
    schema = EVENT_SCHEMAS[event]
    usual = values.keys() <= schema.fields.keys() and ("data" in schema.fields) == ("data" in values)
    # What is wrong is told below, where everything that is wrong is found together.
    with suppress(ValidationError):
        if usual:
            loaded = _LOADERS[event](*[values.get(name) for name in schema.fields if name != "data"])
            data = {"data": schema.fields["data"].deserialize(values["data"])} if "data" in values else {}
            return event(**loaded, **data)
    try:
        return event(**schema.load(values))
    except ValidationError as error:
        raise InvalidEvent(event.__name__, _first_messages(error.normalized_messages())) from None


def _loader(schema: Schema) -> Callable[..., dict[str, Any]]:
    """Return what loads all fields but the data, given in the schema's order; None stands for one that is not there."""
    names = [name for name in schema.fields if name != "data"]

    def load_ids(*values: Any) -> dict[str, Any]:
        given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        found: dict[str, Any] = schema.load(given, partial=("data",))
        return found

    return remembered(_REMEMBERED_LENGTH)(load_ids)


_LOADERS = {event: _loader(schema) for event, schema in EVENT_SCHEMAS.items()}


def from_json(document: Any) -> Event:
    """Build an event from the JSON of `POST /notify/events`; raises `InvalidEvent` naming each wrong field."""
    if not isinstance(document, dict):
        raise InvalidEvent("event", {"": "an object with `type` and the fields of that type"})
    values = dict(document)
    name = values.pop("type", None)
    event = EVENT_TYPES.get(name) if isinstance(name, str) else None
    if event is None:
        raise InvalidEvent("event", {"type": "one of " + ", ".join(EVENT_TYPES)})
    return load(event, values)


def _first_messages(messages: Mapping[str, Any]) -> dict[str, str]:
    return {str(field): _first(found) for field, found in messages.items()}


def _first(found: Any) -> str:
    while not isinstance(found, str):
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return "no such field" if found == "Unknown field." else found
