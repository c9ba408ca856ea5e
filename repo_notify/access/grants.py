"""Which document lets a user read a model: the same documents as `permissions`, read anew and named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from repo_notify.protocol.ids import is_model_id, is_teamspace, is_uuid

from .lists import MODEL_READERS, holders, model_permissions, older_data, reading_templates, stored_ids
from .store import Document, Store, documents, uuid_of


class Grants(NamedTuple):
    """The documents that let a user read a model, and where there are none what there should be."""

    documents: tuple[str, ...]
    missing: str = ""


class _Model(NamedTuple):
    """The documents that decide about a model; `users` is the collection of accounts."""

    teamspace: str
    settings: Document | None
    projects: list[Document]
    own: Document | None
    account: Document | None
    users: str


def grants(store: Store, user: str, teamspace: str, project: str | None, model: str) -> Grants:
    """Return which documents let `user` read the model; the caller bounds the time (`Store.within`)."""
    if not is_teamspace(teamspace):
        return Grants((), "that is no teamspace's name")
    if not is_model_id(model) or (project is not None and not is_uuid(project)):
        return Grants((), "that is no model's, or no project's, id")
    found = _read(store, teamspace, None if project is None else UUID(project), model)
    if found.settings is None:
        return Grants((), f"{teamspace}.settings has no such model")
    if not found.projects:
        return Grants((), f"no such project in {teamspace}.projects has the model in its `models`")
    documents = tuple(_granting(found, user))
    return Grants(documents, "" if documents else f"no document of {teamspace} gives {user} a right to the model")


def _read(store: Store, teamspace: str, project: UUID | None, model: str) -> _Model:
    ids = stored_ids(model)
    holding = documents(store.projects_of_any(teamspace, ids, name_them=False))
    return _Model(
        teamspace,
        next(iter(documents(store.settings_of(teamspace, ids))), None),
        [held for held in holding if project is None or uuid_of(held.get("_id")) == project],
        store.teamspace(teamspace),
        store.account(teamspace),
        store.users,
    )


def _granting(found: _Model, user: str) -> Iterator[str]:
    permissions = model_permissions(found.settings).get(user, frozenset())
    older = older_data(found.account)
    for permission in sorted(permissions & MODEL_READERS):
        yield f"{found.teamspace}.settings of the model: permission {permission}"
    for held in found.projects:
        for permission in ("admin_project", "view_model_all_models"):
            if user in holders(held, permission):
                yield f"{found.teamspace}.projects of {uuid_of(held.get('_id'))}: {permission}"
    if user == found.teamspace:
        yield "the teamspace is the user's own"
    if user in holders(found.own, "teamspace_admin"):
        yield f"{found.teamspace}.teamspace: teamspace_admin"
    if user in holders(older, "teamspace_admin"):
        yield f"admin.{found.users} of {found.teamspace}, customData.permissions: teamspace_admin"
    for template in sorted(permissions & reading_templates(older)):
        yield (
            f"{found.teamspace}.settings of the model: permission {template}, a template with view_model in "
            f"admin.{found.users} of {found.teamspace}"
        )
