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


def misnamed(teamspace: str, project: str | None, model: str) -> str:
    """Return why nobody is asked about these ids: none of that shape opens a room. Empty where they are well-formed."""
    if not is_teamspace(teamspace):
        return "that is no teamspace's name"
    if not is_model_id(model) or (project is not None and not is_uuid(project)):
        return "that is no model's, or no project's, id"
    return ""


def grants(store: Store, user: str, teamspace: str, project: str | None, model: str, *, legacy: bool) -> Grants:
    """Return which documents let `user` read the model; the caller bounds the time (`Store.within`).

    `legacy`: whether older data grants, too.
    """
    if wrong := misnamed(teamspace, project, model):
        return Grants((), wrong)
    found = _read(store, teamspace, None if project is None else UUID(project), model)
    if found.settings is None:
        return Grants((), f"{teamspace}.settings has no such model")
    if not found.projects:
        return Grants((), f"no such project in {teamspace}.projects has the model in its `models`")
    granting = (*_granting(found, user), *(_granting_of_old(found, user) if legacy else ()))
    return Grants(granting, "" if granting else f"no document of {teamspace} gives {user} a right to the model")


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
    for permission in sorted(permissions & MODEL_READERS):
        yield f"{found.teamspace}.settings of the model: permission {permission}"
    yield from _of_projects(found, user, "admin_project")
    if user in holders(found.own, "teamspace_admin"):
        yield f"{found.teamspace}.teamspace: teamspace_admin"


def _of_projects(found: _Model, user: str, permission: str) -> Iterator[str]:
    for held in found.projects:
        if user in holders(held, permission):
            yield f"{found.teamspace}.projects of {uuid_of(held.get('_id'))}: {permission}"


def _granting_of_old(found: _Model, user: str) -> Iterator[str]:
    permissions = model_permissions(found.settings).get(user, frozenset())
    older = older_data(found.account)
    yield from _of_projects(found, user, "view_model_all_models")
    if user == found.teamspace:
        yield "the teamspace is the user's own"
    if user in holders(older, "teamspace_admin"):
        yield f"admin.{found.users} of {found.teamspace}, customData.permissions: teamspace_admin"
    for template in sorted(permissions & reading_templates(older)):
        yield (
            f"{found.teamspace}.settings of the model: permission {template}, a template with view_model in "
            f"admin.{found.users} of {found.teamspace}"
        )
