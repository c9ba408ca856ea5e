"""Rooms: their kinds, their keys, and which join object means which room. Pure (spec sections 3 and 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from marshmallow import Schema, ValidationError

from repo_notify.errors import RoomNotFound

from .ids import fold_uuid

PREFIX = "repo_notify:"
# Made once: json.dumps would make an encoder for each key.
_compact = json.JSONEncoder(separators=(",", ":")).encode

# How many rooms are remembered that many ask for, and how long their ids may be together, in characters.
_REMEMBERED = 1024
_REMEMBERED_LENGTH = 200

Right = Literal["self", "model", "project", "teamspace"]


class Room(NamedTuple):
    """A room: its kind's name and the ids that make it, as the client or publisher gave them."""

    kind: str
    ids: tuple[str, ...]

    @property
    def key(self) -> str:
        """The engine's name for the room: injective; project and model UUIDs without regard to case."""
        return _remembered_key(self) if sum(map(len, self.ids)) <= _REMEMBERED_LENGTH else _key(self)

    @classmethod
    def parse(cls, key: str) -> Room:
        """Return the room of that key."""
        kind, *ids = json.loads(key.removeprefix(PREFIX))
        return cls(kind, tuple(ids))


def _key(room: Room) -> str:
    owner, *inner = room.ids
    return PREFIX + _compact([room.kind, owner, *map(fold_uuid, inner)])


_remembered_key = lru_cache(_REMEMBERED)(_key)


class RoomRequest(NamedTuple):
    """A room that a client asks for, and the right that opens it.

    `where` holds the look-up's ids: `(teamspace, project, model)`, `(teamspace, project)`, `(teamspace,)` or `()`.
    """

    room: Room
    right: Right
    where: tuple[str | None, ...] = ()


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
        return Room(self.name, ids)

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
        given = tuple((name, data[name]) for name in self.schema.fields if name in data)
        usual = all(type(value) is str for _, value in given)
        if usual and sum(len(value) for _, value in given) <= _REMEMBERED_LENGTH:
            return _remembered_requests(given, self, username)
        return _requests(given, self, username)


def _requests(given: tuple[tuple[str, Any], ...], shape: JoinShape, username: str) -> tuple[RoomRequest, ...]:
    try:
        fields = shape.schema.load(dict(given))
    except ValidationError:
        raise RoomNotFound(RoomNotFound.UNKNOWN) from None
    return tuple(shape.requests(fields, username))


_remembered_requests = lru_cache(_REMEMBERED)(_requests)
