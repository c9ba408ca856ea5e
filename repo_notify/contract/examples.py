"""An example of every event, for docs/events.md; a test publishes each of them."""

from __future__ import annotations

from repo_notify import events
from repo_notify.events import Event

_TOWER = "a608516e-0fef-4185-bca8-bf03a256ad3d"
_STRUCTURE = "808d98ee-aad1-11ec-b909-0242ac120002"
_REVISION = "1f3a7c52-5d0e-4f5b-9c55-2a1f0a9a4c11"
_TICKET = "5c0b7a31-9f0f-4a3c-8c1b-1d7b0f6e2a90"
_COMMENT = "e3b8d5a0-7d62-4b26-8a0c-52f0c4f4f3aa"
_GROUP = "b1d2c7e4-2f6a-4a0b-93a6-6f3c9d1e8b55"
_ISSUE = "3f0e1a94-6a1b-4d0f-9a53-8c7f5b2d4e61"

_IN_TEAMSPACE = {"teamspace": "acme"}
_IN_MODEL = {**_IN_TEAMSPACE, "model": _STRUCTURE}
_IN_ISSUE = {**_IN_MODEL, "issue": _ISSUE}
_OF_MODEL = {**_IN_MODEL, "project": _TOWER}

_ENTITIES = (
    (events.RiskCreated, events.RiskUpdated, events.RiskDeleted, "Loose railing"),
    (events.GroupCreated, events.GroupUpdated, events.GroupDeleted, "Columns of level 2"),
    (events.ViewCreated, events.ViewUpdated, events.ViewDeleted, "Entrance"),
    (events.ResourceCreated, events.ResourceUpdated, events.ResourceDeleted, "Fire certificate"),
)


def _of_entities() -> list[Event]:
    found: list[Event] = []
    for created, updated, deleted, name in _ENTITIES:
        found += (
            created(**_IN_MODEL, data={"_id": _GROUP, "name": name}),
            updated(**_IN_MODEL, data={"_id": _GROUP, "name": f"{name}, east"}),
            deleted(**_IN_MODEL, data=[_GROUP]),
        )
    return found


_ALL: tuple[Event, ...] = (
    events.ModelCreated(
        teamspace="acme", project=_TOWER, kind="container", data={"_id": _STRUCTURE, "name": "Structure"}
    ),
    events.ModelSettingsUpdated(
        **_OF_MODEL, kind="container", data={"name": "Structure, phase 2", "status": "processing"}
    ),
    events.ModelRemoved(**_OF_MODEL, kind="container"),
    events.RevisionCreated(
        **_OF_MODEL,
        kind="container",
        data={
            "_id": _REVISION,
            "tag": "rev7",
            "author": "alice",
            "timestamp": 1764000000000,
            "desc": "Stairs moved",
            "status": "ok",
        },
    ),
    events.RevisionUpdated(**_OF_MODEL, kind="container", data={"_id": _REVISION, "void": True}),
    events.TicketCreated(
        **_OF_MODEL, kind="container", data={"_id": _TICKET, "title": "Clash at level 2", "number": 12}
    ),
    events.TicketUpdated(**_OF_MODEL, kind="container", data={"_id": _TICKET, "title": "Clash at level 3"}),
    events.TicketCommentCreated(
        **_OF_MODEL, kind="container", data={"_id": _COMMENT, "ticket": _TICKET, "message": "Moved it"}
    ),
    events.TicketCommentUpdated(
        **_OF_MODEL, kind="container", data={"_id": _COMMENT, "ticket": _TICKET, "message": "Moved it down"}
    ),
    events.TicketGroupUpdated(**_OF_MODEL, kind="container", data={"_id": _GROUP, "ticket": _TICKET, "name": "Pipes"}),
    events.IssuesCreated(**_IN_MODEL, issues=[{"_id": _ISSUE, "name": "Leak", "owner": "alice"}]),
    events.IssueUpdated(**_IN_ISSUE, data={"status": "closed"}),
    events.CommentCreated(**_IN_ISSUE, data={"comment": "Sealed", "owner": "alice"}),
    events.CommentUpdated(**_IN_ISSUE, data={"comment": "Sealed twice", "owner": "alice"}),
    events.CommentDeleted(**_IN_ISSUE, data={"guid": _COMMENT}),
    *_of_entities(),
    events.NotificationUpserted(username="carol", data={"_id": "n1", "type": "ISSUE_ASSIGNED", "read": False}),
    events.NotificationDeleted(username="carol", data={"_id": "n1"}),
    events.SessionsEnded(session_ids=["the id of a session"], reason="You have logged in else where"),
)

EXAMPLES: dict[type[Event], Event] = {type(event): event for event in _ALL}
