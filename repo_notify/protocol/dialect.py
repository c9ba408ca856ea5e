"""Dialects: generations of the protocol side by side, each with its rooms, names, wire and replies (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from repo_notify.engine.wire.remembered import remembered
from repo_notify.errors import ChatError
from repo_notify.events import EVENT_TYPES, Event

from .rooms import Address, Addressee, JoinShape, RoomKind
from .rows import Delivery, Payload, RoomAt, Route, Row, follow

if TYPE_CHECKING:
    from repo_notify.engine.wire.codec import Codec

Action = Literal["join", "leave"]
ACTIONS: tuple[Action, ...] = ("join", "leave")
# The fields of events that are content, and say nothing of who hears of them.
_CONTENT = frozenset({"data", "issues", "emitter", "session_ids", "reason"})
# How long the ids of an event may be together for what follows from them to be remembered, in characters.
REMEMBERED_LENGTH = 300


class Reply(NamedTuple):
    """An event for one socket alone."""

    event: str
    data: Any


class JoinRequest(NamedTuple):
    """One join or leave of a client: its object, and `{action, data}` as the replies repeat it.

    `shape` is None for an object of no known shape.
    """

    action: str
    data: Any
    echo: dict[str, Any]
    dialect: Dialect
    shape: JoinShape | None


class Dialect(Protocol):
    """One generation of the protocol."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The Socket.IO namespaces that are its own."""

    @property
    def shapes(self) -> tuple[JoinShape, ...]:
        """The join objects that it takes; the first that fits decides."""

    @property
    def kinds(self) -> tuple[RoomKind, ...]:
        """The kinds of room that it has."""

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Wire generations that its clients speak, beside Engine.IO 4."""

    @property
    def rows(self) -> Mapping[type[Event], Row]:
        """What its clients hear of each event."""

    @property
    def addressed(self) -> Mapping[Addressee, tuple[RoomAt, ...]]:
        """The rooms whose members hear what is said to a whole model, project or user."""

    def entered(self, request: JoinRequest) -> Sequence[Reply]:
        """Return the replies to a join or leave that succeeded; the last is the acknowledgement too."""

    def denied(self, request: JoinRequest, error: ChatError) -> Sequence[Reply]:
        """Return the replies to a join or leave that failed; the last is the acknowledgement too."""


def success(request: JoinRequest) -> Sequence[Reply]:
    """Return the `message` that tells of a success (spec section 3)."""
    return (Reply("message", {"event": "success", "data": request.echo}),)


def failure(request: JoinRequest, error: ChatError) -> Sequence[Reply]:
    """Return the `error` that tells of a failure (spec section 3)."""
    return (Reply("error", {**error.reply(), "details": request.echo}),)


def taking(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what takes the values of these names, in C where there are several; it raises `KeyError`."""
    return itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[name] for name in names)


@dataclass(frozen=True)
class Dialects:
    """The dialects of one app; of two that would take an object, the later one does."""

    all: tuple[Dialect, ...]

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace on which the protocol is spoken."""
        return tuple(self._by_namespace)

    @cached_property
    def codecs(self) -> tuple[Codec, ...]:
        """Every wire generation beside Engine.IO 4."""
        return tuple(codec for dialect in self.all for codec in dialect.codecs)

    @cached_property
    def _by_namespace(self) -> Mapping[str, Dialect]:
        found: dict[str, Dialect] = {}
        for dialect in self.all:
            for namespace in dialect.namespaces:
                found.setdefault(namespace, dialect)
        return found

    @cached_property
    def _shapes(self) -> tuple[tuple[JoinShape, Dialect], ...]:
        return tuple((shape, dialect) for dialect in reversed(self.all) for shape in dialect.shapes)

    @cached_property
    def kinds(self) -> Mapping[str, tuple[RoomKind, Dialect]]:
        """Each kind of room by its name, and whose it is."""
        return {kind.name: (kind, dialect) for dialect in self.all for kind in dialect.kinds}

    @cached_property
    def _rows(self) -> Mapping[type[Event], tuple[Row, ...]]:
        types = dict.fromkeys(event for dialect in self.all for event in dialect.rows)
        return {event: tuple(d.rows[event] for d in self.all if event in d.rows) for event in types}

    def request(self, action: str, namespace: str, data: Any, echoed: dict[str, Any]) -> JoinRequest:
        """Return a join or leave with the dialect that answers it: by the object's shape, else by the namespace.

        `echoed` is what its replies repeat (`echo`).
        """
        if isinstance(data, dict):
            for shape, dialect in self._shapes:
                if shape.fits(data):
                    return JoinRequest(action, data, echoed, dialect, shape)
        return JoinRequest(action, data, echoed, self._by_namespace[namespace], None)

    def names_of(self, *types: type[Event]) -> list[str]:
        """Return the names by which every dialect tells of events of these types; templates as they are."""
        rows = [row for event in types for row in self._rows.get(event, ())]
        return [name for row in rows for names in row.names.values() for name in names]

    def rooms_at(self, addresses: Iterable[Address]) -> list[str]:
        """Return the keys of every dialect's rooms at these addresses, once each."""
        keys_at = self._keys_at
        return list(dict.fromkeys([key for what, ids in addresses for key in keys_at(what, *ids)]))

    @cached_property
    def _keys_at(self) -> Callable[..., Sequence[str]]:
        return remembered(REMEMBERED_LENGTH)(self._find_keys)

    def _find_keys(self, what: Addressee, *ids: str) -> Sequence[str]:
        places_of = [found for dialect in self.all for found in dialect.addressed[what]]
        return tuple(kind.room(*[ids[at] for at in places]).key for kind, places in places_of)

    def deliveries(self, event: Event) -> list[Delivery]:
        """Return everything that goes out for `event`."""
        kind = type(event)
        return follow(self._routes(kind, *self._take_ids[kind](vars(event))), event)

    @cached_property
    def _ids(self) -> Mapping[type[Event], tuple[str, ...]]:
        """What makes the names and rooms of an event: all that is neither its content nor its emitter."""
        return {
            event: tuple(field.name for field in fields(event) if field.name not in _CONTENT)
            for event in EVENT_TYPES.values()
        }

    @cached_property
    def _take_ids(self) -> Mapping[type[Event], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
        return {event: taking(names) for event, names in self._ids.items()}

    @cached_property
    def _routes(self) -> Callable[..., Sequence[Route]]:
        return remembered(REMEMBERED_LENGTH)(self._find_routes)

    def _find_routes(self, event: type[Event], *values: Any) -> Sequence[Route]:
        """Return the ways of an event with these ids in every dialect.

        Those of one name and payload are joined, so that a member of rooms of two dialects hears of it once.
        """
        ids = dict(zip(self._ids[event], values, strict=True))
        found: dict[tuple[str, Payload, str | None], Route] = {}
        for row in self._rows.get(event, ()):
            for route in row.routes(ids):
                key = route.name, route.payload, route.when
                known = found.get(key)
                rooms = route.rooms if known is None else tuple(dict.fromkeys([*known.rooms, *route.rooms]))
                found[key] = route._replace(rooms=rooms)
        return tuple(found.values())
