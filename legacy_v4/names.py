"""v4 event names as a table: event -> names, payload, rooms (spec section 5). Pure data.

Frontends of 2018 listen for the first set of names, those of 2019 and later for the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from repo_notify import events
from repo_notify.events import Event
from repo_notify.protocol.rows import DATA, Payload, RoomOf, Row

from .rooms import MODEL, OWN, TEAMSPACE

NameSet = Literal["first", "second", "both"]

_OF_TEAMSPACE = ("{teamspace}::%s",)
_OF_MODEL = ("{teamspace}::{model}::%s",)
_OF_ISSUE = ("{teamspace}::{model}::{issue}::%s", *_OF_MODEL)
_OF_USER = ("{username}::%s",)
_IN_TEAMSPACE = RoomOf(TEAMSPACE, ("teamspace",))
_IN_MODEL = RoomOf(MODEL, ("teamspace", "model"))
_OWN = RoomOf(OWN, ("username",))


@dataclass(frozen=True)
class Names:
    """The last part of an event's name in each set ("": that set has none), and where the name stands."""

    first: str
    second: str
    templates: tuple[str, ...]
    rooms: tuple[RoomOf, ...] = (_IN_MODEL, _IN_TEAMSPACE)
    payload: Payload = DATA
    when: str | None = None

    def row(self, chosen: NameSet) -> Row:
        """Return the row that sends the names of the chosen sets."""
        parts = {"first": (self.first,), "second": (self.second,), "both": (self.first, self.second)}[chosen]
        names = tuple(template % part for part in dict.fromkeys(filter(None, parts)) for template in self.templates)
        return Row({None: names}, self.rooms, self.payload, when=self.when)


def _comment(first: str, second: str) -> Names:
    return Names(first, second, _OF_ISSUE, payload=Payload(only="data", adds={"issueId": "issue"}))


def _entity(event: type[Event]) -> Names:
    """Return a row of the second set alone, named like the event: `riskCreated` and its like."""
    name = event.__name__
    return Names("", name[0].lower() + name[1:], _OF_MODEL)


NAMES: Mapping[type[Event], Names] = {
    events.ModelCreated: Names("newModel", "modelCreated", _OF_TEAMSPACE, (_IN_TEAMSPACE,)),
    events.ModelSettingsUpdated: Names("modelStatusChanged", "modelStatusChanged", _OF_MODEL, when="status"),
    events.RevisionCreated: Names("modelStatusChanged", "modelStatusChanged", _OF_MODEL),
    events.IssuesCreated: Names("newIssues", "issueCreated", _OF_MODEL, payload=Payload(only="issues")),
    events.IssueUpdated: Names(
        "issueChanged", "issueUpdated", _OF_ISSUE, payload=Payload(only="data", defaults={"_id": "issue"})
    ),
    events.CommentCreated: _comment("newComment", "commentCreated"),
    events.CommentUpdated: _comment("commentChanged", "commentUpdated"),
    events.CommentDeleted: _comment("commentDeleted", "commentDeleted"),
    **{
        event: _entity(event)
        for event in (*events.ENTITIES_CREATED, *events.ENTITIES_UPDATED, *events.ENTITIES_DELETED)
    },
    events.NotificationUpserted: Names("notificationUpserted", "notificationUpserted", _OF_USER, (_OWN,)),
    events.NotificationDeleted: Names("notificationDeleted", "notificationDeleted", _OF_USER, (_OWN,)),
}


def rows(chosen: str) -> Mapping[type[Event], Row]:
    """Return what v4 clients hear of each event in the chosen sets of names.

    Raises `ValueError` for a choice that is none of `first`, `second`, `both`.
    """
    for known in get_args(NameSet):
        if chosen == known:
            return {event: names.row(known) for event, names in NAMES.items()}
    raise ValueError(f"the sets of v4 names are first, second or both, not {chosen!r}")
