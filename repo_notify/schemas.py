"""marshmallow: what clients may send when they join or leave, and what each event carries (PROTOCOL sections 3, 5)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, validate

from . import events
from .errors import InvalidEvent
from .events import Event
from .payload import NotPlain, plain

if TYPE_CHECKING:
    _AnyField = fields.Field[Any]
else:
    # marshmallow 3's Field takes no type argument at run time.
    _AnyField = fields.Field

# How long the ids of an event may be together for their validity to be remembered.
_USUAL_LENGTH = 300
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its usual form, hyphens and all."""
    return _UUID.fullmatch(text) is not None


def fold_uuid(text: str) -> str:
    """Return a UUID in lower case and any other string as it is: UUIDs are compared without regard to case."""
    return text.lower() if is_uuid(text) else text


class Id(fields.String):
    """A non-empty string and nothing that could be turned into one."""

    default_error_messages = {"invalid": "a non-empty string"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self.make_error("invalid")
        return value


class ProjectId(Id):
    """The id of a stored project: a UUID or, in data of 2018, the 24 hex digits of an ObjectId."""

    default_error_messages = {"invalid": "a UUID or 24 hex digits"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str) or not (is_uuid(value) or _OBJECT_ID.fullmatch(value)):
            raise self.make_error("invalid")
        return value


class _RoomSchema(Schema):
    class Meta:
        unknown = EXCLUDE


class NotificationsRoomSchema(_RoomSchema):
    """`{notifications: true}`; the row's shape has looked at the value."""


class ProjectRoomSchema(_RoomSchema):
    """`{teamspace, project}`."""

    teamspace = Id(required=True)
    project = Id(required=True)


class ModelRoomSchema(ProjectRoomSchema):
    """`{teamspace, project, model}`."""

    model = Id(required=True)


class _Object(_AnyField):
    """A JSON object with string keys, holding at least the keys that the event's row asks for."""

    default_error_messages = {"invalid": "an object"}

    def __init__(self, needs: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.needs = needs

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, Mapping):
            raise self.make_error("invalid")
        if missing := [key for key in self.needs if key not in value]:
            raise ValidationError(f"an object with {' and '.join(self.needs)}; it has no {' and no '.join(missing)}")
        try:
            return plain(value)
        except NotPlain as problem:
            raise ValidationError(str(problem)) from None


class _ObjectOrList(_Object):
    """An object, or a list whose items are checked by `item`."""

    def __init__(self, item: fields.Field[Any], says: str, **kwargs: Any) -> None:
        super().__init__(error_messages=dict.fromkeys(("required", "null", "invalid"), says), required=True, **kwargs)
        self.item = item
        self.says = says

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, list | tuple):
            return super()._deserialize(value, attr, data, **kwargs)
        try:
            return [self.item.deserialize(found) for found in value]
        except ValidationError:
            raise self.make_error("invalid") from None


def _required(field: type[fields.Field[Any]], says: str, **kwargs: Any) -> fields.Field[Any]:
    return field(required=True, error_messages=dict.fromkeys(("required", "null", "invalid"), says), **kwargs)


def _list_of(item: fields.Field[Any], says: str) -> fields.Field[Any]:
    return fields.List(
        item,
        required=True,
        error_messages=dict.fromkeys(("required", "null", "invalid"), says),
    )


def _event_schema(
    event: type[Event],
    kinds: tuple[str, ...] = events.KINDS,
    needs: tuple[str, ...] = (),
    data: fields.Field[Any] | None = None,
) -> Schema:
    text = "a non-empty string"
    kind = "one of " + ", ".join(kinds)
    makers: dict[str, Any] = {
        "kind": lambda: _required(fields.String, kind, validate=validate.OneOf(kinds, error=kind)),
        "data": lambda: data or _required(_Object, "an object", needs=needs),
        "project": lambda: _required(ProjectId, "a UUID or 24 hex digits"),
        "issues": lambda: _list_of(_required(_Object, "an object"), "a list of issue objects"),
        "session_ids": lambda: _list_of(_required(Id, text), "a list of session ids"),
        "emitter": lambda: Id(load_default=None, allow_none=True, error_messages={"invalid": "a socket id"}),
    }
    return Schema.from_dict(
        {field.name: makers.get(field.name, lambda: _required(Id, text))() for field in dataclasses.fields(event)},
        name=f"{event.__name__}Schema",
    )(unknown=RAISE)


