"""The demo's sample data, in 3D Repo's own layout (spec section 6), written once."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID

from bson import Binary
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from werkzeug.security import generate_password_hash

Document = dict[str, Any]

TEAMSPACE = "acme"
PASSWORD = "demo"  # noqa: S105 - the sample users' password, printed at the start
# Each user's role, as the console and the start message show it.
USERS = {
    "alice": "teamspace admin",
    "bob": "admin of project Tower",
    "carol": "viewer of container Structure",
    "dave": "commenter of federation Whole",
    "mallory": "no rights",
}

TOWER = "a608516e-0fef-4185-bca8-bf03a256ad3d"
STRUCTURE = "808d98ee-aad1-11ec-b909-0242ac120002"
WHOLE = "5bfc11fa-50ac-b7e7-4328-83aa11fa50ac"
PLAN = "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11"
BRIDGE = "c1f6a2a0-7a55-4f0e-8a26-2f6d8d6a9e42"
DECK = "7d3f0f4e-5f0c-4a54-9b1d-1f2c3d4e5f60"

MARKER = "demo_seeded"
# The collection in which MongoDB itself keeps users: it takes them by command only.
SERVER_USERS = "system.users"
USER_EXISTS = 51003

SETTINGS: tuple[Document, ...] = (
    {"_id": STRUCTURE, "name": "Structure", "permissions": [{"user": "carol", "permission": "viewer"}]},
    {
        "_id": WHOLE,
        "name": "Whole",
        "federate": True,
        "subModels": [STRUCTURE],
        "permissions": [{"user": "dave", "permission": "commenter"}],
    },
    {"_id": PLAN, "name": "Plan", "modelType": "drawing", "permissions": []},
    {"_id": DECK, "name": "Deck", "permissions": []},
)
# One project in each of the two binary forms that 3D Repo's databases hold.
PROJECTS: tuple[Document, ...] = (
    {
        "_id": Binary(UUID(TOWER).bytes, 3),
        "name": "Tower",
        "models": [STRUCTURE, WHOLE, PLAN],
        "permissions": [{"user": "bob", "permissions": ["admin_project"]}],
    },
    {"_id": Binary(UUID(BRIDGE).bytes, 4), "name": "Bridge", "models": [DECK], "permissions": []},
)
TEAMSPACES: tuple[Document, ...] = (
    {"_id": TEAMSPACE, "permissions": [{"user": "alice", "permissions": ["teamspace_admin"]}]},
)
COLLECTIONS = {"settings": SETTINGS, "projects": PROJECTS, "teamspace": TEAMSPACES}


def seed(client: MongoClient[Document], *, users_collection: str) -> bool:
    """Write the sample data unless that was done before; return whether it was written now.

    What is there already, sample or not, stays as it is. `users_collection` is in the database `admin`.
    """
    done = client["admin"][MARKER]
    if done.find_one({"_id": TEAMSPACE}) is not None:
        return False
    for name, documents in COLLECTIONS.items():
        for document in documents:
            _insert_if_missing(client, TEAMSPACE, name, document)
    for username in USERS:
        _add_user(client, users_collection, username)
    # Last, so that a start that was interrupted is finished by the next.
    _insert_if_missing(client, "admin", MARKER, {"_id": TEAMSPACE})
    return True


def seed_again(client: MongoClient[Document], *, users_collection: str) -> None:
    """Drop the sample teamspace's database, whatever is in it, and write the sample data anew."""
    client["admin"][MARKER].delete_one({"_id": TEAMSPACE})
    client.drop_database(TEAMSPACE)
    seed(client, users_collection=users_collection)


def _insert_if_missing(client: MongoClient[Document], database: str, collection: str, document: Document) -> None:
    fields = {name: value for name, value in document.items() if name != "_id"}
    client[database][collection].update_one({"_id": document["_id"]}, {"$setOnInsert": fields}, upsert=True)


def _add_user(client: MongoClient[Document], users_collection: str, username: str) -> None:
    custom = {"firstName": username.title(), "passwordHash": generate_password_hash(PASSWORD)}
    if users_collection != SERVER_USERS:
        roles = [] if username == "mallory" else [{"db": TEAMSPACE, "role": "team_member"}]
        user = {"_id": f"admin.{username}", "user": username, "db": "admin", "customData": custom, "roles": roles}
        _insert_if_missing(client, "admin", users_collection, user)
        return
    try:
        # Nobody logs in to the database itself with these accounts: no roles, and a password that is not kept.
        client["admin"].command("createUser", username, pwd=secrets.token_urlsafe(), roles=[], customData=custom)
    except OperationFailure as error:
        if error.code != USER_EXISTS:
            raise
