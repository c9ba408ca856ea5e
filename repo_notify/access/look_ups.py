"""Access lists on their way and arrived: read once for everybody who asks, and together with those that are announced.

Who asks for a model or a project takes along what was announced of its teamspace, so that many cost few queries.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, cast
from uuid import UUID

from cachetools import LRUCache

from repo_notify.bounded import BUSY_SHARE, Bounded, Start, beside
from repo_notify.errors import PermissionsUnavailable
from repo_notify.logs import Outage
from repo_notify.metrics import Metrics
from repo_notify.protocol.ids import ModelPlace

from .announced import Announced, Key
from .lists import (
    ModelAccess,
    ProjectAccess,
    TeamspaceAccess,
    holders,
    model_permissions,
    older_data,
    project_access,
    reading_templates,
    stored_ids,
)
from .store import Read, Store, Unreachable, uuid_of

logger = logging.getLogger(__name__)

# A silent database is not asked again at once: who waited behind the one that found out need not wait as long again.
PAUSE_SECONDS = 0.5
# How many are read together.
MAX_TOGETHER = 250
# Answers that are believed for less would be old before those who wait for their turn ask for them.
LEAST_TTL_TOGETHER = 0.1
# After how long with the documents of a query others run.
SLICE_SECONDS = 0.001

# A teamspace, and what is wanted by key -> the access lists by key; an exception stands for one that cannot be read.
Load = Callable[[str, Mapping[Key, Any]], Mapping[Key, Any]]


@dataclass(slots=True)
class _LookUp:
    """One access list on its way or arrived; `started` is when it was asked for, `done` is of all read together.

    While it is on its way `before` is the answer that it will replace, which is believed by whom it is new enough for.
    """

    started: float
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    failed: bool = True
    before: _LookUp | None = None


class LookUps:
    """The access lists of one app. Arguments as for `Permissions`; `give_way` lets others run."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        ttl: float,
        size: int,
        timeout: float,
        legacy: bool,
        give_way: Callable[[], None],
        bounded: Bounded[Any],
        start: Start,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._ttl = ttl
        self._timeout = timeout
        self._legacy = legacy
        self._give_way = give_way
        self._bounded = bounded
        self._start = start
        self._outage = Outage(logger, "access lists can be read again")
        # By whether MongoDB was not asked: counted within the lock that is held anyway.
        self._asked = {"hit": 0, "miss": 0}
        metrics.permission_cache.watch(lambda: {(outcome,): number for outcome, number in self._asked.items()})
        self._lock = threading.Lock()
        self._kept: LRUCache[Key, _LookUp] = LRUCache(size)
        # Those that are read together must not drive one another out.
        self._together = min(MAX_TOGETHER, size // 2)
        self._announced = Announced()
        self._silent_until = 0.0
        # The teamspace whose documents were read last; none that somebody merely asked for.
        self.last_read: str | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def teamspace(self, name: str, since: float) -> TeamspaceAccess:
        """Return the access list of a teamspace."""
        return cast("TeamspaceAccess", self.ask(("teamspace", name), name, self._load_teamspace, since))

    def projects(self, teamspace: str, project: UUID, since: float) -> tuple[ProjectAccess, ...]:
        """Return the access list of a project; none where there is no such project."""
        key = _project_key(teamspace, project)
        return cast("tuple[ProjectAccess, ...]", self.ask(key, project, self._load_projects, since))

    def model(self, place: ModelPlace, since: float) -> ModelAccess:
        """Return the access list of a model, there or not."""
        key = ("model", place.teamspace, place.folded)
        return cast("ModelAccess", self.ask(key, place.model, self._load_models, since))

    def announce(self, models: Iterable[ModelPlace], projects: Iterable[tuple[str, UUID]], earliest: float) -> None:
        """Have these read together with the next of their teamspace, those without an answer since `earliest`."""
        if self._ttl < LEAST_TTL_TOGETHER:
            return
        wanted: list[tuple[Key, Any]] = [(("model", place.teamspace, place.folded), place.model) for place in models]
        wanted += [(_project_key(*project), project[1]) for project in projects]
        now = monotonic()
        with self._lock:
            for key, what in wanted:
                if self._is_due(key, earliest):
                    self._announced.add(key, what, now)

    def _is_due(self, key: Key, earliest: float) -> bool:
        known = self._kept.get(key)
        return known is None or known.started < earliest

    def silent_for(self) -> float:
        """Return for how many seconds the database is not asked, because it did not answer in time."""
        return max(0.0, self._silent_until - monotonic())

    def invalidate(self, teamspace: str) -> None:
        """Drop what is kept of a teamspace; what is on its way is answered, but not kept."""
        with self._lock:
            for key in [key for key in self._kept if key[1] == teamspace]:
                del self._kept[key]

    def invalidate_all(self) -> None:
        """Drop everything that is kept."""
        with self._lock:
            self._kept.clear()

    def ask(self, key: Key, what: Any, load: Load, since: float, *, bounded: Bounded[Any] | None = None) -> Any:
        """Return the access list under `key`, asked for no earlier than `since`, and asked for once for everybody.

        `bounded` runs the load, where MongoDB is not what it asks.
        """
        wanted: dict[Key, Any] = {}
        started: dict[Key, _LookUp] = {}
        with self._lock:
            if self._announced.ahead:
                self._announced.asked(key)
            look_up = self._kept.get(key)
            if look_up is not None and (before := look_up.before) is not None and before.started >= since:
                look_up = before
            mine = look_up is None or look_up.started < since
            if look_up is None or mine:
                if monotonic() < self._silent_until:
                    raise PermissionsUnavailable
                look_up = self._begin(key, what, wanted, started, since)
            elif key in self._announced.ahead and self._is_wanted_anew(key, look_up, since):
                self._begin(key, what, wanted, started, since)
            self._asked["miss" if mine else "hit"] += 1
        if started:
            read = partial(bounded or self._bounded, lambda: load(key[1], wanted), self._timeout)
            if mine:
                self._run(started, read)
            else:
                self._start(lambda: self._run_ahead(started, read))
        # Whoever reads is bounded, unless that is a host's own loader.
        seconds = self._timeout if bounded is not None else self._timeout / BUSY_SHARE
        if not (look_up.done.is_set() or look_up.done.wait(seconds)) or look_up.failed:
            raise PermissionsUnavailable
        return look_up.value

    def _begin(
        self, key: Key, what: Any, wanted: dict[Key, Any], started: dict[Key, _LookUp], since: float
    ) -> _LookUp:
        """Begin to look up what is under a key, and what was announced beside it."""
        first = started[key] = self._begun(key, _LookUp(monotonic()))
        wanted[key] = what
        if self._announced.ahead:
            self._take_along(key, wanted, started, since)
        return first

    def _begun(self, key: Key, look_up: _LookUp) -> _LookUp:
        before = self._kept.get(key)
        if before is not None and not before.failed:
            look_up.before = before
        self._kept[key] = look_up
        return look_up

    def _is_wanted_anew(self, key: Key, look_up: _LookUp, since: float) -> bool:
        """Return whether an answer, for which others will ask, is nearly too old, and nobody reads it already."""
        if self._kept.get(key) is not look_up or not look_up.done.is_set():
            return False
        now = monotonic()
        return look_up.started < _half_old(since, now) and now >= self._silent_until

    def _take_along(self, key: Key, wanted: dict[Key, Any], started: dict[Key, _LookUp], since: float) -> None:
        """Add what was announced and would be too old soon; it stays announced until it is asked for."""
        first = started[key]
        earliest = _half_old(since, first.started)
        for other, what in self._announced.beside(key, first.started):
            if len(wanted) >= self._together:
                return
            if self._is_due(other, earliest):
                wanted[other] = what
                started[other] = self._begun(other, _LookUp(first.started, first.done))

    def _run_ahead(self, started: Mapping[Key, _LookUp], load: Callable[[], Mapping[Key, Any]]) -> None:
        """Read what nobody waits for yet."""
        # What was kept is believed for the rest of its time; that it could not be read is logged.
        with suppress(PermissionsUnavailable):
            self._run(started, load)

    def _run(self, started: Mapping[Key, _LookUp], load: Callable[[], Mapping[Key, Any]]) -> None:
        try:
            with self._metrics.permission_seconds.time(), self._store.understood():
                found = load()
            self._arrived(started, found)
            self.last_read = next(iter(started))[1]
        # Whatever a stored document makes the driver or us raise: what cannot be read grants and takes nothing.
        except Exception as error:
            self._failed(next(iter(started.values())).started, error)
            raise PermissionsUnavailable from error
        finally:
            self._ended(started)

    def _ended(self, started: Mapping[Key, _LookUp]) -> None:
        """Have those that failed leave what was kept before, and wake who waits."""
        with self._lock:
            for key, look_up in started.items():
                before, look_up.before = look_up.before, None
                if not look_up.failed or self._kept.get(key) is not look_up:
                    continue
                if before is not None:
                    self._kept[key] = before
                else:
                    del self._kept[key]
        next(iter(started.values())).done.set()

    def _arrived(self, started: Mapping[Key, _LookUp], found: Mapping[Key, Any]) -> None:
        for key, look_up in started.items():
            value = found[key]
            if isinstance(value, Exception):
                self._failed(look_up.started, value)
            else:
                look_up.value, look_up.failed = value, False
        if not any(look_up.failed for look_up in started.values()):
            self._outage.ended()

    def _failed(self, started: float, error: Exception) -> None:
        self._metrics.permission_errors.inc()
        unforeseen = None if isinstance(error, Unreachable) else error
        self._outage.began("an access list could not be read: %s", error, error=unforeseen)
        now = monotonic()
        if now - started > self._timeout / 2:
            self._silent_until = now + min(PAUSE_SECONDS, self._timeout / 4)

    def _load_teamspace(self, teamspace: str, wanted: Mapping[Key, Any]) -> dict[Key, Any]:
        own = self._store.teamspace(teamspace)
        older = older_data(self._store.account(teamspace)) if self._legacy else {}
        namesake = {teamspace} if self._legacy else set()
        access = TeamspaceAccess(
            admins=holders(own, "teamspace_admin") | holders(older, "teamspace_admin") | namesake,
            reading_templates=reading_templates(older),
        )
        return dict.fromkeys(wanted, access)

    def _load_projects(self, teamspace: str, wanted: Mapping[Key, UUID]) -> dict[Key, Any]:
        projects = _Gathered(wanted)
        for read in self._in_slices(self._store.projects(teamspace, list(wanted.values()))):
            uuid = uuid_of(read.document["_id"])
            if uuid is not None:
                projects.add([_project_key(teamspace, uuid)], read)
        return {key: projects.of(key) for key in wanted}

    def _load_models(self, teamspace: str, wanted: Mapping[Key, str]) -> dict[Key, Any]:
        keys = {stored: key for key, model in wanted.items() for stored in stored_ids(model)}
        # Who comes back waits for both before anything is replayed.
        with beside(self._start, lambda: self._projects_of_models(teamspace, wanted, keys)) as projects_of_models:
            settings = self._settings(teamspace, keys)
            projects = projects_of_models()
        return {key: _model_access(settings.get(key), projects.of(key)) for key in wanted}

    def _settings(self, teamspace: str, keys: Mapping[str, Key]) -> dict[Key, Any]:
        settings: dict[Key, Any] = {}
        for read in self._in_slices(self._store.settings_of(teamspace, list(keys))):
            key = keys.get(read.document["_id"])
            if key is not None:
                settings.setdefault(key, read.error or model_permissions(read.document))
        return settings

    def _projects_of_models(self, teamspace: str, wanted: Mapping[Key, str], keys: Mapping[str, Key]) -> _Gathered:
        projects = _Gathered(wanted)
        for read in self._in_slices(self._store.projects_of_any(teamspace, list(keys), name_them=len(wanted) > 1)):
            held = _held(read.document, keys) if len(wanted) > 1 else wanted
            projects.add(held, read)
        return projects

    def _in_slices(self, reads: Iterable[Read]) -> Iterable[Read]:
        """Yield what was read; the long lists of many take a while."""
        turn = monotonic()
        for read in reads:
            if monotonic() - turn > SLICE_SECONDS:
                self._give_way()
                turn = monotonic()
            yield read


class _Gathered:
    """The projects for each key, or why one of them cannot be read."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._found: dict[Key, list[ProjectAccess]] = {key: [] for key in keys}
        self._errors: dict[Key, Exception] = {}

    def add(self, keys: Iterable[Key], read: Read) -> None:
        """Add a project's document for each of these keys."""
        access = project_access(read.document) if read.error is None else None
        for key in keys:
            if access is not None:
                self._found[key].append(access)
            elif read.error is not None:
                self._errors[key] = read.error

    def of(self, key: Key) -> tuple[ProjectAccess, ...] | Exception:
        """Return the projects of a key."""
        return self._errors.get(key) or tuple(self._found[key])


def _half_old(since: float, now: float) -> float:
    """Return when an answer was asked for that has half of the age that is too old."""
    return (since + now) / 2


def _project_key(teamspace: str, project: UUID) -> Key:
    return ("project", teamspace, str(project))


def _held(project: Mapping[str, Any], keys: Mapping[str, Key]) -> set[Key]:
    """Return which of the models a project holds; the database finds a model where a list should be, too."""
    models = project.get("models")
    listed = models if isinstance(models, list) else [models]
    return {keys[model] for model in listed if isinstance(model, str) and model in keys}


def _model_access(
    settings: dict[str, frozenset[str]] | Exception | None, projects: tuple[ProjectAccess, ...] | Exception
) -> ModelAccess | Exception:
    if isinstance(settings, Exception):
        return settings
    if isinstance(projects, Exception):
        return projects
    return ModelAccess(exists=settings is not None, permissions=settings or {}, projects=projects)
