"""Access lists: what the documents of MongoDB say about who may read what (spec section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from repo_notify.protocol.ids import is_uuid

from .store import Document, uuid_of

MODEL_READERS = frozenset({"viewer", "commenter", "collaborator"})


@dataclass(frozen=True, slots=True)
class TeamspaceAccess:
    """Who administers a teamspace, and which of its permission templates let a user read a model."""

    admins: frozenset[str]
    reading_templates: frozenset[str]


@dataclass(frozen=True, slots=True)
class ProjectAccess:
    """Who administers a project and who may read all its models; `uuid` is None where its id is none."""

    uuid: UUID | None
    admins: frozenset[str]
    readers: frozenset[str]


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Which permission each user has on a model, and the projects that hold it; `exists` is about its settings."""

    exists: bool
    permissions: Mapping[str, frozenset[str]]
    projects: tuple[ProjectAccess, ...]

    def held_by(self, project: UUID | None) -> list[ProjectAccess]:
        """Return the projects that hold the model, or the one that is meant; none where there is no such model."""
        found = self.projects if self.exists else ()
        return [held for held in found if project is None or held.uuid == project]


def entries(document: Mapping[str, Any] | None, key: str = "permissions") -> Iterable[Mapping[str, Any]]:
    """Return the objects in a list of a document; what is none is left out."""
    found = document.get(key) if document else None
    return (entry for entry in found if isinstance(entry, Mapping)) if isinstance(found, list) else ()


def holders(document: Mapping[str, Any] | None, permission: str) -> frozenset[str]:
    """Return the users whose `permissions` entry lists that permission."""
    return frozenset(
        entry["user"]
        for entry in entries(document)
        if isinstance(entry.get("user"), str)
        and isinstance(entry.get("permissions"), list)
        and permission in entry["permissions"]
    )


def project_access(document: Document) -> ProjectAccess:
    """Return the access list in a project's document."""
    return ProjectAccess(
        uuid=uuid_of(document.get("_id")),
        admins=holders(document, "admin_project"),
        readers=holders(document, "view_model_all_models"),
    )


def model_permissions(settings: Document | None) -> dict[str, frozenset[str]]:
    """Return the permissions that each user has in a model's settings."""
    found: dict[str, frozenset[str]] = {}
    for entry in entries(settings):
        user, permission = entry.get("user"), entry.get("permission")
        if isinstance(user, str) and isinstance(permission, str):
            found[user] = found.get(user, frozenset()) | {permission}
    return found


def older_data(account: Document | None) -> Mapping[str, Any]:
    """Return what an account's document holds on its teamspace."""
    found = account.get("customData") if account else None
    return found if isinstance(found, Mapping) else {}


def reading_templates(older: Mapping[str, Any]) -> frozenset[str]:
    """Return the permission templates that let a user read a model."""
    return frozenset(
        template["_id"]
        for template in entries(older, "permissionTemplates")
        if isinstance(template.get("_id"), str)
        and isinstance(template.get("permissions"), list)
        and "view_model" in template["permissions"]
    )


def stored_ids(model: str) -> list[str]:
    """Return the forms in which a model's id may be stored: an $in of three is still one look-up by _id."""
    return sorted({model, model.lower(), model.upper()}) if is_uuid(model) else [model]
