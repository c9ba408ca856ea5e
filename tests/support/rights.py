"""Who may enter which room, from spec section 6 alone: the documents as the test wrote them, and no code of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from pymongo import MongoClient

from tests.support.teamspaces import binary

READING = ("viewer", "commenter", "collaborator")


class RoomOf(NamedTuple):
    """A room by its ids: v4's have no project, a project's no model, v4's of a whole teamspace neither."""

    teamspace: str
    project: str | None
    model: str | None

    @property
    def object(self) -> dict[str, str]:
        """The object that joins it."""
        first = "account" if self.project is None else "teamspace"
        found = {first: self.teamspace, "project": self.project, "model": self.model}
        return {key: value for key, value in found.items() if value is not None}


@dataclass
class Documents:
    """One teamspace's documents, in memory and, by `write`, in the database; what is None is not there."""

    name: str
    projects: dict[str, list[str]]
    readers: dict[str, dict[str, str] | None] = field(default_factory=dict)
    project_admins: dict[str, set[str] | None] = field(default_factory=dict)
    admins: set[str] | None = field(default_factory=set)

    @classmethod
    def make(cls, name: str, models_in_projects: Iterable[int]) -> Documents:
        """A teamspace of so many models in each project."""
        return cls(name, {str(uuid4()): [str(uuid4()) for _ in range(number)] for number in models_in_projects})

    def rooms(self) -> list[RoomOf]:
        """Every room that it has."""
        found = [RoomOf(self.name, None, None)]
        for project, models in self.projects.items():
            found.append(RoomOf(self.name, project, None))
            for model in models:
                found += [RoomOf(self.name, project, model), RoomOf(self.name, None, model)]
        return found

    def may_enter(self, user: str, room: RoomOf) -> bool:
        """Say what the spec says."""
        is_admin = self.admins is not None and user in self.admins
        if room.model is not None:
            return self._may_read(user, room.model, is_admin)
        if room.project is not None:
            admins = self.project_admins.get(room.project)
            return admins is not None and (is_admin or user in admins)
        return is_admin

    def _may_read(self, user: str, model: str, is_admin: bool) -> bool:
        # Each model is in one project, so that it does not matter whether the room names it.
        (project,) = [project for project, models in self.projects.items() if model in models]
        readers, admins = self.readers.get(model), self.project_admins.get(project)
        if readers is None or admins is None:
            return False
        return is_admin or user in admins or readers.get(user) in READING

    def write_model(self, mongo: MongoClient[dict[str, Any]], model: str) -> None:
        """Have the database say of a model what the memory does."""
        readers = self.readers.get(model)
        permissions = [{"user": user, "permission": permission} for user, permission in (readers or {}).items()]
        self._write(mongo, "settings", model, None if readers is None else {"name": "m", "permissions": permissions})

    def write_project(self, mongo: MongoClient[dict[str, Any]], project: str) -> None:
        """The same of a project."""
        admins = self.project_admins.get(project)
        permissions = [{"user": user, "permissions": ["admin_project"]} for user in sorted(admins or ())]
        body = {"models": self.projects[project], "permissions": permissions}
        self._write(mongo, "projects", binary(project), None if admins is None else body)

    def write_teamspace(self, mongo: MongoClient[dict[str, Any]]) -> None:
        """The same of the teamspace's own document."""
        permissions = [{"user": user, "permissions": ["teamspace_admin"]} for user in sorted(self.admins or ())]
        self._write(mongo, "teamspace", self.name, None if self.admins is None else {"permissions": permissions})

    def _write(
        self, mongo: MongoClient[dict[str, Any]], collection: str, key: Any, body: dict[str, Any] | None
    ) -> None:
        documents = mongo[self.name][collection]
        if body is None:
            documents.delete_one({"_id": key})
        else:
            documents.replace_one({"_id": key}, body, upsert=True)
