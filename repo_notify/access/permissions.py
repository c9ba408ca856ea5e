"""May this user enter this room? MongoDB look-ups, cached per model, project and teamspace, and coalesced.

An access list is read once for everybody who asks at the same time, and believed for a few seconds. A refusal is
believed for half a second at most: then the list is read again before anybody is turned away (spec section 5).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple, cast
from uuid import UUID

from cachetools import LRUCache

from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from repo_notify.protocol.ids import ModelPlace, is_teamspace, is_uuid, model_place

from .store import Document, Store, Unreachable, uuid_of

logger = logging.getLogger(__name__)

MODEL_READERS = frozenset({"viewer", "commenter", "collaborator"})
REFUSAL_SECONDS = 0.5
# A silent database is not asked again at once: who waited behind the one that found out need not wait as long again.
PAUSE_SECONDS = 0.5

Key = tuple[str, ...]

# Many ask for the same few.
_uuid = lru_cache(1024)(UUID)


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


@dataclass(slots=True)
class _LookUp:
    """One access list on its way or arrived; `started` is when it was asked for."""

    started: float
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    failed: bool = True


def _entries(document: Mapping[str, Any] | None, key: str = "permissions") -> Iterable[Mapping[str, Any]]:
    found = document.get(key) if document else None
    return (entry for entry in found if isinstance(entry, Mapping)) if isinstance(found, list) else ()


def _holders(document: Mapping[str, Any] | None, permission: str) -> frozenset[str]:
    """Return the users whose `permissions` entry lists that permission."""
    return frozenset(
        entry["user"]
        for entry in _entries(document)
        if isinstance(entry.get("user"), str)
        and isinstance(entry.get("permissions"), list)
        and permission in entry["permissions"]
    )


def _project(document: Document) -> ProjectAccess:
    return ProjectAccess(
        uuid=uuid_of(document.get("_id")),
        admins=_holders(document, "admin_project"),
        readers=_holders(document, "view_model_all_models"),
    )


def _model_permissions(settings: Document | None) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for entry in _entries(settings):
        user, permission = entry.get("user"), entry.get("permission")
        if isinstance(user, str) and isinstance(permission, str):
            found[user] = found.get(user, frozenset()) | {permission}
    return found


class Permissions:
    """Answers who may enter which room.

    `ttl` and `timeout` are in seconds, `size` counts access lists. Every question raises `PermissionsUnavailable` when
    the database does not answer within the timeout.
    """

    def __init__(self, store: Store, metrics: Metrics, *, ttl: float, size: int, timeout: float) -> None:
        self._store = store
        self._metrics = metrics
        self._failing = False
        self._ttl = ttl
        self._timeout = timeout
        self._lock = threading.Lock()
        self._look_ups: LRUCache[Key, _LookUp] = LRUCache(size)
        self._silent_until = 0.0

    def may_read_model(self, user: str, teamspace: str, project: str | None, model: str) -> bool:
        """Whether `user` may read the model; `project` None stands for whichever project holds it (section 4)."""
        place = model_place(teamspace, project, model)
        return place is not None and self._decide(lambda since: self._reads(user, place, since))

    def may_watch_project(self, user: str, teamspace: str, project: str) -> bool:
        """Whether `user` administers the project or its teamspace, and there is such a project."""
        if not is_teamspace(teamspace) or not is_uuid(project):
            return False
        return self._decide(lambda since: self._watches(user, teamspace, _uuid(project), since))

    def administers(self, user: str, teamspace: str) -> bool:
        """Whether `user` is an admin of the teamspace."""
        if not is_teamspace(teamspace):
            return False
        return user == teamspace or self._decide(lambda since: user in self._teamspace(teamspace, since).admins)

    def silent_for(self) -> float:
        """Return for how many seconds the database is not asked, because it did not answer in time."""
        return max(0.0, self._silent_until - monotonic())

    def invalidate(self, teamspace: str) -> None:
        """Drop what is cached of a teamspace; what is on its way is answered, but not kept."""
        with self._lock:
            for key in [key for key in self._look_ups if key[1] == teamspace]:
                del self._look_ups[key]

    def _decide(self, granted: Callable[[Freshness], bool]) -> bool:
        now = monotonic()
        deadline = now + self._timeout
        if granted(Freshness(now - self._ttl, deadline)):
            return True
        return self._ttl > REFUSAL_SECONDS and granted(Freshness(now - REFUSAL_SECONDS, deadline))

    def _reads(self, user: str, place: ModelPlace, since: Freshness) -> bool:
        access = self._model(place, since)
        found = access.projects if access.exists else ()
        holding = [held for held in found if place.project is None or held.uuid == place.project]
        granted = access.permissions.get(user, frozenset())
        if holding and granted & MODEL_READERS:
            return True
        if any(user in held.admins or user in held.readers for held in holding):
            return True
        # Read for a model that is not there too: how long a refusal takes must not reveal whether it is.
        owners = self._teamspace(place.teamspace, since)
        return bool(holding) and (user in owners.admins or bool(granted & owners.reading_templates))

    def _watches(self, user: str, teamspace: str, project: UUID, since: Freshness) -> bool:
        found = self._projects(teamspace, project, since)
        if any(user in held.admins for held in found):
            return True
        # As in `_reads`: a project that is not there costs the same look-ups.
        owners = self._teamspace(teamspace, since)
        return bool(found) and user in owners.admins

    def _teamspace(self, teamspace: str, since: Freshness) -> TeamspaceAccess:
        def load() -> TeamspaceAccess:
            own = self._store.teamspace(teamspace)
            account = self._store.account(teamspace) or {}
            older = account.get("customData")
            older = older if isinstance(older, Mapping) else {}
            return TeamspaceAccess(
                admins=_holders(own, "teamspace_admin") | _holders(older, "teamspace_admin") | {teamspace},
                reading_templates=frozenset(
                    template["_id"]
                    for template in _entries(older, "permissionTemplates")
                    if isinstance(template.get("_id"), str)
                    and isinstance(template.get("permissions"), list)
                    and "view_model" in template["permissions"]
                ),
            )

        return cast("TeamspaceAccess", self._look_up(("teamspace", teamspace), load, since))

    def _projects(self, teamspace: str, project: UUID, since: Freshness) -> tuple[ProjectAccess, ...]:
        def load() -> tuple[ProjectAccess, ...]:
            return tuple(map(_project, self._store.projects(teamspace, project)))

        key = ("project", teamspace, str(project))
        return cast("tuple[ProjectAccess, ...]", self._look_up(key, load, since))

    def _model(self, place: ModelPlace, since: Freshness) -> ModelAccess:
        def load() -> ModelAccess:
            teamspace, model = place.teamspace, place.model
            # A stored id may be written in either case, and an $in of three is still one look-up by _id.
            ids = sorted({model, model.lower(), model.upper()}) if is_uuid(model) else [model]
            settings = self._store.settings(teamspace, ids)
            projects = self._store.projects_of(teamspace, ids)
            return ModelAccess(
                exists=settings is not None,
                permissions=_model_permissions(settings),
                projects=tuple(map(_project, projects)),
            )

        return cast("ModelAccess", self._look_up(("model", place.teamspace, place.folded), load, since))

    def _look_up(self, key: Key, load: Callable[[], Any], since: Freshness) -> Any:
        """Return the access list under `key`, asked for no earlier than `since`, and asked for once for everybody."""
        with self._lock:
            look_up = self._look_ups.get(key)
            mine = look_up is None or look_up.started < since.earliest
            if look_up is None or mine:
                if monotonic() < self._silent_until:
                    raise PermissionsUnavailable
                look_up = self._look_ups[key] = _LookUp(started=monotonic())
        if mine:
            self._run(key, look_up, load, since)
        elif not look_up.done.is_set() and not look_up.done.wait(since.remaining()):
            raise PermissionsUnavailable
        if look_up.failed:
            raise PermissionsUnavailable
        return look_up.value

    def _run(self, key: Key, look_up: _LookUp, load: Callable[[], Any], since: Freshness) -> None:
        try:
            with self._store.within(since.remaining()):
                look_up.value = load()
            look_up.failed = self._failing = False
        # Whatever a stored document makes the driver or us raise: what cannot be read grants and takes nothing.
        except Exception as error:
            self._failed(look_up, error)
            raise PermissionsUnavailable from error
        finally:
            if look_up.failed:
                with self._lock:
                    if self._look_ups.get(key) is look_up:
                        del self._look_ups[key]
            look_up.done.set()

    def _failed(self, look_up: _LookUp, error: Exception) -> None:
        self._metrics.permission_errors.inc()
        if not self._failing:
            self._failing = True
            unforeseen = None if isinstance(error, Unreachable) else error
            logger.warning("an access list could not be read: %s", error, exc_info=unforeseen)
        now = monotonic()
        if now - look_up.started > self._timeout / 2:
            self._silent_until = now + min(PAUSE_SECONDS, self._timeout / 4)


class Freshness(NamedTuple):
    """How old an answer may be, and until when it may be waited for, in monotonic seconds."""

    earliest: float
    deadline: float

    def remaining(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - monotonic()
