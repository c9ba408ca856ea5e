"""spec section 6 for v4 joins, which name no project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId

from tests.support.people import People
from tests.support.teamspaces import Teamspace, binary

ADMIN = [{"user": "uma", "permissions": ["admin_project"]}]
VIEWER = {"uma": "viewer"}
FORMS: tuple[tuple[str, dict[str, str], dict[str, Any] | None, bool], ...] = (
    # says, readers of the model, the project, whether uma may enter
    ("in whichever project", VIEWER, {"_id": binary(str(UUID(int=7)), 3)}, True),
    ("in a project with an ObjectId", VIEWER, {"_id": ObjectId()}, True),
    ("admin of a project with an ObjectId", {}, {"_id": ObjectId(), "permissions": ADMIN}, True),
    ("in a project with a text id", VIEWER, {"_id": "Tower"}, True),
    ("no right to it", {}, {"_id": ObjectId()}, False),
    ("not in the project", VIEWER, {"_id": ObjectId(), "models": ["other"]}, False),
    ("in no project", VIEWER, None, False),
)


@pytest.mark.parametrize(("readers", "project", "opens"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_v4_joins_find_the_model_in_whichever_project(
    people: People,
    teamspaces: Callable[..., Teamspace],
    readers: dict[str, str],
    project: dict[str, Any] | None,
    opens: bool,
) -> None:
    teamspace = teamspaces()
    model = teamspace.model(readers)
    if project is not None:
        teamspace.put("projects", **{"models": [model], **project})
    reply = people.client("uma").ask("join", {"account": teamspace.name, "model": model})
    assert reply.get("event") == ("success" if opens else None)
