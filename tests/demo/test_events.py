"""Every change through the REST API arrives under the names of spec section 5, before or with the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from repo_notify.demo.seed import PLAN, STRUCTURE, TOWER, WHOLE
from tests.demo.support import PLAN_PATH, STRUCTURE_PATH, WHOLE_PATH, Client, Listen, hear_next, join, model_path
from tests.support.chat import ChatClient

PATHS = {"container": STRUCTURE_PATH, "federation": WHOLE_PATH, "drawing": PLAN_PATH}
IDS = {"container": STRUCTURE, "federation": WHOLE, "drawing": PLAN}


@dataclass
class Watched:
    """One user who changes things, and what two others see of it: one in a v5 room, one in the v4 room of the model."""

    user: Client
    kind: str
    v5: ChatClient
    v4: ChatClient

    def change(self, method: str, path: str, body: object = None) -> Any:
        answer = self.user.call(method, path, body)
        assert answer.status == 200, answer.content
        return answer.json

    def sees(self, name: str, data: object) -> None:
        address = {"teamspace": "acme", "project": TOWER, "model": IDS[self.kind]}
        assert hear_next(self.v5) == (self.kind + name, {**address, "data": data})

    def legacy_sees(self, name: str, data: object) -> None:
        assert hear_next(self.v4) == (f"acme::{IDS[self.kind]}::{name}", data)


@pytest.fixture(params=list(PATHS))
def watched(request: pytest.FixtureRequest, users: dict[str, Client], listen: Listen) -> Watched:
    kind = str(request.param)
    v5, v4 = listen(users["alice"]), listen(users["alice"])
    join(v5, teamspace="acme", project=TOWER, model=IDS[kind])
    join(v4, account="acme", model=IDS[kind])
    return Watched(users["bob"], kind, v5, v4)


def test_settings_and_revisions(watched: Watched) -> None:
    path = PATHS[watched.kind]
    watched.change("PATCH", path, {"unit": "mm"})
    watched.sees("SettingsUpdate", {"unit": "mm"})
    watched.change("PATCH", path, {"status": "processing"})
    watched.sees("SettingsUpdate", {"status": "processing"})
    assert hear_next(watched.v4)[0] == f"acme::{IDS[watched.kind]}::modelStatusChanged"
    revision = watched.change("POST", f"{path}/revisions", {"tag": "A", "desc": "first"})
    watched.sees("NewRevision", revision)
    assert hear_next(watched.v4)[0] == f"acme::{IDS[watched.kind]}::modelStatusChanged"
    void = watched.change("PATCH", f"{path}/revisions/{revision['_id']}", {"void": True})
    if watched.kind != "federation":
        watched.sees("RevisionUpdate", void)


@pytest.mark.parametrize("watched", ["container", "federation"], indirect=True)
def test_tickets(watched: Watched) -> None:
    path = PATHS[watched.kind] + "/tickets"
    ticket = watched.change("POST", path, {"title": "Leak"})
    watched.sees("NewTicket", ticket)
    path = f"{path}/{ticket['_id']}"
    watched.sees("UpdateTicket", watched.change("PATCH", path, {"title": "Flood"}))
    comment = watched.change("POST", f"{path}/comments", {"message": "wet"})
    watched.sees("NewTicketComment", comment)
    watched.sees("UpdateTicketComment", watched.change("PUT", f"{path}/comments/{comment['_id']}", {"message": "dry"}))
    watched.sees("UpdateTicketGroup", watched.change("PUT", f"{path}/groups/{uuid4()}", {"name": "walls"}))


@pytest.mark.parametrize("watched", ["container"], indirect=True)
def test_issues(watched: Watched) -> None:
    path = f"/acme/{STRUCTURE}/issues"
    issue = watched.change("POST", path, {"name": "Crack"})
    watched.legacy_sees("newIssues", [issue])
    own, which = f"{path}/{issue['_id']}", issue["_id"]

    after = watched.change("PUT", own, {"status": "open"})
    (record,) = after["comments"]
    both = {hear_next(watched.v4)[0] for _ in range(2)}
    assert both == {f"acme::{STRUCTURE}::issueChanged", f"acme::{STRUCTURE}::{which}::issueChanged"}
    record = {**record, "issueId": which}
    expect_comment(watched, which, "newComment", record)

    comment = watched.change("POST", f"{own}/comments", {"comment": "see"})
    expect_comment(watched, which, "newComment", {**comment, "issueId": which})
    edited = watched.change("PUT", own, {"comment": "look", "edit": True, "commentIndex": 1})["comments"][1]
    expect_comment(watched, which, "commentChanged", {**edited, "issueId": which})
    watched.change("DELETE", f"{own}/comments", {"guid": comment["guid"]})
    expect_comment(watched, which, "commentDeleted", {"guid": comment["guid"], "issueId": which})


def expect_comment(watched: Watched, issue: str, name: str, data: object) -> None:
    seen = dict(hear_next(watched.v4) for _ in range(2))
    prefix = f"acme::{STRUCTURE}"
    assert seen == {f"{prefix}::{name}": data, f"{prefix}::{issue}::{name}": data}


@pytest.mark.parametrize("kind", list(PATHS))
def test_models_come_and_go(users: dict[str, Client], listen: Listen, kind: str) -> None:
    project, teamspace = listen(users["bob"]), listen(users["alice"])
    join(project, teamspace="acme", project=TOWER)
    join(teamspace, account="acme")
    path = f"/v5/teamspaces/acme/projects/{TOWER}/{kind}s"
    model = users["alice"].call("POST", path, {"name": "New", "unit": "mm"}).json["_id"]
    name, payload = hear_next(project)
    assert name == f"new{kind.title()}"
    data = payload.pop("data")
    assert payload == {"teamspace": "acme", "project": TOWER}
    assert data.items() >= {"_id": model, "name": "New", "unit": "mm"}.items()
    assert "permissions" not in data
    assert hear_next(teamspace)[0] == "acme::newModel"

    inside = listen(users["bob"])
    join(inside, teamspace="acme", project=TOWER, model=model)
    users["alice"].call("DELETE", model_path(f"{kind}s", model))
    address = {"teamspace": "acme", "project": TOWER, "model": model}
    assert hear_next(inside) == (f"{kind}Removed", {**address, "data": {}})


def test_notifications(users: dict[str, Client], listen: Listen) -> None:
    carol = listen(users["carol"])
    join(carol, notifications=True)
    sent = users["alice"].call("POST", "/v5/notifications", {"username": "carol", "message": "hi"}).json
    assert hear_next(carol) == ("carol::notificationUpserted", sent)
    users["alice"].call("DELETE", f"/v5/notifications/{sent['_id']}")
    assert hear_next(carol) == ("carol::notificationDeleted", {"_id": sent["_id"]})


def test_the_emitter_does_not_hear_its_own_change(users: dict[str, Client], listen: Listen) -> None:
    own, other = listen(users["alice"]), listen(users["alice"])
    for listener in (own, other):
        join(listener, teamspace="acme", project=TOWER, model=STRUCTURE)
    users["alice"].call("PATCH", STRUCTURE_PATH, {"unit": "m"}, x_socket_id=own.id)
    users["alice"].call("PATCH", STRUCTURE_PATH, {"unit": "mm"})
    assert hear_next(other)[1]["data"] == {"unit": "m"}
    assert hear_next(own)[1]["data"] == {"unit": "mm"}
