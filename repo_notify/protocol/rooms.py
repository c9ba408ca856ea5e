"""Room kinds as a table: join object -> rooms -> who may enter. Pure (PROTOCOL section 3).

`legacy_v4` adds its own rows; the first row whose `shape` fits decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from marshmallow import Schema, ValidationError

from repo_notify.errors import RoomNotFound

from .schemas import ModelRoomSchema, NotificationsRoomSchema, ProjectRoomSchema, fold_uuid

PREFIX = "repo_notify:"
# Made once: json.dumps would make an encoder for each key.
_compact = json.JSONEncoder(separators=(",", ":")).encode

# How many rooms are remembered that many ask for, and how long their ids may be together.
_MANY = 1024
_USUAL_LENGTH = 200

Right = Literal["self", "model", "project", "teamspace"]


class Room(NamedTuple):
    """A room: its kind and the ids that make it, as the client or publisher gave them."""

    kind: str
    ids: tuple[str, ...]

    @property
    def key(self) -> str:
        """The engine's name for the room: injective; project and model UUIDs without regard to case."""
        return _usual_key(self) if sum(map(len, self.ids)) <= _USUAL_LENGTH else _key(self)

    @classmethod
    def parse(cls, key: str) -> Room:
        """Return the room of that key."""
        kind, *ids = json.loads(key.removeprefix(PREFIX))
        return cls(kind, tuple(ids))


def _key(room: Room) -> str:
    owner, *inner = room.ids
    return PREFIX + _compact([room.kind, owner, *map(fold_uuid, inner)])


_usual_key = lru_cache(_MANY)(_key)


class Claim(NamedTuple):
    """A room that a client asks for, and the right that opens it.

    `where` holds the ids for the look-up: `(teamspace, project, model)`, `(teamspace, project)` or `(teamspace,)`.
    """

    room: Room
    right: Right
    where: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Membership:
    """What a room of some kind stands for: the right that it needs, and the object by which one joins it.

    `fields` names the room's ids as the object does; `where` says which look-up ids they make.
    """

    right: Right
    fields: tuple[str, ...]
    where: Callable[[tuple[str, ...]], tuple[str | None, ...]] = lambda ids: ids
    legacy: bool = False

    def claim(self, room: Room) -> Claim:
        """Return the claim that opened the room."""
        return Claim(room, self.right, self.where(room.ids))

    def asked(self, room: Room) -> dict[str, Any]:
        """Return the object that joins the room."""
        return dict(zip(self.fields, room.ids, strict=True))


@dataclass(frozen=True, eq=False)
class RoomKind:
    """A row: which objects it takes, how they are checked, and what they claim.

    `shape(object)` says whether the row is meant; `claims(fields, username)` lists the rooms. The claims that are
    granted are entered, and one is enough. `legacy` rows are answered in v4's way too.
    """

    name: str
    shape: Callable[[Mapping[str, Any]], bool]
    schema: Schema
    claims: Callable[[Mapping[str, Any], str], Sequence[Claim]]
    legacy: bool = False


def notifications_room(username: str) -> Room:
    """The room of one user's own notifications."""
    return Room("notifications", (username,))


def model_room(teamspace: str, project: str, model: str) -> Room:
    """The room of one container, federation or drawing."""
    return Room("model", (teamspace, project, model))


def project_room(teamspace: str, project: str) -> Room:
    """The room of a project's activity."""
    return Room("project", (teamspace, project))


V5_MEMBERSHIPS: dict[str, Membership] = {
    "notifications": Membership("self", ("username",), where=lambda _: ()),
    "model": Membership("model", ("teamspace", "project", "model")),
    "project": Membership("project", ("teamspace", "project")),
}


def _claim(room: Room) -> Claim:
    return V5_MEMBERSHIPS[room.kind].claim(room)


V5_ROOMS: tuple[RoomKind, ...] = (
    RoomKind(
        name="notifications",
        shape=lambda data: data.get("notifications") is True,
        schema=NotificationsRoomSchema(),
        claims=lambda _, user: [_claim(notifications_room(user))],
    ),
    RoomKind(
        name="model",
        shape=lambda data: "teamspace" in data and "model" in data,
        schema=ModelRoomSchema(),
        claims=lambda fields, _: [_claim(model_room(fields["teamspace"], fields["project"], fields["model"]))],
    ),
    RoomKind(
        name="project",
        shape=lambda data: "teamspace" in data,
        schema=ProjectRoomSchema(),
        claims=lambda fields, _: [_claim(project_room(fields["teamspace"], fields["project"]))],
    ),
)


def kind_of(data: object, kinds: tuple[RoomKind, ...]) -> RoomKind | None:
    """Return the row that `data` is meant for, or None."""
    if not isinstance(data, dict):
        return None
    return next((kind for kind in kinds if kind.shape(data)), None)


def claims_of(data: Mapping[str, Any], kind: RoomKind, username: str) -> Sequence[Claim]:
    """Return what `data` claims for `username`.

    Raises `RoomNotFound` when an id is missing, empty or of a wrong type.
    """
    asked = tuple((name, data[name]) for name in kind.schema.fields if name in data)
    usual = all(type(value) is str for _, value in asked) and sum(len(value) for _, value in asked) <= _USUAL_LENGTH
    return (_usual_claims if usual else _claims)(asked, kind, username)


def _claims(asked: tuple[tuple[str, Any], ...], kind: RoomKind, username: str) -> tuple[Claim, ...]:
    try:
        fields = kind.schema.load(dict(asked))
    except ValidationError:
        raise RoomNotFound(RoomNotFound.UNKNOWN) from None
    return tuple(kind.claims(fields, username))


_usual_claims = lru_cache(_MANY)(_claims)
