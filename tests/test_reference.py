"""docs/reference.md is what the code generates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repo_notify.contract.markdown import events_markdown
from repo_notify.events import EVENT_TYPES
from repo_notify.wiring import reference, reference_columns

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"


def test_the_page_is_up_to_date() -> None:
    """`repo-notify reference > docs/reference.md` writes it anew."""
    pytest.importorskip("legacy_v4")
    assert REFERENCE.read_text("utf-8") == reference()


def test_every_event_has_a_row() -> None:
    rows = events_markdown(reference_columns()).splitlines()[2:]
    assert [re.findall(r"`(\w+)`", row)[0] for row in rows] == list(EVENT_TYPES)


@pytest.mark.parametrize(
    ("event", "names"),
    [
        ("ModelCreated", "`newContainer` `newFederation` `newDrawing` (project)"),
        ("RevisionUpdated", "`containerRevisionUpdate` `drawingRevisionUpdate` (model)"),
        ("IssuesCreated", "`<teamspace>::<model>::newIssues`"),
        ("CommentUpdated", "`<teamspace>::<model>::<issue>::commentUpdated` `<teamspace>::<model>::commentUpdated`"),
        ("NotificationDeleted", "`<username>::notificationDeleted` (notifications)"),
        ("SessionsEnded", "`loggedOut`"),
    ],
)
def test_a_row_has_names_and_room(event: str, names: str) -> None:
    pytest.importorskip("legacy_v4")
    (row,) = (line for line in events_markdown(reference_columns()).splitlines() if f"`{event}`" in line)
    assert names in row
