"""v4 rooms: an object with `account` is a v4 join or leave, on whichever namespace it arrives (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema

from repo_notify.protocol.rooms import Claim, Membership, Room, RoomKind
from repo_notify.protocol.schemas import Id

V4_MEMBERSHIPS: dict[str, Membership] = {
    "v4 model": Membership("model", ("account", "model"), where=lambda ids: (ids[0], None, ids[1]), legacy=True),
    "v4 teamspace": Membership("teamspace", ("account",), legacy=True),
    "v4 own": Membership("self", ("account",), where=lambda _: (), legacy=True),
}


class _ModelId(Id):
    """A model's id; null and "" stand for no model, as an absent one does."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return None if value == "" else super()._deserialize(value, attr, data, **kwargs)


class AccountRoomSchema(Schema):
    """`{account}` and `{account, model}`."""

    class Meta:
        unknown = EXCLUDE

    account = Id(required=True)
    model = _ModelId(load_default=None, allow_none=True)


def model_room(account: str, model: str) -> Room:
    """The room of one model, in whichever project it is."""
    return Room("v4 model", (account, model))


def teamspace_room(account: str) -> Room:
    """The room of all models of a teamspace, and of new ones."""
    return Room("v4 teamspace", (account,))


def own_room(username: str) -> Room:
    """The room of one user's own notifications."""
    return Room("v4 own", (username,))


def _claim(room: Room) -> Claim:
    return V4_MEMBERSHIPS[room.kind].claim(room)


def _claims(fields: Mapping[str, Any], user: str) -> list[Claim]:
    account, model = fields["account"], fields["model"]
    if model is not None:
        return [_claim(model_room(account, model))]
    own = [_claim(own_room(account))] if account == user else []
    return [*own, _claim(teamspace_room(account))]


V4_ROOMS: tuple[RoomKind, ...] = (
    RoomKind(
        name="account",
        shape=lambda data: "account" in data,
        schema=AccountRoomSchema(),
        claims=_claims,
        legacy=True,
    ),
)
