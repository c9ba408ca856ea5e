"""Rows: event -> names, rooms, payload, as data. Documents and schemas are generated from them (spec section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from repo_notify.events import Event

from .rooms import Room, RoomKind

# What the sockets of an ended session hear, in every dialect (spec section 2).
LOGGED_OUT = "loggedOut"

# By the event's kind, or under None: templates over the event's fields.
Names = Mapping["str | None", tuple[str, ...]]


class Delivery(NamedTuple):
    """One Socket.IO event on its way: its name, its payload and the rooms it is meant for."""

    name: str
    payload: Any
    rooms: tuple[Room, ...]


class RoomOf(NamedTuple):
    """The room of an event: its kind, and the event's fields that are its ids."""

    kind: RoomKind
    fields: tuple[str, ...]


class RoomAt(NamedTuple):
    """The room at an address: its kind, and the places of its ids among the address's."""

    kind: RoomKind
    places: tuple[int, ...]


@dataclass(frozen=True)
class Payload:
    """What goes out: one field of the event as it is, or an object made of several.

    `only`: the field that is the payload. `fields`: those that an object holds under their own names, `{}` where the
    event has none. `defaults` and `adds` put further fields into an `only` that is an object: under a key that it has
    not, or in place of one.
    """

    only: str = ""
    fields: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)

    def of(self, values: Mapping[str, Any]) -> Any:
        """Return the payload for an event's fields."""
        if self.fields:
            return {name: values.get(name, {}) for name in self.fields}
        found = values[self.only]
        if not self.defaults and not self.adds:
            return found
        defaults = {key: values[name] for key, name in self.defaults.items()}
        return {**defaults, **found, **{key: values[name] for key, name in self.adds.items()}}


DATA = Payload(only="data")


@dataclass(frozen=True)
class Row:
    """How a dialect tells of an event.

    `when` is a key that the event's data must hold, else nothing is sent. `needs` are the keys that the data of such an
    event must hold to be published at all.
    """

    names: Names = field(default_factory=dict)
    rooms: tuple[RoomOf, ...] = ()
    payload: Payload = DATA
    when: str | None = None
    needs: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of model that the event is about; none where it has no kind."""
        return tuple(kind for kind in self.names if kind is not None)

    def deliveries(self, event: Event) -> list[Delivery]:
        """Return what goes out for `event`, one delivery for each of its names."""
        values = vars(event)
        if self.when is not None and self.when not in values["data"]:
            return []
        templates = self.names.get(values.get("kind")) or self.names.get(None, ())
        if not templates:
            return []
        payload = self.payload.of(values)
        rooms = tuple([kind.room(*[values[name] for name in fields]) for kind, fields in self.rooms])
        return [Delivery(template.format_map(values), payload, rooms) for template in templates]