_TICKETED = ("container", "federation")
_COMMENTED: dict[str, Any] = {"kinds": _TICKETED, "needs": ("_id", "ticket")}
_CREATED = _ObjectOrList(_Object(), "an object, or a list of objects")
_DELETED = _ObjectOrList(Id(), "an object, or a list of ids")

EVENT_SCHEMAS: dict[type[Event], Schema] = {
    events.ModelCreated: _event_schema(events.ModelCreated, needs=("_id",)),
    events.ModelSettingsUpdated: _event_schema(events.ModelSettingsUpdated),
    events.ModelRemoved: _event_schema(events.ModelRemoved),
    events.RevisionCreated: _event_schema(events.RevisionCreated, needs=("_id",)),
    events.RevisionUpdated: _event_schema(events.RevisionUpdated, kinds=("container", "drawing"), needs=("_id",)),
    events.TicketCreated: _event_schema(events.TicketCreated, kinds=_TICKETED),
    events.TicketUpdated: _event_schema(events.TicketUpdated, kinds=_TICKETED),
    events.TicketCommentCreated: _event_schema(events.TicketCommentCreated, **_COMMENTED),
    events.TicketCommentUpdated: _event_schema(events.TicketCommentUpdated, **_COMMENTED),
    events.TicketGroupUpdated: _event_schema(events.TicketGroupUpdated, **_COMMENTED),
    events.IssuesCreated: _event_schema(events.IssuesCreated),
    events.IssueUpdated: _event_schema(events.IssueUpdated),
    events.CommentCreated: _event_schema(events.CommentCreated),
    events.CommentUpdated: _event_schema(events.CommentUpdated),
    events.CommentDeleted: _event_schema(events.CommentDeleted),
    **{event: _event_schema(event, data=_CREATED) for event in events.ENTITIES_CREATED},
    **{event: _event_schema(event, needs=("_id",)) for event in events.ENTITIES_UPDATED},
    **{event: _event_schema(event, data=_DELETED) for event in events.ENTITIES_DELETED},
    events.NotificationUpserted: _event_schema(events.NotificationUpserted),
    events.NotificationDeleted: _event_schema(events.NotificationDeleted),
    events.SessionsEnded: _event_schema(events.SessionsEnded),
}


def checked(event: Event) -> Event:
    """Return `event` with plain JSON values in it, its own copy of them.

    Raises `InvalidEvent` naming each wrong field, and `TypeError` for an object that is no event.
    """
    if type(event) not in EVENT_SCHEMAS:
        raise TypeError(f"an event of repo_notify.events can be published, not {type(event).__name__}")
    return load(type(event), vars(event))


def load(event: type[Event], values: Mapping[str, Any]) -> Event:
    """Build an event of that type from plain values; raises `InvalidEvent` naming each wrong field."""
    try:
        return event(**(_load_usual(event, values) or EVENT_SCHEMAS[event].load(values)))
    except ValidationError as error:
        raise InvalidEvent(event.__name__, _first_messages(error.normalized_messages())) from None


def _load_usual(event: type[Event], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Load values of which all but the data was looked at lately; None where something is wrong, or not usual."""
    fields = EVENT_SCHEMAS[event].fields
    where = tuple(item for item in values.items() if item[0] != "data")
    if not all(value is None or type(value) is str for _, value in where) or ("data" in fields) != ("data" in values):
        return None
    if sum(len(value) for _, value in where if value is not None) > _USUAL_LENGTH:
        return None
    try:
        loaded = _load_where(event.__name__, where)
        return {**loaded, "data": fields["data"].deserialize(values["data"])} if "data" in values else loaded
    except ValidationError:
        return None  # loading them together tells everything that is wrong


@lru_cache(1024)
def _load_where(event: str, where: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    found: dict[str, Any] = EVENT_SCHEMAS[events.EVENT_TYPES[event]].load(dict(where), partial=("data",))
    return found


def from_json(document: Any) -> Event:
    """Build an event from the JSON of `POST /notify/events`; raises `InvalidEvent` naming each wrong field."""
    if not isinstance(document, dict):
        raise InvalidEvent("event", {"": "an object with `type` and the fields of that type"})
    values = dict(document)
    name = values.pop("type", None)
    event = events.EVENT_TYPES.get(name) if isinstance(name, str) else None
    if event is None:
        raise InvalidEvent("event", {"type": "one of " + ", ".join(events.EVENT_TYPES)})
    return load(event, values)


def _first_messages(messages: Mapping[str, Any]) -> dict[str, str]:
    return {str(field): _first(found) for field, found in messages.items()}


def _first(found: Any) -> str:
    while not isinstance(found, str):
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return "no such field" if found == "Unknown field." else found
