"""What can happen, as frozen dataclasses; what is published is one of these (spec section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["container", "federation", "drawing"]
KINDS: tuple[Kind, ...] = ("container", "federation", "drawing")

Data = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    `emitter` is the socket id (`socket.id`) of the client that caused it and shall not hear of it; left out, the
    extension takes it from the current request's `x-socket-id`.
    """

    emitter: str | None = None


@dataclass(frozen=True, kw_only=True)
class _ModelEvent(Event):
    teamspace: str
    project: str
    model: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class _IssueEvent(Event):
    teamspace: str
    model: str
    issue: str
    data: Data


@dataclass(frozen=True, kw_only=True)
class _EntityCreated(Event):
    teamspace: str
    model: str
    data: Data | Sequence[Data]


@dataclass(frozen=True, kw_only=True)
class _EntityUpdated(Event):
    teamspace: str
    model: str
    data: Data


@dataclass(frozen=True, kw_only=True)
class _EntityDeleted(Event):
    teamspace: str
    model: str
    data: Data | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ModelCreated(Event):
    """A container, federation or drawing was created; `data` holds its fields with `_id`."""

    teamspace: str
    project: str
    kind: Kind
    data: Data


@dataclass(frozen=True, kw_only=True)
class ModelSettingsUpdated(_ModelEvent):
    """Settings or the status of a model changed; `data` holds the changes."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class ModelRemoved(_ModelEvent):
    """A container, federation or drawing was removed."""


@dataclass(frozen=True, kw_only=True)
class RevisionCreated(_ModelEvent):
    """A revision was uploaded; `data` holds `_id`, `tag`, `author`, `timestamp` (epoch ms), `desc` and so on."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class RevisionUpdated(_ModelEvent):
    """A revision of a container or drawing changed; `data` holds `_id` and the changes, `void` for one."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class TicketCreated(_ModelEvent):
    """A ticket was added to a container or federation; `data` is the ticket."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class TicketUpdated(_ModelEvent):
    """A ticket of a container or federation changed; `data` holds the changes."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class TicketCommentCreated(_ModelEvent):
    """A comment was added to a ticket; `data` holds the comment with `_id` and `ticket`."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class TicketCommentUpdated(_ModelEvent):
    """A ticket's comment was changed or deleted; `data` holds the changes with `_id` and `ticket`."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class TicketGroupUpdated(_ModelEvent):
    """A ticket's group changed; `data` holds the changes with `_id` and `ticket`."""

    data: Data


@dataclass(frozen=True, kw_only=True)
class IssuesCreated(Event):
    """Issues were opened; `issues` is the list of issue objects."""

    teamspace: str
    model: str
    issues: Sequence[Data]


@dataclass(frozen=True, kw_only=True)
class IssueUpdated(_IssueEvent):
    """An issue changed; `data` is the issue."""


@dataclass(frozen=True, kw_only=True)
class CommentCreated(_IssueEvent):
    """A comment was left on an issue; `data` is the comment."""


@dataclass(frozen=True, kw_only=True)
class CommentUpdated(_IssueEvent):
    """A comment on an issue was edited; `data` is the comment."""


@dataclass(frozen=True, kw_only=True)
class CommentDeleted(_IssueEvent):
    """A comment on an issue was deleted; `data` is what is left to identify it."""


@dataclass(frozen=True, kw_only=True)
class RiskCreated(_EntityCreated):
    """A risk was added, or several; `data` is the risk, or the list of them."""


@dataclass(frozen=True, kw_only=True)
class RiskUpdated(_EntityUpdated):
    """A risk changed; `data` holds its `_id` and the changes."""


@dataclass(frozen=True, kw_only=True)
class RiskDeleted(_EntityDeleted):
    """A risk was deleted, or several; `data` is the risk, or the list of ids."""


@dataclass(frozen=True, kw_only=True)
class GroupCreated(_EntityCreated):
    """A group was added, or several; `data` is the group, or the list of them."""


@dataclass(frozen=True, kw_only=True)
class GroupUpdated(_EntityUpdated):
    """A group changed; `data` holds its `_id` and the changes."""


@dataclass(frozen=True, kw_only=True)
class GroupDeleted(_EntityDeleted):
    """A group was deleted, or several; `data` is the group, or the list of ids."""


@dataclass(frozen=True, kw_only=True)
class ViewCreated(_EntityCreated):
    """A view was added, or several; `data` is the view, or the list of them."""


@dataclass(frozen=True, kw_only=True)
class ViewUpdated(_EntityUpdated):
    """A view changed; `data` holds its `_id` and the changes."""


@dataclass(frozen=True, kw_only=True)
class ViewDeleted(_EntityDeleted):
    """A view was deleted, or several; `data` is the view, or the list of ids."""


@dataclass(frozen=True, kw_only=True)
class ResourceCreated(_EntityCreated):
    """A resource was added, or several; `data` is the resource, or the list of them."""


@dataclass(frozen=True, kw_only=True)
class ResourceUpdated(_EntityUpdated):
    """A resource changed; `data` holds its `_id` and the changes."""


@dataclass(frozen=True, kw_only=True)
class ResourceDeleted(_EntityDeleted):
    """A resource was deleted, or several; `data` is the resource, or the list of ids."""


@dataclass(frozen=True, kw_only=True)
class NotificationUpserted(Event):
    """A user's own notification was added or changed; `data` is the notification."""

    username: str
    data: Data


@dataclass(frozen=True, kw_only=True)
class NotificationDeleted(Event):
    """A user's own notification was deleted; `data` identifies it."""

    username: str
    data: Data


@dataclass(frozen=True, kw_only=True)
class SessionsEnded(Event):
    """Login sessions ended; their sockets hear `loggedOut` with `reason` and leave every room (spec section 2)."""

    session_ids: Sequence[str]
    reason: str


# What only the second set of v4 names has (spec section 5).
ENTITIES_CREATED = (RiskCreated, GroupCreated, ViewCreated, ResourceCreated)
ENTITIES_UPDATED = (RiskUpdated, GroupUpdated, ViewUpdated, ResourceUpdated)
ENTITIES_DELETED = (RiskDeleted, GroupDeleted, ViewDeleted, ResourceDeleted)

# Of two that change the same fields of the same object, the later one tells all (spec section 9).
UPDATES = (
    ModelSettingsUpdated, RevisionUpdated, TicketUpdated, TicketGroupUpdated, IssueUpdated, *ENTITIES_UPDATED,
)  # fmt: skip

EVENT_TYPES: dict[str, type[Event]] = {
    event.__name__: event
    for event in (
        ModelCreated,
        ModelSettingsUpdated,
        ModelRemoved,
        RevisionCreated,
        RevisionUpdated,
        TicketCreated,
        TicketUpdated,
        TicketCommentCreated,
        TicketCommentUpdated,
        TicketGroupUpdated,
        IssuesCreated,
        IssueUpdated,
        CommentCreated,
        CommentUpdated,
        CommentDeleted,
        *ENTITIES_CREATED,
        *ENTITIES_UPDATED,
        *ENTITIES_DELETED,
        NotificationUpserted,
        NotificationDeleted,
        SessionsEnded,
    )
}
