"""v4 rooms: an object with `account` is a v4 join or leave, on whichever namespace it arrives (spec section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema

from repo_notify.protocol.rooms import Addressee, JoinShape, RoomKind, RoomRequest
from repo_notify.protocol.rows import RoomAt
from repo_notify.protocol.schemas import Id

# One model, in whichever project it is; all models of a teamspace, and new ones; a user's own notifications.
MODEL = RoomKind("v4 model", "model", ("account", "model"), where=(0, None, 1))
TEAMSPACE = RoomKind("v4 teamspace", "teamspace", ("account",), where=(0,))
OWN = RoomKind("v4 own", "self", ("account",))


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


def _requests(fields: Mapping[str, Any], user: str) -> list[RoomRequest]:
    account, model = fields["account"], fields["model"]
    if model is not None:
        return [MODEL.request(MODEL.room(account, model))]
    own = [OWN.request(OWN.room(account))] if account == user else []
    return [*own, TEAMSPACE.request(TEAMSPACE.room(account))]


SHAPES = (JoinShape(AccountRoomSchema(), _requests, keys=("account",)),)
KINDS = (MODEL, TEAMSPACE, OWN)
# A model is found in whichever project it is; who watches a teamspace hears of everything in it.
ADDRESSED: Mapping[Addressee, tuple[RoomAt, ...]] = {
    "model": (RoomAt(MODEL, (0, 2)), RoomAt(TEAMSPACE, (0,))),
    "project": (RoomAt(TEAMSPACE, (0,)),),
    "user": (RoomAt(OWN, (0,)),),
}
