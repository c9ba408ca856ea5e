"""The tables of the README are those that the code generates."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from repo_notify.contract.markdown import events_markdown
from repo_notify.events import EVENT_TYPES
from repo_notify.settings import as_markdown

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(("section", "generate"), [("settings", as_markdown), ("events", events_markdown)])
def test_readme_holds_the_generated_table(section: str, generate: Callable[[], str]) -> None:
    found = re.search(rf"<!-- {section} -->\n(.*?)<!-- /{section} -->", README.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"README.md has no section between <!-- {section} --> and <!-- /{section} -->"
    assert found[1].strip() == generate().strip()


def test_every_event_has_a_row() -> None:
    rows = events_markdown().splitlines()[2:]
    assert [re.findall(r"`(\w+)`", row)[0] for row in rows] == list(EVENT_TYPES)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("ModelCreated", "`newContainer` `newFederation` `newDrawing` (project)"),
        ("RevisionUpdated", "`containerRevisionUpdate` `drawingRevisionUpdate` (model)"),
        ("IssuesCreated", "`<teamspace>::<model>::newIssues`"),
        ("CommentUpdated", "`<teamspace>::<model>::<issue>::commentUpdated` `<teamspace>::<model>::commentUpdated`"),
        ("NotificationDeleted", "`<username>::notificationDeleted` (notifications)"),
        ("SessionsEnded", "`loggedOut`"),
    ],
)
def test_a_row_tells_names_and_room(event: str, says: str) -> None:
    (row,) = (line for line in events_markdown().splitlines() if f"`{event}`" in line)
    assert says in row
