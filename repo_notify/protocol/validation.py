"""What a publisher hands over, checked: an event of plain values, or an error that names each wrong field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from marshmallow import Schema, ValidationError, fields

from repo_notify.engine.wire.remembered import remembered
from repo_notify.errors import InvalidEvent
from repo_notify.events import EVENT_TYPES, Event

from .dialect import REMEMBERED_LENGTH, taking
from .rows import Row
from .schemas import Id, ProjectId, event_schema
from .v5 import ROWS
from .values import NotPlain, plain

_NOTHING_SAID = Row()
_IDS = (Id, ProjectId, fields.String)


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
    usual = _USUAL.get(event)
    data, emitter = values.get("data"), values.get("emitter")
    if usual is not None and isinstance(data, dict) and usual.fields.issuperset(values) and usual.is_enough(data):
        try:
            ids = usual.load_ids(*usual.take_ids(values))
            if emitter is None or (isinstance(emitter, str) and emitter):
                # As `event(**fields)`, which would set one after another.
                made = object.__new__(event)
                vars(made).update(ids, emitter=emitter, data=plain(data))
                return made
        except (KeyError, ValidationError, NotPlain):
            pass  # told below, where everything that is wrong is found together
    try:
        return event(**EVENT_SCHEMAS[event].load(values))
    except ValidationError as error:
        raise InvalidEvent(event.__name__, _first_messages(error.normalized_messages())) from None


class _Usual(NamedTuple):
    """An event of some ids and an object: the names of all its fields, and what takes and loads its ids.

    `is_enough` says whether the object holds what it must.
    """

    fields: frozenset[str]
    take_ids: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    load_ids: Callable[..., dict[str, Any]]
    is_enough: Callable[[Any], bool]


def _usual_of(schema: Schema) -> _Usual | None:
    """Return how an event of this schema is loaded if it is well-formed; None where it holds anything else."""
    names = [name for name in schema.fields if name not in ("data", "emitter")]
    if "data" not in schema.fields or not all(type(schema.fields[name]) in _IDS for name in names):
        return None

    def load_ids(*values: Any) -> dict[str, Any]:
        found: dict[str, Any] = schema.load(dict(zip(names, values, strict=True)), partial=("data",))
        del found["emitter"]
        return found

    needs: tuple[str, ...] = getattr(schema.fields["data"], "needs", ())
    remembered_ids = remembered(REMEMBERED_LENGTH)(load_ids)
    return _Usual(frozenset(schema.fields), taking(names), remembered_ids, frozenset(needs).issubset)


_USUAL = {event: _usual_of(schema) for event, schema in EVENT_SCHEMAS.items()}


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
