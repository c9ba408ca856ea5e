"""Which ids are legal, and how they are folded: UUIDs, teamspace names, model ids (spec sections 3 and 6)."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from repo_notify.engine.wire.remembered import remembered

RESERVED_DATABASES = frozenset({"admin", "local", "config", "internal"})
# MongoDB 4.2 and later index keys of any length; an _id beyond this is no model that anybody made.
MAX_MODEL_ID_BYTES = 1024

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_IMPOSSIBLE_IN_DATABASES = re.compile(r'[/\\. "$\x00]')
_MAX_DATABASE_BYTES = 63


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID in its usual form, hyphens and all."""
    return _UUID.fullmatch(text) is not None


def is_project_id(text: str) -> bool:
    """Return whether a project may have that id: a UUID or, in older data, the 24 hex digits of an ObjectId."""
    return is_uuid(text) or _OBJECT_ID.fullmatch(text) is not None


def fold_uuid(text: str) -> str:
    """Return a UUID in lower case and any other string as it is: UUIDs are compared without regard to case."""
    return text.lower() if is_uuid(text) else text


def is_teamspace(name: str) -> bool:
    """Return whether a database of that name can be a teamspace: not reserved, and a name that MongoDB takes."""
    return (
        bool(name)
        and name.lower() not in RESERVED_DATABASES
        and not _IMPOSSIBLE_IN_DATABASES.search(name)
        and _fits(name, _MAX_DATABASE_BYTES)
    )


def is_model_id(text: str) -> bool:
    """Return whether a model may have that id: any non-empty string that BSON can hold, up to 1,024 bytes."""
    return bool(text) and "\x00" not in text and _fits(text, MAX_MODEL_ID_BYTES)


class ModelPlace(NamedTuple):
    """Where a model is; `project` None stands for whichever project holds it, `folded` is its id without its case."""

    teamspace: str
    project: UUID | None
    model: str
    folded: str


# As long as ids usually are together: a teamspace's name and two UUIDs.
@remembered(200)
def model_place(teamspace: str, project: str | None, model: str) -> ModelPlace | None:
    """Return where that model would be; None where no model can have such ids."""
    if not is_teamspace(teamspace) or not is_model_id(model) or (project is not None and not is_uuid(project)):
        return None
    return ModelPlace(teamspace, UUID(project) if project is not None else None, model, fold_uuid(model))


def is_username(text: str) -> bool:
    """Return whether a user may have that name: any non-empty string that BSON can hold, up to 1,024 bytes."""
    return is_model_id(text)


def _fits(text: str, most: int) -> bool:
    try:
        return len(text.encode("utf-8")) <= most
    except UnicodeEncodeError:  # a lone surrogate
        return False
