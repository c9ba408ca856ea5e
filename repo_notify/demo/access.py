"""Who may do what in the demo, from 3D Repo's own permission documents (spec section 6).

Reading is what the extension's rooms ask for as well; the levels above it are what the REST API adds.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypedDict
from uuid import UUID

from pymongo.database import Database

from repo_notify.access.store import project_ids, uuid_of
from repo_notify.events import Kind
from repo_notify.protocol.ids import fold_uuid, is_teamspace, is_uuid

from .context import Document, current_user, demo
from .errors import Forbidden, NotFound

# What the paths call them, and what sets them apart in a settings document.
KINDS: dict[str, Kind] = {"containers": "container", "federations": "federation", "drawings": "drawing"}
MARKS: dict[Kind, Document] = {"container": {}, "federation": {"federate": True}, "drawing": {"modelType": "drawing"}}


class Level(IntEnum):
    """What somebody may do; each level includes those below it."""

    NONE = 0
    VIEWER = 1
    COMMENTER = 2
    COLLABORATOR = 3
    ADMIN = 4


TEAMSPACE_LEVELS = {"teamspace_admin": Level.ADMIN}
PROJECT_LEVELS = {"admin_project": Level.ADMIN, "view_model_all_models": Level.VIEWER}
MODEL_LEVELS = {"viewer": Level.VIEWER, "commenter": Level.COMMENTER, "collaborator": Level.COLLABORATOR}
TEMPLATE_LEVELS = {"view_model": Level.VIEWER}


class ModelAddress(TypedDict):
    """The fields that name a model in an event."""

    teamspace: str
    project: str
    model: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project that the user may at least read something of."""

    database: Database[Document]
    key: Any
    level: Level

    @property
    def id(self) -> str:
        """The project's id as clients write it."""
        return str(uuid_of(self.key) or self.key)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A container, federation or drawing that the user may at least read."""

    project: Project
    id: str
    kind: Kind
    level: Level

    @property
    def database(self) -> Database[Document]:
        """The teamspace's database."""
        return self.project.database

    @property
    def address(self) -> ModelAddress:
        """What names this model in an event."""
        return {"teamspace": self.database.name, "project": self.project.id, "model": self.id, "kind": self.kind}


def project_for(teamspace: str, project: str, *, needs: Level) -> Project:
    """Return the project whose UUID is `project`, for the current user.

    Raises NotLoggedIn, NotFound where the user may not even read it, Forbidden below `needs`.
    """
    user = current_user()
    database = _database(teamspace)
    found = database["projects"].find_one(_project_is(project)) or {}
    level = max(_teamspace_level(user, database), _granted(found, user, PROJECT_LEVELS))
    readable = level or (found and _reads_any_model(user, database, found))
    if not found or not readable:
        raise NotFound
    if level < needs:
        raise Forbidden
    return Project(database=database, key=found["_id"], level=level)


def model_for(
    teamspace: str, model: str, *, needs: Level, project: str | None = None, kind: Kind | None = None
) -> Model:
    """Return a model for the current user: in `project` and of `kind`, or, as v4 does, wherever in the teamspace it is.

    Raises NotLoggedIn, NotFound where the user may not even read it, Forbidden below `needs`.
    """
    user = current_user()
    database = _database(teamspace)
    anywhere: Document = {} if project is None else _project_is(project)
    settings = database["settings"].find_one({"_id": {"$in": [model, fold_uuid(model)]}})
    if settings is None or kind not in (None, kind_of(settings)):
        raise NotFound
    holder = database["projects"].find_one({**anywhere, "models": settings["_id"]})
    if holder is None:
        raise NotFound
    above = max(_teamspace_level(user, database), _granted(holder, user, PROJECT_LEVELS))
    level = max(above, _granted(settings, user, MODEL_LEVELS | _templates(database.name)))
    if not level:
        raise NotFound
    if level < needs:
        raise Forbidden
    inside = Project(database=database, key=holder["_id"], level=above)
    return Model(project=inside, id=settings["_id"], kind=kind_of(settings), level=level)


def kind_of(settings: Document) -> Kind:
    """Return what kind of model a settings document describes."""
    if settings.get("federate"):
        return "federation"
    return "drawing" if settings.get("modelType") == "drawing" else "container"


def _database(teamspace: str) -> Database[Document]:
    if not is_teamspace(teamspace):
        raise NotFound
    return demo().client[teamspace]


def _project_is(project: str) -> Document:
    if not is_uuid(project):
        raise NotFound
    return {"_id": {"$in": project_ids(UUID(project))}}


def _granted(holder: Document, user: str, levels: dict[str, Level]) -> Level:
    granted = Level.NONE
    for entry in holder.get("permissions") or ():
        if entry.get("user") == user:
            names: Names[str] = entry.get("permissions") or (entry.get("permission"),)
            granted = max(granted, *(levels.get(name, Level.NONE) for name in names))
    return granted


def _teamspace_level(user: str, database: Database[Document]) -> Level:
    if user == database.name:
        return Level.ADMIN
    own = database["teamspace"].find_one({"_id": database.name}) or {}
    return max(_granted(own, user, TEAMSPACE_LEVELS), _granted(_account(database.name), user, TEAMSPACE_LEVELS))


def _account(teamspace: str) -> Document:
    return (demo().users.find_one({"user": teamspace}) or {}).get("customData") or {}


def _templates(teamspace: str) -> dict[str, Level]:
    return {
        template["_id"]: max(Level.NONE, *(TEMPLATE_LEVELS.get(name, Level.NONE) for name in template["permissions"]))
        for template in _account(teamspace).get("permissionTemplates") or ()
    }


def _reads_any_model(user: str, database: Database[Document], project: Document) -> bool:
    readable = [*MODEL_LEVELS, *(name for name, level in _templates(database.name).items() if level)]
    grant = {"$elemMatch": {"user": user, "permission": {"$in": readable}}}
    where = {"_id": {"$in": project.get("models") or []}, "permissions": grant}
    return database["settings"].find_one(where, {"_id": True}) is not None
