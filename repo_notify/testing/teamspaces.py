"""Teamspaces of a test's own in the database, in 3D Repo's layout (spec section 6)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from bson import Binary
from pymongo import MongoClient

Document = dict[str, Any]


def binary(project: str, subtype: int = 4) -> Binary:
    """A project's UUID as it is stored."""
    stored: Binary = Binary(UUID(project).bytes, subtype)
    return stored


@dataclass
class Teamspace:
    """One teamspace, with who may enter which of its rooms; its name is new unless it is given.

    `users` is the app's REPO_NOTIFY_USERS_COLLECTION.
    """

    mongo: MongoClient[Document]
    users: str
    name: str = field(default_factory=lambda: f"ts{secrets.token_hex(5)}")

    def put(self, collection: str, **document: Any) -> None:
        """Write a document as it is."""
        self.mongo[self.name][collection].replace_one({"_id": document["_id"]}, document, upsert=True)

    def take(self, collection: str, _id: Any) -> None:
        """Delete a document."""
        self.mongo[self.name][collection].delete_one({"_id": _id})

    def model(self, readers: Mapping[str, str] | None = None, _id: str | None = None, **more: Any) -> str:
        """Write a model's settings, `readers` being permissions by user, and return its id."""
        _id = _id or str(uuid4())
        permissions = [{"user": user, "permission": permission} for user, permission in (readers or {}).items()]
        self.put("settings", **{"_id": _id, "name": "model", "permissions": permissions, **more})
        return _id

    def project(self, models: Sequence[str] = (), admins: Sequence[str] = (), *, subtype: int = 4) -> str:
        """Write a project and return its id."""
        project = str(uuid4())
        permissions = [{"user": user, "permissions": ["admin_project"]} for user in admins]
        self.put("projects", _id=binary(project, subtype), models=list(models), permissions=permissions)
        return project

    def admins(self, *users: str) -> None:
        """Make these users the teamspace's admins."""
        permissions = [{"user": user, "permissions": ["teamspace_admin"]} for user in users]
        self.put("teamspace", _id=self.name, permissions=permissions)

    def account(self, custom: Any) -> None:
        """Write the teamspace's own user document."""
        document = {"_id": f"admin.{self.name}", "user": self.name, "db": "admin", "customData": custom}
        self.mongo["admin"][self.users].replace_one({"_id": document["_id"]}, document, upsert=True)

    def drop(self) -> None:
        """Leave nothing behind."""
        self.mongo.drop_database(self.name)
        self.mongo["admin"][self.users].delete_one({"user": self.name})
