"""The demo's REST API, row by row: who asks for what with which body, and what the answer is."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from repo_notify.demo.body import MAX_DEPTH
from repo_notify.demo.seed import BRIDGE, DECK, PLAN, STRUCTURE, TOWER, WHOLE
from tests.demo.support import DECK_PATH, PLAN_PATH, STRUCTURE_PATH, WHOLE_PATH, Client, Document, model_path

CONTAINERS = f"/v5/teamspaces/acme/projects/{TOWER}/containers"
ISSUES = f"/acme/{STRUCTURE}/issues"
UNKNOWN = "3ce545f7-d13d-45d6-ae1d-8efc5af88790"
NAMED = {"name": "New"}

# Who (nobody: empty) asks for what, with which body, and the status of the answer.
PERMISSIONS: list[tuple[str, str, str, Any, int]] = [
    # creating and removing models: admins of the project or teamspace
    ("alice", "POST", CONTAINERS, NAMED, 200),
    ("bob", "POST", CONTAINERS, NAMED, 200),
    ("bob", "POST", CONTAINERS.replace("containers", "federations"), NAMED, 200),
    ("bob", "POST", CONTAINERS.replace("containers", "drawings"), NAMED, 200),
    ("carol", "POST", CONTAINERS, NAMED, 403),
    ("dave", "POST", CONTAINERS, NAMED, 403),
    ("mallory", "POST", CONTAINERS, NAMED, 404),
    ("", "POST", CONTAINERS, NAMED, 401),
    ("bob", "POST", CONTAINERS.replace(TOWER, BRIDGE), NAMED, 404),
    ("alice", "POST", CONTAINERS.replace(TOWER, BRIDGE), NAMED, 200),
    ("carol", "DELETE", STRUCTURE_PATH, None, 403),
    ("mallory", "DELETE", STRUCTURE_PATH, None, 404),
    ("", "DELETE", STRUCTURE_PATH, None, 401),
    # settings and revisions: collaborators
    ("bob", "PATCH", STRUCTURE_PATH, {"status": "ok"}, 200),
    ("carol", "PATCH", STRUCTURE_PATH, {"status": "ok"}, 403),
    ("dave", "PATCH", WHOLE_PATH, {"status": "ok"}, 403),
    ("dave", "PATCH", STRUCTURE_PATH, {"status": "ok"}, 404),
    ("bob", "PATCH", DECK_PATH, {"status": "ok"}, 404),
    ("", "PATCH", STRUCTURE_PATH, {"status": "ok"}, 401),
    ("bob", "POST", f"{PLAN_PATH}/revisions", {"tag": "A"}, 200),
    ("bob", "POST", f"{WHOLE_PATH}/revisions", {"tag": "A"}, 200),
    ("carol", "POST", f"{STRUCTURE_PATH}/revisions", {"tag": "A"}, 403),
    ("mallory", "POST", f"{STRUCTURE_PATH}/revisions", {"tag": "A"}, 404),
    # tickets, issues and comments: commenters and up
    ("dave", "POST", f"{WHOLE_PATH}/tickets", {"title": "T"}, 200),
    ("bob", "POST", f"{WHOLE_PATH}/tickets", {"title": "T"}, 200),
    ("carol", "POST", f"{STRUCTURE_PATH}/tickets", {"title": "T"}, 403),
    ("dave", "POST", f"{STRUCTURE_PATH}/tickets", {"title": "T"}, 404),
    ("bob", "POST", f"{PLAN_PATH}/tickets", {"title": "T"}, 404),
    ("dave", "POST", f"/acme/{WHOLE}/issues", NAMED, 200),
    ("dave", "POST", f"/acme/{WHOLE}/issues.json", NAMED, 200),
    ("carol", "POST", ISSUES, NAMED, 403),
    ("mallory", "POST", ISSUES, NAMED, 404),
    ("", "POST", ISSUES, NAMED, 401),
    ("", "POST", f"{ISSUES}.json", NAMED, 401),
    ("alice", "POST", f"/acme/{DECK}/issues", NAMED, 200),
    # no such thing
    ("alice", "POST", CONTAINERS.replace(TOWER, UNKNOWN), NAMED, 404),
    ("alice", "POST", CONTAINERS.replace(TOWER, "tower"), NAMED, 404),
    ("alice", "POST", CONTAINERS.replace("acme", "nowhere"), NAMED, 404),
    *(
        ("alice", "POST", CONTAINERS.replace("acme", teamspace), NAMED, 404)
        for teamspace in ("admin", "local", "config", "Admin", "a.b", "a%20b", "%24x", "a%00b", "x" * 64)
    ),
    ("alice", "POST", f"/admin/{STRUCTURE}/issues", NAMED, 404),
    ("alice", "PATCH", model_path("federations", STRUCTURE), {"status": "ok"}, 404),
    ("alice", "PATCH", model_path("containers", DECK), {"status": "ok"}, 404),
    ("alice", "PATCH", model_path("things", STRUCTURE), {"status": "ok"}, 404),
    ("alice", "PATCH", f"{STRUCTURE_PATH}/revisions/{UNKNOWN}", {"void": True}, 404),
    ("alice", "PATCH", f"{STRUCTURE_PATH}/tickets/{UNKNOWN}", {"title": "T"}, 404),
    ("alice", "POST", f"{STRUCTURE_PATH}/tickets/{UNKNOWN}/comments", {"message": "m"}, 404),
    ("alice", "PUT", f"{ISSUES}/{UNKNOWN}", NAMED, 404),
    ("alice", "POST", f"{ISSUES}/{UNKNOWN}/comments", {"comment": "c"}, 404),
    ("alice", "DELETE", f"{ISSUES}/{UNKNOWN}/comments", {"guid": UNKNOWN}, 404),
    ("alice", "DELETE", f"/v5/notifications/{UNKNOWN}", None, 404),
    ("", "POST", "/v5/notifications", {"username": "carol"}, 401),
    ("", "GET", "/v5/login", None, 401),
    ("", "POST", "/v5/logout", None, 401),
    ("", "POST", "/logout", None, 401),
    ("alice", "GET", "/v5/login", None, 200),
    ("alice", "GET", "/nowhere", None, 404),
    ("alice", "PUT", "/v5/login", {}, 405),
    ("", "GET", "/demo/world", None, 200),
    ("", "POST", "/demo/reset", {}, 401),
    # another's database is not dropped
    ("alice", "POST", "/demo/reset", {}, 404),
    # the case of a UUID does not matter
    ("bob", "PATCH", model_path("containers", STRUCTURE.upper(), TOWER.upper()), {"status": "ok"}, 200),
]


@pytest.mark.parametrize(("who", "method", "path", "body", "status"), PERMISSIONS)
def test_who_may_do_what(users: dict[str, Client], who: str, method: str, path: str, body: object, status: int) -> None:
    answer = users[who].call(method, path, body)
    assert answer.status == status, answer.content
    assert answer.headers["content-type"] == "application/json"
    if status != 200:
        assert answer.json["code"]
        assert answer.json["message"]


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


# What alice asks for, and the field that the answer names.
BAD_BODIES: list[tuple[str, str, Any, str]] = [
    ("POST", "/v5/login", {"password": "demo"}, "user"),
    ("POST", "/v5/login", {"user": "alice"}, "password"),
    ("POST", "/v5/login", {"user": {"$gt": ""}, "password": "demo"}, "user.$gt"),
    ("POST", "/v5/login", {"user": ["alice"], "password": "demo"}, "user"),
    ("POST", "/login", {"user": "alice", "password": "demo"}, "username"),
    ("POST", "/login", {"username": "", "password": "demo"}, "username"),
    ("POST", CONTAINERS, {}, "name"),
    ("POST", CONTAINERS, {"name": None}, "name"),
    ("POST", CONTAINERS, {"name": ""}, "name"),
    ("POST", CONTAINERS, {"name": "x" * 10_000}, "name"),
    ("POST", CONTAINERS, {**NAMED, "_id": "mine"}, "_id"),
    ("POST", CONTAINERS, {**NAMED, "permissions": []}, "permissions"),
    ("POST", CONTAINERS, {**NAMED, "federate": True}, "federate"),
    ("POST", CONTAINERS, {**NAMED, "a.b": 1}, "a.b"),
    ("POST", CONTAINERS, {**NAMED, "$set": 1}, "$set"),
    ("POST", CONTAINERS, {**NAMED, "a": [{"b\0": 1}]}, "a[0].b\\x00"),
    ("POST", CONTAINERS, {**NAMED, "": 1}, ""),
    ("POST", CONTAINERS, {**NAMED, "big": 2**63}, "big"),
    ("POST", CONTAINERS, b'{"name": "New", "far": 1e999}', "far"),
    ("POST", CONTAINERS, b'{"name": "New", "none": NaN}', "none"),
    ("POST", CONTAINERS, b'{"name": "\\ud800"}', "name"),
    ("POST", CONTAINERS, {**NAMED, "deep": nested(MAX_DEPTH)}, "deep"),
    ("POST", CONTAINERS, b"[" * 100_000, "body"),
    ("POST", CONTAINERS, b"{", "body"),
    ("POST", CONTAINERS, b"\xff", "body"),
    ("POST", CONTAINERS, b"", "body"),
    ("POST", CONTAINERS, [], "body"),
    ("PATCH", STRUCTURE_PATH, {}, "body"),
    ("PATCH", STRUCTURE_PATH, {"name": 5}, "name"),
    ("PATCH", STRUCTURE_PATH, {"permissions": [{"user": "mallory", "permission": "viewer"}]}, "permissions"),
    ("PATCH", STRUCTURE_PATH, {"permissions.0.permission": "collaborator"}, "permissions.0.permission"),
    ("POST", f"{STRUCTURE_PATH}/revisions", {}, "tag"),
    ("POST", f"{STRUCTURE_PATH}/revisions", {"tag": "A", "author": "carol"}, "author"),
    ("POST", f"{STRUCTURE_PATH}/tickets", {}, "title"),
    ("POST", ISSUES, {}, "name"),
    ("POST", ISSUES, {**NAMED, "owner": "carol"}, "owner"),
    ("PUT", f"{ISSUES}/any", {}, "body"),
    ("PUT", f"{ISSUES}/any", {"comment": ""}, "comment"),
    ("PUT", f"{ISSUES}/any", {"edit": True, "comment": "x"}, "commentIndex"),
    ("PUT", f"{ISSUES}/any", {"edit": True, "commentIndex": 0}, "comment"),
    ("PUT", f"{ISSUES}/any", {"delete": True}, "commentIndex"),
    ("PUT", f"{ISSUES}/any", {"delete": True, "commentIndex": -1}, "commentIndex"),
    ("PUT", f"{ISSUES}/any", {"delete": True, "commentIndex": "0"}, "commentIndex"),
    ("PUT", f"{ISSUES}/any", {"delete": "yes", "commentIndex": 0}, "delete"),
    ("PUT", f"{ISSUES}/any", {"delete": True, "edit": True, "comment": "x", "commentIndex": 0}, "delete"),
    ("PUT", f"{ISSUES}/any", {"comments": []}, "comments"),
    ("POST", f"{ISSUES}/any/comments", {"text": "x"}, "message"),
    ("DELETE", f"{ISSUES}/any/comments", {}, "guid"),
    ("POST", "/v5/notifications", {}, "username"),
    ("POST", "/v5/notifications", {"username": "nobody"}, "username"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BAD_BODIES)
def test_a_bad_body_is_answered_with_the_field_it_is_about(
    users: dict[str, Client], method: str, path: str, body: object, field: str
) -> None:
    answer = users["alice"].call(method, path, body)
    assert answer.status == 400, answer.content
    assert list(answer.json["fields"]) == [field]
    assert answer.json["code"] == "INVALID_ARGUMENTS"
    assert answer.json["fields"][field] in answer.json["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_what_a_foreign_form_could_send_is_refused(users: dict[str, Client], kind: str) -> None:
    answer = users["alice"].call("POST", CONTAINERS, NAMED, Content_Type=kind)
    assert (answer.status, list(answer.json["fields"])) == (400, ["body"])


def test_a_large_body_is_refused(users: dict[str, Client]) -> None:
    answer = users["alice"].call("POST", CONTAINERS, {"name": "x" * 2_000_000})
    assert (answer.status, answer.json["code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")


def test_a_wrong_method_is_told_the_right_ones(users: dict[str, Client]) -> None:
    assert "POST" in users[""].call("DELETE", "/v5/login").headers["allow"]


def test_a_model_lives_in_settings_and_project(users: dict[str, Client], mongo: MongoClient[Document]) -> None:
    alice, acme = users["alice"], mongo["acme"]
    answer = alice.call("POST", CONTAINERS.replace("containers", "drawings"), {"name": "Roof", "unit": "mm"})
    model = answer.json["_id"]
    assert answer.json == {"_id": model}
    expected = {"_id": model, "name": "Roof", "unit": "mm", "modelType": "drawing", "permissions": []}
    assert acme["settings"].find_one({"_id": model}) == expected
    holder = acme["projects"].find_one({"models": model})
    assert holder is not None
    assert holder["name"] == "Tower"

    path = model_path("drawings", model)
    assert alice.call("PATCH", path, {"unit": "m"}).json == {"_id": model, "unit": "m"}
    assert acme["settings"].find_one({"_id": model}) == {**expected, "unit": "m"}
    revision = alice.call("POST", f"{path}/revisions", {"tag": "A", "desc": "first"}).json
    assert acme["revisions"].find_one({"_id": revision["_id"]}) == {**revision, "model": model}

    answer = alice.call("DELETE", path)
    assert (answer.status, answer.json) == (200, {"_id": model})
    assert acme["settings"].find_one({"_id": model}) is None
    assert acme["projects"].find_one({"models": model}) is None
    assert acme["revisions"].find_one({"_id": revision["_id"]}) is None
    assert alice.call("PATCH", path, {"unit": "m"}).status == 404


@pytest.mark.parametrize("path", [STRUCTURE_PATH, WHOLE_PATH, PLAN_PATH])
def test_a_revision(users: dict[str, Client], mongo: MongoClient[Document], path: str) -> None:
    created = users["bob"].call("POST", f"{path}/revisions", {"tag": "A"}).json
    assert created.keys() == {"_id", "tag", "author", "timestamp"}
    assert (created["tag"], created["author"]) == ("A", "bob")
    own = f"{path}/revisions/{created['_id']}"
    assert users["bob"].call("PATCH", own, {"void": True}).json == {"_id": created["_id"], "void": True}
    stored = mongo["acme"]["revisions"].find_one({"_id": created["_id"]})
    assert stored is not None
    assert stored["void"] is True


def test_a_ticket_with_comments_and_groups(users: dict[str, Client], mongo: MongoClient[Document]) -> None:
    dave, acme = users["dave"], mongo["acme"]
    ticket = dave.call("POST", f"{WHOLE_PATH}/tickets", {"title": "Leak", "severity": 3}).json
    path = f"{WHOLE_PATH}/tickets/{ticket['_id']}"
    assert (ticket["title"], ticket["severity"], ticket["owner"]) == ("Leak", 3, "dave")
    changed = dave.call("PATCH", path, {"severity": 1}).json
    assert changed == {"_id": ticket["_id"], "severity": 1, "updated": changed["updated"]}

    comment = dave.call("POST", f"{path}/comments", {"message": "wet"}).json
    assert (comment["ticket"], comment["author"], comment["message"]) == (ticket["_id"], "dave", "wet")
    edited = dave.call("PUT", f"{path}/comments/{comment['_id']}", {"message": "dry"}).json
    expected = {"_id": comment["_id"], "ticket": ticket["_id"], "message": "dry", "updated": edited["updated"]}
    assert edited == expected
    assert acme["tickets.comments"].find_one({"_id": comment["_id"]}) == {**comment, **edited, "model": WHOLE}
    assert dave.call("PUT", f"{path}/comments/{UNKNOWN}", {"message": "dry"}).status == 404

    group = str(uuid4())
    for name in ("first", "second"):
        answer = dave.call("PUT", f"{path}/groups/{group}", {"name": name})
        assert answer.json == {"_id": group, "ticket": ticket["_id"], "name": name}
        assert acme["tickets.groups"].find_one({"_id": group}) == {**answer.json, "model": WHOLE}
    assert dave.call("PUT", f"{path}/groups/not-a-uuid", {"name": "x"}).status == 404
    other = dave.call("POST", f"{WHOLE_PATH}/tickets", {"title": "Other"}).json["_id"]
    assert dave.call("PUT", f"{WHOLE_PATH}/tickets/{other}/groups/{group}", {"name": "x"}).status == 404
    assert dave.call("PUT", f"{WHOLE_PATH}/tickets/{UNKNOWN}/groups/{group}", {"name": "x"}).status == 404


@pytest.mark.parametrize("suffix", ["", ".json"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_issue(users: dict[str, Client], mongo: MongoClient[Document], suffix: str, method: str) -> None:
    dave = users["dave"]
    path = f"/acme/{WHOLE}/issues"
    issue = dave.call("POST", path + suffix, {"name": "Crack", "priority": "low"}).json
    assert (issue["name"], issue["owner"], issue["model"], issue["comments"]) == ("Crack", "dave", WHOLE, [])
    own = f"{path}/{issue['_id']}{suffix}"

    after = dave.call(method, own, {"priority": "high", "status": "open", "name": "Crack", "comment": "see"}).json
    assert [comment.get("action") or comment["comment"] for comment in after["comments"]] == [
        {"property": "priority", "from": "low", "to": "high"},
        {"property": "status", "from": None, "to": "open"},
        "see",
    ]
    assert (after["priority"], after["status"]) == ("high", "open")
    assert dave.call(method, own, {"status": "open"}).json == after

    edited = dave.call(method, own, {"comment": "look", "edit": True, "commentIndex": 2}).json["comments"][2]
    assert edited == {**after["comments"][2], "comment": "look", "edited": edited["edited"]}
    out_of_range = dave.call(method, own, {"status": "closed", "delete": True, "commentIndex": 3})
    assert (out_of_range.status, list(out_of_range.json["fields"])) == (400, ["commentIndex"])
    left = dave.call(method, own, {"delete": True, "commentIndex": 0}).json
    assert left["comments"] == [after["comments"][1], edited]
    assert left["status"] == "open"

    comments = f"{path}/{issue['_id']}/comments{suffix}"
    comment = dave.call("POST", comments, {"comment": "more", "viewpoint": {"up": [0, 1, 0]}}).json
    assert (comment["comment"], comment["owner"]) == ("more", "dave")
    assert dave.call("DELETE", comments, {"guid": comment["guid"]}).json == {"guid": comment["guid"]}
    assert dave.call("DELETE", comments, {"guid": comment["guid"]}).status == 404
    assert mongo["acme"]["issues"].find_one({"_id": issue["_id"]}) == left


def test_comments_at_once_are_all_kept(users: dict[str, Client]) -> None:
    dave = users["dave"]
    path = f"/acme/{WHOLE}/issues"
    issue = dave.call("POST", path, {"name": "Busy"}).json["_id"]
    comment = {"comment": "me too"}
    threads = [threading.Thread(target=dave.call, args=("PUT", f"{path}/{issue}", comment)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(dave.call("PUT", f"{path}/{issue}", comment).json["comments"]) == 11


def test_a_notification_can_be_taken_back_by_both_sides(users: dict[str, Client], mongo: MongoClient[Document]) -> None:
    for remover, status in (("alice", 200), ("carol", 200), ("bob", 404)):
        sent = users["alice"].call("POST", "/v5/notifications", {"username": "carol", "message": "hi"}).json
        assert (sent["username"], sent["sender"], sent["message"]) == ("carol", "alice", "hi")
        assert mongo["admin"]["demo_notifications"].find_one({"_id": sent["_id"]}) == sent
        assert users[remover].call("DELETE", f"/v5/notifications/{sent['_id']}").status == status


def test_older_data_gives_rights_too(users: dict[str, Client], mongo: MongoClient[Document]) -> None:
    template = {"_id": "guests", "permissions": ["view_model", "view_issue"]}
    admins = [{"user": "bob", "permissions": ["teamspace_admin"]}]
    owner = {"user": "oldies", "customData": {"permissionTemplates": [template], "permissions": admins}}
    mongo["admin"]["users"].insert_one({"_id": "admin.oldies", **owner})
    grant = {"user": "carol", "permission": "guests"}
    mongo["oldies"]["settings"].insert_one({"_id": "old model", "name": "Old", "permissions": [grant]})
    everyone = {"user": "dave", "permissions": ["view_model_all_models"]}
    mongo["oldies"]["projects"].insert_one({"name": "Old", "models": ["old model"], "permissions": [everyone]})
    answers = {
        name: users[name].call("POST", "/oldies/old%20model/issues", NAMED).status
        for name in ("alice", "bob", "carol", "dave", "mallory")
    }
    assert answers == {"alice": 404, "bob": 200, "carol": 403, "dave": 403, "mallory": 404}


def test_the_world_as_the_console_sees_it(anonymous: Client) -> None:
    world = anonymous.call("GET", "/demo/world").json
    assert world["teamspace"] == "acme"
    assert {"username": "bob", "role": "admin of project Tower"} in world["users"]
    projects = {project["_id"]: project for project in world["projects"]}
    assert projects[TOWER]["name"] == "Tower"
    assert {"_id": PLAN, "name": "Plan", "kind": "drawing"} in projects[TOWER]["models"]
    assert {"_id": WHOLE, "name": "Whole", "kind": "federation"} in projects[TOWER]["models"]
    assert {"_id": DECK, "name": "Deck", "kind": "container"} in projects[BRIDGE]["models"]
    assert "permission" not in json.dumps(world)


def test_the_console_page_and_its_parts_are_served(anonymous: Client) -> None:
    page = anonymous.call("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    part = anonymous.call("GET", "/console/wire.js")
    assert (part.status, part.headers["content-type"].split(";")[0]) == (200, "text/javascript")
    assert anonymous.call("GET", "/console/../api.py").status == 404
