"""The v5 dialect: its rooms and its events (spec sections 3 and 5).

A new event is its dataclass in `events`, its row here, and perhaps a row of another dialect; schemas and documents
follow from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from repo_notify import events
from repo_notify.events import KINDS, Event

from .dialect import failure, success
from .rooms import Addressee, JoinShape, RoomKind
from .rows import Payload, RoomAt, RoomOf, Row
from .schemas import ModelRoomSchema, NotificationsRoomSchema, ProjectRoomSchema

if TYPE_CHECKING:
    from repo_notify.engine.wire.codec import Codec

NOTIFICATIONS = RoomKind("notifications", "self", ("username",))
MODEL = RoomKind("model", "model", ("teamspace", "project", "model"), where=(0, 1, 2))
PROJECT = RoomKind("project", "project", ("teamspace", "project"), where=(0, 1))

SHAPES = (
    JoinShape(
        NotificationsRoomSchema(),
        lambda _, user: [NOTIFICATIONS.request(NOTIFICATIONS.room(user))],
        flag="notifications",
    ),
    JoinShape(
        ModelRoomSchema(),
        lambda given, _: [MODEL.request(MODEL.room(given["teamspace"], given["project"], given["model"]))],
        keys=("teamspace", "model"),
    ),
    JoinShape(
        ProjectRoomSchema(),
        lambda given, _: [PROJECT.request(PROJECT.room(given["teamspace"], given["project"]))],
        keys=("teamspace",),
    ),
)

_IN_MODEL = (RoomOf(MODEL, MODEL.fields),)
_IN_PROJECT = (RoomOf(PROJECT, PROJECT.fields),)
_OWN = (RoomOf(NOTIFICATIONS, NOTIFICATIONS.fields),)
_OF_MODEL = Payload(fields=("teamspace", "project", "model", "data"))
_OF_PROJECT = Payload(fields=("teamspace", "project", "data"))
_TICKETED = ("container", "federation")
_WITH_ID = Row(needs=("_id",))


def _row(suffix: str, *kinds: str, needs: tuple[str, ...] = ()) -> Row:
    """Return a row of the model's room: `containerNewRevision` and its like."""
    return Row({kind: (kind + suffix,) for kind in kinds}, _IN_MODEL, _OF_MODEL, needs=needs)


def _notification(name: str) -> Row:
    return Row({None: (f"{{username}}::{name}",)}, _OWN)


ROWS: Mapping[type[Event], Row] = {
    events.ModelCreated: Row(
        {kind: (f"new{kind.capitalize()}",) for kind in KINDS}, _IN_PROJECT, _OF_PROJECT, needs=("_id",)
    ),
    events.ModelSettingsUpdated: _row("SettingsUpdate", *KINDS),
    events.ModelRemoved: _row("Removed", *KINDS),
    events.RevisionCreated: _row("NewRevision", *KINDS, needs=("_id",)),
    events.RevisionUpdated: _row("RevisionUpdate", "container", "drawing", needs=("_id",)),
    events.TicketCreated: _row("NewTicket", *_TICKETED),
    events.TicketUpdated: _row("UpdateTicket", *_TICKETED),
    events.TicketCommentCreated: _row("NewTicketComment", *_TICKETED, needs=("_id", "ticket")),
    events.TicketCommentUpdated: _row("UpdateTicketComment", *_TICKETED, needs=("_id", "ticket")),
    events.TicketGroupUpdated: _row("UpdateTicketGroup", *_TICKETED, needs=("_id", "ticket")),
    events.NotificationUpserted: _notification("notificationUpserted"),
    events.NotificationDeleted: _notification("notificationDeleted"),
    # No v5 client hears of these; what their data must hold is said here all the same.
    **dict.fromkeys(events.ENTITIES_UPDATED, _WITH_ID),
}


ADDRESSED: Mapping[Addressee, tuple[RoomAt, ...]] = {
    "model": (RoomAt(MODEL, (0, 1, 2)),),
    "project": (RoomAt(PROJECT, (0, 1)),),
    "user": (RoomAt(NOTIFICATIONS, (0,)),),
}


class V5:
    """The v5 dialect on a namespace."""

    shapes: tuple[JoinShape, ...] = SHAPES
    kinds: tuple[RoomKind, ...] = (NOTIFICATIONS, MODEL, PROJECT)
    codecs: tuple[Codec, ...] = ()
    rows: Mapping[type[Event], Row] = ROWS
    addressed: Mapping[Addressee, tuple[RoomAt, ...]] = ADDRESSED
    entered = staticmethod(success)
    denied = staticmethod(failure)

    def __init__(self, namespace: str) -> None:
        self.namespaces = (namespace,)
