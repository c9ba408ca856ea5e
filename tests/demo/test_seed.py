"""The sample data: in 3D Repo's layout, written once, never over what is there."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from pymongo import MongoClient

from repo_notify.demo.seed import BRIDGE, STRUCTURE, TOWER, USERS, WHOLE, seed
from tests.demo.support import Document
from tests.support.unmeasured import embedded_mongo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[MongoClient[Document]]:
    client: MongoClient[Document]
    with embedded_mongo() as embedded, MongoClient(embedded.uri) as client:
        yield client


@pytest.fixture
def empty(server: MongoClient[Document]) -> MongoClient[Document]:
    server.drop_database("acme")
    for collection in ("users", "demo_seeded"):
        server["admin"][collection].drop()
    return server


def test_the_layout(empty: MongoClient[Document]) -> None:
    assert seed(empty, users_collection="users")
    acme = empty["acme"]
    projects = {project["name"]: project for project in acme["projects"].find()}
    assert {name: (bytes(p["_id"]), p["_id"].subtype) for name, p in projects.items()} == {
        "Tower": (UUID(TOWER).bytes, 3),
        "Bridge": (UUID(BRIDGE).bytes, 4),
    }
    assert projects["Tower"]["permissions"] == [{"user": "bob", "permissions": ["admin_project"]}]
    settings = {model["name"]: model for model in acme["settings"].find()}
    assert settings["Structure"]["permissions"] == [{"user": "carol", "permission": "viewer"}]
    assert settings["Whole"]["permissions"] == [{"user": "dave", "permission": "commenter"}]
    assert (settings["Whole"]["_id"], settings["Whole"]["federate"]) == (WHOLE, True)
    assert settings["Plan"]["modelType"] == "drawing"
    teamspace = acme["teamspace"].find_one({"_id": "acme"})
    assert teamspace is not None
    assert teamspace["permissions"] == [{"user": "alice", "permissions": ["teamspace_admin"]}]
    for user in empty["admin"]["users"].find():
        assert user["_id"] == f"admin.{user['user']}"
        assert user["customData"]["passwordHash"].startswith("scrypt:")
        assert "demo" not in user["customData"]["passwordHash"]
    assert sorted(empty["admin"]["users"].distinct("user")) == sorted(USERS)


def test_edits_survive_the_next_start(empty: MongoClient[Document]) -> None:
    assert seed(empty, users_collection="users")
    empty["acme"]["settings"].update_one({"_id": STRUCTURE}, {"$set": {"name": "Renamed"}})
    empty["acme"]["settings"].delete_one({"_id": WHOLE})
    assert not seed(empty, users_collection="users")
    assert sorted(empty["acme"]["settings"].distinct("name")) == ["Deck", "Plan", "Renamed"]


def test_what_was_there_before_stays(empty: MongoClient[Document]) -> None:
    empty["acme"]["settings"].insert_one({"_id": STRUCTURE, "name": "Mine"})
    assert seed(empty, users_collection="users")
    assert empty["acme"]["settings"].find_one({"_id": STRUCTURE}) == {"_id": STRUCTURE, "name": "Mine"}


def test_a_servers_own_accounts_are_made_by_its_command(empty: MongoClient[Document]) -> None:
    empty["admin"].command("createUser", "carol", pwd="other", roles=[])
    assert seed(empty, users_collection="system.users")
    accounts = empty["admin"].command("usersInfo")["users"]
    assert sorted(account["user"] for account in accounts) == sorted(USERS)
    assert all(account["roles"] == [] for account in accounts)
