"""Rooms: their kinds, their keys, and which join object means which room. Pure (spec sections 3 and 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from marshmallow import Schema, ValidationError

from repo_notify.engine.wire.remembered import remembered
from repo_notify.errors import RoomNotFound

from .ids import fold_uuid

PREFIX = "repo_notify:"
# Made once: json.dumps would make an encoder for each key.
_compact = json.JSONEncoder(separators=(",", ":")).encode

# How long the ids of a room may be together for it to be remembered, in characters.
_REMEMBERED_LENGTH = 200

Right = Literal["self", "model", "project", "teamspace"]
Addressee = Literal["model", "project", "user"]


@dataclass(frozen=True)
class Room:
    """A room: its kind's name and the ids that make it, as the client or publisher gave them.

    `key` is the engine's name for it: injective; project and model UUIDs without regard to case. `told_by_key` is
    whether it holds the ids as they were given.
    """

    kind: str
    ids: tuple[str, ...]
    key: str = field(init=False, compare=False)
    told_by_key: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        owner, *inner = self.ids
        folded = list(map(fold_uuid, inner))
        object.__setattr__(self, "key", PREFIX + _compact([self.kind, owner, *folded]))
        object.__setattr__(self, "told_by_key", folded == inner)

    @classmethod
    def parse(cls, key: str) -> Room:
        """Return the room of that key."""
        kind, *ids = json.loads(key.removeprefix(PREFIX))
        return cls(kind, tuple(ids))


@remembered(_REMEMBERED_LENGTH)
def _room(kind: str, *ids: str) -> Room:
    return Room(kind, ids)


class RoomRequest(NamedTuple):
    """A room that a client asks for, and the right that opens it.

    `where` holds the look-up's ids: `(teamspace, project, model)`, `(teamspace, project)`, `(teamspace,)` or `()`.
    """

    room: Room
    right: Right
    where: tuple[str | None, ...] = ()


class Address(NamedTuple):
    """A whole model, project or user to whom something is said, and the ids that make it.

    `ids` are `(teamspace, project, model)`, `(teamspace, project)` or `(username,)`.
    """

    what: Addressee
    ids: tuple[str, ...]


@dataclass(frozen=True)
class RoomKind:
    """A row: what a kind of room is called, the right that opens it, and the object by which a client joins it.

    `fields` names the room's ids as the join object does. `where` makes the look-up's ids out of them: places among the
    room's ids, None for an id that may be any.
    """

    name: str
    right: Right
    fields: tuple[str, ...]
    where: tuple[int | None, ...] = ()

    def room(self, *ids: str) -> Room:
        """Return the room of this kind with these ids."""
        return _room(self.name, *ids)

    def request(self, room: Room) -> RoomRequest:
        """Return what opens `room`."""
        return RoomRequest(room, self.right, tuple(None if at is None else room.ids[at] for at in self.where))

    def join_object(self, room: Room) -> dict[str, Any]:
        """Return the object that joins `room`."""
        return dict(zip(self.fields, room.ids, strict=True))


@dataclass(frozen=True, eq=False)
class JoinShape:
    """A row: which join objects it takes, how they are checked, and which rooms they ask for.

    `keys` must be there, and `flag` must be true. `requests(fields, username)` lists the rooms: those that are granted
    are entered, and one is enough.
    """

    schema: Schema
    requests: Callable[[Mapping[str, Any], str], Sequence[RoomRequest]]
    keys: tuple[str, ...] = ()
    flag: str | None = None

    def fits(self, data: Mapping[str, Any]) -> bool:
        """Return whether `data` is meant for this row."""
        return all(key in data for key in self.keys) and (self.flag is None or data.get(self.flag) is True)

    def read(self, data: Mapping[str, Any], username: str) -> Sequence[RoomRequest]:
        """Return what `data` asks for on behalf of `username`.

        Raises `RoomNotFound` when an id is missing, empty or of a wrong type.
        """
        return self._ask(username, *[data.get(name) for name in self.schema.fields])

    @cached_property
    def _ask(self) -> Callable[..., Sequence[RoomRequest]]:
        return remembered(_REMEMBERED_LENGTH)(self._requests)

    def _requests(self, username: str, *values: Any) -> Sequence[RoomRequest]:
        try:
            fields = self.schema.load(dict(zip(self.schema.fields, values, strict=True)))
        except ValidationError:
            raise RoomNotFound(RoomNotFound.UNKNOWN) from None
        return tuple(self.requests(fields, username))
