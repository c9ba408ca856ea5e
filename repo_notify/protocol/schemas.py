"""marshmallow: what clients may send when they join or leave, and what each event carries (spec sections 3 and 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, validate

from repo_notify.events import KINDS, Data, Event

from .ids import is_project_id
from .values import NotPlain, plain

if TYPE_CHECKING:
    _AnyField = fields.Field[Any]
else:
    # marshmallow 3's Field takes no type argument at run time.
    _AnyField = fields.Field


class Id(fields.String):
    """A non-empty string and nothing that could be turned into one."""

    default_error_messages = {"invalid": "a non-empty string"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self.make_error("invalid")
        return value


class ProjectId(Id):
    """The id of a stored project."""

    default_error_messages = {"invalid": "a UUID or 24 hex digits"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str) or not is_project_id(value):
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


_TEXT = "a non-empty string"
# What `data` may be, by the event's own annotation.
_DATA: dict[Any, Callable[[tuple[str, ...]], fields.Field[Any]]] = {
    Data: lambda needs: _required(_Object, "an object", needs=needs),
    Data | Sequence[Data]: lambda _: _ObjectOrList(_Object(), "an object, or a list of objects"),
    Data | Sequence[str]: lambda _: _ObjectOrList(Id(), "an object, or a list of ids"),
}


def event_schema(event: type[Event], kinds: tuple[str, ...], needs: tuple[str, ...]) -> Schema:
    """Return the schema of an event: `kinds` of model that it may be about (none: all), keys that its data `needs`."""
    kinds = kinds or KINDS
    kind = "one of " + ", ".join(kinds)
    makers: dict[str, Callable[[], fields.Field[Any]]] = {
        "kind": lambda: _required(fields.String, kind, validate=validate.OneOf(kinds, error=kind)),
        "project": lambda: _required(ProjectId, "a UUID or 24 hex digits"),
        "data": lambda: _DATA[get_type_hints(event)["data"]](needs),
        "issues": lambda: _list_of(_required(_Object, "an object"), "a list of issue objects"),
        "session_ids": lambda: _list_of(_required(Id, _TEXT), "a list of session ids"),
        "emitter": lambda: Id(load_default=None, allow_none=True, error_messages={"invalid": "a socket id"}),
    }
    return Schema.from_dict(
        {field.name: makers.get(field.name, lambda: _required(Id, _TEXT))() for field in dataclasses.fields(event)},
        name=f"{event.__name__}Schema",
    )(unknown=RAISE)
