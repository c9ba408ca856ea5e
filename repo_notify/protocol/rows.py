"""Rows: event -> names, rooms, payload, as data. Documents and schemas are generated from them (spec section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from repo_notify.events import Event

from .rooms import RoomKind

# What the sockets of an ended session hear, in every dialect (spec section 2).
LOGGED_OUT = "loggedOut"

# By the event's kind, or under None: templates over the event's fields.
Names = Mapping["str | None", tuple[str, ...]]


class Delivery(NamedTuple):
    """One Socket.IO event on its way: its name, its payload and the keys of the rooms it is meant for."""

    name: str
    payload: Any
    rooms: tuple[str, ...]


class RoomOf(NamedTuple):
    """The room of an event: its kind, and the event's fields that are its ids."""

    kind: RoomKind
    fields: tuple[str, ...]


class RoomAt(NamedTuple):
    """The room at an address: its kind, and the places of its ids among the address's."""

    kind: RoomKind
    places: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Payload:
    """What goes out: one field of the event as it is, or an object made of several.

    `only`: the field that is the payload. `fields`: those that an object holds under their own names, ids and `data`,
    `{}` where the event has none. `defaults` and `adds` put further fields into an `only` that is an object: under a
    key that it has not, or in place of one.
    """

    only: str = ""
    fields: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, str] = field(default_factory=dict)

    def begun(self, ids: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the object of several fields without its data, as far as that there is one."""
        return {name: ids.get(name, {}) for name in self.fields}

    def of(self, values: Mapping[str, Any], begun: Mapping[str, Any]) -> Any:
        """Return the payload for an event's fields; `begun` is that for its ids."""
        if begun:
            return {**begun, "data": values["data"]} if "data" in values else begun
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

    def routes(self, ids: Mapping[str, Any]) -> list[Route]:
        """Return the ways of an event with these ids, one for each of its names."""
        templates = self.names.get(ids.get("kind")) or self.names.get(None, ())
        if not templates:
            return []
        rooms = tuple(dict.fromkeys([kind.room(*[ids[name] for name in fields]).key for kind, fields in self.rooms]))
        begun = self.payload.begun(ids)
        return [Route(template.format_map(ids), rooms, self.payload, self.when, begun) for template in templates]

    def deliveries(self, event: Event) -> list[Delivery]:
        """Return what goes out for `event`, one delivery for each of its names."""
        return follow(self.routes(vars(event)), event)


class Route(NamedTuple):
    """The way of every event with the same ids: its name, the keys of its rooms, and its row's payload and `when`.

    `begun` is what those ids say of the payload.
    """

    name: str
    rooms: tuple[str, ...]
    payload: Payload
    when: str | None
    begun: Mapping[str, Any]


def follow(routes: Sequence[Route], event: Event) -> list[Delivery]:
    """Return what goes out for `event` by these routes; those of one payload share the object."""
    values = vars(event)
    made: dict[Payload, Any] = {}
    found: list[Delivery] = []
    for name, rooms, payload, when, begun in routes:
        if when is None or when in values["data"]:
            content = made.get(payload)
            if content is None:
                content = made[payload] = payload.of(values, begun)
            found.append(Delivery(name, content, rooms))
    return found
