"""May this user enter this room? MongoDB, or a host's own loader, is asked; answers are cached and coalesced.

An access list is read once for everybody who asks at the same time, and believed for a few seconds. A refusal is
believed for half a second at most: then the list is read again before anybody is turned away (spec section 5).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import monotonic
from typing import Any, NamedTuple, cast
from uuid import UUID

from cachetools import LRUCache

from repo_notify.errors import PermissionsUnavailable
from repo_notify.logs import Outage
from repo_notify.metrics import Metrics
from repo_notify.protocol.ids import ModelPlace, fold_uuid, is_teamspace, is_uuid, model_place

from .store import Document, Store, Unreachable, uuid_of

logger = logging.getLogger(__name__)

MODEL_READERS = frozenset({"viewer", "commenter", "collaborator"})
REFUSAL_SECONDS = 0.5
# A silent database is not asked again at once: who waited behind the one that found out need not wait as long again.
PAUSE_SECONDS = 0.5

Key = tuple[str, ...]
# Username, teamspace, project, model; None where the room is not of one project, or not of one model.
Question = tuple[str, str, "str | None", "str | None"]
PermissionLoader = Callable[[str, str, "str | None", "str | None"], bool]

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


def _project(document: Document) -> ProjectAccess:
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


class Permissions:
    """Answers who may enter which room.

    `ttl` and `timeout` are in seconds, `size` counts access lists. Every question raises `PermissionsUnavailable` when
    the database does not answer within the timeout.
    """

    def __init__(self, store: Store, metrics: Metrics, *, ttl: float, size: int, timeout: float) -> None:
        self._store = store
        self._metrics = metrics
        self._outage = Outage(logger, "access lists can be read again")
        # By whether MongoDB was not asked: counted within the lock that is held anyway.
        self._asked = {"hit": 0, "miss": 0}
        metrics.permission_cache.watch(lambda: {(outcome,): number for outcome, number in self._asked.items()})
        self._ttl = ttl
        self._timeout = timeout
        self._lock = threading.Lock()
        self._look_ups: LRUCache[Key, _LookUp] = LRUCache(size)
        self._silent_until = 0.0
        # A host's own rights, in the place of the documents in MongoDB.
        self.loader: PermissionLoader | None = None
        # The teamspace whose documents were read last; none that somebody merely asked for.
        self.last_read: str | None = None

    def may_read_model(self, user: str, teamspace: str, project: str | None, model: str) -> bool:
        """Whether `user` may read the model; `project` None stands for whichever project holds it (section 4)."""
        place = model_place(teamspace, project, model)
        if place is None:
            return False
        return self._decide((user, teamspace, project, model), lambda since: self._reads(user, place, since))

    def may_watch_project(self, user: str, teamspace: str, project: str) -> bool:
        """Whether `user` administers the project or its teamspace, and there is such a project."""
        if not is_teamspace(teamspace) or not is_uuid(project):
            return False
        return self._decide(
            (user, teamspace, project, None), lambda since: self._watches(user, teamspace, _uuid(project), since)
        )

    def administers(self, user: str, teamspace: str) -> bool:
        """Whether `user` is an admin of the teamspace."""
        if not is_teamspace(teamspace):
            return False
        return self._decide(
            (user, teamspace, None, None),
            lambda since: user == teamspace or user in self._teamspace(teamspace, since).admins,
        )

    def silent_for(self) -> float:
        """Return for how many seconds the database is not asked, because it did not answer in time."""
        return max(0.0, self._silent_until - monotonic())

    def invalidate(self, teamspace: str) -> None:
        """Drop what is cached of a teamspace; what is on its way is answered, but not kept."""
        with self._lock:
            for key in [key for key in self._look_ups if key[1] == teamspace]:
                del self._look_ups[key]

    def _decide(self, question: Question, granted: Callable[[Freshness], bool]) -> bool:
        if (loader := self.loader) is not None:
            granted = partial(self._ask, loader, question)
        now = monotonic()
        deadline = now + self._timeout
        if granted(Freshness(now - self._ttl, deadline)):
            return True
        return self._ttl > REFUSAL_SECONDS and granted(Freshness(now - REFUSAL_SECONDS, deadline))

    def _ask(self, loader: PermissionLoader, question: Question, since: Freshness) -> bool:
        user, teamspace, *ids = question
        # UUIDs are compared without regard to case, and a host need not know.
        project, model = (fold_uuid(text) if text is not None else None for text in ids)

        def load() -> bool:
            found: object = loader(user, teamspace, project, model)
            # A coroutine, for one, would be true for everybody.
            if not isinstance(found, bool):
                raise TypeError(f"the permission loader should return True or False, not {type(found).__name__}")
            return found

        # No id is empty, so that "" stands for None.
        key = ("loader", teamspace, user, project or "", model or "")
        return cast("bool", self._look_up(key, load, since))

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
            older = older_data(self._store.account(teamspace))
            return TeamspaceAccess(
                admins=holders(own, "teamspace_admin") | holders(older, "teamspace_admin") | {teamspace},
                reading_templates=reading_templates(older),
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
            ids = stored_ids(model)
            settings = self._store.settings(teamspace, ids)
            projects = self._store.projects_of(teamspace, ids)
            return ModelAccess(
                exists=settings is not None,
                permissions=model_permissions(settings),
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
            self._asked["miss" if mine else "hit"] += 1
        if mine:
            self._run(key, look_up, load, since)
        elif not look_up.done.is_set() and not look_up.done.wait(since.remaining()):
            raise PermissionsUnavailable
        if look_up.failed:
            raise PermissionsUnavailable
        return look_up.value

    def _run(self, key: Key, look_up: _LookUp, load: Callable[[], Any], since: Freshness) -> None:
        try:
            with self._metrics.permission_seconds.time(), self._store.within(since.remaining()):
                look_up.value = load()
            look_up.failed = False
            self._outage.ended()
            self.last_read = key[1]
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
        unforeseen = None if isinstance(error, Unreachable) else error
        self._outage.began("an access list could not be read: %s", error, error=unforeseen)
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
